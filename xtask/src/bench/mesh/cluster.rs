//! Ours: an API server with Services, splits and policies, a runtime that has the pods, a control plane, and `sextant mesh`: one where the client is, or
//! one there and one where the backends are.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use hyper::Method;
use kernel::namespace::{pin, unpin};
use serde_json::{Value, json};
use testkit::netns::Netns;
use tokio::runtime::Runtime;

use super::super::Meter;
use super::super::api::client::Endpoint;
use super::super::api::side::{API, kubeconfig, serve};
use super::super::ended::Ended;
use super::backend::{BULK, HTTP, RPC};
use super::place::{At, BACKEND, CLIENT, Network, Place, Processor, Running};
use super::runtime::Runtime as Cri;
use super::{file, load, place};
use crate::Result;
use crate::program::{quiet, root};

/// A pod, which is called as its account, its node, and its address.
type Member = (&'static str, &'static str, &'static str);
/// Who asks, and who is asked.
const ASKS: Member = ("client", "bench", CLIENT);
const IS_ASKED: Member = ("server", "backends", BACKEND);
/// The logs: of the client's node, and of the backends'.
const MESH: &str = "mesh";
const DISTANT: &str = "mesh-far";
const CONTROL: &str = "control";
/// What only one of a kind may have: of all, and of the `sextant mesh` where the backends are.
const RUN: &str = "run";
const DISTANT_RUN: &str = "run-far";
/// What programs go by, and these not.
const UNWANTED: [&str; 4] = ["KUBECONFIG", "KUBERNETES_SERVICE_HOST", "CSI_ENDPOINT", "NOTIFY_SOCKET"];
/// What writes a part of an object.
const MERGE: &str = "application/merge-patch+json";
/// The Services' addresses. What is split has backends with Services of their own, as SMI has it.
const WEB: [&str; 2] = ["10.96.1.1", "10.96.1.2"];
const SHOP: [&str; 2] = ["10.96.1.3", "10.96.1.4"];
const STORE: &str = "10.96.1.5";

/// What all rounds of ours share.
pub(super) struct Cluster {
    program: PathBuf,
    socket: PathBuf,
    /// Where the control plane listens.
    plane: String,
    /// Where the pods' networks are pinned, as a runtime does.
    networks: Vec<PathBuf>,
    /// The API server and the control plane.
    programs: Vec<Ended>,
}

impl Cluster {
    /// Starts an API server, a runtime and a control plane, and makes what an administrator makes.
    pub(super) fn start(program: &Path, meter: &Meter, place: &Place) -> Result<Self> {
        let folder = place.folder();
        let api = aside(|runtime| {
            let served = runtime.block_on(serve(program, meter, folder, &[]));
            served.map(|(api, ..)| api).map_err(|e| format!("the API server: {e}"))
        })?;
        let socket = folder.join("cri.sock");
        let plane = format!("unix:{}", folder.join("mesh.sock").display());
        let program = program.to_owned();
        let mut cluster = Self { program, socket, plane, networks: Vec::new(), programs: vec![api] };
        let runtime = Cri::start(&cluster.socket);
        for ((pod, ..), netns) in [(ASKS, place.pod()), (IS_ASKED, place.far())] {
            runtime.add(&format!("{pod}-1"), pod, &cluster.pin(pod, netns, folder)?);
        }
        // Of one command, which waits until the kinds of the first are there.
        let objects = file(folder, "objects.yaml", &objects().to_string())?;
        let mut apply = cluster.command(folder, RUN);
        apply.args(["apply", "-f"]).arg(root().join("crates/smi/crds")).arg("-f").arg(objects);
        // It is not among what is measured, and not to wait for an API server that was taken away.
        kernel::command::dies_with_thread(&mut apply);
        quiet(&mut apply)?;
        aside(|runtime| runtime.block_on(tell_addresses(folder)).map_err(|e| e.to_string()))?;
        let (plugins, none) = (folder.join("plugins"), folder.join("csi.sock"));
        std::fs::create_dir(&plugins)?;
        let mut control = cluster.command(folder, RUN);
        control.args(["control", "--mesh", &cluster.plane]);
        control.arg("--csi-dir").arg(plugins).arg("--csi-socket").arg(none);
        let control = place.start(meter, Network::Node, Processor::First, control, CONTROL)?;
        cluster.programs.push(control);
        Ok(cluster)
    }

    /// Pins a pod's network.
    fn pin(&mut self, pod: &str, netns: &Netns, folder: &Path) -> Result<PathBuf> {
        let network = folder.join(format!("{pod}.netns"));
        pin(Path::new(&format!("/proc/self/fd/{}", netns.as_fd().as_raw_fd())), &network)?;
        self.networks.push(network.clone());
        Ok(network)
    }

    /// `sextant` with a directory of its own for what only one of its kind may have.
    fn command(&self, folder: &Path, run: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--data-dir").arg(folder.join("data")).arg("--run-dir").arg(folder.join(run));
        for variable in UNWANTED {
            command.env_remove(variable);
        }
        command
    }

    /// What serves a node's pods, by itself or as the control plane says.
    fn mesh(&self, folder: &Path, (node, run): (&str, &str), is_told: bool) -> Command {
        let mut command = self.command(folder, run);
        command.args(["mesh", "--node", node, "--cri"]).arg(&self.socket);
        if is_told {
            command.args(["--control", &self.plane]);
        }
        command
    }

    /// Where the Services are.
    pub(super) fn at() -> Result<At> {
        let at = |address: &str| -> Result<SocketAddr> { Ok(SocketAddr::new(address.parse()?, 80)) };
        Ok(At { http: at(WEB[0])?, rpc: Some(at(SHOP[0])?), bulk: at(STORE)? })
    }

    /// Starts `sextant mesh`; the pod is served when this returns.
    pub(super) fn begin(&self, place: &Place, meter: &Meter) -> Result<Running> {
        // What one before it has said is no word of this one.
        let _none = std::fs::remove_file(place.log(MESH));
        let command = self.mesh(place.folder(), (ASKS.1, RUN), false);
        let mut mesh = place.start(meter, Network::Node, Processor::Last, command, MESH)?;
        let served = serves(ASKS);
        place.until(&mut [(MESH, &mut mesh)], "the pod is served", || place.words(MESH).contains(&served))?;
        Ok(Running { programs: vec![mesh], at: Self::at()? })
    }

    /// Starts two of them, which have certificates and go by policies; a request is answered when this returns, and another refused.
    pub(super) fn begin_pair(&self, place: &Place, meter: &Meter) -> Result<Running> {
        let mut programs = Vec::new();
        let both = [
            (MESH, Network::ClientNode, (ASKS.1, RUN)),
            (DISTANT, Network::BackendNode, (IS_ASKED.1, DISTANT_RUN)),
        ];
        for (name, network, node) in both {
            let _none = std::fs::remove_file(place.log(name));
            let command = self.mesh(place.folder(), node, true);
            programs.push(place.start(meter, network, Processor::Last, command, name)?);
        }
        let at = At { rpc: None, ..Self::at()? };
        let mut watched: Vec<_> = [MESH, DISTANT].into_iter().zip(programs.iter_mut()).collect();
        for (name, member) in [(MESH, ASKS), (DISTANT, IS_ASKED)] {
            let served = serves(member);
            place.until(&mut watched, "a pod is served", || place.words(name).contains(&served))?;
        }
        place.until(&mut watched, "it answers, and refuses", || {
            place.asks(|| load::answers(at.http)) && place.ask(|| load::is_refused(at.http)).unwrap_or(false)
        })?;
        drop(watched);
        Ok(Running { programs, at })
    }
}

/// What is said of a pod when its connections are taken.
fn serves((pod, ..): Member) -> String {
    format!("serves pod default/{pod}\n")
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The folder could not go otherwise.
        for network in &self.networks {
            let _left = unpin(network);
        }
    }
}

/// Does something on the processor that is not measured, with what it starts.
fn aside<T: Send>(work: impl FnOnce(&Runtime) -> Result<T, String> + Send) -> Result<T, String> {
    let done = || {
        place::pin(Processor::First)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        work(&runtime.map_err(|e| e.to_string())?)
    };
    std::thread::scope(|scope| {
        scope.spawn(done).join().unwrap_or_else(|_| Err("a thread has panicked".into()))
    })
}

/// Says where the pods are, as a kubelet does.
async fn tell_addresses(folder: &Path) -> Result<()> {
    let mut connection = Endpoint::of_kubeconfig(API, &kubeconfig(folder))?.connect().await?;
    for (pod, _, address) in [ASKS, IS_ASKED] {
        let path = format!("/api/v1/namespaces/default/pods/{pod}/status");
        let status = json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}});
        connection.done(Method::PATCH, &path, MERGE, Bytes::from(status.to_string())).await?;
    }
    Ok(())
}

/// The pods, Services, splits by requests (two kinds of them, of which the client's are the second), and who may ask what.
fn objects() -> Value {
    let mut items = Vec::new();
    for (name, node, _) in [ASKS, IS_ASKED] {
        items.push(json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": "default"}}));
        items.push(json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "labels": {"mesh.sextant.dev/member": "true"}},
            "spec": {"nodeName": node, "serviceAccountName": name,
                "containers": [{"name": "main", "image": "main"}]}}));
    }
    let group = |name: &str, matches: Value| {
        json!({"apiVersion": "specs.smi-spec.io/v1alpha4", "kind": "HTTPRouteGroup",
            "metadata": {"name": name, "namespace": "default"}, "spec": {"matches": matches}})
    };
    items.push(group(
        "requests",
        json!([{"name": "admin", "pathRegex": "/admin.*"},
            {"name": "asked", "pathRegex": "/.*", "methods": ["GET", "POST"]}]),
    ));
    // What Envoy's of a pair goes by, too.
    items.push(group("allowed", json!([{"name": "index", "pathRegex": "/index.*", "methods": ["GET"]}])));
    let by_requests = json!({"kind": "HTTPRouteGroup", "name": "allowed"});
    items.extend(policy("web", HTTP, vec![by_requests]));
    items.extend(policy("store", BULK, vec![]));
    for (name, [apex, version], protocol, port) in
        [("web", WEB, "http", HTTP), ("shop", SHOP, "kubernetes.io/h2c", RPC)]
    {
        let backend = format!("{name}-v1");
        items.extend(service(name, apex, protocol, port));
        items.extend(service(&backend, version, protocol, port));
        items.push(json!({"apiVersion": "split.smi-spec.io/v1alpha4", "kind": "TrafficSplit",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"service": name, "backends": [{"service": backend, "weight": 1}],
                "matches": [{"kind": "HTTPRouteGroup", "name": "requests"}]}}));
    }
    items.extend(service("store", STORE, "tcp", BULK));
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

/// The client alone may ask this port, and there only what other rules say.
fn policy(name: &str, port: u16, mut rules: Vec<Value>) -> [Value; 2] {
    let account = |name: &str| json!({"kind": "ServiceAccount", "name": name, "namespace": "default"});
    rules.push(json!({"kind": "TCPRoute", "name": name}));
    [
        json!({"apiVersion": "specs.smi-spec.io/v1alpha4", "kind": "TCPRoute",
            "metadata": {"name": name, "namespace": "default"}, "spec": {"matches": {"ports": [port]}}}),
        json!({"apiVersion": "access.smi-spec.io/v1alpha3", "kind": "TrafficTarget",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"destination": account(IS_ASKED.0), "sources": [account(ASKS.0)], "rules": rules}}),
    ]
}

/// A Service with the backend for its endpoint.
fn service(name: &str, address: &str, protocol: &str, port: u16) -> [Value; 2] {
    let ports =
        json!([{"name": "main", "port": 80, "targetPort": port, "protocol": "TCP", "appProtocol": protocol}]);
    [
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
            "spec": {"clusterIP": address, "ports": ports}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": format!("{name}-1"), "namespace": "default",
                "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4", "ports": [{"name": "main", "port": port, "protocol": "TCP"}],
            "endpoints": [{"addresses": [BACKEND], "conditions": {"ready": true}}]}),
    ]
}
