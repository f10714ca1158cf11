//! Whether an object has come to what it asks for.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Call, JSON, Server, condition, list, number, selector, text};
use crate::failure::{Failure, Result};

/// How far an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Readiness {
    Ready,
    /// What it waits for.
    Waits(String),
    /// It will not come to it by itself.
    Failed(String),
}

use Readiness::{Failed, Ready, Waits};

/// How far it is. What has no state of its own is ready.
pub(crate) fn of(object: &Value) -> Readiness {
    match text(object, "/kind") {
        "Deployment" => deployment(object),
        "StatefulSet" => stateful_set(object),
        "DaemonSet" => daemon_set(object),
        "ReplicaSet" | "ReplicationController" => {
            let (wanted, ready) = (wanted(object), number(object, "/status/readyReplicas"));
            behind(object).unwrap_or_else(|| counted(ready, wanted, "replicas are ready"))
        }
        "Job" => job(object),
        "Pod" => pod(object),
        "PersistentVolumeClaim" => phase(object, "Bound"),
        "Namespace" => phase(object, "Active"),
        "CustomResourceDefinition" => is_true(object, "Established"),
        "APIService" => is_true(object, "Available"),
        _ => Ready,
    }
}

/// Waits until what is at these paths is ready; `tell` hears of each state that is new.
///
/// # Errors
/// One has failed, or they are not ready in time: with what they wait for.
pub(crate) fn wait(
    server: &Server,
    paths: &[(String, String)],
    patience: Duration,
    mut tell: impl FnMut(&str, &Readiness) -> Result<()>,
) -> Result<()> {
    let until = Instant::now() + patience;
    for (name, path) in paths {
        let mut told = None;
        loop {
            let object = server.get(path)?;
            let state = of(&object);
            if told.as_ref() != Some(&state) {
                tell(name, &state)?;
            }
            match &state {
                Ready => break,
                Failed(why) => return Err(Failure::new(format!("{name} has failed: {why}"))),
                Waits(why) if Instant::now() > until => {
                    let held = pods(server, &object).iter().find_map(held_up).map(|of| format!("; {of}"));
                    return Err(Failure::new(format!(
                        "{name} is not ready after {} s: {why}{}",
                        patience.as_secs(),
                        held.unwrap_or_default()
                    )));
                }
                Waits(_) => std::thread::sleep(Duration::from_millis(50)),
            }
            told = Some(state);
        }
    }
    Ok(())
}

/// The pods that an object selects; none where nobody can say.
fn pods(server: &Server, object: &Value) -> Vec<Value> {
    // A claim selects volumes.
    let is_of_pods = text(object, "/kind") != "PersistentVolumeClaim";
    let Some(selector) = object.pointer("/spec/selector").filter(|_| is_of_pods).and_then(selector) else {
        return Vec::new();
    };
    let path = format!("/api/v1/namespaces/{}/pods", text(object, "/metadata/namespace"));
    let found = server.ask(Call::get(&path, JSON).with("labelSelector", &selector));
    found.map(|found| list(&found, "/items").to_vec()).unwrap_or_default()
}

/// What keeps a pod from being ready, in the words of who looks after it.
fn held_up(pod: &Value) -> Option<String> {
    let name = text(pod, "/metadata/name");
    let unplaced = condition(pod, "PodScheduled").filter(|one| text(one, "/status") == "False");
    let waiting = || {
        let mut all = ["/status/initContainerStatuses", "/status/containerStatuses"]
            .into_iter()
            .flat_map(|at| list(pod, at));
        all.find_map(|one| Some(text(one, "/state/waiting/message")).filter(|message| !message.is_empty()))
    };
    let why = match unplaced {
        Some(one) => text(one, "/message"),
        None if text(pod, "/status/phase") == "Failed" => text(pod, "/status/message"),
        None => waiting()?,
    };
    Some(format!("pod {name}: {why}"))
}

/// Its controller has not looked at it since it was changed.
fn behind(object: &Value) -> Option<Readiness> {
    let seen = number(object, "/status/observedGeneration");
    (seen < number(object, "/metadata/generation")).then(|| Waits("its change to be observed".into()))
}

fn wanted(object: &Value) -> i64 {
    object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1)
}

fn counted(have: i64, want: i64, what: &str) -> Readiness {
    if have >= want { Ready } else { Waits(format!("{have} of {want} {what}")) }
}

fn deployment(object: &Value) -> Readiness {
    let progressing = condition(object, "Progressing").map_or("", |one| text(one, "/reason"));
    if let Some(behind) = behind(object) {
        return behind;
    }
    if progressing == "ProgressDeadlineExceeded" {
        return Failed("it has exceeded its progress deadline".into());
    }
    let (wanted, updated) = (wanted(object), number(object, "/status/updatedReplicas"));
    let all = number(object, "/status/replicas");
    if updated < wanted {
        return Waits(format!("{updated} out of {wanted} new replicas have been updated"));
    }
    if all > updated {
        return Waits(format!("{} old replicas are pending termination", all - updated));
    }
    counted(number(object, "/status/availableReplicas"), updated, "updated replicas are available")
}

fn stateful_set(object: &Value) -> Readiness {
    if let Some(behind) = behind(object) {
        return behind;
    }
    let (wanted, ready) = (wanted(object), number(object, "/status/readyReplicas"));
    let partition = number(object, "/spec/updateStrategy/rollingUpdate/partition");
    let updated = number(object, "/status/updatedReplicas");
    if ready < wanted {
        return Waits(format!("{ready} of {wanted} replicas are ready"));
    }
    let is_rolling = text(object, "/spec/updateStrategy/type") != "OnDelete";
    if is_rolling && text(object, "/status/currentRevision") != text(object, "/status/updateRevision") {
        return counted(updated, wanted - partition, "replicas are updated");
    }
    Ready
}

fn daemon_set(object: &Value) -> Readiness {
    if let Some(behind) = behind(object) {
        return behind;
    }
    let wanted = number(object, "/status/desiredNumberScheduled");
    match counted(number(object, "/status/updatedNumberScheduled"), wanted, "pods are updated") {
        Ready => counted(number(object, "/status/numberAvailable"), wanted, "updated pods are available"),
        other => other,
    }
}

fn job(object: &Value) -> Readiness {
    let has = |kind: &str| condition(object, kind).filter(|one| text(one, "/status") == "True");
    if has("Complete").is_some() || object.pointer("/spec/suspend") == Some(&Value::Bool(true)) {
        return Ready;
    }
    if let Some(failed) = has("Failed") {
        return Failed(text(failed, "/message").to_owned());
    }
    let wanted = object.pointer("/spec/completions").and_then(Value::as_i64).unwrap_or(1);
    Waits(format!("{} of {wanted} pods have succeeded", number(object, "/status/succeeded")))
}

fn pod(object: &Value) -> Readiness {
    match text(object, "/status/phase") {
        "Succeeded" => Ready,
        "Failed" => Failed(match text(object, "/status/message") {
            "" => "its containers have ended".into(),
            message => message.to_owned(),
        }),
        _ => is_true(object, "Ready"),
    }
}

fn is_true(object: &Value, kind: &str) -> Readiness {
    match condition(object, kind) {
        Some(one) if text(one, "/status") == "True" => Ready,
        Some(one) if !text(one, "/message").is_empty() => Waits(text(one, "/message").to_owned()),
        _ => Waits(format!("the condition {kind}")),
    }
}

fn phase(object: &Value, wanted: &str) -> Readiness {
    match text(object, "/status/phase") {
        phase if phase == wanted => Ready,
        "" => Waits(format!("phase {wanted}")),
        phase => Waits(format!("phase {wanted}: it is {phase}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_deployment_is_ready_when_all_of_it_is_new_and_available() {
        let at = |status: Value| {
            of(
                &json!({"kind": "Deployment", "metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": status}),
            )
        };
        assert_eq!(
            at(json!({"observedGeneration": 1, "availableReplicas": 2})),
            Waits("its change to be observed".into())
        );
        let status = |all: i32, updated: i32, available: i32| json!({"observedGeneration": 2, "replicas": all, "updatedReplicas": updated, "availableReplicas": available});
        assert_eq!(at(status(2, 1, 2)), Waits("1 out of 2 new replicas have been updated".into()));
        assert_eq!(at(status(3, 2, 2)), Waits("1 old replicas are pending termination".into()));
        assert_eq!(at(status(2, 2, 1)), Waits("1 of 2 updated replicas are available".into()));
        assert_eq!(at(status(2, 2, 2)), Ready);
        let late = json!({"observedGeneration": 2, "conditions": [{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]});
        assert!(matches!(at(late), Failed(_)));
    }

    #[test]
    fn what_holds_a_pod_up_is_told() {
        let pod = |status: Value| held_up(&json!({"metadata": {"name": "a"}, "status": status}));
        let unplaced = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": "no node"}]});
        assert_eq!(pod(unplaced).unwrap(), "pod a: no node");
        let waiting = json!({"phase": "Pending", "containerStatuses": [{"state": {"running": {}}}, {"state": {"waiting": {"message": "no image"}}}]});
        assert_eq!(pod(waiting).unwrap(), "pod a: no image");
        assert_eq!(pod(json!({"phase": "Failed", "message": "evicted"})).unwrap(), "pod a: evicted");
        assert_eq!(pod(json!({"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]})), None);
    }

    #[test]
    fn what_ends_is_ready_when_it_has_ended_well() {
        let job = |kind: &str| {
            of(
                &json!({"kind": "Job", "status": {"conditions": [{"type": kind, "status": "True", "message": "why"}]}}),
            )
        };
        assert_eq!((job("Complete"), job("Failed")), (Ready, Failed("why".into())));
        assert_eq!(job("Other"), Waits("0 of 1 pods have succeeded".into()));
        let pod = |phase: &str| of(&json!({"kind": "Pod", "status": {"phase": phase}}));
        assert_eq!(pod("Succeeded"), Ready);
        assert_eq!(pod("Running"), Waits("the condition Ready".into()));
        assert_eq!(of(&json!({"kind": "ConfigMap"})), Ready);
    }
}
