//! What is known of the mesh by who is asked about it: the model, the tables, and which pod has which network.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mesh::identity::{Certificates, Identity};
use mesh::node::Looker;
use mesh::proxy::{Network, RuleId, Service, Tables};
use mesh::telemetry::{self, Packets, Snapshot};
use smi::contract::Name;
use smi::model::{Delta, Entry, Key, Mode, Model};

use super::counters::Counters;
use super::routes::{self, Routes};
use super::wire::{PodState, Row, State};
use super::{why, wire};

/// For so long the name of a pod that is gone is kept: a little longer than what was counted for it.
const KEPT: Duration = Duration::from_secs(900);

/// Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Known(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    looker: Looker,
    node: String,
    server: String,
    /// What members prove who they are with, if somebody issues that.
    certificates: Option<Arc<Certificates>>,
    /// What the kernel counts.
    counters: Counters,
    /// When it began.
    since: SystemTime,
    began: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    ready: bool,
    model: Model,
    tables: Arc<Tables>,
    pods: BTreeMap<Network, Captured>,
}

#[derive(Debug)]
struct Captured {
    pod: Name,
    since: SystemTime,
    leaving: bool,
    /// Since when it has no connection any more.
    gone: Option<Instant>,
}

/// Names for what counts and lines have numbers for.
pub(super) struct Names<'a> {
    pub(super) tables: &'a Tables,
    pub(super) client: &'a dyn Fn(Network) -> Option<Name>,
}

impl Names<'_> {
    pub(super) fn client(&self, network: Network) -> String {
        (self.client)(network).map(|name| name.to_string()).unwrap_or_default()
    }

    pub(super) fn service(&self, service: Option<Service>) -> String {
        let found = service.and_then(|service| self.tables.service(service));
        found.map(|(name, port)| format!("{name}:{port}")).unwrap_or_default()
    }

    pub(super) fn rule(&self, rule: Option<RuleId>) -> String {
        rule.and_then(|rule| self.tables.rule(rule)).map(telemetry::rule).unwrap_or_default()
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Known {
    pub(super) fn new(
        looker: Looker,
        node: &str,
        server: &str,
        certificates: Option<Arc<Certificates>>,
        counters: Counters,
    ) -> Self {
        Self(Arc::new(Shared {
            looker,
            node: node.into(),
            server: server.into(),
            certificates,
            counters,
            since: SystemTime::now(),
            began: Instant::now(),
            inner: Mutex::default(),
        }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a change, and the tables that it made.
    pub(super) fn take(&self, delta: Delta, tables: &Arc<Tables>) {
        let mut inner = self.inner();
        inner.model.apply(delta);
        inner.tables = tables.clone();
        inner.ready = true;
    }

    /// Everything is known that there was at the start.
    pub(super) fn is_ready(&self) -> bool {
        self.inner().ready
    }

    /// A pod is known to be on this node, in the mesh or not.
    pub(super) fn has(&self, pod: &Name) -> bool {
        let inner = self.inner();
        let entry = inner.model.get(&Key::Workload(pod.clone())).map(|entry| &**entry);
        matches!(entry, Some(Entry::Workload(pod)) if pod.node.as_deref() == Some(&*self.0.node))
    }

    /// A pod is served.
    pub(super) fn enters(&self, network: Network, pod: &Name) {
        let captured = Captured { pod: pod.clone(), since: SystemTime::now(), leaving: false, gone: None };
        let mut inner = self.inner();
        inner.pods.retain(|_, captured| captured.gone.is_none_or(|gone| gone.elapsed() < KEPT));
        inner.pods.insert(network, captured);
    }

    /// A pod's new connections go their own way.
    pub(super) fn leaves(&self, network: Network) {
        if let Some(captured) = self.inner().pods.get_mut(&network) {
            captured.leaving = true;
        }
    }

    /// It has no connection any more.
    pub(super) fn is_over(&self, network: Network) {
        if let Some(captured) = self.inner().pods.get_mut(&network) {
            captured.gone = Some(Instant::now());
        }
    }

    /// What the kernel counts of pods' packets.
    pub(super) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    pub(super) fn looker(&self) -> &Looker {
        &self.0.looker
    }

    /// The pod of a network.
    pub(super) fn pod(&self, network: Network) -> Option<Name> {
        self.inner().pods.get(&network).map(|captured| captured.pod.clone())
    }

    /// Names of lines, by the tables that hold now.
    pub(super) fn event(&self, line: telemetry::Line) -> wire::Event {
        let tables = self.inner().tables.clone();
        wire::Event::new(line, &Names { tables: &tables, client: &|network| self.pod(network) })
    }

    pub(super) fn page(&self) -> io::Result<String> {
        let snapshot = self.0.looker.look()?;
        let mut text = telemetry::page(&snapshot, &|network| self.pod(network));
        text.push_str(&telemetry::packets(&self.0.counters.read()));
        Ok(text)
    }

    pub(super) fn state(&self) -> io::Result<State> {
        let at = u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let snapshot = self.0.looker.look()?;
        let Snapshot { counts, idle, swaps, lost, series, endpoints, tables, .. } = &snapshot;
        let names = Names { tables, client: &|network| self.pod(network) };
        let traffic = series.iter().map(|counted| Row::new(counted, &names)).collect();
        let packets = self.0.counters.read();
        let inner = self.inner();
        let count = |is: fn(&Key) -> bool| inner.model.iter().filter(|(key, _)| is(key)).count();
        Ok(State {
            node: self.0.node.clone(),
            server: self.0.server.clone(),
            since: seconds(self.0.since),
            at,
            ready: inner.ready,
            identities: self.0.certificates.is_some(),
            pods: inner.pods(&|identity| self.certified(identity), &packets),
            frontends: count(|key| matches!(key, Key::Frontend { .. })),
            services: count(|key| matches!(key, Key::Endpoints { .. })),
            policies: count(|key| matches!(key, Key::Policy(_))),
            tables: *swaps,
            connections: counts.connections,
            open: counts.connections.saturating_sub(counts.ended),
            requests: counts.requests,
            answered: counts.answered,
            unread: counts.unread,
            endpoint_connections: counts.connected,
            idle: *idle,
            retried: counts.retried,
            hbone_connections: counts.linked,
            visits: counts.visits,
            visits_secured: counts.secured,
            refused: counts.refused,
            left_out: endpoints.iter().filter(|viewed| viewed.seen.out_for.is_some()).count(),
            lost_lines: *lost,
            traffic,
        })
    }

    pub(super) fn routes(&self) -> io::Result<Routes> {
        let snapshot = self.0.looker.look()?;
        let names = Names { tables: &snapshot.tables, client: &|network| self.pod(network) };
        let views = routes::views(&snapshot, &names);
        Ok(routes::routes(&self.inner().model, &views))
    }

    pub(super) fn why(&self, question: &why::Question) -> io::Result<Result<why::Explained, String>> {
        let snapshot = self.0.looker.look()?;
        let names = Names { tables: &snapshot.tables, client: &|network| self.pod(network) };
        let views = routes::views(&snapshot, &names);
        let inner = self.inner();
        let is_served = inner
            .pods
            .values()
            .any(|captured| captured.pod == question.source && !captured.leaving && captured.gone.is_none());
        let source = inner.model.get(&Key::Workload(question.source.clone())).map(|entry| &**entry);
        let is_proved = match source {
            Some(Entry::Workload(source)) => self.certified(&source.identity).is_some(),
            _ => false,
        };
        let has_identities = self.0.certificates.is_some();
        let here = why::Here { node: &self.0.node, is_served, has_identities, is_proved };
        Ok(why::explain(&inner.model, &views, question, here))
    }

    /// Until when an identity can be proved, if it can be.
    fn certified(&self, identity: &str) -> Option<SystemTime> {
        let not_after = self.0.certificates.as_ref()?.not_after(&Identity::parse(identity).ok()?)?;
        (not_after > SystemTime::now()).then_some(not_after)
    }
}

impl Inner {
    /// The pods that are served; `certified` says until when an identity can be proved, `packets` what the kernel has counted of each.
    fn pods(
        &self,
        certified: &dyn Fn(&str) -> Option<SystemTime>,
        packets: &BTreeMap<Name, Packets>,
    ) -> Vec<PodState> {
        let there = self.pods.values().filter(|captured| captured.gone.is_none());
        let state = |captured: &Captured| {
            let key = Key::Workload(captured.pod.clone());
            let (mode, identity) = match self.model.get(&key).map(|entry| &**entry) {
                Some(Entry::Workload(workload)) => (word(workload.mode), workload.identity.clone()),
                _ => ("gone", String::new()),
            };
            // Of one that leaves nothing is counted any more; another of its name may be there.
            let found = packets.get(&captured.pod).filter(|_| !captured.leaving);
            let Packets { datagrams, foreign } = found.copied().unwrap_or_default();
            PodState {
                pod: captured.pod.clone(),
                since: seconds(captured.since),
                leaving: captured.leaving,
                mode: mode.into(),
                certified: certified(&identity).map(seconds),
                identity,
                datagrams_admitted: datagrams.map(|counted| counted.admitted.into()),
                datagrams_dropped: datagrams.map(|counted| counted.dropped.into()),
                foreign_dropped: foreign.map(Into::into),
            }
        };
        there.map(state).collect()
    }
}

/// How a pod is in the mesh, in a word.
pub(super) fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Outside => "outside",
        Mode::Permissive => "permissive",
        Mode::Strict => "strict",
    }
}
