//! A provider over a socket is the provider: each call, each failure; the conformance run finds what is wrong with one.
#![allow(clippy::unwrap_used, reason = "a test")]

mod cloud;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cloud::{Cloud, State, status};
use cpi::caller::check::{self, Finding, Subject, Verdict};
use cpi::caller::{Client, Remote};
use cpi::contract::*;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const DEADLINE: Duration = Duration::from_secs(30);

struct Stand {
    cloud: Arc<Cloud>,
    socket: PathBuf,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

async fn serve(cloud: Arc<Cloud>, socket: &Path) -> Stand {
    let (stop, mut stopped) = watch::channel(false);
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let (served, path) = (cloud.clone(), socket.to_owned());
    let serving = tokio::spawn(async move {
        let until = async { drop(stopped.wait_for(|is| *is).await) };
        cpi::plugin::serve(served, &path, until, || ready.send(()).unwrap()).await.unwrap();
    });
    is_ready.await.unwrap();
    Stand { cloud, socket: socket.into(), stop, serving }
}

impl Stand {
    async fn end(self) -> Arc<Cloud> {
        self.stop.send_replace(true);
        self.serving.await.unwrap();
        self.cloud
    }
}

fn node(name: &str) -> Node {
    serde_json::from_value(json!({"metadata": {"name": name, "uid": "n"}})).unwrap()
}

fn service() -> Service {
    serde_json::from_value(
        json!({"metadata": {"name": "web", "uid": "1-2"}, "spec": {"type": "LoadBalancer"}}),
    )
    .unwrap()
}

fn metadata() -> InstanceMetadata {
    InstanceMetadata {
        provider_id: "cloud://node-1".into(),
        instance_type: "large".into(),
        node_addresses: vec![NodeAddress { type_: "InternalIP".into(), address: "10.0.0.1".into() }],
        zone: "z".into(),
        region: "r".into(),
        additional_labels: [("example.com/rack".to_owned(), "7".to_owned())].into(),
    }
}

#[tokio::test]
async fn every_call_and_every_failure_comes_through() {
    let dir = tempfile::tempdir().unwrap();
    let stand = serve(Arc::new(Cloud::default()), &dir.path().join("cpi.sock")).await;
    stand.cloud.state().metadata = metadata();
    let remote = Remote::connect(&stand.socket, DEADLINE).await.unwrap();
    assert_eq!((remote.name(), remote.has_cluster_id(), remote.clusters().is_none()), ("cloud", true, true));
    remote.initialize("c").await.unwrap();
    let instances = remote.instances().unwrap();
    assert_eq!(instances.instance_exists(&node("node-1")).await, Ok(true));
    assert_eq!(instances.instance_exists(&node("node-2")).await, Ok(false));
    assert_eq!(instances.instance_shutdown(&node("node-1")).await, Ok(false));
    assert_eq!(instances.instance_metadata(&node("node-1")).await, Ok(Some(metadata())));
    assert_eq!(instances.instance_metadata(&node("node-2")).await, Err(Error::InstanceNotFound));

    let balancers = remote.load_balancers().unwrap();
    assert_eq!(balancers.get_load_balancer("c", &service()).await, Ok(None));
    assert_eq!(balancers.ensure_load_balancer("c", &service(), &[node("a"), node("b")]).await, Ok(status()));
    assert_eq!(stand.cloud.state().balancers["1-2"], 2);
    balancers.update_load_balancer("c", &service(), &[node("a")]).await.unwrap();
    assert_eq!(stand.cloud.state().balancers["1-2"], 1);
    assert_eq!(balancers.get_load_balancer("c", &service()).await, Ok(Some(status())));
    let later = Error::RetryAfter { message: "half made".into(), after: Duration::from_millis(1500) };
    let failures = [
        Error::NotImplemented,
        Error::ImplementedElsewhere,
        later,
        Error::AlreadyExists("there".into()),
        Error::Failed("cannot do it: ünusual".into()),
    ];
    for error in failures {
        for call in ["ensure", "update", "delete"] {
            stand.cloud.state().failing.insert(call, error.clone());
        }
        assert_eq!(balancers.ensure_load_balancer("c", &service(), &[]).await, Err(error.clone()));
        assert_eq!(balancers.update_load_balancer("c", &service(), &[]).await, Err(error.clone()));
        assert_eq!(balancers.ensure_load_balancer_deleted("c", &service()).await, Err(error));
    }
    stand.cloud.state().failing.insert("get", Error::ImplementedElsewhere);
    assert_eq!(balancers.get_load_balancer("c", &service()).await, Err(Error::ImplementedElsewhere));
    balancers.ensure_load_balancer_deleted("c", &service()).await.unwrap();
    assert!(stand.cloud.state().balancers.is_empty());

    let routes = remote.routes().unwrap();
    let target_node_addresses = metadata().node_addresses;
    let route = Route {
        target_node: "node-1".into(),
        destination_cidr: "10.1.0.0/24".into(),
        enable_node_addresses: true,
        target_node_addresses,
        ..Route::default()
    };
    routes.create_route("c", "hint", &route).await.unwrap();
    let listed = routes.list_routes("c").await.unwrap();
    assert_eq!(listed, [Route { name: "hint".into(), ..route }]);
    routes.delete_route("c", &listed[0]).await.unwrap();
    assert_eq!(routes.list_routes("c").await, Ok(Vec::new()));
    let error =
        routes.create_route("c", "hint", &Route { target_node: "a".into(), ..Route::default() }).await;
    assert!(error.unwrap_err().to_string().contains("route.destination_cidr"));
    // What it has not is said so by the wire, too.
    let client = Client::connect(&stand.socket, DEADLINE).await.unwrap();
    let clusters = client.list_clusters(v1::ListClustersRequest {}).await.unwrap_err();
    assert_eq!(clusters.code(), grpc::Code::Unimplemented);
    let request = v1::GetLoadBalancerNameRequest {
        cluster_name: "c".into(),
        service: b"{\"metadata\":{\"uid\":\"1-2\"}}".into(),
    };
    assert_eq!(client.get_load_balancer_name(request).await.unwrap().name, "a12");
    let request = v1::InstanceExistsRequest { node: b"[]".into() };
    assert_eq!(client.instance_exists(request).await.unwrap_err().code(), grpc::Code::InvalidArgument);
    stand.end().await;
}

#[tokio::test]
async fn a_provider_that_was_started_again_is_the_same_to_its_callers() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("cpi.sock");
    assert!(
        Remote::connect(&socket, DEADLINE).await.unwrap_err().to_string().contains("is the server running?")
    );
    let stand = serve(Arc::new(Cloud::default()), &socket).await;
    let remote = Remote::connect(&socket, DEADLINE).await.unwrap();
    let exists = async || remote.instances().unwrap().instance_exists(&node("node-1")).await;
    let says = |asked: Result<bool, Error>, words: &str| {
        let error = asked.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    says(exists().await, "comes before it was initialized");
    remote.initialize("c").await.unwrap();
    stand.end().await;
    says(exists().await, "is the server running?");
    // The new process knows nothing of what the old one was told, and does not always take it at once.
    let cloud = Arc::new(Cloud::default());
    cloud.state().failing.insert("initialize", Error::Failed("not yet".into()));
    let stand = serve(cloud, &socket).await;
    says(exists().await, "again: not yet");
    assert_eq!(exists().await, Ok(true));
    assert_eq!(stand.cloud.state().cluster.as_deref(), Some("c"));
    // One that wants no Initialize is none the worse.
    stand.end().await;
    let cloud = Arc::new(Cloud::default());
    *cloud.state() = State { cluster: Some("any".into()), ..State::default() };
    cloud.state().failing.insert("initialize", Error::NotImplemented);
    let stand = serve(cloud, &socket).await;
    assert_eq!(exists().await, Ok(true));
    assert!(stand.cloud.state().failing.is_empty(), "it was not asked");
    stand.end().await;
}

/// One that takes connections and says nothing: who has waited for the attempt to reach it makes none of his own.
#[tokio::test]
async fn callers_wait_for_a_provider_that_hangs_together() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("cpi.sock");
    let stand = serve(Arc::new(Cloud::default()), &socket).await;
    let remote = Arc::new(Remote::connect(&socket, Duration::from_secs(3)).await.unwrap());
    remote.initialize("c").await.unwrap();
    stand.end().await;
    // Its server may have taken it away.
    let _ = std::fs::remove_file(&socket);
    // It may take a call until it is seen that the connection has ended. From then on nobody is there.
    let ask =
        async || remote.instances().unwrap().instance_exists(&node("node-1")).await.unwrap_err().to_string();
    while !ask().await.contains(socket.to_str().unwrap()) {}
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let came = Arc::<AtomicUsize>::default();
    let count = came.clone();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            count.fetch_add(1, Ordering::SeqCst);
            held.push(stream);
        }
    });
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let remote = remote.clone();
        asking.spawn(async move { remote.instances().unwrap().instance_exists(&node("node-1")).await });
    }
    let asked = asking.join_all().await;
    assert!(asked.len() == 10 && asked.iter().all(Result::is_err), "{asked:?}");
    assert_eq!(came.load(Ordering::SeqCst), 1);
    // Who comes later tries again.
    assert!(remote.instances().unwrap().instance_exists(&node("node-1")).await.is_err());
    assert_eq!(came.load(Ordering::SeqCst), 2);
}

/// Waits until it is so.
async fn until(what: &str, is: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(180);
    while !is() {
        assert!(Instant::now() < end, "it is never so: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn how_a_provider_is_comes_through() {
    let dir = tempfile::tempdir().unwrap();
    let stand = serve(Arc::new(Cloud::default()), &dir.path().join("cpi.sock")).await;
    let remote = Remote::connect(&stand.socket, DEADLINE).await.unwrap();
    let says = |trouble: Option<&str>, revision: u64, is_of_nodes: bool| {
        let told = remote.trouble();
        told.as_deref() == trouble
            && remote.revision() == revision
            && remote.load_balancers().unwrap().is_of_nodes() == is_of_nodes
    };
    let be = |trouble: Option<&str>, revision: u64, is_of_nodes: bool| {
        let mut state = stand.cloud.state();
        (state.trouble, state.revision) = (trouble.map(str::to_owned), revision);
        state.is_of_nodes = is_of_nodes;
    };
    be(Some("cannot read pools: line 2"), 7, true);
    assert!(says(None, 0, false), "it is not asked before it is initialized");
    remote.initialize("c").await.unwrap();
    until("it is in trouble", || says(Some("cannot read pools: line 2"), 7, true)).await;
    let long = "ü".repeat(2000);
    be(Some(&long), 8, true);
    until("what it says is cut", || says(Some(&long[..2048]), 8, true)).await;
    be(None, 9, false);
    until("it is over", || says(None, 9, false)).await;
    stand.end().await;
    assert!(says(None, 9, false), "it is as it was");
}

#[tokio::test]
async fn answers_that_cannot_be_used_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let stand = serve(Arc::new(Cloud::default()), &dir.path().join("cpi.sock")).await;
    let remote = Remote::connect(&stand.socket, DEADLINE).await.unwrap();
    remote.initialize("c").await.unwrap();
    let address = |kind: &str| vec![NodeAddress { type_: kind.into(), address: "x".into() }];
    for (wrong, says) in [
        (
            InstanceMetadata { provider_id: "node-1".into(), ..metadata() },
            "provider_id: \"node-1\" has no '://'",
        ),
        (
            InstanceMetadata { node_addresses: address("IP"), ..metadata() },
            "addresses[0].type: \"IP\" is none of",
        ),
    ] {
        stand.cloud.state().metadata = wrong;
        let error =
            remote.instances().unwrap().instance_metadata(&node("node-1")).await.unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("answers InstanceMetadata wrongly"), "{error}");
    }
    stand.end().await;
}

/// Each with as many images as a kubelet tells of, by several names each: 24 KiB of them.
fn full_node(number: usize) -> Node {
    let image = |at: usize| json!({"names": [format!("registry.example.com/{at}@sha256:{at:0>420}")], "sizeBytes": 1});
    let images: Vec<_> = (0..50).map(image).collect();
    let volumes = json!(["kubernetes.io/csi/a^1"]);
    let attached = json!([{"name": "kubernetes.io/csi/a^1", "devicePath": ""}]);
    let metadata = json!({"name": format!("node-{number}"), "managedFields": [{"manager": "kubelet"}]});
    let addresses = json!([{"type": "InternalIP", "address": "10.0.0.1"}]);
    let status = json!({"images": images, "volumesInUse": volumes, "volumesAttached": attached, "addresses": addresses});
    serde_json::from_value(
        json!({"metadata": metadata, "spec": {"providerID": "cloud://1"}, "status": status}),
    )
    .unwrap()
}

#[tokio::test]
async fn nodes_come_without_what_says_nothing_of_their_instances() {
    let dir = tempfile::tempdir().unwrap();
    let stand = serve(Arc::new(Cloud::default()), &dir.path().join("cpi.sock")).await;
    let remote = Remote::connect(&stand.socket, DEADLINE).await.unwrap();
    remote.initialize("c").await.unwrap();
    let nodes: Vec<Node> = (0..1000).map(full_node).collect();
    let balancers = remote.load_balancers().unwrap();
    balancers.ensure_load_balancer("c", &service(), &nodes).await.unwrap();
    balancers.update_load_balancer("c", &service(), &nodes).await.unwrap();
    assert_eq!(stand.cloud.state().balancers["1-2"], 1000);
    let metadata = remote.instances().unwrap().instance_metadata(&full_node(1)).await.unwrap();
    assert_eq!(metadata, Some(InstanceMetadata::default()));
    let seen = stand.cloud.state().seen.take().unwrap();
    let mut wanted = full_node(1);
    wanted.metadata.managed_fields = None;
    let status = wanted.status.as_mut().unwrap();
    (status.images, status.volumes_attached, status.volumes_in_use) = (None, None, None);
    assert_eq!(seen, wanted, "all else is there");
    stand.end().await;
}

/// A provider that answers everything with nothing in it.
struct Mute(&'static str);

impl grpc::Service for Mute {
    fn name(&self) -> &'static str {
        self.0
    }

    fn call(&self, method: &str, request: bytes::Bytes) -> Option<grpc::Answer> {
        let info = v1::GetInfoResponse { name: "mute".into(), instances: true, ..Default::default() };
        Some(match method {
            "GetInfo" => grpc::unary(request, |_: v1::GetInfoRequest| async { Ok(info) }),
            _ => grpc::unary(request, |_: v1::InitializeResponse| async { Ok(v1::InitializeResponse {}) }),
        })
    }
}

/// A node of which nothing is said must not count as gone.
#[tokio::test]
async fn an_answer_that_leaves_out_whether_an_instance_exists_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("cpi.sock");
    let (listener, _bound) = grpc::listen(&socket, "taken").await.unwrap();
    let server = grpc::Server::new().service(Mute("cpi.v1.Provider")).service(Mute("cpi.v1.Instances"));
    let serving = tokio::spawn(server.serve(listener, std::future::pending(), DEADLINE));
    let remote = Remote::connect(&socket, DEADLINE).await.unwrap();
    remote.initialize("c").await.unwrap();
    let instances = remote.instances().unwrap();
    let error = instances.instance_exists(&node("node-1")).await.unwrap_err().to_string();
    assert!(error.contains("answers InstanceExists wrongly: exists: is missing"), "{error}");
    assert_eq!(instances.instance_shutdown(&node("node-1")).await, Ok(false));
    serving.abort();
}

async fn examined(stand: &Stand, nodes: Vec<Node>) -> Vec<Finding> {
    let remote = Remote::connect(&stand.socket, DEADLINE).await.unwrap();
    let (cluster, route) = ("c".into(), Some("10.9.0.0/24".into()));
    check::run(&remote, &Subject { cluster, nodes, route, mark: "check-1".into() }).await
}

fn wrong(findings: &[Finding]) -> Vec<&'static str> {
    findings
        .iter()
        .filter(|finding| matches!(finding.verdict, Verdict::Wrong(_)))
        .map(|finding| finding.rule)
        .collect()
}

#[tokio::test]
async fn the_conformance_run_finds_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let stand = serve(Arc::new(Cloud::default()), &dir.path().join("cpi.sock")).await;
    stand.cloud.state().metadata = metadata();
    stand
        .cloud
        .state()
        .failing
        .insert("ensure", Error::RetryAfter { message: "not yet".into(), after: Duration::from_millis(1) });
    let findings = examined(&stand, vec![node("node-1")]).await;
    assert_eq!(wrong(&findings), Vec::<&str>::new(), "{findings:#?}");
    assert!(findings.len() > 20, "{}", findings.len());
    assert!(stand.cloud.state().routes.is_empty() && stand.cloud.state().balancers.is_empty());
    let few = examined(&stand, Vec::new()).await;
    assert!(few.iter().any(|finding| matches!(finding.verdict, Verdict::LeftOut(_))));

    stand.cloud.state().forgets_to_delete = true;
    stand.cloud.state().metadata.provider_id = "other://node-1".into();
    stand.cloud.state().failing.insert("list", Error::Failed("no rights".into()));
    let findings = examined(&stand, vec![node("node-1")]).await;
    assert_eq!(
        wrong(&findings),
        ["its metadata are right", "it is not there then", "routes are listed"],
        "{findings:#?}"
    );
    stand.end().await;
}
