//! ReplicaSets and ReplicationControllers: so many pods of one template.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::cache::{Cache, Name};
use client::queue::{Next, Queue};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::{Error, Resource, ResourceExt as _};
use serde::Serialize;
use serde_json::{Value, json};

use super::hands::{self, BURST, Hands};
use super::owned::{self, Selecting};
use super::{Context, pods, status};

/// On a pod: what it costs to delete it; the cheapest goes first.
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

impl Selecting for ReplicaSet {
    fn selector(&self) -> Option<&LabelSelector> {
        Some(&self.spec.as_ref()?.selector)
    }
}

impl Selecting for ReplicationController {
    fn selector(&self) -> Option<&LabelSelector> {
        None
    }

    fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        let selector = self.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selector.is_some_and(|selector| {
            !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        })
    }
}

/// What says how many pods of a template there are to be.
trait Replicating: Selecting + Resource<Scope = NamespaceResourceScope> + Serialize {
    /// As Kubernetes calls who looks after it, and as warnings call it.
    const NAMES: (&str, &str);
    /// Whether its status counts pods that are about to end.
    const COUNTS_ENDING: bool;

    /// How many.
    fn replicas(&self) -> Option<i32>;

    /// Of which template.
    fn template(&self) -> Option<&PodTemplateSpec>;

    /// For how many seconds one is to be ready before it is available.
    fn ready_seconds(&self) -> i32;

    /// The conditions that it has.
    fn held(&self) -> Vec<Value>;
}

/// Two kinds whose fields are called the same.
macro_rules! replicating {
    ($kind:ty, $names:expr, $counts_ending:literal) => {
        impl Replicating for $kind {
            const NAMES: (&str, &str) = $names;
            const COUNTS_ENDING: bool = $counts_ending;

            fn replicas(&self) -> Option<i32> {
                self.spec.as_ref()?.replicas
            }

            fn template(&self) -> Option<&PodTemplateSpec> {
                self.spec.as_ref()?.template.as_ref()
            }

            fn ready_seconds(&self) -> i32 {
                self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or_default()
            }

            fn held(&self) -> Vec<Value> {
                self.status.as_ref().map(status::conditions).unwrap_or_default()
            }
        }
    };
}

replicating!(ReplicaSet, ("replicaset-controller", "replica set"), true);
replicating!(ReplicationController, ("replication-controller", "replication controller"), false);

/// What is to be done about the pods.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    create: usize,
    delete: Vec<Arc<Pod>>,
}

struct Controller<O> {
    context: Arc<Context>,
    sets: Arc<Cache<O>>,
    hands: Hands,
}

/// Works until it is dropped.
pub(super) async fn run(context: Arc<Context>) {
    let (sets, controllers) = (context.replica_sets.clone(), context.replication_controllers.clone());
    tokio::join!(run_of(context.clone(), sets), run_of(context, controllers));
}

async fn run_of<O: Replicating>(context: Arc<Context>, sets: Arc<Cache<O>>) {
    let queue: Arc<Queue<Name>> = Queue::new(super::PACE);
    let (component, kind) = O::NAMES;
    let hands = Hands::new(&context, component);
    let it = Controller { sets, hands, context };
    owned::follow_own(&it.sets, &queue);
    owned::follow(&it.context.pods, &it.sets, &queue);
    let it = &it;
    queue.run(|name| async move { super::told(kind, &name, it.look(&name).await) }).await;
}

impl<O: Replicating> Controller<O> {
    async fn look(&self, name: &Name) -> Result<Next, Error> {
        let Some(set) = self.sets.get(name) else { return Ok(Next::Done) };
        let set = &*set;
        let claimed = owned::claim(set, &self.context.pods);
        claimed.tell(&self.context.client, set).await?;
        let mine: Vec<Arc<Pod>> = claimed.mine;
        let active: Vec<Arc<Pod>> = mine.iter().filter(|pod| pods::is_active(pod)).cloned().collect();
        let mut done = Ok(());
        let is_behind = self.hands.is_behind(set).await;
        if !is_behind && set.meta().deletion_timestamp.is_none() {
            let plan = plan(set, &active, |node| self.on_node(set, node), Timestamp::now());
            done = self.act(set, plan).await;
        }
        let now = Timestamp::now();
        let (new, wait) = status_of(set, &mine, done.as_ref().err(), now);
        status::write(&self.context.client, set, &new).await?;
        done?;
        Ok(match wait {
            _ if is_behind => Next::After(super::LATE),
            Some(wait) => Next::After(wait.unsigned_abs()),
            None => Next::Done,
        })
    }

    async fn act(&self, set: &O, plan: Plan) -> Result<(), Error> {
        let template = set.template().cloned().unwrap_or_default();
        let base = format!("{}-", set.name_any());
        let made = || pods::of_template(&template, &base, owned::reference(set));
        let new: Vec<Value> = (0..plan.create).map(|_| made()).collect();
        self.hands.create_all(set, new).await?;
        self.hands.delete_all(set, &plan.delete).await
    }

    /// How many active pods of the same Deployment, or else of this set, are on a node.
    fn on_node(&self, set: &O, node: &str) -> usize {
        let deployment = owned::controller(set.meta()).map(|owner| owner.uid.clone());
        let is_kin = |other: &O| match &deployment {
            Some(uid) => owned::is_of(other.meta(), uid),
            None => other.meta().uid == set.meta().uid,
        };
        let kin: Vec<String> = self.sets.find(is_kin).iter().map(|set| hands::uid(&**set)).collect();
        let counts = |pod: &Pod| {
            pods::node(pod) == Some(node)
                && pods::is_active(pod)
                && owned::controller(&pod.metadata).is_some_and(|owner| kin.contains(&owner.uid))
        };
        self.context.pods.find(counts).len()
    }
}

/// What is to be done for the wanted number of pods. `on_node` tells how many kindred pods a node has.
fn plan<O: Replicating>(
    set: &O,
    active: &[Arc<Pod>],
    on_node: impl Fn(&str) -> usize,
    now: Timestamp,
) -> Plan {
    let wanted = set.replicas().unwrap_or(1);
    let wanted = usize::try_from(wanted).unwrap_or_default();
    if active.len() <= wanted {
        return Plan { create: (wanted - active.len()).min(BURST), delete: Vec::new() };
    }
    let surplus = (active.len() - wanted).min(BURST);
    let mut crowd = BTreeMap::new();
    for node in active.iter().filter_map(|pod| pods::node(pod)) {
        crowd.entry(node).or_insert_with(|| on_node(node));
    }
    let mut ordered = active.to_vec();
    ordered.sort_by_cached_key(|pod| {
        let crowd = pods::node(pod).and_then(|node| crowd.get(node)).copied().unwrap_or_default();
        first_to_go(pod, crowd, now)
    });
    ordered.truncate(surplus);
    Plan { create: 0, delete: ordered }
}

/// In this order pods go: those without a node, those that do not run, those that are not ready, the cheap ones, those among many on a
/// node, those that are ready or there for the shortest time (by powers of two), those that were started again most often.
fn first_to_go(pod: &Pod, crowd: usize, now: Timestamp) -> impl Ord + use<> {
    let phase = match pods::phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let cost = pod.annotations().get(COST).and_then(|cost| cost.parse::<i32>().ok()).unwrap_or_default();
    let magnitude = |since: Option<Timestamp>| {
        let age = since.map(|since| now.duration_since(since).as_nanos().max(0)).unwrap_or_default();
        u128::BITS - age.unsigned_abs().leading_zeros()
    };
    let created = pod.metadata.creation_timestamp.as_ref().map(|at| at.0);
    (
        pods::node(pod).is_some(),
        phase,
        pods::is_ready(pod),
        cost,
        std::cmp::Reverse(crowd),
        magnitude(pods::ready_since(pod)),
        std::cmp::Reverse(pods::restarts(pod)),
        magnitude(created),
        pod.metadata.uid.clone(),
    )
}

/// The status as it should be, and when it has to be looked at again: a pod that is ready is not yet available.
fn status_of<O: Replicating>(
    set: &O,
    mine: &[Arc<Pod>],
    failed: Option<&Error>,
    now: Timestamp,
) -> (Value, Option<SignedDuration>) {
    let active = || mine.iter().filter(|pod| pods::is_active(pod));
    let available: Vec<_> = active().map(|pod| pods::available(pod, set.ready_seconds(), now)).collect();
    let going = mine.iter().filter(|pod| pods::is_going(pod) && !pods::is_over(pod)).count();
    let labelled = active().filter(|pod| pods::is_labelled_as(pod, set.template())).count();
    let mut new = json!({
        "replicas": active().count(),
        "fullyLabeledReplicas": labelled,
        "readyReplicas": active().filter(|pod| pods::is_ready(pod)).count(),
        "availableReplicas": available.iter().filter(|available| available.is_ok()).count(),
        "observedGeneration": set.meta().generation,
        "conditions": conditions(set, active().count(), failed, now),
    });
    if O::COUNTS_ENDING {
        new["terminatingReplicas"] = json!(going);
    }
    (new, available.into_iter().filter_map(Result::err).flatten().min())
}

fn conditions<O: Replicating>(set: &O, there: usize, failed: Option<&Error>, now: Timestamp) -> Vec<Value> {
    let mut held = set.held();
    let wanted = set.replicas().unwrap_or(1);
    match failed {
        // As it was told first: each try names another pod, and to write that would be to try again at once.
        Some(_) if status::condition(&held, "ReplicaFailure").is_some() => {}
        Some(error) => {
            let reason = if i64::from(wanted) > i64::try_from(there).unwrap_or(i64::MAX) {
                "FailedCreate"
            } else {
                "FailedDelete"
            };
            status::set(&mut held, "ReplicaFailure", "True", reason, &hands::says(error), now);
        }
        None => held.retain(|condition| condition["type"] != "ReplicaFailure"),
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, node: Option<&str>, status: Value, cost: Option<&str>) -> Arc<Pod> {
        let annotations = cost.map(|cost| json!({COST: cost}));
        let metadata = json!({"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": annotations});
        let spec = json!({"nodeName": node, "containers": []});
        Arc::new(
            serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap(),
        )
    }

    fn ready(since: &str) -> Value {
        json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": since}]})
    }

    fn set(replicas: i32) -> ReplicaSet {
        serde_json::from_value(json!({"metadata": {"name": "s", "generation": 3},
            "spec": {"replicas": replicas, "minReadySeconds": 10, "selector": {"matchLabels": {"a": "b"}}}}))
        .unwrap()
    }

    #[test]
    fn pods_go_in_the_order_of_kubernetes() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let old = ready("2026-01-01T00:00:00Z");
        let all = [
            pod("old", Some("n"), old.clone(), None),
            pod("cheap", Some("n"), old.clone(), Some("-1")),
            pod("new", Some("n"), ready("2026-01-01T23:59:00Z"), None),
            pod("unready", Some("n"), json!({"phase": "Running"}), None),
            pod("pending", Some("n"), json!({"phase": "Pending"}), None),
            pod("nowhere", None, json!({"phase": "Pending"}), Some("9")),
            pod("crowded", Some("full"), old, None),
        ];
        let crowd = |node: &str| if node == "full" { 9 } else { 1 };
        let gone = |left: i32| {
            let plan = plan(&set(left), &all, crowd, now);
            plan.delete.iter().map(|pod| pod.name_any()).collect::<Vec<_>>()
        };
        assert_eq!(gone(0), ["nowhere", "pending", "unready", "cheap", "crowded", "new", "old"]);
        assert_eq!(gone(5), ["nowhere", "pending"]);
        assert_eq!(plan(&set(9), &all, crowd, now), Plan { create: 2, delete: vec![] });
        assert_eq!(plan(&set(9999), &all, crowd, now).create, BURST);
    }

    #[test]
    fn the_status_counts_and_says_when_that_changes() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let all = [
            pod("a", Some("n"), ready("2026-01-01T00:00:00Z"), None),
            pod("b", Some("n"), ready("2026-01-01T00:00:57Z"), None),
            pod("c", None, json!({"phase": "Failed"}), None),
        ];
        let (status, wait) = status_of(&set(2), &all, None, now);
        assert_eq!(
            (&status["replicas"], &status["readyReplicas"], &status["availableReplicas"]),
            (&json!(2), &json!(2), &json!(1))
        );
        assert_eq!((wait, &status["observedGeneration"]), (Some(SignedDuration::from_secs(7)), &json!(3)));
    }

    #[test]
    fn a_replication_controller_selects_by_labels_alone() {
        let of = |selector: Value| -> ReplicationController {
            serde_json::from_value(
                json!({"metadata": {"name": "c"}, "spec": {"replicas": 3, "selector": selector}}),
            )
            .unwrap()
        };
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned()), ("c".to_owned(), "d".to_owned())]);
        assert!(of(json!({"a": "b"})).selects(&labels) && !of(json!({"a": "x"})).selects(&labels));
        assert!(!of(json!({})).selects(&labels));
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let (one, all) = (of(json!({"a": "b"})), [pod("a", None, json!({}), None)]);
        assert_eq!(plan(&one, &all, |_| 0, now).create, 2);
        let (status, _) = status_of(&one, &all, None, now);
        assert_eq!((&status["replicas"], status.get("terminatingReplicas")), (&json!(1), None));
    }

    #[test]
    fn a_refusal_is_told_once_until_it_is_over() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let refused = |name: &str| {
            let text = format!("pods {name:?} is forbidden: exceeded quota");
            Error::Api(kube::core::Status::failure(&text, "Forbidden").with_code(403).boxed())
        };
        let mut set = set(2);
        let tell = |set: &ReplicaSet, error: Option<&Error>| {
            status_of(set, &[], error, now).0["conditions"].as_array().cloned().unwrap_or_default()
        };
        let told = tell(&set, Some(&refused("s-1")));
        assert_eq!(
            (&told[0]["type"], &told[0]["reason"]),
            (&json!("ReplicaFailure"), &json!("FailedCreate"))
        );
        set.status = serde_json::from_value(json!({"replicas": 0, "conditions": told})).unwrap();
        assert_eq!(
            tell(&set, Some(&refused("s-2"))),
            told,
            "the next try would be written, and tried at once"
        );
        assert_eq!(tell(&set, None), Vec::<Value>::new());
    }
}
