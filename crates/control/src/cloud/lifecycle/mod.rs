//! Nodes that are not ready: those whose instances are gone are deleted, those whose instances are stopped are tainted.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use client::cache::Name;
use client::events::{EventType, Events};
use cpi::contract::{CloudProvider, Error, Instances};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use super::trouble::Failing;
use super::{Context, condition, taints};

/// What this controller is called in events.
pub(super) const COMPONENT: &str = "cloud-node-lifecycle-controller";
const SHUTDOWN: &str = "node.cloudprovider.kubernetes.io/shutdown";

/// What is to be asked or done.
#[derive(Clone, Debug, PartialEq)]
enum Plan {
    /// Nothing.
    Nothing,
    /// Whether its instance is there, and whether that is stopped.
    Ask,
    /// These taints.
    Taint(Value),
}

/// What is to become of a node by what it says.
fn plan(node: &Node) -> Plan {
    match condition(node, "Ready") {
        Some(ready) if ready.status == "True" => {
            let left: Vec<_> = taints(node).iter().filter(|taint| taint.key != SHUTDOWN).collect();
            if left.len() == taints(node).len() { Plan::Nothing } else { Plan::Taint(json!(left)) }
        }
        _ => Plan::Ask,
    }
}

/// The taints of a node whose instance is stopped; `None` where it has them.
fn shut_down(node: &Node) -> Option<Value> {
    let has = taints(node);
    if has.iter().any(|taint| taint.key == SHUTDOWN && taint.effect == "NoSchedule") {
        return None;
    }
    let mut all: Vec<Value> = has.iter().map(|taint| json!(taint)).collect();
    all.push(json!({"key": SHUTDOWN, "effect": "NoSchedule"}));
    Some(json!(all))
}

/// Whether what a provider has said of a node holds for the node as it is now: the node is to be asked about still, and its instance is
/// found by the same as before.
fn is_meant(asked: &Node, now: &Node) -> bool {
    let id = |node: &Node| {
        node.spec.as_ref().and_then(|spec| spec.provider_id.clone()).filter(|id| !id.is_empty())
    };
    let (one, other) = (&asked.metadata, &now.metadata);
    one.uid == other.uid
        && plan(now) == Plan::Ask
        && id(asked) == id(now)
        && (id(now).is_some() || one.labels == other.labels && one.annotations == other.annotations)
}

/// Whether an instance is gone, by what the provider says; `None` where that is not known.
fn is_gone(exists: &Result<bool, Error>) -> Option<bool> {
    match exists {
        Ok(exists) => Some(!exists),
        Err(Error::InstanceNotFound) => Some(true),
        Err(_) => None,
    }
}

struct Controller {
    context: Arc<Context>,
    events: Events,
    api: Api<Node>,
    failing: Arc<Failing>,
}

/// Works until it is dropped. `failing` has what is told of nodes already.
pub(super) async fn run(context: Arc<Context>, provider: Arc<dyn CloudProvider>, failing: Arc<Failing>) {
    let Some(instances) = provider.instances() else { return };
    let mut times = tokio::time::interval(context.setup.node_monitor);
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let it = Controller::new(context, failing);
    loop {
        times.tick().await;
        it.round(&*provider, instances).await;
    }
}

/// Tells of a look that failed; the next round looks again.
fn told(node: &Node, looked: Result<(), String>) {
    if let Err(why) = looked {
        eprintln!("sextant control: warning: cannot look after node {}: {why}", node.name_any());
    }
}

impl Controller {
    fn new(context: Arc<Context>, failing: Arc<Failing>) -> Self {
        let events = failing.events().clone();
        Self { api: Api::all(context.client.clone()), context, events, failing }
    }

    /// Looks at all nodes once.
    async fn round(&self, provider: &dyn CloudProvider, instances: &dyn Instances) {
        let nodes = self.context.nodes.all();
        // Taints need no answer of the provider's, and wait for none.
        for node in &nodes {
            if let Plan::Taint(taints) = plan(node) {
                told(node, self.taint(node, taints).await);
            }
        }
        let mut asked = BTreeSet::new();
        for node in nodes.iter().filter(|node| plan(node) == Plan::Ask) {
            let (of, looked) =
                (node.object_ref(&()), self.look(instances, provider.name(), &Name::of(&**node)).await);
            match &looked {
                Ok(()) => self.failing.works(&of, "Instance was checked").await,
                Err(why) => {
                    let text = format!("cannot look after node {}: {why}", node.name_any());
                    self.failing.fails(&of, &text).await;
                }
            }
            asked.extend(of.uid);
            told(node, looked);
        }
        // Who is ready again is asked about no more, and what was told of it is over.
        for node in nodes.iter().filter(|node| plan(node) != Plan::Ask) {
            self.failing.works(&node.object_ref(&()), "Node is ready").await;
        }
        // Who is gone is forgotten.
        self.failing.keep(|uid| asked.contains(uid));
    }

    /// Asks about a node, if it is to be asked about still: the answers about those before it may have taken minutes.
    async fn look(&self, instances: &dyn Instances, provider: &str, name: &Name) -> Result<(), String> {
        let failed = |e: Error| e.to_string();
        let node = self.context.nodes.get(name).filter(|node| plan(node) == Plan::Ask);
        let Some(node) = node else { return Ok(()) };
        let exists = instances.instance_exists(&node).await;
        match is_gone(&exists) {
            Some(true) => self.gone(&node, provider).await,
            Some(false) => match instances.instance_shutdown(&node).await {
                Ok(true) => match shut_down(&node) {
                    Some(taints) => self.taint(&node, taints).await,
                    None => Ok(()),
                },
                Ok(false) | Err(Error::NotImplemented) => Ok(()),
                Err(error) => Err(failed(error)),
            },
            None => exists.map(drop).map_err(failed),
        }
    }

    /// Deletes a node whose instance is gone, unless it has become another meanwhile, as which it is looked at the next time.
    async fn gone(&self, asked: &Node, provider: &str) -> Result<(), String> {
        let now = self.api.get_opt(&asked.name_any()).await.map_err(|e| client::causes(&e))?;
        match now.filter(|now| is_meant(asked, now)) {
            Some(now) => self.delete(&now, provider).await,
            None => Ok(()),
        }
    }

    /// Writes taints, if nobody has changed the node since; else it is looked at the next time.
    async fn taint(&self, node: &Node, taints: Value) -> Result<(), String> {
        let metadata = json!({"uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version});
        let patch = Patch::Merge(json!({"metadata": metadata, "spec": {"taints": taints}}));
        match self.api.patch(&node.name_any(), &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            done => done.map(drop).map_err(|e| client::causes(&e)),
        }
    }

    /// Deletes a node, if nobody has changed it since; else it is asked about again.
    async fn delete(&self, node: &Node, provider: &str) -> Result<(), String> {
        let name = node.name_any();
        let of = node.object_ref(&());
        let text = format!("Deleting node {name} because it does not exist in the cloud provider");
        eprintln!(
            "sextant control: deletes node {name}, whose instance cloud provider {provider} does not have"
        );
        self.events.tell(&of, EventType::Normal, "DeletingNode", "DeletingNode", text).await;
        let (uid, resource_version) = (node.metadata.uid.clone(), node.metadata.resource_version.clone());
        let preconditions = Some(Preconditions { uid, resource_version });
        let how = DeleteParams { preconditions, ..DeleteParams::default() };
        match self.api.delete(&name, &how).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => {
                let (why, failed) = (client::causes(&error), "DeletingNodeFailed");
                let text = format!("Failed deleting node {name}: {why}");
                self.events.tell(&of, EventType::Warning, failed, failed, text).await;
                Err(why)
            }
            Ok(_) => Ok(()),
        }
    }
}
