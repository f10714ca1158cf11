//! The scheduler: pods without a node get one, the important ones first, or are told why not.
//!
//! It looks at everything each time something changes, one pod after the other: what it has just decided counts for the next. Where a
//! pod is between the decision and the cache's hearing of it is held in memory alone: after a new start the cache begins with what is.

mod around;
mod filters;
mod pick;
mod preempt;
mod resources;
mod state;
mod volumes;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use client::cache::{Change, Name};
use client::events::{EventType, Events};
use client::queue::{Next, Queue};
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Error, Resource as _, ResourceExt as _};
use serde_json::{Value, json};

pub(super) use filters::{is_wanted, tolerates, untolerated};
pub(super) use resources::requests;

use super::{Context, hands, pods};
use crate::csi::names;
use pick::Verdict;
use state::Place;
use volumes::Storage;

/// The name under which pods ask for this scheduler.
const NAME: &str = "default-scheduler";

/// Why a node is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Refusal {
    reasons: Vec<String>,
    /// No pod's going would help.
    is_for_good: bool,
}

impl Refusal {
    fn for_good(reason: &str) -> Self {
        Self { reasons: vec![reason.into()], is_for_good: true }
    }

    fn for_now(reason: &str) -> Self {
        Self { reasons: vec![reason.into()], is_for_good: false }
    }
}

/// All that a decision is made from.
#[derive(Clone, Copy)]
struct Space<'a> {
    places: &'a [Place],
    /// Labels of namespaces.
    namespaces: &'a BTreeMap<String, BTreeMap<String, String>>,
    storage: &'a Storage,
}

struct Scheduler {
    context: Arc<Context>,
    events: Events,
    queue: Arc<Queue<()>>,
    /// Where pods go of which the cache does not know that yet: uid and node.
    assumed: Mutex<BTreeMap<Name, (String, String)>>,
}

/// Schedules until it is dropped.
pub(super) async fn run(context: Arc<Context>) {
    let events = context.events(NAME);
    let queue = Queue::new(super::PACE);
    let it = Scheduler { context, events, queue: queue.clone(), assumed: Mutex::default() };
    it.listen();
    let it = &it;
    queue.run(|()| async move { it.round().await }).await;
}

impl Scheduler {
    fn listen(&self) {
        let queue = self.queue.clone();
        self.context.pods.listen(move |change| {
            if matters(change) {
                queue.add(());
            }
        });
        let queue = self.queue.clone();
        self.context.nodes.listen(move |change| {
            if change.old.as_deref().map(says) != change.new.as_deref().map(says) {
                queue.add(());
            }
        });
        let queue = self.queue.clone();
        self.context.claims.listen(move |_| queue.add(()));
        let queue = self.queue.clone();
        self.context.volumes.listen(move |_| queue.add(()));
        let queue = self.queue.clone();
        self.context.classes.listen(move |_| queue.add(()));
        let queue = self.queue.clone();
        self.context.drivers.listen(move |_| queue.add(()));
        let queue = self.queue.clone();
        self.context.capacities.listen(move |_| queue.add(()));
    }

    async fn round(&self) -> Next {
        let context = &self.context;
        let all = context.pods.all();
        let assumed = self.still_assumed();
        let mut places = state::places(&context.nodes.all(), &all, &assumed);
        let storage = Storage {
            claims: context.claims.all().into_iter().map(|claim| (Name::of(&*claim), claim)).collect(),
            volumes: context.volumes.all(),
            classes: context.classes.all().into_iter().map(|class| (class.name_any(), class)).collect(),
            drivers: context.drivers.all().into_iter().map(|driver| (driver.name_any(), driver)).collect(),
            capacities: context.capacities.all(),
        };
        let namespaces = context.namespaces.all();
        let namespaces = namespaces.iter().map(|one| (one.name_any(), one.labels().clone())).collect();
        let is_new = |pod: &&Arc<Pod>| is_waiting(pod) && !assumed.contains_key(&Name::of(&***pod));
        let mut waiting: Vec<&Arc<Pod>> = all.iter().filter(is_new).collect();
        waiting.sort_by_key(|pod| {
            let since = pod.metadata.creation_timestamp.as_ref().map(|at| at.0);
            (std::cmp::Reverse(preempt::priority(pod)), since, pod.name_any())
        });
        let mut failed = false;
        for pod in waiting {
            let space = Space { places: &places, namespaces: &namespaces, storage: &storage };
            let done = match pick::pick(pod, &space) {
                Verdict::Goes(at, wanted) => {
                    let node = places[at].node.name_any();
                    // What waits for volumes has its room in this round, too.
                    places[at].put(pod.clone());
                    if wanted.waiting.is_empty() {
                        self.bind(pod, &node).await
                    } else {
                        self.select(&wanted.waiting, &node).await
                    }
                }
                Verdict::Stays { why, room } => {
                    // The room that is being made for it is not for those that come after it.
                    let node = room.as_ref().map(|room| room.node.clone());
                    let node = node.or_else(|| preempt::promised(pod, &places));
                    if let Some(place) = places.iter_mut().find(|place| Some(place.node.name_any()) == node) {
                        place.put(pod.clone());
                    }
                    self.stays(pod, &why, room).await
                }
            };
            if let Err(error) = done {
                failed = true;
                let pod = Name::of(&**pod);
                eprintln!("sextant control: warning: cannot schedule pod {pod}: {}", hands::says(&error));
            }
        }
        if failed { Next::Again } else { Next::Done }
    }

    /// Where pods go of which the cache does not know.
    fn still_assumed(&self) -> BTreeMap<Name, (String, String)> {
        let mut assumed = self.assumed.lock().unwrap_or_else(PoisonError::into_inner);
        assumed.retain(|name, (uid, _)| {
            let pod = self.context.pods.get(name);
            pod.is_some_and(|pod| pod.metadata.uid.as_ref() == Some(uid) && pods::node(&pod).is_none())
        });
        assumed.clone()
    }

    async fn bind(&self, pod: &Arc<Pod>, node: &str) -> Result<(), Error> {
        let name = Name::of(&**pod);
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &name.namespace);
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": name.name, "namespace": name.namespace, "uid": pod.uid()},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let assume = |to: Option<(String, String)>| {
            let mut assumed = self.assumed.lock().unwrap_or_else(PoisonError::into_inner);
            match to {
                Some(to) => assumed.insert(name.clone(), to),
                None => assumed.remove(&name),
            }
        };
        assume(Some((hands::uid(&**pod), node.into())));
        let bound: Result<Value, Error> =
            api.create_subresource("binding", &name.name, &PostParams::default(), &binding).await;
        match bound {
            Ok(_) => {
                let text = format!("Successfully assigned {name} to {node}");
                self.say(pod, EventType::Normal, "Scheduled", "Binding", text).await;
                Ok(())
            }
            Err(error) => {
                assume(None);
                match error {
                    // It is gone, or has a node: the cache will say so.
                    Error::Api(status) if matches!(status.code, 404 | 409) => Ok(()),
                    error => Err(error),
                }
            }
        }
    }

    async fn say(&self, pod: &Pod, type_: EventType, reason: &str, action: &str, text: String) {
        self.events.tell(&pod.object_ref(&()), type_, reason, action, text).await;
    }

    /// Says of claims on which node their first pod will be. Once they have volumes, the pod is looked at again.
    async fn select(&self, claims: &[Arc<PersistentVolumeClaim>], node: &str) -> Result<(), Error> {
        for claim in claims.iter().filter(|claim| names::selected_node(claim) != Some(node)) {
            let api: Api<PersistentVolumeClaim> =
                Api::namespaced(self.context.client.clone(), &claim.namespace().unwrap_or_default());
            let patch = json!({"metadata": {
                "uid": claim.uid(), "resourceVersion": claim.resource_version(),
                "annotations": {names::SELECTED_NODE: node},
            }});
            match api.patch(&claim.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await {
                Err(Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                done => drop(done?),
            }
        }
        Ok(())
    }

    async fn stays(&self, pod: &Arc<Pod>, why: &str, room: Option<preempt::Room>) -> Result<(), Error> {
        let told = pods::condition(pod, "PodScheduled");
        let is_told = told.is_some_and(|told| told.status == "False" && told.message.as_deref() == Some(why));
        let nominated = pod.status.as_ref().and_then(|status| status.nominated_node_name.clone());
        let nominates =
            room.as_ref().map(|room| room.node.clone()).filter(|node| nominated.as_ref() != Some(node));
        if !is_told || nominates.is_some() {
            let since =
                told.filter(|told| told.status == "False").and_then(|told| told.last_transition_time.clone());
            let since = since.map_or_else(Timestamp::now, |at| at.0);
            let mut status = json!({"conditions": [{
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why,
                "lastTransitionTime": format!("{since:.0}"),
            }]});
            if let Some(node) = nominates {
                status["nominatedNodeName"] = json!(node);
            }
            self.status(pod, status).await?;
            self.say(pod, EventType::Warning, "FailedScheduling", "Scheduling", why.into()).await;
        }
        for victim in room.iter().flat_map(|room| &room.victims).filter(|victim| !pods::is_going(victim)) {
            self.status(
                victim,
                json!({"conditions": [{
                    "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
                    "message": format!("{NAME}: preempting to accommodate a higher priority pod"),
                    "lastTransitionTime": format!("{:.0}", Timestamp::now()),
                }]}),
            )
            .await?;
            hands::delete::<Pod>(&self.context.client, &Name::of(&**victim), &hands::uid(&**victim)).await?;
            let node = room.as_ref().map(|room| room.node.as_str()).unwrap_or_default();
            let text = format!("Preempted by pod {} on node {node}", hands::uid(&**pod));
            self.say(victim, EventType::Normal, "Preempted", "Preempting", text).await;
        }
        Ok(())
    }

    async fn status(&self, pod: &Pod, status: Value) -> Result<(), Error> {
        let api: Api<Pod> =
            Api::namespaced(self.context.client.clone(), &pod.namespace().unwrap_or_default());
        let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": status}));
        match api.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await {
            Err(Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            done => done.map(drop),
        }
    }
}

/// Whether a pod is to have a node from here.
fn is_waiting(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    pods::node(pod).is_none()
        && pods::is_active(pod)
        && spec.scheduler_name.as_deref().unwrap_or(NAME) == NAME
        && spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
}

/// Whether a change of a pod can have one scheduled: it waits, or one that was on a node counts no longer, or otherwise.
fn matters(change: &Change<Pod>) -> bool {
    let counts = |pod: &Pod| {
        let spec = pod.spec.as_ref();
        let held = (!pods::is_over(pod)).then(|| requests(pod));
        (held, pod.labels().clone(), spec.map(|spec| (spec.scheduling_gates.clone(), spec.node_name.clone())))
    };
    change.old.as_deref().map(counts) != change.new.as_deref().map(counts)
}

/// What of a node matters.
fn says(node: &Node) -> impl PartialEq {
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.clone());
    (node.spec.clone(), node.labels().clone(), allocatable)
}
