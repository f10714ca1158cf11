//! PodDisruptionBudgets: how many of some pods may be evicted.
//!
//! The eviction itself, in the API server, takes one off `disruptionsAllowed` and notes the pod; here the pods are counted, and those
//! that were noted are waited for.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::cache::{Cache, Name};
use client::events::Events;
use client::queue::{Next, Queue};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::{Error, ResourceExt as _};
use serde_json::{Value, json};

use super::share::{self, Round};
use super::{Context, owned, pods, status};
use crate::csi::reach;

/// So long an evicted pod is waited for.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);

struct Controller {
    context: Arc<Context>,
    budgets: Arc<Cache<PodDisruptionBudget>>,
    events: Events,
}

/// Works until it is dropped.
pub(super) async fn run(context: Arc<Context>) {
    let budgets: Arc<Cache<PodDisruptionBudget>> = Cache::start(&context.client);
    budgets.filled().await;
    let queue: Arc<Queue<Name>> = Queue::new(super::PACE);
    owned::follow_own(&budgets, &queue);
    let (its, weak) = (queue.clone(), Arc::downgrade(&budgets));
    context.pods.listen(move |change| {
        let Some(budgets) = weak.upgrade() else { return };
        let found =
            budgets.find(|budget| change.old.iter().chain(&change.new).any(|pod| covers(budget, pod)));
        its.add_all(found.iter().map(|budget| Name::of(&**budget)));
    });
    // What a budget of percent is a part of is what the pods' owners ask for.
    let (its, weak) = (queue.clone(), Arc::downgrade(&budgets));
    context.replica_sets.listen(move |change| {
        let Some(budgets) = weak.upgrade() else { return };
        let namespace = change.object().namespace();
        its.add_all(
            budgets
                .find(|budget| budget.metadata.namespace == namespace)
                .iter()
                .map(|budget| Name::of(&**budget)),
        );
    });
    let events = context.events("controllermanager");
    let it = &Controller { context, budgets, events };
    queue.run(|name| async move { super::told("disruption budget", &name, it.look(&name).await) }).await;
}

/// Whether a budget is for a pod. An empty selector is for all pods of the namespace.
fn covers(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    budget.metadata.namespace == pod.metadata.namespace
        && selector.is_some_and(|selector| reach::selects(selector, pod.labels()))
}

impl Controller {
    async fn look(&self, name: &Name) -> Result<Next, Error> {
        let Some(budget) = self.budgets.get(name) else { return Ok(Next::Done) };
        let budget = &*budget;
        let mine = self.context.pods.find(|pod| covers(budget, pod));
        let now = Timestamp::now();
        let (new, wait) = match self.expected(budget, &mine) {
            Ok(expected) => plan(budget, &mine, expected, now),
            Err(why) => {
                let text = format!("Failed to calculate the number of expected pods: {why}");
                self.events.warning(budget, "CalculateExpectedPodCountFailed", text.clone()).await;
                let mut held = status::conditions(&budget.status.clone().unwrap_or_default());
                status::set(&mut held, "DisruptionAllowed", "False", "SyncFailed", &why, now);
                (
                    json!({"disruptionsAllowed": 0, "observedGeneration": budget.metadata.generation, "conditions": held}),
                    None,
                )
            }
        };
        status::write(&self.context.client, budget, &new).await?;
        Ok(wait.map_or(Next::Done, |wait| Next::After(wait.unsigned_abs())))
    }

    /// How many pods there should be: as many as their owners ask for, or, where a number will do, as there are.
    fn expected(&self, budget: &PodDisruptionBudget, mine: &[Arc<Pod>]) -> Result<i32, String> {
        let spec = budget.spec.clone().unwrap_or_default();
        let is_percent = |share: &k8s_openapi::apimachinery::pkg::util::intstr::IntOrString| {
            matches!(share, k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::String(_))
        };
        if spec.max_unavailable.is_none() && !spec.min_available.as_ref().is_some_and(is_percent) {
            return Ok(i32::try_from(mine.len()).unwrap_or(i32::MAX));
        }
        let mut owners: BTreeMap<String, i32> = BTreeMap::new();
        for pod in mine {
            let Some(owner) = owned::controller(&pod.metadata) else { continue };
            if owners.contains_key(&owner.uid) {
                continue;
            }
            let name = Name::new(pod.namespace().unwrap_or_default(), &owner.name);
            let (uid, count) = self.scale(&owner.kind, &name).ok_or_else(|| {
                format!(
                    "pod {} belongs to {} {}, of which nobody knows how many there should be",
                    pod.name_any(),
                    owner.kind,
                    owner.name
                )
            })?;
            owners.insert(uid, count);
            owners.entry(owner.uid.clone()).or_insert(0);
        }
        Ok(owners.values().sum())
    }

    /// How many pods an owner asks for, and which one that says so: the Deployment of a ReplicaSet.
    fn scale(&self, kind: &str, name: &Name) -> Option<(String, i32)> {
        match kind {
            "ReplicaSet" => {
                let set = self.context.replica_sets.get(name)?;
                if let Some(owner) =
                    owned::controller(&set.metadata).filter(|owner| owner.kind == "Deployment")
                {
                    let name = Name::new(&name.namespace, &owner.name);
                    let deployment = self.context.deployments.get(&name)?;
                    return Some((owner.uid.clone(), deployment.spec.as_ref()?.replicas.unwrap_or(1)));
                }
                Some((set.uid()?, set.spec.as_ref()?.replicas.unwrap_or(1)))
            }
            "StatefulSet" => {
                let set = self.context.stateful_sets.get(name)?;
                Some((set.uid()?, set.spec.as_ref()?.replicas.unwrap_or(1)))
            }
            _ => None,
        }
    }
}

/// The status of a budget, and when a pod that was to be evicted is waited for no longer.
fn plan(
    budget: &PodDisruptionBudget,
    mine: &[Arc<Pod>],
    expected: i32,
    now: Timestamp,
) -> (Value, Option<SignedDuration>) {
    let spec = budget.spec.clone().unwrap_or_default();
    let desired = if let Some(most) = &spec.max_unavailable {
        (expected - share::of(most, expected, Round::Up)).max(0)
    } else {
        spec.min_available.as_ref().map(|least| share::of(least, expected, Round::Up)).unwrap_or_default()
    };
    let old = budget.status.clone().unwrap_or_default();
    let mut disrupted = serde_json::Map::new();
    let mut wait = None;
    for (name, at) in old.disrupted_pods.iter().flatten() {
        let is_there = mine.iter().any(|pod| pod.name_any() == *name && !pods::is_going(pod));
        let left = PATIENCE - now.duration_since(at.0);
        if is_there && left > SignedDuration::ZERO {
            disrupted.insert(name.clone(), json!(at));
            wait = wait.into_iter().chain([left]).min();
        } else {
            // A merge patch has to say what is gone.
            disrupted.insert(name.clone(), Value::Null);
        }
    }
    let is_healthy = |pod: &&Arc<Pod>| {
        pods::is_ready(pod)
            && !pods::is_going(pod)
            && disrupted.get(&pod.name_any()).is_none_or(Value::is_null)
    };
    let healthy = i32::try_from(mine.iter().filter(is_healthy).count()).unwrap_or(i32::MAX);
    let allowed = if expected <= 0 { 0 } else { (healthy - desired).max(0) };
    let mut held = status::conditions(&old);
    let (value, reason) =
        if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    status::set(&mut held, "DisruptionAllowed", value, reason, "", now);
    for condition in held.iter_mut().filter(|condition| condition["type"] == "DisruptionAllowed") {
        condition["observedGeneration"] = json!(budget.metadata.generation);
    }
    let status = json!({
        "currentHealthy": healthy, "desiredHealthy": desired, "expectedPods": expected,
        "disruptionsAllowed": allowed, "disruptedPods": disrupted,
        "observedGeneration": budget.metadata.generation, "conditions": held,
    });
    (status, wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, ready: &str) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}}))
            .unwrap(),
        )
    }

    fn allowed(spec: Value, status: Value, expected: i32) -> (i64, i64, i64) {
        let budget: PodDisruptionBudget =
            serde_json::from_value(json!({"spec": spec, "status": status})).unwrap();
        let mine = [pod("a", "True"), pod("b", "True"), pod("c", "False")];
        let (status, _) = plan(&budget, &mine, expected, "2026-01-01T00:00:00Z".parse().unwrap());
        let number = |field: &str| status[field].as_i64().unwrap();
        (number("currentHealthy"), number("desiredHealthy"), number("disruptionsAllowed"))
    }

    #[test]
    fn as_many_may_go_as_are_not_needed() {
        assert_eq!(allowed(json!({"minAvailable": 1}), json!({}), 3), (2, 1, 1));
        assert_eq!(allowed(json!({"minAvailable": "50%"}), json!({}), 3), (2, 2, 0));
        assert_eq!(allowed(json!({"maxUnavailable": 2}), json!({}), 3), (2, 1, 1));
        assert_eq!(allowed(json!({"maxUnavailable": "100%"}), json!({}), 3), (2, 0, 2));
        let noted = |at: &str| json!({"disruptedPods": {"a": at}});
        assert_eq!(allowed(json!({"minAvailable": 1}), noted("2025-12-31T23:59:30Z"), 3), (1, 1, 0));
        assert_eq!(allowed(json!({"minAvailable": 1}), noted("2025-12-31T23:50:00Z"), 3), (2, 1, 1));
    }
}
