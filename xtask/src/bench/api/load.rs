//! What is asked of a server, and how long it takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::Method;
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::super::Meter;
use super::client::{Connection, Endpoint};
use super::table::{Deed, Quantiles, Round, Storm};
use crate::Result;

const NAMESPACE: &str = "bench";
const PODS: usize = 1000;
const WATCHERS: usize = 100;
/// Pods that are created before anybody watches.
const ALONE: usize = 300;
/// Changes that come one at a time, and how far apart.
const PACED: usize = 100;
const PACE: Duration = Duration::from_millis(20);
/// Changes that come as fast as they can, by so many clients.
const STORM: usize = 2000;
const WRITERS: usize = 16;
const LISTS: usize = 30;
const GETS: usize = 300;
/// How long watchers may take to have seen all.
const SEEN: Duration = Duration::from_secs(60);

const JSON: &str = "application/json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

fn collection() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods")
}

/// A pod as a deployment makes it, of a container with the usual.
fn pod(name: &str) -> Bytes {
    let probe = |path: &str| json!({"httpGet": {"path": path, "port": 8080}, "periodSeconds": 10});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "labels": {"app": "web", "pod-template-hash": "5d59d67564"},
            "annotations": {"example.org/revision": "1"},
        },
        "spec": {
            "nodeName": "node-1",
            "containers": [{
                "name": "web", "image": "registry.example.org/team/web:1.2.3",
                "ports": [{"name": "http", "containerPort": 8080}],
                "env": [{"name": "LEVEL", "value": "info"}, {"name": "PEERS", "value": "a,b,c"}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
                "livenessProbe": probe("/live"), "readinessProbe": probe("/ready"),
            }],
        },
    });
    Bytes::from(pod.to_string())
}

/// What a kubelet patches.
fn status(number: usize) -> Bytes {
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let ready = if number.is_multiple_of(2) { "True" } else { "False" };
    let status = json!({"status": {
        "phase": "Running", "hostIP": "10.0.0.1", "podIP": format!("10.1.{}.{}", number / 250, number % 250),
        "conditions": [
            condition("Initialized", "True"), condition("Ready", ready),
            condition("ContainersReady", ready), condition("PodScheduled", "True"),
        ],
        "containerStatuses": [{
            "name": "web", "image": "registry.example.org/team/web:1.2.3", "imageID": format!("sha256:{number:064}"),
            "ready": number.is_multiple_of(2), "restartCount": number, "started": true,
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        }],
    }});
    Bytes::from(status.to_string())
}

async fn patch(connection: &mut Connection, pod: usize, number: usize) -> Result<()> {
    let path = format!("{}/pod-{pod:04}/status", collection());
    connection.done(Method::PATCH, &path, STRATEGIC, status(number)).await.map(drop)
}

async fn create(connection: &mut Connection, name: &str) -> Result<()> {
    connection.done(Method::POST, &collection(), JSON, pod(name)).await.map(drop)
}

/// One round: everything of a server that is ready.
pub(super) async fn round(endpoint: &Endpoint, meter: &Meter) -> Result<Round> {
    let mut client = endpoint.connect().await?;
    prepare(&mut client).await?;
    let deeds = Deeds { meter };
    let alone =
        deeds.each(ALONE, async |number| create(&mut client, &format!("alone-{number:03}")).await).await?;
    let watchers = Watchers::start(endpoint, version(&mut client).await?).await?;
    let mut client = endpoint.connect().await?;
    let create =
        deeds.each(PODS, async |number| create(&mut client, &format!("pod-{number:04}")).await).await?;
    watchers.have_seen(PODS).await?;
    let patched = deeds.each(PODS, async |number| patch(&mut client, number, number).await).await?;
    watchers.have_seen(2 * PODS).await?;
    let told = paced(&mut client, &watchers).await?;
    let storm = storm(endpoint, &watchers, meter).await?;
    watchers.end();
    let path = format!("{}?limit=500", collection());
    let list = deeds
        .each(LISTS, async |_| client.done(Method::GET, &collection(), "", Bytes::new()).await.map(drop));
    let list = list.await?;
    let page = deeds
        .each(LISTS, async |_| client.done(Method::GET, &path, "", Bytes::new()).await.map(drop))
        .await?;
    let get = deeds.each(GETS, async |number| {
        let path = format!("{}/pod-{number:04}", collection());
        client.done(Method::GET, &path, "", Bytes::new()).await.map(drop)
    });
    let get = get.await?;
    Ok(Round { alone, create, patch: patched, told, storm, list, page, get })
}

/// The namespace, and what pods in it need.
async fn prepare(client: &mut Connection) -> Result<()> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    client.done(Method::POST, "/api/v1/namespaces", JSON, namespace.to_string().into()).await?;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts");
    // Some server has a controller that makes it.
    match client.call(Method::POST, &path, JSON, account.to_string().into()).await? {
        (201 | 409, _) => Ok(()),
        (code, body) => Err(format!("{path}: {code} {}", String::from_utf8_lossy(&body)).into()),
    }
}

/// The version of the collection.
async fn version(client: &mut Connection) -> Result<String> {
    let list = client.done(Method::GET, &format!("{}?limit=1", collection()), "", Bytes::new()).await?;
    let list: serde_json::Value = serde_json::from_slice(&list)?;
    Ok(list["metadata"]["resourceVersion"].as_str().ok_or("a list has no version")?.to_owned())
}

/// Runs deeds one after another.
struct Deeds<'a> {
    meter: &'a Meter,
}

impl Deeds<'_> {
    async fn each(&self, count: usize, mut deed: impl AsyncFnMut(usize) -> Result<()>) -> Result<Deed> {
        let before = self.meter.cpu()?;
        let mut walls = Vec::with_capacity(count);
        for number in 0..count {
            let began = Instant::now();
            deed(number).await?;
            walls.push(began.elapsed().as_secs_f64() * 1e3);
        }
        // What goes on after the last answer is little of it all.
        let cpu = (self.meter.cpu()? - before).as_secs_f64() * 1e3 / count as f64;
        Ok(Deed { wall: Quantiles::of(walls), cpu })
    }
}

/// Watchers of the pods, each on a connection of its own.
struct Watchers {
    tasks: JoinSet<()>,
    seen: Arc<Seen>,
}

/// How many events all of them have seen together, and of how many somebody wants to know.
#[derive(Default)]
struct Seen {
    events: AtomicU64,
    goal: AtomicU64,
    reached: Notify,
}

impl Seen {
    fn add(&self, events: usize) {
        let all = self.events.fetch_add(events as u64, Ordering::SeqCst) + events as u64;
        if all >= self.goal.load(Ordering::SeqCst) {
            self.reached.notify_one();
        }
    }
}

impl Watchers {
    async fn start(endpoint: &Endpoint, version: String) -> Result<Self> {
        let seen = Arc::new(Seen::default());
        let path = format!("{}?watch=1&resourceVersion={version}", collection());
        let mut tasks = JoinSet::new();
        for _ in 0..WATCHERS {
            let mut connection = endpoint.connect().await?;
            let mut events = connection.stream(&path).await?;
            let seen = Arc::clone(&seen);
            tasks.spawn(async move {
                // An event is a line.
                while let Some(Ok(frame)) = events.frame().await {
                    seen.add(
                        frame.data_ref().map_or(0, |data| data.iter().filter(|&&byte| byte == b'\n').count()),
                    );
                }
                drop(connection);
            });
        }
        Ok(Self { tasks, seen })
    }

    /// Waits until each of them has seen so many events.
    async fn have_seen(&self, count: usize) -> Result<()> {
        let goal = (count * WATCHERS) as u64;
        self.seen.goal.store(goal, Ordering::SeqCst);
        let reached = async {
            while self.seen.events.load(Ordering::SeqCst) < goal {
                self.seen.reached.notified().await;
            }
        };
        let seen = || self.seen.events.load(Ordering::SeqCst);
        let late = |_| format!("watchers have seen {} of {goal} events in a minute", seen());
        Ok(tokio::time::timeout(SEEN, reached).await.map_err(late)?)
    }

    fn end(mut self) {
        self.tasks.abort_all();
    }
}

/// Changes one at a time: how long after a change is sent the last of the watchers has read it.
async fn paced(client: &mut Connection, watchers: &Watchers) -> Result<Quantiles> {
    let mut walls = Vec::with_capacity(PACED);
    for number in 0..PACED {
        tokio::time::sleep(PACE).await;
        let began = Instant::now();
        let seen = async { watchers.have_seen(2 * PODS + number + 1).await };
        let (patched, seen) = tokio::join!(patch(client, number, 2 * PODS + number), seen);
        patched.and(seen)?;
        walls.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(Quantiles::of(walls))
}

/// Changes as fast as they can come.
async fn storm(endpoint: &Endpoint, watchers: &Watchers, meter: &Meter) -> Result<Storm> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut connections = Vec::new();
    for _ in 0..WRITERS {
        connections.push(endpoint.connect().await?);
    }
    let (before, began) = (meter.cpu()?, Instant::now());
    let mut writers = JoinSet::new();
    for mut connection in connections {
        let next = Arc::clone(&next);
        writers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= STORM {
                    return Ok(());
                }
                let patched = patch(&mut connection, number % PODS, 10_000 + number).await;
                patched.map_err(|e| e.to_string())?;
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer?.map_err(|e: String| e)?;
    }
    let written = began.elapsed().as_secs_f64();
    watchers.have_seen(2 * PODS + PACED + STORM).await?;
    let told = began.elapsed().as_secs_f64();
    let cpu = (meter.cpu()? - before).as_secs_f64() * 1e3 / STORM as f64;
    Ok(Storm { writes: STORM as f64 / written, events: (STORM * WATCHERS) as f64 / told, cpu })
}

/// What etcd alone needs for a put of such a pod, one after another: over gRPC, as an API server asks it.
pub(super) async fn puts(endpoint: &Endpoint, meter: &Meter) -> Result<Deed> {
    let mut client = endpoint.connect().await?;
    let deeds = Deeds { meter };
    deeds
        .each(PODS, async |number| {
            let request = put(&format!("/registry/pods/{NAMESPACE}/pod-{number:04}"), &pod("a-pod"));
            let path = "/etcdserverpb.KV/Put";
            let answer = client.done(Method::POST, path, "application/grpc", request).await?;
            // A refusal is a trailer behind an empty answer.
            if answer.is_empty() { Err("etcd refuses a put".into()) } else { Ok(()) }
        })
        .await
}

/// A PutRequest with key and value (rpc.proto of etcd), behind the head of a gRPC message.
fn put(key: &str, value: &[u8]) -> Bytes {
    let mut message = Vec::with_capacity(value.len() + key.len() + 16);
    for (tag, field) in [(0x0a, key.as_bytes()), (0x12, value)] {
        message.push(tag);
        let mut length = field.len();
        while length >= 0x80 {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(field);
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0], length.to_be_bytes().as_slice(), &message].concat().into()
}
