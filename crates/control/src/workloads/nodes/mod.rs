//! Nodes: who is not heard of any more, what is wrong with a node as its taints, and pods that do not bear those.

mod evict;
mod health;
mod zones;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::cache::{Cache, Name};
use client::events::{EventType, Events};
use client::queue::{Next, Queue};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::watcher;
use kube::{Error, Resource as _, ResourceExt as _};
use serde_json::json;
use tokio::time::Instant;

use super::{Context, pods};
pub(super) use health::is_well;
use zones::Zones;

/// Where nodes renew their leases.
const LEASES: &str = "kube-node-lease";
/// Who is not heard of for so long is given up, as in Kubernetes.
const GRACE: Duration = Duration::from_secs(50);
/// Who has never said whether it is ready has so long for that.
const FIRST: Duration = Duration::from_secs(60);

/// What was last heard of a node, and when by this machine's own clock: clocks of machines are not compared.
#[derive(Debug)]
struct Heard {
    renewed: Option<Timestamp>,
    told: Option<Timestamp>,
    at: Instant,
}

/// What concerns more than one node.
#[derive(Debug, Default)]
struct Whole {
    zones: Zones,
    /// No node was well when last looked at.
    were_all_down: bool,
    /// The nodes that people were told of.
    known: BTreeMap<String, ObjectReference>,
}

type Hearings = Arc<Mutex<BTreeMap<String, Heard>>>;

/// Notes a lease, or what a node has told of itself; for how long nothing new was heard of it.
fn hear(heard: &Hearings, name: &str, renewed: Option<Timestamp>, told: Option<Timestamp>) -> Duration {
    let (mut heard, at) = (heard.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
    let last = heard.entry(name.to_owned()).or_insert(Heard { renewed, told, at });
    if renewed.is_some_and(|new| last.renewed != Some(new)) || told.is_some_and(|new| last.told != Some(new))
    {
        *last = Heard { renewed: renewed.or(last.renewed), told: told.or(last.told), at };
    }
    at - last.at
}

struct Controller {
    context: Arc<Context>,
    leases: Arc<Cache<Lease>>,
    events: Events,
    heard: Hearings,
    whole: Mutex<Whole>,
}

/// Works until it is dropped.
pub(super) async fn run(context: Arc<Context>) {
    let leases: Arc<Cache<Lease>> =
        Cache::follow(Api::namespaced(context.client.clone(), LEASES), watcher::Config::default());
    leases.filled().await;
    let queue: Arc<Queue<String>> = Queue::new(super::PACE);
    let its = queue.clone();
    let nodes = Arc::downgrade(&context.nodes);
    context.nodes.listen(move |change| {
        its.add(change.object().name_any());
        let is_well = |node: &Arc<Node>| is_well(node);
        // How many are down concerns each of them.
        if change.old.as_ref().map(is_well) != change.new.as_ref().map(is_well)
            && let Some(nodes) = nodes.upgrade()
        {
            its.add_all(nodes.all().iter().map(|node| node.name_any()));
        }
    });
    let heard = Hearings::default();
    let (its, nodes, hearing) = (queue.clone(), Arc::downgrade(&context.nodes), heard.clone());
    leases.listen(move |change| {
        let Some(lease) = &change.new else { return };
        let name = Name::global(lease.name_any());
        // What is heard of a node that there is not, nobody would ever forget.
        let Some(node) = nodes.upgrade().and_then(|nodes| nodes.get(&name)) else { return };
        hear(&hearing, &name.name, renewed(lease), None);
        // Only of who was given up is a lease news: the others are looked at when their time is over.
        if health::ready(&node).is_none_or(|ready| ready.status == "Unknown") {
            its.add(name.name);
        }
    });
    let events = context.events("node-controller");
    let it = &Controller { context: context.clone(), leases, events, heard, whole: Mutex::default() };
    let looking = queue
        .run(|name| async move { super::told("node", &Name::global(name.clone()), it.look(&name).await) });
    tokio::join!(looking, evict::run(context));
}

fn renewed(lease: &Lease) -> Option<Timestamp> {
    Some(lease.spec.as_ref()?.renew_time.as_ref()?.0)
}

impl Controller {
    async fn look(&self, name: &str) -> Result<Next, Error> {
        let Some(node) = self.context.nodes.get(&Name::global(name)) else {
            self.heard.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
            self.tell_gone(name).await;
            return Ok(Next::Done);
        };
        self.tell_there(&node).await;
        let nodes = self.context.nodes.all();
        let all_are_down = self.are_all_down(&nodes);
        let silent = self.silent_for(&node);
        let now = Timestamp::now();
        let grace = if health::ready(&node).is_none() { FIRST } else { GRACE };
        let is_silent = silent >= grace;
        if is_silent && let Some(conditions) = health::unknown(&node, now) {
            if health::ready(&node).is_some_and(|ready| ready.status == "True") {
                let text = format!("Node {name} status is now: NodeNotReady");
                self.events.normal(&*node, "NodeNotReady", text).await;
            }
            let api: Api<Node> = Api::all(self.context.client.clone());
            let metadata = json!({"resourceVersion": node.resource_version()});
            let patch = json!({"metadata": metadata, "status": {"conditions": conditions}});
            api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await?;
            // What has changed comes, and is looked at.
            return Ok(Next::Done);
        }
        let mut wait = (!is_silent).then(|| grace - silent);
        let mut sends = !all_are_down;
        let is_next = sends && health::is_given_up_next(&node);
        if is_next {
            let taken = self.whole().zones.take(&node, &nodes, Instant::now());
            sends = taken.is_ok();
            wait = wait.into_iter().chain(taken.err().flatten()).min();
        }
        if let Some(taints) = health::taints(&node, sends, now) {
            let api: Api<Node> = Api::all(self.context.client.clone());
            let metadata = json!({"resourceVersion": node.resource_version()});
            let patch = json!({"metadata": metadata, "spec": {"taints": taints}});
            if let Err(error) = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
                if is_next && sends {
                    self.whole().zones.give_back(&node);
                }
                return Err(error);
            }
        }
        if let Some(labels) = health::labels(&node) {
            let api: Api<Node> = Api::all(self.context.client.clone());
            let patch = json!({"metadata": {"uid": node.uid(), "labels": labels}});
            api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        }
        // Who says himself that he is not ready still says what his pods are.
        if health::is_lost(&node) && !all_are_down {
            self.tell_pods(name, now).await?;
        }
        Ok(wait.map_or(Next::Done, Next::After))
    }

    fn whole(&self) -> MutexGuard<'_, Whole> {
        self.whole.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no node is well. When one is again, each of the others has its time to be heard of.
    fn are_all_down(&self, nodes: &[Arc<Node>]) -> bool {
        let are = zones::are_all_down(nodes);
        let were = std::mem::replace(&mut self.whole().were_all_down, are);
        if were && !are {
            let now = Instant::now();
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.values_mut().for_each(|last| last.at = now);
        }
        are
    }

    /// Says of a node that is new that it is there.
    async fn tell_there(&self, node: &Node) {
        let (name, of) = (node.name_any(), node.object_ref(&()));
        if self.whole().known.insert(name.clone(), of.clone()).is_none() {
            let text = format!("Node {name} event: Registered Node {name} in Controller");
            self.events.tell(&of, EventType::Normal, "RegisteredNode", "RegisteredNode", text).await;
        }
    }

    /// Says of a node that it is gone.
    async fn tell_gone(&self, name: &str) {
        let known = self.whole().known.remove(name);
        if let Some(of) = known {
            let text = format!("Node {name} event: Removing Node {name} from Controller");
            self.events.tell(&of, EventType::Normal, "RemovingNode", "RemovingNode", text).await;
        }
    }

    /// For how long nothing was heard of a node.
    fn silent_for(&self, node: &Node) -> Duration {
        let name = node.name_any();
        let lease = self.leases.get(&Name::new(LEASES, &name));
        let told = health::ready(node).and_then(|ready| Some(ready.last_heartbeat_time.as_ref()?.0));
        hear(&self.heard, &name, lease.and_then(|lease| renewed(&lease)), told)
    }

    /// Pods of a node that is not heard of are not ready: nobody is to be sent there.
    async fn tell_pods(&self, node: &str, now: Timestamp) -> Result<(), Error> {
        let is_its = |pod: &Pod| pods::node(pod) == Some(node) && pods::is_ready(pod) && !pods::is_over(pod);
        for pod in self.context.pods.find(is_its) {
            let api: Api<Pod> =
                Api::namespaced(self.context.client.clone(), &pod.namespace().unwrap_or_default());
            let condition =
                json!({"type": "Ready", "status": "False", "lastTransitionTime": format!("{now:.0}")});
            let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}});
            match api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await {
                Err(Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                done => {
                    done?;
                    self.events.warning(&*pod, "NodeNotReady", "Node is not ready").await;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_node_is_heard_of_by_its_lease_and_by_what_it_tells() {
        let heard = Hearings::default();
        let at = |second: i64| Some(Timestamp::from_second(second).unwrap());
        let wait = async |seconds: u64| tokio::time::advance(Duration::from_secs(seconds)).await;
        assert_eq!(hear(&heard, "n", at(1), at(1)), Duration::ZERO);
        wait(30).await;
        assert_eq!(hear(&heard, "n", at(1), None), Duration::from_secs(30));
        assert_eq!(hear(&heard, "n", at(2), None), Duration::ZERO);
        wait(30).await;
        assert_eq!(hear(&heard, "n", at(2), at(1)), Duration::from_secs(30), "both are as they were");
        assert_eq!(hear(&heard, "n", None, at(2)), Duration::ZERO);
        wait(50).await;
        assert_eq!(hear(&heard, "n", at(2), at(2)), GRACE);
        assert_eq!(hear(&heard, "m", None, None), Duration::ZERO, "one that is new has its time");
    }
}
