//! A cluster of one Service with a split, compiled as the product does.

use std::net::SocketAddr;
use std::sync::Arc;

use mesh::proxy::{Builder, Tables};
use serde_json::json;
use smi::compile::{
    Change, Compiler, Service, ServiceKind, ServicePort, Settings, Slice, SliceEndpoint, SlicePort,
};
use smi::contract::Name;
use smi::contract::specs::Transport;

/// Where the backends are.
pub(crate) const V1: &str = "10.55.0.3:8080";
pub(crate) const V2: &str = "10.55.0.4:8081";

pub(crate) struct Cluster {
    compiler: Compiler,
    builder: Builder,
}

impl Cluster {
    /// `web` is split between `web-v1` and `web-v2` by these weights.
    pub(crate) fn new(weights: &[u32; 2]) -> Self {
        let mut cluster = Self { compiler: Compiler::new(Settings::default()), builder: Builder::default() };
        cluster.service("web", "10.96.0.1", &[V1, V2]);
        cluster.service("web-v1", "10.96.0.2", &[V1]);
        cluster.service("web-v2", "10.96.0.3", &[V2]);
        cluster.split(weights);
        cluster
    }

    fn service(&mut self, name: &str, address: &str, endpoints: &[&str]) {
        let of = Name::new("shop", name);
        let port = ServicePort {
            name: "http".into(),
            port: 80,
            transport: Transport::Tcp,
            app_protocol: Some("http".into()),
        };
        let kind = ServiceKind::ClusterIp(vec![address.parse().unwrap()]);
        self.compiler.enter(Change::Service(of, Some(Service { kind, ports: vec![port] })));
        for (number, endpoint) in endpoints.iter().enumerate() {
            let endpoint: SocketAddr = endpoint.parse().unwrap();
            let port = SlicePort { name: "http".into(), port: endpoint.port(), transport: Transport::Tcp };
            let endpoint = SliceEndpoint {
                address: endpoint.ip(),
                ready: true,
                serving: true,
                pod: None,
                node: None,
                zone: None,
            };
            let slice = Slice { service: name.into(), ports: vec![port], endpoints: vec![endpoint] };
            self.compiler.enter(Change::Slice(Name::new("shop", format!("{name}-{number}")), Some(slice)));
        }
    }

    fn split(&mut self, [v1, v2]: &[u32; 2]) {
        let split = json!({
            "apiVersion": "split.smi-spec.io/v1alpha4",
            "kind": "TrafficSplit",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"service": "web", "backends": [
                {"service": "web-v1", "weight": v1},
                {"service": "web-v2", "weight": v2},
            ]},
        });
        let read = smi::contract::read(&split).unwrap();
        assert!(read.findings.is_empty(), "{:?}", read.findings);
        self.compiler.enter(Change::Object(read.object.id(), Some(read)));
    }

    /// What holds now.
    pub(crate) fn tables(&mut self) -> Arc<Tables> {
        self.builder.apply(self.compiler.compile().delta)
    }

    /// The same with other weights.
    pub(crate) fn weights(&mut self, weights: &[u32; 2]) -> Arc<Tables> {
        self.split(weights);
        self.tables()
    }
}
