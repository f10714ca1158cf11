//! The rules of compilation, by situation.

mod gateway;
mod incremental;
mod policies;
mod splits;
mod workloads;

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use super::{
    Change, Compiler, Pod, Report, Service, ServiceKind, ServicePort, Settings, Slice, SliceEndpoint,
    SlicePort, compile,
};
use crate::contract::{Finding, Id, Kind, Name, Reason, read};
use crate::model::{Entry, Frontend, Key, Model, Routing, Transport};

/// A cluster that is told of in a few words.
#[derive(Default, Clone)]
pub(super) struct Cluster(Vec<Change>);

pub(super) fn name(text: &str) -> Name {
    let (namespace, name) = text.split_once('/').expect("tests name namespaces");
    Name::new(namespace, name)
}

pub(super) fn clustered(ports: &[u16]) -> Service {
    let port = |port: &u16| ServicePort {
        name: format!("p{port}"),
        port: *port,
        transport: Transport::Tcp,
        app_protocol: None,
    };
    let addresses = vec![IpAddr::from([10, 96, 0, 1])];
    Service { kind: ServiceKind::ClusterIp(addresses), ports: ports.iter().map(port).collect() }
}

pub(super) fn object(yaml: &str) -> Change {
    let value: Value = serde_saphyr::from_str(yaml).expect("tests hold YAML");
    let read = read(&value).unwrap_or_else(|e| panic!("{e}: {yaml}"));
    Change::Object(read.object.id(), Some(read))
}

pub(super) fn pod(account: &str, labels: &[(&str, &str)], address: [u8; 4]) -> Pod {
    Pod {
        service_account: account.into(),
        labels: labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        addresses: vec![address.into()],
        node: Some("node".into()),
        host_network: false,
    }
}

pub(super) fn slice(service: &str, port: u16, addresses: &[[u8; 4]]) -> Slice {
    let endpoint = |address: &[u8; 4]| SliceEndpoint {
        address: (*address).into(),
        ready: true,
        serving: true,
        pod: None,
        node: None,
        zone: None,
    };
    Slice {
        service: service.into(),
        ports: vec![SlicePort { name: format!("p{port}"), port: port + 8000, transport: Transport::Tcp }],
        endpoints: addresses.iter().map(endpoint).collect(),
    }
}

impl Cluster {
    pub(super) fn service(self, at: &str, ports: &[u16]) -> Self {
        self.with(Change::Service(name(at), Some(clustered(ports))))
    }

    pub(super) fn with(mut self, change: Change) -> Self {
        self.0.push(change);
        self
    }

    /// An object, of which its kind, name, age and spec are written.
    pub(super) fn object(self, kind: &str, at: &str, day: u8, spec: &str) -> Self {
        self.with(spec_of(kind, at, day, spec))
    }

    pub(super) fn compile(self) -> Compiled {
        let (model, reports) = compile(Settings::default(), self.0);
        Compiled { model, reports }
    }
}

pub(super) fn spec_of(kind: &str, at: &str, day: u8, spec: &str) -> Change {
    let (group, kind) = match kind.strip_prefix("smi-") {
        Some(kind) => ("specs.smi-spec.io/v1alpha4", kind),
        None => match kind {
            "TrafficTarget" | "IdentityBinding" => ("access.smi-spec.io/v1alpha4", kind),
            "HTTPRouteGroup" => ("specs.smi-spec.io/v1alpha4", kind),
            "TrafficSplit" => ("split.smi-spec.io/v1alpha4", kind),
            _ => ("gateway.networking.k8s.io/v1", kind),
        },
    };
    let at = name(at);
    object(&format!(
        "apiVersion: {group}\nkind: {kind}\nmetadata: {{name: {}, namespace: {}, creationTimestamp: '2026-11-{day:02}T00:00:00Z'}}\nspec: {spec}\n",
        at.name, at.namespace
    ))
}

pub(super) struct Compiled {
    pub(super) model: Model,
    pub(super) reports: BTreeMap<Id, Report>,
}

impl Compiled {
    pub(super) fn frontend(&self, at: &str, port: u16, consumer: Option<&str>) -> Option<&Frontend> {
        let consumer = consumer.map(str::to_owned);
        let key = Key::Frontend { service: name(at), port, transport: Transport::Tcp, consumer };
        self.model.get(&key).map(|entry| match &**entry {
            Entry::Frontend(frontend) => frontend,
            other => panic!("{other:?}"),
        })
    }

    /// Where traffic goes, in a word: who decides, then rule by rule the backends with their weights.
    pub(super) fn routing(&self, at: &str, port: u16, consumer: Option<&str>) -> String {
        match self.frontend(at, port, consumer) {
            None => "none".into(),
            Some(frontend) => describe(&frontend.routing),
        }
    }

    pub(super) fn report(&self, kind: Kind, at: &str) -> &Report {
        self.reports.get(&Id { kind, name: name(at) }).expect("there is a report")
    }

    pub(super) fn findings(&self, kind: Kind, at: &str) -> Vec<(Reason, &str)> {
        let field = |finding: &'_ Finding| finding.reason;
        self.report(kind, at)
            .findings
            .iter()
            .map(|finding| (field(finding), finding.field.as_str()))
            .collect()
    }

    /// The condition of a route's first parent: its status and reason.
    pub(super) fn condition(&self, kind: Kind, at: &str, condition: &str) -> (bool, &'static str) {
        let status = &self.report(kind, at).parents[0];
        let condition = status.condition(condition).unwrap_or_else(|| panic!("{condition} of {status:?}"));
        assert!(!condition.message.is_empty());
        (condition.status, condition.reason)
    }
}

fn describe(routing: &Routing) -> String {
    use crate::model::{Backend, To};
    let backends = |backends: &[Backend]| {
        let one = |backend: &Backend| match &backend.to {
            To::Service { service, port } => format!("{service}:{port}={}", backend.weight),
            To::Fail(status) => format!("{status}={}", backend.weight),
        };
        backends.iter().map(one).collect::<Vec<_>>().join(",")
    };
    match routing {
        Routing::Plain => "plain".into(),
        Routing::Weighted(weighted) => {
            format!("{:?} {}: {}", weighted.each, weighted.from.object, backends(&weighted.backends))
        }
        Routing::Http(http) => {
            let rule = |rule: &crate::model::HttpRule| {
                format!("{}#{}: {}", rule.from.object.name.name, rule.from.rule, backends(&rule.backends))
            };
            let rules: Vec<String> = http.rules.iter().map(rule).collect();
            format!("http {:?} [{}]", http.unmatched, rules.join("; "))
        }
        Routing::Tls(rules) => {
            let rule = |rule: &crate::model::TlsRule| {
                format!("{}: {}", rule.hostnames.join(","), backends(&rule.backends))
            };
            format!("tls [{}]", rules.iter().map(rule).collect::<Vec<_>>().join("; "))
        }
    }
}
