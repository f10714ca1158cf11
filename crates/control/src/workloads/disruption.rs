//! PodDisruptionBudgets: how many of some pods may be evicted.
//!
//! The eviction itself, in the API server, takes one off `disruptionsAllowed` and notes the pod; here the pods are counted, and those
//! that were noted are waited for.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::cache::{Cache, Kind, Name};
use client::events::Events;
use client::queue::{Next, Queue};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::{Error, ResourceExt as _};
use serde_json::{Value, json};

use super::share::{self, Round};
use super::{Context, autoscaler, owned, pods, status, words};
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
    follow(&context.replica_sets, &budgets, &queue);
    follow(&context.stateful_sets, &budgets, &queue);
    follow(&context.replication_controllers, &budgets, &queue);
    let events = context.events("controllermanager");
    let it = &Controller { context, budgets, events };
    queue.run(|name| async move { super::told("disruption budget", &name, it.look(&name).await) }).await;
}

/// What a budget of percent is a part of is what the pods' owners ask for.
fn follow<K: Kind>(owners: &Cache<K>, budgets: &Arc<Cache<PodDisruptionBudget>>, queue: &Arc<Queue<Name>>) {
    let (queue, budgets) = (queue.clone(), Arc::downgrade(budgets));
    owners.listen(move |change| {
        let Some(budgets) = budgets.upgrade() else { return };
        let namespace = change.object().namespace();
        let near = budgets.find(|budget| budget.metadata.namespace == namespace);
        queue.add_all(near.iter().map(|budget| Name::of(&**budget)));
    });
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
        if mine.is_empty() {
            self.events.normal(budget, "NoPods", "No matching pods found").await;
        }
        let expected = self.expected(budget, &mine).await;
        let is_unknown = expected.is_err();
        let (new, wait) = match expected {
            Ok((expected, is_sure)) => {
                if !is_sure {
                    self.events.warning(budget, "UnmanagedPods", unmanaged(budget)).await;
                }
                for pod in overdue(budget, &mine, now) {
                    let text = format!("Pod was expected by PDB {name} to be deleted but it wasn't");
                    self.events.warning(&*pod, "NotDeleted", text).await;
                }
                plan(budget, &mine, expected, now)
            }
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
        // Until it is known nothing may be evicted, and nobody else says when it may be known.
        if is_unknown {
            return Ok(Next::Again);
        }
        Ok(wait.map_or(Next::Done, |wait| Next::After(wait.unsigned_abs())))
    }

    /// How many pods there should be: as many as their owners ask for, or, where a number will do, as there are. Whether that is sure: of
    /// pods without an owner nobody knows how many there should be.
    async fn expected(&self, budget: &PodDisruptionBudget, mine: &[Arc<Pod>]) -> Result<(i32, bool), String> {
        let spec = budget.spec.clone().unwrap_or_default();
        let is_percent = matches!(spec.min_available, Some(IntOrString::String(_)));
        if spec.max_unavailable.is_none() && !is_percent {
            return Ok((i32::try_from(mine.len()).unwrap_or(i32::MAX), true));
        }
        let (mut owners, mut is_sure) = (BTreeMap::new(), true);
        for pod in mine {
            let Some(owner) = owned::controller(&pod.metadata) else {
                is_sure = false;
                continue;
            };
            if owners.contains_key(&owner.uid) {
                continue;
            }
            let found = self.scale(owner, &pod.namespace().unwrap_or_default()).await?;
            let (uid, count) =
                found.ok_or_else(|| format!("found no controllers for pod {:?}", pod.name_any()))?;
            owners.insert(uid, count);
            owners.entry(owner.uid.clone()).or_insert(0);
        }
        Ok((owners.values().sum(), is_sure))
    }

    /// How many pods an owner asks for, and which one that says so: the Deployment of a ReplicaSet.
    async fn scale(&self, owner: &OwnerReference, namespace: &str) -> Result<Option<(String, i32)>, String> {
        let name = Name::new(namespace, &owner.name);
        let group = owner.api_version.split_once('/').map(|(group, _)| group).unwrap_or_default();
        let (uid, count) = match (group, owner.kind.as_str()) {
            ("apps", "ReplicaSet") => {
                let Some(set) = self.context.replica_sets.get(&name) else { return Ok(None) };
                let of = owned::controller(&set.metadata).filter(|owner| owner.kind == "Deployment");
                if let Some(of) = of.filter(|_| set.uid().as_ref() == Some(&owner.uid)) {
                    let found = self.context.deployments.get(&Name::new(namespace, &of.name));
                    let found = found.filter(|found| found.uid().as_ref() == Some(&of.uid));
                    let count =
                        found.map(|found| found.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1));
                    return Ok(count.map(|count| (of.uid.clone(), count)));
                }
                (set.uid(), set.spec.as_ref().and_then(|spec| spec.replicas))
            }
            ("apps", "StatefulSet") => {
                let Some(set) = self.context.stateful_sets.get(&name) else { return Ok(None) };
                (set.uid(), set.spec.as_ref().and_then(|spec| spec.replicas))
            }
            ("", "ReplicationController") => {
                let Some(one) = self.context.replication_controllers.get(&name) else { return Ok(None) };
                (one.uid(), one.spec.as_ref().and_then(|spec| spec.replicas))
            }
            _ => {
                let count = autoscaler::replicas_of(&self.context.client, namespace, owner).await?;
                return Ok(count.map(|count| (owner.uid.clone(), count)));
            }
        };
        Ok(uid.filter(|uid| *uid == owner.uid).map(|uid| (uid, count.unwrap_or(1))))
    }
}

/// What is said where pods of a budget have no owner.
fn unmanaged(budget: &PodDisruptionBudget) -> String {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    format!(
        "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a result, the status of the PDB \
         cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \
         \".spec.minAvailable\" field of the PDB to an integer value.",
        words::selector(selector)
    )
}

/// The pods that were to be evicted, and have been waited for in vain.
fn overdue(budget: &PodDisruptionBudget, mine: &[Arc<Pod>], now: Timestamp) -> Vec<Arc<Pod>> {
    let noted = budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
    let is_late = |pod: &&Arc<Pod>| {
        let at = noted.and_then(|noted| noted.get(&pod.name_any()));
        !pods::is_going(pod) && at.is_some_and(|at| now.duration_since(at.0) >= PATIENCE)
    };
    mine.iter().filter(is_late).cloned().collect()
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

    #[test]
    fn a_budget_of_unmanaged_pods_says_so() {
        let spec = json!({"maxUnavailable": 1, "selector": {"matchLabels": {"a": "b"}}});
        let status = json!({"disruptedPods": {"a": "2026-01-01T00:00:00Z", "gone": "2026-01-01T00:00:00Z"}});
        let budget: PodDisruptionBudget =
            serde_json::from_value(json!({"spec": spec, "status": status})).unwrap();
        let told = unmanaged(&budget);
        assert!(told.contains("(selector: &LabelSelector{MatchLabels:map[string]string{a: b,},"), "{told}");
        let late = |now: &str| overdue(&budget, &[pod("a", "True"), pod("b", "True")], now.parse().unwrap());
        assert_eq!(late("2026-01-01T00:01:00Z").len(), 0);
        assert_eq!(late("2026-01-01T00:02:00Z")[0].name_any(), "a");
    }
}
