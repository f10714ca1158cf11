//! The node's object, its lease and its status.

mod cloud;
pub(crate) mod machine;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use client::cache::Name;
use client::quantity;
use cri::contract::v1::{StatusRequest, VersionResponse};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node as Object;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::evict::Pressure;
use crate::pod::fit::Place;
use crate::volumes::csi;

/// Where leases of nodes are.
const LEASES: &str = "kube-node-lease";
/// How often a status is written in which nothing is new.
const STATUS: Duration = Duration::from_secs(300);
/// How often it is looked whether something is.
const LOOK: Duration = Duration::from_secs(10);
/// The same of a node that no pod can run on yet.
const SOON: Duration = Duration::from_millis(300);
/// The kubelet that this one does the work of.
const VERSION: &str = "v1.36.0";

/// The node as the agent tells it.
pub(crate) struct Node {
    agent: Arc<Agent>,
    version: VersionResponse,
    port: u16,
}

/// What is written at once when it changes: conditions, and attached volumes.
type Told = (Vec<(&'static str, bool)>, Vec<String>);
/// One condition: its kind, whether it holds, a word and a sentence.
type Condition = (&'static str, bool, &'static str, String);

impl Node {
    /// One whose runtime is this, and whose server listens at this port.
    pub(crate) fn new(agent: Arc<Agent>, version: VersionResponse, port: u16) -> Self {
        Self { agent, version, port }
    }

    fn name(&self) -> &str {
        &self.agent.setup.node
    }

    /// Makes the object, or has what is there say what is so; tries until it has.
    pub(crate) async fn register(&self) {
        let mut told = false;
        loop {
            match self.try_register().await {
                Ok(()) => {
                    self.agent.is_registered.store(true, Ordering::Release);
                    return;
                }
                Err(error) if !std::mem::replace(&mut told, true) => {
                    eprintln!(
                        "sextant agent: warning: cannot register node {}, and tries again: {}",
                        self.name(),
                        client::causes(&error)
                    );
                }
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn try_register(&self) -> kube::Result<()> {
        let api: Api<Object> = Api::all(self.agent.client.clone());
        let labels = labels(&self.agent);
        let cloud = &self.agent.setup.cloud;
        let there = api.get_opt(self.name()).await?;
        let mut metadata = json!({"labels": labels});
        if let Some(annotations) = cloud::annotations(cloud, there.is_some()) {
            metadata["annotations"] = annotations;
        }
        match there {
            Some(_) => {
                let patch = Patch::Merge(json!({"metadata": metadata}));
                api.patch(self.name(), &PatchParams::default(), &patch).await?;
            }
            None => {
                metadata["name"] = json!(self.name());
                let node = json!({"metadata": metadata, "spec": cloud::spec(cloud)});
                let node = serde_json::from_value(node).map_err(kube::Error::SerdeError)?;
                match api.create(&PostParams::default(), &node).await {
                    Err(kube::Error::Api(status)) if status.code == 409 => {}
                    made => drop(made?),
                }
                self.agent.events.normal(&node, "Starting", "Starting kubelet.");
            }
        }
        self.write(&self.conditions().await).await?;
        csi::drivers::announce(&self.agent).await;
        self.renew().await
    }

    /// Renews the lease and keeps the status, for ever.
    pub(crate) async fn keep(&self) -> ! {
        let renewing = async {
            loop {
                tokio::time::sleep(self.agent.setup.renew).await;
                // A lease that was not renewed is renewed the next time; who it is for waits four times as long.
                let why = match tokio::time::timeout(self.agent.setup.renew, self.renew()).await {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => client::causes(&error),
                    // A connection that is dead goes with the call.
                    Err(_) => "the API server does not answer".into(),
                };
                eprintln!("sextant agent: warning: cannot renew the node's lease: {why}");
            }
        };
        let telling = async {
            let mut told: Option<(Told, tokio::time::Instant)> = None;
            let mut wait = SOON;
            loop {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = self.agent.node_changes.notified() => {}
                }
                let conditions = self.conditions().await;
                wait =
                    if conditions.iter().any(|(kind, is, ..)| *kind == "Ready" && *is) { LOOK } else { SOON };
                let now: Vec<(&str, bool)> = conditions.iter().map(|(kind, is, ..)| (*kind, *is)).collect();
                let now = (now, self.agent.csi.attached());
                let is_old = told.as_ref().is_none_or(|(then, when)| *then != now || when.elapsed() > STATUS)
                    || self.is_given_up().await;
                if is_old {
                    match tokio::time::timeout(LOOK, self.write(&conditions)).await {
                        Ok(Ok(())) => told = Some((now, tokio::time::Instant::now())),
                        // Somebody has deleted the node: it comes back.
                        Ok(Err(kube::Error::Api(status))) if status.code == 404 => self.register().await,
                        _ => {}
                    }
                }
            }
        };
        tokio::select! {
            never = renewing => never,
            never = telling => never,
        }
    }

    /// Whether the node is gone, or others have given it up: who was not heard of for a while is `Unknown` until it says otherwise.
    async fn is_given_up(&self) -> bool {
        let api: Api<Object> = Api::all(self.agent.client.clone());
        match tokio::time::timeout(LOOK, api.get_opt(self.name())).await {
            Ok(Ok(None)) => true,
            Ok(Ok(Some(node))) => {
                let all = node.status.and_then(|status| status.conditions).unwrap_or_default();
                all.iter().any(|one| one.type_ == "Ready" && one.status == "Unknown")
            }
            _ => false,
        }
    }

    async fn renew(&self) -> kube::Result<()> {
        let api: Api<Lease> = Api::namespaced(self.agent.client.clone(), LEASES);
        let seconds = self.agent.setup.renew.as_secs().max(1) * 4;
        let spec = json!({"holderIdentity": self.name(), "leaseDurationSeconds": seconds, "renewTime": MicroTime(Timestamp::now())});
        let patch = Patch::Merge(json!({"spec": spec}));
        match api.patch(self.name(), &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {
                let lease = json!({"metadata": {"name": self.name()}, "spec": spec});
                let lease = serde_json::from_value(lease).map_err(kube::Error::SerdeError)?;
                api.create(&PostParams::default(), &lease).await.map(drop)
            }
            renewed => renewed.map(drop),
        }
    }

    /// What is so now, in a kubelet's words.
    async fn conditions(&self) -> Vec<Condition> {
        let (ready, why) = match self.not_ready().await {
            None => (true, "kubelet is posting ready status".into()),
            Some(why) => (false, why),
        };
        let short = self.agent.pressures.now(self.agent.setup.limits.pressure);
        let has = |what| !short.contains(&what);
        let mut all = pressures(has(Pressure::Memory), has(Pressure::Disk), has(Pressure::Pids)).to_vec();
        all.push(("Ready", ready, if ready { "KubeletReady" } else { "KubeletNotReady" }, why));
        all
    }

    /// Why no pod can run here, if none can.
    async fn not_ready(&self) -> Option<String> {
        let asked =
            async { self.agent.runtime.client().await?.status(StatusRequest { verbose: false }).await };
        match asked.await {
            Err(error) => Some(format!("container runtime is down: {error}")),
            Ok(answer) => {
                let bad = answer.status.unwrap_or_default().conditions.into_iter().find(|one| !one.status)?;
                let what = match bad.r#type.as_str() {
                    "NetworkReady" => "container runtime network not ready: NetworkReady=false",
                    _ => "container runtime not ready: RuntimeReady=false",
                };
                Some(format!("{what} reason:{} message:{}", bad.reason, bad.message))
            }
        }
    }

    async fn write(&self, conditions: &[Condition]) -> kube::Result<()> {
        let api: Api<Object> = Api::all(self.agent.client.clone());
        let old = api.get(self.name()).await?.status.unwrap_or_default();
        let has_addresses = old.addresses.is_some_and(|all| !all.is_empty());
        let old = old.conditions.unwrap_or_default();
        let now = Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default());
        let written = conditions.iter().map(|(kind, is, reason, message)| {
            let status = if *is { "True" } else { "False" };
            let before = old.iter().find(|one| one.type_ == *kind && one.status == status);
            let since =
                before.and_then(|one| one.last_transition_time.clone()).unwrap_or_else(|| now.clone());
            json!({"type": kind, "status": status, "reason": reason, "message": message,
                "lastHeartbeatTime": now, "lastTransitionTime": since})
        });
        // By their kinds: those of others stay, also such as come meanwhile.
        let mut status = self.status(&written.collect::<Vec<_>>());
        if cloud::says_addresses(&self.agent.setup.cloud, has_addresses) {
            let machine = &self.agent.machine;
            status["addresses"] = json!([{"type": "InternalIP", "address": machine.address},
                {"type": "Hostname", "address": machine.hostname}]);
        }
        let patch = Patch::Strategic(json!({"status": status}));
        api.patch_status(self.name(), &PatchParams::default(), &patch).await.map(drop)
    }

    fn status(&self, conditions: &[Value]) -> Value {
        let machine = &self.agent.machine;
        let amounts = json!({
            "cpu": machine.cpus.to_string(), "memory": quantity::of(machine.memory).0,
            "ephemeral-storage": quantity::of(machine.disk()).0, "pods": self.agent.setup.pods.to_string(),
            "hugepages-1Gi": "0", "hugepages-2Mi": "0"});
        let attached = self.agent.csi.attached();
        let devices: Vec<Value> =
            attached.iter().map(|name| json!({"name": name, "devicePath": ""})).collect();
        let runtime = format!("{}://{}", self.version.runtime_name, self.version.runtime_version);
        json!({
            "capacity": amounts, "allocatable": amounts, "conditions": conditions,
            "volumesInUse": attached, "volumesAttached": devices,
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.port}},
            "nodeInfo": {"architecture": machine.architecture, "operatingSystem": "linux",
                "bootID": machine.boot, "machineID": machine.id, "systemUUID": machine.id,
                "kernelVersion": machine.kernel, "osImage": machine.system,
                "containerRuntimeVersion": runtime, "kubeletVersion": VERSION, "kubeProxyVersion": ""}})
    }
}

/// The node as pods find it: what the API server has of it, or what the agent tells of it where that is not known.
pub(crate) fn place(agent: &Agent) -> Place {
    place_of(agent, agent.nodes.get(&Name::new("", &agent.setup.node)).as_deref())
}

/// The same, as the API server has it now.
///
/// # Errors
/// The API server cannot be asked.
pub(crate) async fn place_now(agent: &Agent) -> kube::Result<Place> {
    let node = Api::<Object>::all(agent.client.clone()).get_opt(&agent.setup.node).await?;
    Ok(place_of(agent, node.as_ref()))
}

fn place_of(agent: &Agent, node: Option<&Object>) -> Place {
    let name = agent.setup.node.clone();
    match node {
        Some(node) => Place {
            name,
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default(),
        },
        None => Place { name, labels: labels(agent), taints: Vec::new() },
    }
}

/// The labels that the agent gives the node.
fn labels(agent: &Agent) -> BTreeMap<String, String> {
    let (name, arch) = (agent.setup.node.as_str(), agent.machine.architecture);
    let own = [
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", arch),
    ];
    let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
    own.into_iter().chain(agent.setup.labels.iter().cloned()).collect()
}

/// What the machine is short of, in a kubelet's words.
fn pressures(has_memory: bool, has_disk: bool, has_pids: bool) -> [Condition; 3] {
    let of = |kind, has: bool, good: [&'static str; 2], bad: [&'static str; 2]| {
        let [reason, words] = if has { good } else { bad };
        (kind, !has, reason, format!("kubelet has {words}"))
    };
    [
        of(
            "MemoryPressure",
            has_memory,
            ["KubeletHasSufficientMemory", "sufficient memory available"],
            ["KubeletHasInsufficientMemory", "insufficient memory available"],
        ),
        of(
            "DiskPressure",
            has_disk,
            ["KubeletHasNoDiskPressure", "no disk pressure"],
            ["KubeletHasDiskPressure", "disk pressure"],
        ),
        of(
            "PIDPressure",
            has_pids,
            ["KubeletHasSufficientPID", "sufficient PID available"],
            ["KubeletHasInsufficientPID", "insufficient PID available"],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressures_are_told_in_a_kubelets_words() {
        let words = |has| pressures(has, has, has).map(|(_, is, _, words)| (is, words));
        let of = |is, all: [&str; 3]| all.map(|words| (is, format!("kubelet has {words}")));
        let good = ["sufficient memory available", "no disk pressure", "sufficient PID available"];
        assert_eq!(words(true), of(false, good));
        let bad = ["insufficient memory available", "disk pressure", "insufficient PID available"];
        assert_eq!(words(false), of(true, bad));
    }
}
