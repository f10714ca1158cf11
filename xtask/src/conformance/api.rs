//! Objects of an API server, as an administrator and a user have them.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::Result;
use crate::bench::api::client::{Connection, Endpoint};

/// Longer than anything takes that will happen at all: controllers wait some seconds before they try again, and kubelets up to a
/// minute.
const PATIENCE: Duration = Duration::from_secs(120);

/// A kind of objects.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    version: &'static str,
    name: &'static str,
    plural: &'static str,
    is_namespaced: bool,
}

const fn kind(version: &'static str, name: &'static str, plural: &'static str, is_namespaced: bool) -> Kind {
    Kind { version, name, plural, is_namespaced }
}

const STORAGE: &str = "storage.k8s.io/v1";
const SNAPSHOT: &str = "snapshot.storage.k8s.io/v1";
const GROUP: &str = "groupsnapshot.storage.k8s.io/v1beta2";

pub(super) const PODS: Kind = kind("v1", "Pod", "pods", true);
pub(super) const NAMESPACES: Kind = kind("v1", "Namespace", "namespaces", false);
pub(super) const NODES: Kind = kind("v1", "Node", "nodes", false);
pub(super) const CLAIMS: Kind = kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims", true);
pub(super) const VOLUMES: Kind = kind("v1", "PersistentVolume", "persistentvolumes", false);
pub(super) const EVENTS: Kind = kind("v1", "Event", "events", true);
pub(super) const DRIVERS: Kind = kind(STORAGE, "CSIDriver", "csidrivers", false);
pub(super) const CSI_NODES: Kind = kind(STORAGE, "CSINode", "csinodes", false);
pub(super) const CLASSES: Kind = kind(STORAGE, "StorageClass", "storageclasses", false);
pub(super) const ATTRIBUTES: Kind = kind(STORAGE, "VolumeAttributesClass", "volumeattributesclasses", false);
pub(super) const ATTACHMENTS: Kind = kind(STORAGE, "VolumeAttachment", "volumeattachments", false);
pub(super) const CAPACITIES: Kind = kind(STORAGE, "CSIStorageCapacity", "csistoragecapacities", true);
pub(super) const SNAPSHOTS: Kind = kind(SNAPSHOT, "VolumeSnapshot", "volumesnapshots", true);
pub(super) const CONTENTS: Kind = kind(SNAPSHOT, "VolumeSnapshotContent", "volumesnapshotcontents", false);
pub(super) const SNAPSHOT_CLASSES: Kind =
    kind(SNAPSHOT, "VolumeSnapshotClass", "volumesnapshotclasses", false);
pub(super) const GROUPS: Kind = kind(GROUP, "VolumeGroupSnapshot", "volumegroupsnapshots", true);
pub(super) const GROUP_CONTENTS: Kind =
    kind(GROUP, "VolumeGroupSnapshotContent", "volumegroupsnapshotcontents", false);
pub(super) const GROUP_CLASSES: Kind =
    kind(GROUP, "VolumeGroupSnapshotClass", "volumegroupsnapshotclasses", false);

/// Whether a node or a pod says that it is ready.
pub(super) fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True")
}

/// Whether nothing of a pod runs any more.
pub(super) fn has_ended(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

impl Kind {
    fn path(self, name: &str) -> String {
        let root = if self.version.contains('/') { "apis" } else { "api" };
        let namespace = if self.is_namespaced { "/namespaces/default" } else { "" };
        let name = if name.is_empty() { String::new() } else { format!("/{name}") };
        format!("/{root}/{}{namespace}/{}{name}", self.version, self.plural)
    }
}

/// The server, and a connection to it.
pub(super) struct Api(Mutex<Connection>);

impl Api {
    /// The server that a kubeconfig of ours names.
    pub(super) async fn connect(kubeconfig: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(kubeconfig)?;
        let server = text.lines().find_map(|line| line.trim().strip_prefix("server: https://"));
        let address: SocketAddr = server.ok_or("the kubeconfig names no server")?.trim().parse()?;
        Ok(Self(Mutex::new(Endpoint::of_kubeconfig(address, kubeconfig)?.connect().await?)))
    }

    /// What is answered; nothing where there is no such object.
    async fn ask(&self, method: Method, path: &str, body: Value) -> Result<Option<Value>> {
        let media = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut connection = self.0.lock().await;
        match connection.call(method, path, media, body.into()).await? {
            (200..=202, answer) => Ok(Some(serde_json::from_slice(&answer)?)),
            (404, _) => Ok(None),
            (code, answer) => {
                let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
                let said = answer["message"].as_str().unwrap_or_default();
                Err(format!("{path}: {code} {said}").into())
            }
        }
    }

    /// Makes an object.
    pub(super) async fn make(&self, kind: Kind, name: &str, mut object: Value) -> Result<Value> {
        object["apiVersion"] = json!(kind.version);
        object["kind"] = json!(kind.name);
        object["metadata"]["name"] = json!(name);
        let made = self.ask(Method::POST, &kind.path(""), object).await?;
        made.ok_or_else(|| format!("the server does not know {}", kind.plural).into())
    }

    /// An object as it is.
    pub(super) async fn find(&self, kind: Kind, name: &str) -> Result<Option<Value>> {
        self.ask(Method::GET, &kind.path(name), Value::Null).await
    }

    /// One that has to be there.
    pub(super) async fn get(&self, kind: Kind, name: &str) -> Result<Value> {
        let found = self.find(kind, name).await?;
        found.ok_or_else(|| format!("{} {name} is not there", kind.name).into())
    }

    /// All of a kind.
    pub(super) async fn all(&self, kind: Kind) -> Result<Vec<Value>> {
        let list = self.ask(Method::GET, &kind.path(""), Value::Null).await?.unwrap_or_default();
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Changes an object, or a part of it, by a merge patch.
    pub(super) async fn patch(&self, kind: Kind, name: &str, change: Value) -> Result<Value> {
        let path = if change.get("status").is_some() { format!("{name}/status") } else { name.to_owned() };
        let patched = self.ask(Method::PATCH, &kind.path(&path), change).await?;
        patched.ok_or_else(|| format!("{} {name} is not there", kind.name).into())
    }

    /// Has objects go.
    pub(super) async fn delete(&self, kind: Kind, names: &[&str]) -> Result<()> {
        for name in names {
            self.ask(Method::DELETE, &kind.path(name), Value::Null).await?;
        }
        Ok(())
    }

    /// The object, once it is as wanted.
    pub(super) async fn until(
        &self,
        kind: Kind,
        name: &str,
        what: &str,
        is: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let mut last = Value::Null;
        let found = soon(async || {
            last = self.find(kind, name).await?.unwrap_or_default();
            Ok(is(&last).then(|| last.clone()))
        })
        .await?;
        found.ok_or_else(|| format!("{} {name} is not {what}; it says {}", kind.name, last["status"]).into())
    }

    /// Waits until an object is gone.
    pub(super) async fn gone(&self, kind: Kind, name: &str) -> Result<()> {
        let mut last = Value::Null;
        let gone = soon(async || {
            let there = self.find(kind, name).await?;
            let is_gone = there.is_none();
            last = there.unwrap_or_default();
            Ok(is_gone.then_some(()))
        });
        let (gone, held) = (gone.await?, &last["metadata"]["finalizers"]);
        gone.ok_or_else(|| format!("{} {name} does not go; {held} hold it", kind.name).into())
    }

    /// Waits for an event about an object with these words.
    pub(super) async fn event(&self, about: &str, reason: &str, words: &str) -> Result<()> {
        let mut said = Vec::new();
        let found = soon(async || {
            let events = self.all(EVENTS).await?;
            let about = events.into_iter().filter(|event| event["involvedObject"]["name"] == about);
            said = about.map(|event| format!("{}: {}", event["reason"], event["message"])).collect();
            let is = |text: &&String| text.contains(reason) && text.contains(words);
            Ok(said.iter().find(is).map(drop))
        });
        let found = found.await?;
        found.ok_or_else(|| {
            format!("{about} has no event {reason} with {words:?}; it has {}", said.join("; ")).into()
        })
    }
}

/// What `look` finds, if it finds something in time.
pub(super) async fn soon<T>(mut look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    let began = Instant::now();
    loop {
        match look().await? {
            None if began.elapsed() < PATIENCE => tokio::time::sleep(Duration::from_millis(20)).await,
            found => return Ok(found),
        }
    }
}
