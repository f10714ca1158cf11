//! One machine: `sextant up` in a folder of its own, asked by its API.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::super::Meter;
use super::super::api::client::{Connection, Endpoint};
use super::super::guard::undone_by;
use super::super::pods::pss;
use crate::Result;
use crate::program::quiet;

/// In a network of its own every port is free.
const API: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 6443);
const NODE: &str = "/api/v1/nodes/bench";
const PODS: &str = "/api/v1/namespaces/default/pods";
const JSON: &str = "application/json";
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);
const AGAIN: Duration = Duration::from_millis(2);

/// What rounds have in common.
pub(super) struct Place {
    pub(super) program: PathBuf,
    pub(super) image: String,
    /// Of pods that are asked for by CRI.
    pub(super) logs: PathBuf,
    pub(super) parent: String,
}

pub(super) struct Machine<'a> {
    place: &'a Place,
    folder: tempfile::TempDir,
    endpoint: Endpoint,
    /// Milliseconds from the command to the node's Ready.
    pub(super) ready: f64,
    is_down: bool,
}

impl<'a> Machine<'a> {
    /// `sextant up` with these options, too.
    pub(super) fn start(runtime: &Runtime, place: &'a Place, meter: &Meter, more: &[&str]) -> Result<Self> {
        // On a disk: what is kept is to be kept.
        let folder = meter.folder()?;
        let endpoint = Endpoint::plain(API);
        let mut machine = Self { place, folder, endpoint, ready: f64::NAN, is_down: false };
        let log = machine.folder.path().join("up.log");
        let mut up = machine.words(&["up", "--detach", "--node-name", "bench"]);
        up.args(more);
        // Pods have cgroups of their own, which this one alone knows.
        undone_by(&machine.words(&["down"]), machine.folder.path())?;
        up.stdin(Stdio::null()).stdout(Stdio::null()).stderr(std::fs::File::create(&log)?);
        let began = Instant::now();
        let mut child = meter.spawn(&mut up)?;
        machine.ready = runtime.block_on(machine.until_ready(began))?;
        if !child.wait()?.success() {
            return Err(format!("up: {}", std::fs::read_to_string(&log).unwrap_or_default()).into());
        }
        machine.endpoint = Endpoint::of_kubeconfig(API, &machine.kubeconfig())?;
        Ok(machine)
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("data/kubeconfig")
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.folder.path().join("run/cri.sock")
    }

    fn words(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.place.program);
        command.arg("--data-dir").arg(self.folder.path().join("data"));
        command.arg("--run-dir").arg(self.folder.path().join("run")).args(words);
        command
    }

    /// Runs a command of this instance to its end; what it printed.
    pub(super) fn command(&self, words: &[&str]) -> Result<String> {
        let mut command = self.words(words);
        // It is not among what is measured, and not to go on where this is cut.
        kernel::command::dies_with_thread(&mut command);
        quiet(&mut command)
    }

    async fn until_ready(&self, began: Instant) -> Result<f64> {
        let kubeconfig = self.kubeconfig();
        loop {
            if self.node_is_ready(&kubeconfig).await.is_ok_and(|is_ready| is_ready) {
                return Ok(began.elapsed().as_secs_f64() * 1e3);
            }
            if began.elapsed() > PATIENCE {
                return Err("the node is not ready".into());
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn node_is_ready(&self, kubeconfig: &Path) -> Result<bool> {
        let mut connection = Endpoint::of_kubeconfig(API, kubeconfig)?.connect().await?;
        let node = connection.done(Method::GET, NODE, "", Bytes::new()).await?;
        Ok(is_ready(&serde_json::from_slice(&node)?))
    }

    /// Makes a pod for each port of the host, one object after another, and waits until all are ready; milliseconds from the first
    /// request to the last event.
    pub(super) async fn pods(&self, name: &str, ports: Range<i32>) -> Result<f64> {
        let (mut asking, mut watching) = (self.endpoint.connect().await?, self.endpoint.connect().await?);
        let mut events =
            Events::new(&mut watching, &format!("{PODS}?watch=1&labelSelector=bench%3D{name}")).await?;
        let (count, began) = (ports.len(), Instant::now());
        for port in ports {
            let pod = serde_json::to_vec(&self.pod(name, port))?;
            asking.done(Method::POST, PODS, JSON, pod.into()).await?;
        }
        let mut ready = BTreeSet::new();
        while ready.len() < count {
            let event = tokio::time::timeout(PATIENCE, events.next()).await;
            let event = event.map_err(|_| format!("{} of {count} pods are ready", ready.len()))??;
            let pod = event.get("object").ok_or("an event has no object")?;
            if is_ready(pod) {
                ready.insert(pod.pointer("/metadata/name").map(ToString::to_string));
            }
        }
        Ok(began.elapsed().as_secs_f64() * 1e3)
    }

    /// The same as [`Client::up`](super::Client::up) asks for by CRI.
    fn pod(&self, name: &str, port: i32) -> Value {
        let container = json!({
            "name": "main",
            "image": self.place.image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["sleep", "100000"],
            "resources": {"limits": {"memory": "64Mi"}, "requests": {"cpu": "1m", "memory": "1Mi"}},
            "ports": [{"containerPort": 80, "hostPort": port}],
        });
        let metadata = json!({"name": format!("{name}-{port}"), "labels": {"bench": name}});
        let spec = json!({"containers": [container], "terminationGracePeriodSeconds": 0});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    }

    /// Deletes all pods, and waits until none is left.
    pub(super) async fn delete_pods(&self) -> Result<()> {
        let mut connection = self.endpoint.connect().await?;
        connection.done(Method::DELETE, PODS, "", Bytes::new()).await?;
        let began = Instant::now();
        loop {
            let left = connection.done(Method::GET, PODS, "", Bytes::new()).await?;
            let left: Value = serde_json::from_slice(&left)?;
            match left.get("items").and_then(Value::as_array).map(Vec::len) {
                Some(0) => return Ok(()),
                Some(count) if began.elapsed() > PATIENCE => {
                    return Err(format!("{count} pods are left").into());
                }
                _ => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    fn pids(&self) -> Result<Vec<u32>> {
        let status: Value = serde_json::from_str(&self.command(&["status", "-o", "json"])?)?;
        let programs =
            status.get("programs").and_then(Value::as_array).ok_or("status tells of no programs")?;
        let pid = |one: &Value| u32::try_from(one.get("pid")?.as_u64()?).ok();
        Ok(programs.iter().filter_map(pid).collect())
    }

    /// What all programs hold, the supervisor with them, and not the pods' shims: MB, each page shared among those who have it.
    pub(super) fn memory(&self) -> Result<f64> {
        let held = self.pids()?.into_iter().map(pss).sum::<Result<u64>>()?;
        Ok(held as f64 * 1024.0 / 1e6)
    }

    pub(super) fn down(mut self) -> Result<()> {
        self.is_down = true;
        self.command(&["down"]).map(drop)
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        if !self.is_down {
            let _ = self.command(&["down"]);
        }
    }
}

/// Whether a node or a pod has the condition Ready.
fn is_ready(object: &Value) -> bool {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|one| {
        one.get("type").is_some_and(|kind| kind == "Ready")
            && one.get("status").is_some_and(|status| status == "True")
    })
}

/// The events of a watch.
struct Events {
    body: Incoming,
    read: Vec<u8>,
}

impl Events {
    async fn new(connection: &mut Connection, path: &str) -> Result<Self> {
        Ok(Self { body: connection.stream(path).await?, read: Vec::new() })
    }

    async fn next(&mut self) -> Result<Value> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Ok(serde_json::from_slice(&line)?);
            }
            let frame = self.body.frame().await.ok_or("the watch has ended")??;
            self.read.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        }
    }
}
