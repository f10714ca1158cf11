//! What a proxy has counted, and who looks at it.

use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use super::{Network, Proxy, Service, Tables};
use crate::telemetry::{Line, Series, Snapshot, Subject, Telemetry, Viewed};

/// So many endpoints are read at a time, and those of the same port of a Service.
const VIEWED: usize = 512;

impl Proxy {
    /// What was counted, all at once and without networks, for who runs a proxy without a [`Node`](crate::node::Node).
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let (mut series, mut endpoints) = (Vec::new(), Vec::new());
        let (mut behind, mut place) = (None, None);
        loop {
            let (piece, next) = self.telemetry.read(behind);
            series.extend(piece);
            behind = next;
            if behind.is_none() {
                break;
            }
        }
        loop {
            let (piece, next) = self.viewed(place);
            endpoints.extend(piece);
            place = next;
            if place.is_none() {
                break;
            }
        }
        Snapshot {
            counts: self.counts(),
            idle: self.idle(),
            swaps: self.telemetry.swaps.get(),
            lost: self.telemetry.lost(),
            networks: Vec::new(),
            series,
            mirrored: self.telemetry.mirrors(),
            endpoints,
            tables: self.tables(),
        }
    }

    /// Has a line of each request and connection that ends go there; nowhere, if that is nowhere. What does not fit is lost, and counted.
    pub fn watch(&self, lines: Option<SyncSender<Line>>) {
        self.telemetry.watch(lines);
    }

    /// What is counted of everybody.
    pub(crate) fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// When this turn of the loop began.
    pub(crate) fn now(&self) -> Instant {
        self.reactor.now()
    }

    /// The counts of those who ask so.
    pub(crate) fn series(&self, subject: Subject) -> Rc<Series> {
        self.telemetry.series(subject, self.reactor.now(), || {
            let tables = self.tables.borrow();
            tables.pod(subject.backend?, subject.endpoint?).cloned()
        })
    }

    /// The tables that hold now.
    pub(crate) fn tables(&self) -> Arc<Tables> {
        self.tables.borrow().clone()
    }

    /// The endpoints of some balancers as their clients see them, and behind which to go on.
    pub(crate) fn viewed(
        &self,
        behind: Option<(Service, Network)>,
    ) -> (Vec<Viewed>, Option<(Service, Network)>) {
        let balancers = self.balancers.borrow();
        let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
        let (mut viewed, mut last) = (Vec::new(), None);
        for ((service, client), balancer) in balancers.range((from, Bound::Unbounded)) {
            let seen = balancer.seen(self.reactor.now()).into_iter();
            viewed.extend(seen.map(|seen| Viewed { client: *client, service: *service, seen }));
            if viewed.len() >= VIEWED {
                last = Some((*service, *client));
                break;
            }
        }
        (viewed, last)
    }
}

/// A client's connection, while it is open.
pub(crate) struct Open(Rc<Proxy>);

impl Open {
    pub(crate) fn new(proxy: &Rc<Proxy>) -> Self {
        Self(proxy.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.count(|counts| counts.ended += 1);
    }
}
