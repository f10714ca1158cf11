//! A VPC with instances in moto, and the provider in front of it.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws::{Aws, Config, Environment};
use cpi::contract::{CloudProvider, Error, LoadBalancerStatus, Node, Service};
use serde_json::{Value, json};
use testkit::moto::Server;
pub(crate) use testkit::moto::{MARK, all};
use testkit::proxy::Proxy;

pub(crate) const CLUSTER: &str = "shop";
/// How long what must come may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// moto has one state for all: tests take turns.
static TURN: Mutex<()> = Mutex::new(());

pub(crate) struct Rig {
    server: Server,
    pub(crate) proxy: Proxy,
    pub(crate) provider: Aws,
    _turn: MutexGuard<'static, ()>,
}

impl std::ops::Deref for Rig {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// With more in the cloud's configuration.
    pub(crate) fn with(config: &str) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let moto = std::env::var("SEXTANT_TEST_MOTO").expect("SEXTANT_TEST_MOTO names moto's server");
        let moto: SocketAddr = moto.parse().unwrap();
        let server = Server::furnish(moto);
        let proxy = Proxy::start(moto);
        let config: Config = format!("[Global]\nRegion = us-east-1\n{config}").parse().unwrap();
        let at = format!("http://{}", proxy.addr);
        let variables = [
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "hush-hush"),
            ("AWS_ENDPOINT_URL", at.as_str()),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ];
        let environment: Environment = variables.into_iter().collect();
        let provider = Aws::new(config, environment).unwrap();
        Self { server, proxy, provider, _turn: turn }
    }

    /// A load balancer, however often the provider wants to be asked.
    pub(crate) async fn ensure(
        &self,
        service: &Service,
        nodes: &[Node],
    ) -> Result<LoadBalancerStatus, Error> {
        let balancers = self.provider.load_balancers().unwrap();
        let end = Instant::now() + PATIENCE;
        loop {
            match balancers.ensure_load_balancer(CLUSTER, service, nodes).await {
                Err(Error::RetryAfter { after, .. }) if Instant::now() < end => {
                    tokio::time::sleep(after.min(Duration::from_millis(200))).await;
                }
                done => return done,
            }
        }
    }

    /// A subnet in another zone, and one more of these tags on it.
    pub(crate) fn subnet_in(&self, zone: &str, range: &str, tags: &[(&str, &str)]) -> String {
        let vpc = &self.vpc;
        let id = self.made(
            &format!("Action=CreateSubnet&VpcId={vpc}&CidrBlock={range}&AvailabilityZone={zone}"),
            "subnetId",
        );
        for (key, value) in tags {
            self.ec2(&format!("Action=CreateTags&ResourceId.1={id}&Tag.1.Key={key}&Tag.1.Value={value}"));
        }
        id
    }

    pub(crate) async fn delete(&self, service: &Service) -> Result<(), Error> {
        let balancers = self.provider.load_balancers().unwrap();
        let end = Instant::now() + PATIENCE;
        loop {
            match balancers.ensure_load_balancer_deleted(CLUSTER, service).await {
                Err(Error::RetryAfter { after, .. }) if Instant::now() < end => {
                    tokio::time::sleep(after.min(Duration::from_millis(200))).await;
                }
                done => return done,
            }
        }
    }
}

/// A node as its kubelet has made it, this many seconds ago.
pub(crate) fn node(name: &str, provider_id: Option<&str>, age: i64) -> Node {
    let made = jiff::Timestamp::now().as_second() - age;
    let made = jiff::Timestamp::from_second(made).unwrap().to_string();
    let spec = provider_id.map(|id| json!({"providerID": id}));
    serde_json::from_value(
        json!({"metadata": {"name": name, "uid": name, "creationTimestamp": made}, "spec": spec}),
    )
    .unwrap()
}

/// Nodes that know their instances.
pub(crate) fn nodes(instances: &[(String, String)]) -> Vec<Node> {
    instances.iter().map(|(id, name)| node(name, Some(&format!("aws:///us-east-1a/{id}")), 3600)).collect()
}

/// A service with these ports, `(port, nodePort)`, and annotations.
pub(crate) fn service(ports: &[(u16, u16)], annotations: &Value) -> Service {
    let ports: Vec<Value> = ports
        .iter()
        .map(|(port, node)| json!({"name": format!("p{port}"), "port": port, "nodePort": node, "protocol": "TCP"}))
        .collect();
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "5f1c7a52-8a43-4a70-9d0e-0b1a2c3d4e5f", "annotations": annotations},
        "spec": {"type": "LoadBalancer", "ports": ports},
    }))
    .unwrap()
}

/// The same of another service.
pub(crate) fn other_service(ports: &[(u16, u16)], annotations: &Value) -> Service {
    let mut service = service(ports, annotations);
    service.metadata.uid = Some("0b1a2c3d-8a43-4a70-9d0e-5f1c7a524e5f".into());
    service
}

/// Waits until it is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) {
    let end = Instant::now() + PATIENCE;
    while !look().await {
        assert!(Instant::now() < end, "it is never so: {what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
