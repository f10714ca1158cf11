//! What a Deployment says of itself: numbers and conditions.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::plan::{View, asked, available, bounds, has, recreates, wanted};
use crate::workloads::status;

const AVAILABLE: &str = "NewReplicaSetAvailable";
const LATE: &str = "ProgressDeadlineExceeded";

/// How long a rollout may make no progress; without a deadline as long as it likes.
pub(super) fn deadline(deployment: &Deployment) -> Option<SignedDuration> {
    let seconds = deployment.spec.as_ref().and_then(|spec| spec.progress_deadline_seconds).unwrap_or(600);
    (seconds != i32::MAX).then(|| SignedDuration::from_secs(seconds.into()))
}

/// Says how the rollout goes; the time of the update is of the last step.
pub(super) fn tell(held: &mut Vec<Value>, status: &str, reason: &str, message: &str, now: Timestamp) {
    status::set(held, "Progressing", status, reason, message, now);
    if let Some(condition) = held.iter_mut().find(|condition| condition["type"] == "Progressing") {
        condition["lastUpdateTime"] = json!(format!("{now:.0}"));
    }
}

/// Says that the new set was not made. Once: to write it at each try would be to try again at once.
pub(super) fn refused(held: &mut Vec<Value>, why: &str, now: Timestamp) {
    let (status, reason) = ("False", "ReplicaSetCreateError");
    let is_told = status::condition(held, "Progressing")
        .is_some_and(|told| told["status"] == status && told["reason"] == reason);
    if !is_told {
        tell(held, status, reason, why, now);
    }
}

/// The numbers, without conditions.
pub(super) fn counts(view: &View<'_>) -> DeploymentStatus {
    let all = || view.old.iter().chain(&view.new);
    let sum = |of: &dyn Fn(&ReplicaSet) -> i32| Some(all().map(|set| of(set)).sum::<i32>());
    let of_status = |of: fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> Option<i32>| {
        sum(&|set| set.status.as_ref().and_then(of).unwrap_or_default())
    };
    let may = sum(&available).unwrap_or_default();
    DeploymentStatus {
        observed_generation: view.deployment.metadata.generation,
        replicas: sum(&has),
        updated_replicas: Some(view.new.as_ref().map(|new| has(new)).unwrap_or_default()),
        ready_replicas: of_status(|status| status.ready_replicas),
        available_replicas: Some(may),
        unavailable_replicas: Some((sum(&asked).unwrap_or_default() - may).max(0)),
        terminating_replicas: of_status(|status| status.terminating_replicas),
        collision_count: view.deployment.status.as_ref().and_then(|status| status.collision_count),
        conditions: None,
    }
}

fn number(count: Option<i32>) -> i32 {
    count.unwrap_or_default()
}

/// Whether all pods are new and available, and no others are left.
pub(super) fn is_complete(deployment: &Deployment, now: &DeploymentStatus) -> bool {
    let wanted = wanted(deployment);
    [now.updated_replicas, now.replicas, now.available_replicas].iter().all(|count| number(*count) == wanted)
        && now.observed_generation >= deployment.metadata.generation
}

fn is_step(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let left = |status: &DeploymentStatus| number(status.replicas) - number(status.updated_replicas);
    number(new.updated_replicas) > number(old.updated_replicas)
        || left(new) < left(old)
        || number(new.ready_replicas) > number(old.ready_replicas)
        || number(new.available_replicas) > number(old.available_replicas)
}

/// The status as it should be, and when the deadline has passed if nothing happens before.
pub(super) fn status_of(
    view: &View<'_>,
    mut held: Vec<Value>,
    now: Timestamp,
) -> (Value, Option<SignedDuration>) {
    let deployment = view.deployment;
    let (new, old) = (counts(view), deployment.status.clone().unwrap_or_default());
    let may_miss = if recreates(deployment) { 0 } else { bounds(deployment).1 };
    let enough = number(new.available_replicas) >= wanted(deployment) - may_miss;
    let before = held.clone();
    if enough {
        let text = "Deployment has minimum availability.";
        status::set(&mut held, "Available", "True", "MinimumReplicasAvailable", text, now);
    } else {
        let text = "Deployment does not have minimum availability.";
        status::set(&mut held, "Available", "False", "MinimumReplicasUnavailable", text, now);
    }
    if status::condition(&held, "Available") != status::condition(&before, "Available")
        && let Some(condition) = held.iter_mut().find(|condition| condition["type"] == "Available")
    {
        condition["lastUpdateTime"] = json!(format!("{now:.0}"));
    }
    let wait = progressing(view, &mut held, (&old, &new), now);
    failure(view, &mut held, now);
    let mut status = serde_json::to_value(&new).unwrap_or_default();
    status["conditions"] = json!(held);
    (status, wait)
}

fn progressing(
    view: &View<'_>,
    held: &mut Vec<Value>,
    (old, new): (&DeploymentStatus, &DeploymentStatus),
    now: Timestamp,
) -> Option<SignedDuration> {
    let deployment = view.deployment;
    if deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true) {
        return None;
    }
    let Some(deadline) = deadline(deployment) else {
        held.retain(|condition| condition["type"] != "Progressing");
        return None;
    };
    let current = status::condition(held, "Progressing").cloned();
    let reason =
        current.as_ref().and_then(|current| current["reason"].as_str()).unwrap_or_default().to_owned();
    if new.replicas == new.updated_replicas && reason == AVAILABLE {
        return None;
    }
    let who = view.new.as_ref().map_or_else(
        || format!("Deployment {:?}", deployment.name_any()),
        |set| format!("ReplicaSet {:?}", set.name_any()),
    );
    if is_complete(deployment, new) {
        tell(held, "True", AVAILABLE, &format!("{who} has successfully progressed."), now);
        return None;
    }
    if is_step(old, new) {
        tell(held, "True", "ReplicaSetUpdated", &format!("{who} is progressing."), now);
        return Some(deadline);
    }
    let updated =
        current.as_ref().and_then(|current| current["lastUpdateTime"].as_str()?.parse::<Timestamp>().ok());
    if matches!(reason.as_str(), AVAILABLE | LATE) {
        return None;
    }
    let left = deadline - now.duration_since(updated?);
    if left < SignedDuration::ZERO {
        tell(held, "False", LATE, &format!("{who} has timed out progressing."), now);
        return None;
    }
    Some(left + SignedDuration::from_secs(1))
}

/// What hinders a set hinders its Deployment.
fn failure(view: &View<'_>, held: &mut Vec<Value>, now: Timestamp) {
    let of = |set: &Arc<ReplicaSet>| {
        let all = status::conditions(set.status.as_ref()?);
        status::condition(&all, "ReplicaFailure").filter(|condition| condition["status"] == "True").cloned()
    };
    let failed = view.new.as_ref().and_then(of).or_else(|| view.old.iter().find_map(of));
    match failed {
        Some(failed) => {
            let text = |field: &str| failed[field].as_str().unwrap_or_default().to_owned();
            let (reason, message) = (text("reason"), text("message"));
            status::set(held, "ReplicaFailure", "True", &reason, &message, now);
        }
        None => held.retain(|condition| condition["type"] != "ReplicaFailure"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(strategy: &Value, available: i32) -> (Deployment, ReplicaSet) {
        let spec = json!({"replicas": 4, "strategy": strategy, "selector": {}, "template": {}});
        let new = json!({"spec": {"replicas": 4, "selector": {}}, "status": {"replicas": 4, "availableReplicas": available}});
        let deployment = json!({"metadata": {"name": "d", "generation": 1}, "spec": spec});
        (serde_json::from_value(deployment).unwrap(), serde_json::from_value(new).unwrap())
    }

    fn is_available(strategy: &Value, available: i32) -> String {
        let (deployment, new) = view(strategy, available);
        let view = View { deployment: &deployment, new: Some(Arc::new(new)), old: vec![], old_run: false };
        let (status, _) = status_of(&view, Vec::new(), "2026-01-01T00:00:00Z".parse().unwrap());
        let held = status["conditions"].as_array().cloned().unwrap_or_default();
        status::condition(&held, "Available").unwrap()["status"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_deployment_is_available_with_as_many_pods_as_it_may_not_miss() {
        let rolling = json!({"rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}});
        assert_eq!(
            (is_available(&rolling, 2).as_str(), is_available(&rolling, 3).as_str()),
            ("False", "True")
        );
        // All may be missing while they are replaced, and are missed all the same.
        let recreate = json!({"type": "Recreate"});
        assert_eq!(
            (is_available(&recreate, 0).as_str(), is_available(&recreate, 3).as_str()),
            ("False", "False")
        );
        assert_eq!(is_available(&recreate, 4), "True");
    }

    #[test]
    fn a_set_that_is_refused_is_told_once() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let mut held = Vec::new();
        refused(&mut held, "pods \"d-1\" is forbidden", at(0));
        let first = held.clone();
        assert_eq!(first[0]["reason"], "ReplicaSetCreateError");
        refused(&mut held, "pods \"d-2\" is forbidden", at(5));
        assert_eq!(held, first);
    }
}
