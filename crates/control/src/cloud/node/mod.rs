//! Nodes whose kubelets wait for their cloud (`--cloud-provider=external`): they get what the provider knows, and lose the taint that
//! keeps pods away.

mod plan;
#[cfg(test)]
mod tests;
mod written;

use std::collections::BTreeSet;
use std::sync::Arc;

use client::cache::Name;
use client::events::Events;
use client::queue::{Next, Queue};
use cpi::contract::{CloudProvider, InstanceMetadata, Instances};
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, NodeAddress};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::{Error, Resource as _, ResourceExt as _};
use serde_json::json;
use tokio::time::MissedTickBehavior;

use super::trouble::Failing;
use super::{Context, Failed};
use written::Written;

/// What this controller is called in events.
pub(super) const COMPONENT: &str = "cloud-node-controller";
/// How often a node that others change at the same time is read again to be written.
const TRIES: u32 = 5;
/// What a node is told that was initialized, or that failed and does not any more.
const SYNCED: &str = "Node synced successfully";

struct Controller {
    context: Arc<Context>,
    events: Events,
    api: Api<Node>,
    written: Arc<Written>,
    failing: Arc<Failing>,
}

/// Works until it is dropped. `failing` has what is told of nodes already.
pub(super) async fn run(context: Arc<Context>, provider: Arc<dyn CloudProvider>, failing: Arc<Failing>) {
    let Some(instances) = provider.instances() else { return };
    let queue: Arc<Queue<String>> = Queue::new(context.node_pace());
    let (its, written) = (queue.clone(), Arc::<Written>::default());
    let notes = written.clone();
    let it = &Controller::new(context.clone(), written, failing);
    let its_failures = it.failing.clone();
    context.nodes.listen(move |change| match &change.new {
        Some(node) => {
            notes.shown(node);
            its.add(node.name_any());
        }
        None => {
            notes.gone(change.object());
            its_failures.forget(&change.object().object_ref(&()));
        }
    });
    // Some have gone before.
    let there: BTreeSet<String> =
        context.nodes.all().iter().filter_map(|node| node.metadata.uid.clone()).collect();
    it.failing.keep(|uid| there.contains(uid));
    let looking = queue.run(|name| async move {
        let looked = it.look(instances, &name).await;
        if let Err(failed) = &looked {
            it.tell_failed(&name, failed).await;
        }
        super::told("initialize node", &name, looked)
    });
    tokio::join!(looking, it.keep_addresses(instances));
}

impl Controller {
    fn new(context: Arc<Context>, written: Arc<Written>, failing: Arc<Failing>) -> Self {
        let (events, api) = (failing.events().clone(), Api::all(context.client.clone()));
        Self { context, events, api, written, failing }
    }

    async fn look(&self, instances: &dyn Instances, name: &str) -> Result<Next, Failed> {
        let Some(node) = self.context.nodes.get(&Name::global(name)) else { return Ok(Next::Done) };
        if !plan::is_new(&node) {
            return self.look_at_labels(&node).await;
        }
        // What was written is on its way here: nobody is asked again.
        if self.written.is_newer(&node) {
            return Ok(Next::Done);
        }
        let asked = instances.instance_metadata(&node).await;
        let asked = asked
            .map_err(|e| Failed::Cloud(format!("failed to get instance metadata for node {name}: {e}")))?;
        let Some(metadata) = asked else {
            let text = format!("the cloud provider knows nothing of node {name} yet");
            self.failing.fails(&node.object_ref(&()), &text).await;
            return Ok(Next::Done);
        };
        let Some(patched) = self.initialize(&node, &metadata).await? else { return Ok(Next::Done) };
        self.written.note(&patched, &self.context.nodes);
        self.context.metrics.taint_removed(age(&patched));
        // What is told now is the end of what failed until here.
        self.failing.forget(&patched.object_ref(&()));
        if self.tell_addresses(&patched, &metadata.node_addresses).await {
            self.events.normal(&patched, "Synced", SYNCED).await;
        }
        self.context.metrics.node_synced(age(&patched));
        Ok(Next::Done)
    }

    /// Tells of a node why it is not initialized. Changes on the way are no failure.
    async fn tell_failed(&self, name: &str, failed: &Failed) {
        let is_passing = |code| matches!(code, 404 | 409);
        let is_news = !matches!(failed, Failed::Server(Error::Api(status)) if is_passing(status.code));
        if let Some(node) = self.context.nodes.get(&Name::global(name)).filter(|_| is_news) {
            self.failing
                .fails(&node.object_ref(&()), &format!("cannot initialize node {name}: {failed}"))
                .await;
        }
    }

    /// Writes what is known of a node; `None` where that is not to be any more. What others have written meanwhile (its range, what its
    /// kubelet says) is no reason to ask the cloud again: the node is read anew, and its answer holds.
    async fn initialize(&self, asked: &Node, metadata: &InstanceMetadata) -> Result<Option<Node>, Failed> {
        let name = asked.name_any();
        // The cache has heard of most of it.
        let mut now = self.context.nodes.get(&Name::global(&name)).map(|node| Node::clone(&node));
        let mut left = TRIES;
        loop {
            let Some(node) = now.filter(|now| plan::is_answered(asked, now)) else { return Ok(None) };
            let change = plan::initialized(&node, metadata).map_err(Failed::Cloud)?;
            left -= 1;
            match self.api.patch(&name, &PatchParams::default(), &Patch::Merge(change)).await {
                Err(Error::Api(status)) if status.code == 409 && left > 0 => {}
                done => return Ok(Some(done?)),
            }
            now = self.api.get_opt(&name).await?;
        }
    }

    async fn look_at_labels(&self, node: &Node) -> Result<Next, Failed> {
        let labels = plan::labels(node);
        if !labels.is_empty() {
            let metadata = json!({"uid": node.metadata.uid, "labels": labels});
            let patch = Patch::Merge(json!({"metadata": metadata}));
            self.api.patch(&node.name_any(), &PatchParams::default(), &patch).await?;
        }
        Ok(Next::Done)
    }

    /// Writes a node's addresses where they are others. What fails is told, and written at the next time. Whether they are as they must
    /// be.
    async fn tell_addresses(&self, node: &Node, of_cloud: &[NodeAddress]) -> bool {
        let (name, of) = (node.name_any(), node.object_ref(&()));
        let written = match plan::addresses(node, of_cloud) {
            Ok(None) => Ok(()),
            Ok(Some(addresses)) => {
                let patch =
                    json!({"metadata": {"uid": node.metadata.uid}, "status": {"addresses": addresses}});
                // Not a strategic one: that knows only one address of each type.
                let patched =
                    self.api.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
                patched.map(drop).map_err(|e| client::causes(&e))
            }
            Err(why) => Err(why),
        };
        match written {
            Ok(()) => {
                self.failing.works(&of, SYNCED).await;
                true
            }
            Err(why) => {
                let text = format!("cannot update the addresses of node {name}: {why}");
                eprintln!("sextant control: warning: {text}");
                self.failing.fails(&of, &text).await;
                false
            }
        }
    }

    /// Asks for the addresses of all nodes that are initialized, from time to time. The others get theirs with all else.
    async fn keep_addresses(&self, instances: &dyn Instances) {
        let mut times = tokio::time::interval(self.context.setup.node_status);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            times.tick().await;
            let nodes = self.context.nodes.find(|node| !plan::is_new(node));
            let asked = futures_util::stream::iter(&nodes).for_each_concurrent(
                self.context.setup.node_syncs,
                async |node| {
                    self.keep_addresses_of(instances, node).await;
                },
            );
            asked.await;
        }
    }

    async fn keep_addresses_of(&self, instances: &dyn Instances, listed: &Node) {
        // The answers about those before it may have taken minutes.
        let Some(node) = self.context.nodes.get(&Name::of(listed)) else { return };
        match instances.instance_metadata(&node).await {
            Ok(Some(metadata)) => {
                self.tell_addresses(&node, &metadata.node_addresses).await;
            }
            Ok(None) => {}
            Err(error) => {
                let text = format!("cannot ask for the addresses of node {}: {error}", node.name_any());
                eprintln!("sextant control: warning: {text}");
                self.failing.fails(&node.object_ref(&()), &text).await;
            }
        }
    }
}

/// How old a node is, in seconds.
fn age(node: &Node) -> f64 {
    let made = node.metadata.creation_timestamp.as_ref().map(|made| made.0);
    made.map_or(0.0, |made| {
        (Timestamp::now().as_millisecond() - made.as_millisecond()).max(0) as f64 / 1000.0
    })
}
