//! DaemonSets: one pod on each node that takes it.

mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::cache::Name;
use client::events::EventType;
use client::queue::{Next, Queue};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::jiff::Timestamp;
use kube::{Error, Resource as _, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::hands::{self, Hands};
use super::owned::{self, Selecting};
use super::revisions::{self, Revisions};
use super::{Context, pods, status};
use plan::View;

/// On a pod: the generation of its template, as it was once told.
const GENERATION: &str = "pod-template-generation";
/// On a set: the same.
const TOLD: &str = "deprecated.daemonset.template.generation";

impl Selecting for DaemonSet {
    fn selector(&self) -> Option<&LabelSelector> {
        Some(&self.spec.as_ref()?.selector)
    }
}

/// How long a failed pod stays after one on its node was replaced; it doubles.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(900);

/// When failed pods of a set (uid) on a node were last replaced, and how long the next ones stay.
#[derive(Debug, Default)]
struct Replaced(BTreeMap<(String, String), (Instant, Duration)>);

struct Controller {
    context: Arc<Context>,
    hands: Hands,
    replaced: Mutex<Replaced>,
}

/// Works until it is dropped.
pub(super) async fn run(context: Arc<Context>) {
    let queue: Arc<Queue<Name>> = Queue::new(super::PACE);
    let hands = Hands::new(&context, "daemonset-controller");
    owned::follow_own(&context.daemon_sets, &queue);
    owned::follow(&context.pods, &context.daemon_sets, &queue);
    let (its, sets) = (queue.clone(), Arc::downgrade(&context.daemon_sets));
    context.nodes.listen(move |change| {
        let says = |node: &Node| (node.labels().clone(), node.spec.clone());
        if change.old.as_deref().map(says) != change.new.as_deref().map(says)
            && let Some(sets) = sets.upgrade()
        {
            its.add_all(sets.all().iter().map(|set| Name::of(&**set)));
        }
    });
    let it = &Controller { context, hands, replaced: Mutex::default() };
    queue.run(|name| async move { super::told("daemon set", &name, it.look(&name).await) }).await;
}

impl Controller {
    async fn look(&self, name: &Name) -> Result<Next, Error> {
        let Some(set) = self.context.daemon_sets.get(name) else { return Ok(Next::Done) };
        let (set, client) = (&*set, &self.context.client);
        let claimed = owned::claim(set, &self.context.pods);
        claimed.tell(client, set).await?;
        if self.hands.is_behind(set).await {
            return Ok(Next::After(super::LATE));
        }
        let spec = set.spec.clone().unwrap_or_default();
        let known =
            Revisions::of(client, &self.context.revisions, set, &spec.template, revisions::POD).await?;
        let hash = known.update().and_then(|revision| revision.labels().get(revisions::POD).cloned());
        let Some(hash) = hash else { return Ok(Next::Again) };
        let used: BTreeSet<String> = claimed
            .mine
            .iter()
            .filter_map(|pod| Some(format!("{}-{}", name.name, pod.labels().get(revisions::POD)?)))
            .collect();
        let view = View { set, nodes: self.context.nodes.all(), pods: claimed.mine, hash: hash.clone() };
        let now = Timestamp::now();
        let mut done = Ok(None);
        if set.metadata.deletion_timestamp.is_none() {
            done = self.act(set, &hash, view.plan(now)).await;
        }
        let (new, wait) = view.status(now);
        status::write(client, set, &new).await?;
        let pause = done?;
        known.truncate(client, spec.revision_history_limit, &used).await?;
        let wait = wait.map(|wait| wait.unsigned_abs());
        Ok(wait.into_iter().chain(pause).min().map_or(Next::Done, Next::After))
    }

    /// How long failed pods stay that are not replaced yet.
    async fn act(&self, set: &DaemonSet, hash: &str, plan: plan::Plan) -> Result<Option<Duration>, Error> {
        let (failed, wait) = {
            let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
            // One that has succeeded comes again at once.
            let (failed, succeeded): (Vec<_>, Vec<_>) =
                plan.failed.into_iter().partition(|pod| pods::phase(pod) == "Failed");
            let (due, wait) = replaced.due(&hands::uid(set), failed, Instant::now());
            (due.into_iter().chain(succeeded).collect::<Vec<_>>(), wait)
        };
        let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
        let new = plan.create.iter().map(|node| pod_of(set, &template, node, hash)).collect();
        self.hands.create_all(set, new).await?;
        for pod in &failed {
            let (type_, reason, text) = ended(pod);
            self.hands.events.tell(&set.object_ref(&()), type_, reason, reason, text).await;
        }
        self.hands.delete_all(set, &failed).await?;
        self.hands.delete_all(set, &plan.delete).await?;
        Ok(wait)
    }
}

/// What is told of a pod that has ended: kind, reason, text.
fn ended(pod: &Pod) -> (EventType, &'static str, String) {
    let (name, node) = (Name::of(pod), pods::node(pod).unwrap_or_default());
    if pods::phase(pod) == "Failed" {
        let text = format!("Found failed daemon pod {name} on node {node}, will try to kill it");
        (EventType::Warning, "FailedDaemonPod", text)
    } else {
        let text = format!("Found succeeded daemon pod {name} on node {node}, will try to delete it");
        (EventType::Normal, "SucceededDaemonPod", text)
    }
}

impl Replaced {
    /// The failed pods that may be replaced now, and when the next may: a node that refuses them is not asked for ever.
    fn due(&mut self, set: &str, failed: Vec<Arc<Pod>>, now: Instant) -> (Vec<Arc<Pod>>, Option<Duration>) {
        // However long a pod runs before it fails, as in Kubernetes.
        self.0.retain(|_, (at, _)| now < *at + LONGEST * 2);
        let (mut due, mut wait) = (Vec::new(), None);
        for pod in failed {
            let key = (set.to_owned(), pods::node(&pod).unwrap_or_default().to_owned());
            let held = self.0.get(&key).copied();
            if let Some((at, pause)) = held.filter(|(at, pause)| now < *at + *pause) {
                wait = wait.into_iter().chain([at + pause - now]).min();
                continue;
            }
            let pause = held.map_or(FIRST, |(_, pause)| pause * 2);
            self.0.insert(key, (now, pause.min(LONGEST)));
            due.push(pod);
        }
        (due, wait)
    }
}

/// The pod for a node: it may go nowhere else, and bears what is wrong with the node.
fn pod_of(set: &DaemonSet, template: &PodTemplateSpec, node: &str, hash: &str) -> Value {
    let mut pod = pods::of_template(template, &format!("{}-", set.name_any()), owned::reference(set));
    pod["metadata"]["labels"][revisions::POD] = json!(hash);
    let generation =
        set.annotations().get(TOLD).cloned().or(set.metadata.generation.map(|number| number.to_string()));
    pod["metadata"]["labels"][GENERATION] = json!(generation);
    let spec = &mut pod["spec"];
    spec["tolerations"] = json!(plan::tolerations(spec));
    let field = json!([{"key": "metadata.name", "operator": "In", "values": [node]}]);
    let required = &mut spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    match required["nodeSelectorTerms"].as_array_mut() {
        Some(terms) => terms.iter_mut().for_each(|term| term["matchFields"] = field.clone()),
        None => *required = json!({"nodeSelectorTerms": [{"matchFields": field}]}),
    }
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_has_ended_is_told_by_how() {
        let told = |phase: &str| {
            let whole = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"nodeName": "a", "containers": []},
                "status": {"phase": phase}});
            let (_, reason, text) = ended(&serde_json::from_value(whole).unwrap());
            (reason, text)
        };
        let failed = "Found failed daemon pod n/p on node a, will try to kill it";
        assert_eq!(told("Failed"), ("FailedDaemonPod", failed.to_owned()));
        let succeeded = "Found succeeded daemon pod n/p on node a, will try to delete it";
        assert_eq!(told("Succeeded"), ("SucceededDaemonPod", succeeded.to_owned()));
    }

    #[test]
    fn a_node_on_which_pods_fail_gets_the_next_one_later_and_later() {
        let pod = |node: &str| {
            Arc::new(
                serde_json::from_value::<Pod>(json!({"spec": {"nodeName": node, "containers": []}})).unwrap(),
            )
        };
        let (start, mut replaced) = (Instant::now(), Replaced::default());
        let mut at = |millis: u64, set: &str, node: &str| {
            let (due, wait) = replaced.due(set, vec![pod(node)], start + Duration::from_millis(millis));
            assert_eq!(due.is_empty(), wait.is_some());
            wait.map_or(0, |wait| wait.as_millis())
        };
        assert_eq!((at(0, "s", "a"), at(400, "s", "a"), at(1000, "s", "a")), (0, 600, 0));
        assert_eq!((at(1000, "s", "b"), at(1000, "t", "a")), (0, 0), "another node, another set");
        assert_eq!((at(2000, "s", "a"), at(3000, "s", "a"), at(3001, "s", "a")), (1000, 0, 3999));
        // One that ran for longer than it had to wait: the pause still grows.
        assert_eq!((at(60_000, "s", "a"), at(60_001, "s", "a")), (0, 7999));
        // Half an hour without a failure: it is well again.
        assert_eq!((at(1_900_000, "s", "a"), at(1_900_001, "s", "a")), (0, 999));
    }
}
