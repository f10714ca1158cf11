//! Ours: an API server with Services and splits, a runtime that has the client's pod, and `sextant mesh`.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};

use kernel::namespace::{pin, unpin};
use serde_json::{Value, json};

use super::super::Meter;
use super::super::api::side::{serve, sextant};
use super::super::ended::Ended;
use super::backend::{BULK, HTTP, RPC};
use super::place::{At, BACKEND, Network, Place, Processor, Running};
use super::runtime::Runtime;
use super::{file, place};
use crate::Result;
use crate::program::{quiet, root};

const NODE: &str = "bench";
/// The pod that asks.
const POD: &str = "client";
const MESH: &str = "mesh";
/// The Services' addresses. What is split has backends with Services of their own, as SMI has it.
const WEB: [&str; 2] = ["10.96.1.1", "10.96.1.2"];
const SHOP: [&str; 2] = ["10.96.1.3", "10.96.1.4"];
const STORE: &str = "10.96.1.5";

/// What all rounds of ours share.
pub(super) struct Cluster {
    program: PathBuf,
    socket: PathBuf,
    /// Where the pod's network is pinned, as a runtime does.
    network: PathBuf,
    _api: Ended,
}

impl Cluster {
    /// Starts an API server and a runtime, and makes what an administrator makes.
    pub(super) fn start(program: &Path, meter: &Meter, place: &Place) -> Result<Self> {
        let folder = place.folder();
        // What it starts has the processor of its thread, and so does it itself.
        let serving = || -> Result<Ended, String> {
            place::pin(Processor::First)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let served = runtime.map_err(|e| e.to_string())?.block_on(serve(program, meter, folder, &[]));
            served.map(|(api, ..)| api).map_err(|e| format!("the API server: {e}"))
        };
        let api = std::thread::scope(|scope| {
            scope.spawn(serving).join().unwrap_or_else(|_| Err("a thread has panicked".into()))
        })?;
        let network = folder.join("pod.netns");
        pin(Path::new(&format!("/proc/self/fd/{}", place.pod().as_fd().as_raw_fd())), &network)?;
        let socket = folder.join("cri.sock");
        let cluster = Self { program: program.to_owned(), socket, network, _api: api };
        Runtime::start(&cluster.socket).add("client-1", POD, &cluster.network);
        let objects = file(folder, "objects.yaml", &objects().to_string())?;
        for manifests in [root().join("crates/smi/crds"), objects] {
            quiet(cluster.command(folder).args(["apply", "-f"]).arg(manifests))?;
        }
        Ok(cluster)
    }

    fn command(&self, folder: &Path) -> std::process::Command {
        let mut command = sextant(&self.program, folder);
        for variable in ["KUBECONFIG", "KUBERNETES_SERVICE_HOST", "NOTIFY_SOCKET"] {
            command.env_remove(variable);
        }
        command
    }

    /// Starts `sextant mesh`; the pod is served when this returns.
    pub(super) fn begin(&self, place: &Place, meter: &Meter) -> Result<Running> {
        // What one before it has said is no word of this one.
        let _none = std::fs::remove_file(place.log(MESH));
        let mut command = self.command(place.folder());
        command.args(["mesh", "--node", NODE, "--cri"]).arg(&self.socket);
        let mut mesh = place.start(meter, Network::Node, Processor::Last, command, MESH)?;
        let served = format!("serves pod default/{POD}");
        place.until(&mut [(MESH, &mut mesh)], "the pod is served", || place.words(MESH).contains(&served))?;
        let at = |address: &str| -> Result<SocketAddr> { Ok(SocketAddr::new(address.parse()?, 80)) };
        let at = At { http: at(WEB[0])?, rpc: Some(at(SHOP[0])?), bulk: at(STORE)? };
        Ok(Running { programs: vec![mesh], at })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The folder could not go otherwise.
        let _left = unpin(&self.network);
    }
}

/// The pod, its Services, and splits by requests: two kinds of them, of which the client's are the second.
fn objects() -> Value {
    let mut items = vec![
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": POD, "namespace": "default", "labels": {"mesh.sextant.dev/member": "true"}},
            "spec": {"nodeName": NODE, "containers": [{"name": "main", "image": "main"}]}}),
        json!({"apiVersion": "specs.smi-spec.io/v1alpha4", "kind": "HTTPRouteGroup",
            "metadata": {"name": "requests", "namespace": "default"},
            "spec": {"matches": [{"name": "admin", "pathRegex": "/admin.*"},
                {"name": "asked", "pathRegex": "/.*", "methods": ["GET", "POST"]}]}}),
    ];
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
