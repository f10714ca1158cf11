//! A kubelet by hand: pods that have a node run and are ready a moment later, and are gone when they are to go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::rig::Rig;

/// What the kubelet has seen, and what it is to do.
#[derive(Default)]
pub(crate) struct Seen {
    /// The pods that are there and are to stay, by name, with their labels.
    pub(crate) there: BTreeMap<String, BTreeMap<String, String>>,
    /// The most that there were at a time.
    pub(crate) most: usize,
    /// Pods whose image is this never become ready.
    pub(crate) broken: Option<&'static str>,
    /// Pods run to this phase by themselves: what of the pod says which.
    pub(crate) ends: Option<fn(&Pod) -> Option<&'static str>>,
    number: u8,
}

/// The kubelet; it ends with this.
pub(crate) struct Kubelet {
    seen: Arc<Mutex<Seen>>,
    task: tokio::task::JoinHandle<()>,
}

impl Kubelet {
    /// Begins its work, as the kubelet of all nodes.
    pub(crate) fn start(client: &Client) -> Kubelet {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (client, its) = (client.clone(), seen.clone());
        let task = tokio::spawn(async move {
            let events =
                watcher(Api::<Pod>::all(client.clone()), watcher::Config::default()).default_backoff();
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                let (pod, is_gone) = match event {
                    Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => (pod, false),
                    Ok(watcher::Event::Delete(pod)) => (pod, true),
                    _ => continue,
                };
                count(&mut its.lock().unwrap(), &pod, is_gone);
                if !is_gone {
                    tokio::spawn(work(client.clone(), its.clone(), pod));
                }
            }
        });
        Kubelet { seen, task }
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn count(seen: &mut Seen, pod: &Pod, is_gone: bool) {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let is_over = matches!(phase, Some("Succeeded" | "Failed"));
    if is_gone || is_over || pod.metadata.deletion_timestamp.is_some() {
        seen.there.remove(&pod.name_any());
    } else {
        seen.there.insert(pod.name_any(), pod.labels().clone());
        seen.most = seen.most.max(seen.there.len());
    }
}

/// The next thing for a pod. Whatever fails comes again with the pod's next change.
async fn work(client: Client, seen: Arc<Mutex<Seen>>, pod: Pod) {
    let api: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap());
    let spec = pod.spec.clone().unwrap();
    if spec.node_name.is_none() {
        return;
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
    if pod.metadata.deletion_timestamp.is_some() {
        let _ = api.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await;
        return;
    }
    let (is_broken, ends, number) = {
        let mut seen = seen.lock().unwrap();
        seen.number = seen.number.wrapping_add(1);
        let is_broken = seen.broken.is_some() && spec.containers[0].image.as_deref() == seen.broken;
        (is_broken, seen.ends, seen.number)
    };
    let patch = async |status: Value| {
        let patch = Patch::Strategic(json!({"status": status}));
        let _ = api.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await;
    };
    match phase.as_str() {
        "" | "Pending" => {
            tokio::time::sleep(Duration::from_millis(u64::from(number % 30))).await;
            let ip = format!("10.8.0.{number}");
            let ready = if is_broken { "False" } else { "True" };
            let now = Timestamp::now();
            patch(json!({"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [
                {"type": "Ready", "status": ready, "lastTransitionTime": format!("{now:.0}")}]}))
            .await;
        }
        "Running" => {
            if let Some(phase) = ends.and_then(|ends| ends(&pod)) {
                patch(json!({"phase": phase, "conditions": [{"type": "Ready", "status": "False"}]})).await;
            }
        }
        _ => {}
    }
}

impl Rig {
    /// An API server, the controllers of workloads, and a node of 4 processors.
    pub(crate) async fn with_workloads() -> Rig {
        let mut rig = Rig::bare().await;
        rig.control(&["--workloads", "--bind"]);
        rig.words_have("control", "works for").await;
        rig.machine("node-1", json!({})).await;
        rig
    }

    /// Makes a node of 4 processors and 8 GiB, with this spec.
    pub(crate) async fn machine(&self, name: &str, spec: Value) {
        let labels = json!({"kubernetes.io/hostname": name});
        let node = json!({"metadata": {"name": name, "labels": labels}, "spec": spec});
        self.make::<Node>(node).await;
        let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady"});
        let has = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
        let status = json!({"status": {"capacity": has, "allocatable": has, "conditions": [ready]}});
        let api: Api<Node> = Api::all(self.client.clone());
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        // The server itself says of a new node that it is not ready.
        let taints = json!({"spec": {"taints": spec["taints"]}});
        api.patch(name, &PatchParams::default(), &Patch::Merge(taints)).await.unwrap();
        // Who is not heard of for 50 seconds is given up; on a slow machine a test takes longer. It ends with the test's runtime.
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), "kube-node-lease");
        let name = name.to_owned();
        tokio::spawn(async move {
            let params = PatchParams::apply("kubelet").force();
            loop {
                let now = MicroTime(Timestamp::now());
                let metadata = json!({"name": name, "namespace": "kube-node-lease"});
                let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata,
                    "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now}});
                let _ = leases.patch(&name, &params, &Patch::Apply(lease)).await;
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
        });
    }

    /// Waits for an event about an object; its text.
    pub(crate) async fn told(&self, about: &str, reason: &str) -> String {
        self.until(&format!("an event {reason} of {about}"), async |rig: &Rig| {
            let events = rig.objects_of::<Event>("").list(&ListParams::default()).await.ok()?;
            let is = |event: &&Event| {
                let of = event.regarding.as_ref().and_then(|of| of.name.as_deref());
                of == Some(about) && event.reason.as_deref() == Some(reason)
            };
            events.iter().find(is).map(|event| event.note.clone().unwrap_or_default())
        })
        .await
    }

    /// The pods that have a label, and are to stay.
    pub(crate) async fn pods(&self, label: &str) -> Vec<Pod> {
        let all = self.objects_of::<Pod>("").list(&ListParams::default().labels(label)).await.unwrap();
        all.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect()
    }
}
