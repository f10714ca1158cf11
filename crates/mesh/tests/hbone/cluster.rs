//! A cluster of one Service, with members and policies, compiled as the product does.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh::proxy::{Builder, Tables};
use serde_json::{Value, json};
use smi::compile::{
    Change, Compiler, Pod, Service, ServiceKind, ServicePort, Settings, Slice, SliceEndpoint, SlicePort,
};
use smi::contract::Name;
use smi::contract::specs::Transport;

use crate::site::{WEB, WEB_PORT};

pub(crate) struct Cluster {
    compiler: Compiler,
    builder: Builder,
}

impl Cluster {
    /// The Service `web` at 10.96.0.1:80.
    pub(crate) fn new() -> Self {
        let mut cluster = Self { compiler: Compiler::new(Settings::default()), builder: Builder::default() };
        let port = ServicePort {
            name: "http".into(),
            port: 80,
            transport: Transport::Tcp,
            app_protocol: Some("http".into()),
        };
        let kind = ServiceKind::ClusterIp(vec!["10.96.0.1".parse().unwrap()]);
        let service = Service { kind, ports: vec![port] };
        cluster.compiler.enter(Change::Service(Name::new("shop", "web"), Some(service)));
        let port = SlicePort { name: "http".into(), port: WEB_PORT, transport: Transport::Tcp };
        let endpoint = SliceEndpoint {
            address: WEB.parse().unwrap(),
            ready: true,
            serving: true,
            pod: Some("web".into()),
            node: None,
            zone: None,
        };
        let slice = Slice { service: "web".into(), ports: vec![port], endpoints: vec![endpoint] };
        cluster.compiler.enter(Change::Slice(Name::new("shop", "web-0"), Some(slice)));
        cluster
    }

    /// What is asked of `web` is copied to whom listens at this port of its pod: the Service `copy`.
    pub(crate) fn mirror(&mut self, port: u16) {
        let (name, transport) = (String::from("http"), Transport::Tcp);
        let at = ServicePort { name: name.clone(), port: 80, transport, app_protocol: Some("http".into()) };
        let kind = ServiceKind::ClusterIp(vec!["10.96.0.2".parse().unwrap()]);
        let service = Service { kind, ports: vec![at] };
        self.compiler.enter(Change::Service(Name::new("shop", "copy"), Some(service)));
        let endpoint = SliceEndpoint {
            address: WEB.parse().unwrap(),
            ready: true,
            serving: true,
            pod: Some("web".into()),
            node: None,
            zone: None,
        };
        let ports = vec![SlicePort { name, port, transport }];
        let slice = Slice { service: "copy".into(), ports, endpoints: vec![endpoint] };
        self.compiler.enter(Change::Slice(Name::new("shop", "copy-0"), Some(slice)));
        let mirror = json!({"backendRef": {"name": "copy", "port": 80}});
        self.object(&json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "parentRefs": [{"group": "", "kind": "Service", "name": "web", "port": 80}],
                "rules": [{
                    "filters": [{"type": "RequestMirror", "requestMirror": mirror}],
                    "backendRefs": [{"name": "web", "port": 80}],
                }],
            },
        }));
    }

    /// A pod that is a member, with a service account of its own name.
    pub(crate) fn member(&mut self, name: &str, address: &str) {
        let pod = Pod {
            service_account: name.into(),
            labels: BTreeMap::from([("mesh.sextant.dev/member".into(), "true".into())]),
            addresses: vec![address.parse().unwrap()],
            node: None,
            host_network: false,
        };
        self.compiler.enter(Change::Pod(Name::new("shop", name), Some(pod)));
    }

    /// How members are in the mesh.
    pub(crate) fn mode(&mut self, mode: &str) {
        let labels = BTreeMap::from([("mesh.sextant.dev/mode".into(), mode.into())]);
        self.compiler.enter(Change::Namespace("shop".into(), Some(labels)));
    }

    /// Who may ask what of `web`.
    pub(crate) fn target(&mut self, source: &str, rule: &Value) {
        self.object(&json!({
            "apiVersion": "access.smi-spec.io/v1alpha3",
            "kind": "TrafficTarget",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "destination": {"kind": "ServiceAccount", "name": "web", "namespace": "shop"},
                "sources": [{"kind": "ServiceAccount", "name": source, "namespace": "shop"}],
                "rules": [rule],
            },
        }));
    }

    /// Any port of TCP: `{"kind": "TCPRoute", "name": "any"}`.
    pub(crate) fn any_port(&mut self) -> Value {
        self.object(&json!({
            "apiVersion": "specs.smi-spec.io/v1alpha4",
            "kind": "TCPRoute",
            "metadata": {"name": "any", "namespace": "shop"},
            "spec": {"matches": {"ports": []}},
        }));
        json!({"kind": "TCPRoute", "name": "any"})
    }

    /// GET of what begins with a path.
    pub(crate) fn get(&mut self, path: &str) -> Value {
        self.object(&json!({
            "apiVersion": "specs.smi-spec.io/v1alpha4",
            "kind": "HTTPRouteGroup",
            "metadata": {"name": "get", "namespace": "shop"},
            "spec": {"matches": [{"name": "get", "pathRegex": path, "methods": ["GET"]}]},
        }));
        json!({"kind": "HTTPRouteGroup", "name": "get"})
    }

    fn object(&mut self, object: &Value) {
        let read = smi::contract::read(object).unwrap();
        assert!(read.findings.is_empty(), "{:?}", read.findings);
        self.compiler.enter(Change::Object(read.object.id(), Some(read)));
    }

    /// What holds now.
    pub(crate) fn tables(&mut self) -> Arc<Tables> {
        self.builder.apply(self.compiler.compile().delta)
    }
}
