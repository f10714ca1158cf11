//! Plans of Jobs, and Jobs played to their end.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;

const NOW: &str = "2026-01-01T01:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn job(spec: Value, status: Value) -> Job {
    let mut whole = json!({"template": {"spec": {"restartPolicy": "Never", "containers": []}}});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    serde_json::from_value(json!({"metadata": {"name": "j"}, "spec": whole, "status": status})).unwrap()
}

fn pod(name: &str, phase: &str, ended: &str) -> Arc<Pod> {
    let metadata = json!({"name": name, "uid": name, "finalizers": [count::TRACKING], "creationTimestamp": ended,
        "annotations": {count::INDEX: name}});
    Arc::new(serde_json::from_value(json!({"metadata": metadata, "status": {"phase": phase}})).unwrap())
}

fn kinds(plan: &Plan) -> Vec<String> {
    let all = plan.status["conditions"].as_array().cloned().unwrap_or_default();
    all.iter().map(|one| format!("{} {}", text(one, "type"), text(one, "reason"))).collect()
}

#[test]
fn pods_are_made_as_many_as_run_at_once_and_are_missing() {
    let first = plan(&job(json!({"completions": 5, "parallelism": 2}), json!({})), &[], now());
    assert_eq!((first.create.len(), &first.status["startTime"]), (2, &json!(NOW)));
    let last = job(json!({"completions": 5, "parallelism": 2}), json!({"succeeded": 4}));
    assert_eq!(plan(&last, &[], now()).create.len(), 1);
    let running = [pod("a", "Running", NOW), pod("b", "Running", NOW), pod("c", "Running", NOW)];
    let many = plan(&last, &running, now());
    assert_eq!((many.create.len(), many.drop.len(), many.end.len()), (0, 2, 0));
}

#[test]
fn each_index_has_one_pod() {
    let spec = json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed"});
    let all = [pod("0", "Succeeded", "2026-01-01T00:00:00Z"), pod("2", "Running", NOW)];
    let next = plan(&job(spec, json!({})), &all, now());
    assert_eq!(next.create, [Some(1)]);
    assert_eq!((&next.status["completedIndexes"], &next.status["succeeded"]), (&json!("0"), &json!(1)));
    assert_eq!(next.release.len(), 1);
}

#[test]
fn an_index_whose_pod_is_still_going_waits_for_its_end() {
    let spec = json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed", "podReplacementPolicy": "Failed"});
    let mut going = (*pod("0", "Running", NOW)).clone();
    going.metadata.deletion_timestamp = going.metadata.creation_timestamp.clone();
    let next = plan(&job(spec.clone(), json!({})), &[Arc::new(going.clone())], now());
    assert_eq!(next.create, [Some(1), Some(2)]);
    // It has ended: now it may have another.
    going.status.as_mut().unwrap().phase = Some("Failed".into());
    going.metadata.deletion_timestamp = Some("2026-01-01T00:00:00Z".parse().map(Time).unwrap());
    let next = plan(&job(spec, json!({})), &[Arc::new(going)], now());
    assert_eq!(next.create, [Some(0), Some(1), Some(2)]);
}

#[test]
fn indexes_that_there_are_no_more_count_for_nothing() {
    let spec = json!({"completions": 2, "parallelism": 2, "completionMode": "Indexed"});
    let all = [pod("3", "Succeeded", "2026-01-01T00:00:00Z"), pod("4", "Running", NOW)];
    let next = plan(&job(spec, json!({"completedIndexes": "0,5"})), &all, now());
    assert_eq!((next.create.as_slice(), next.drop.len()), ([Some(1)].as_slice(), 1));
    assert_eq!(next.status["completedIndexes"], "0");
}

#[test]
fn a_failure_is_waited_after_and_too_many_end_the_job() {
    let spec = json!({"completions": 1, "parallelism": 1, "backoffLimit": 1});
    let one = [pod("a", "Failed", "2026-01-01T00:59:57Z")];
    let next = plan(&job(spec.clone(), json!({})), &one, now());
    assert_eq!((next.create.len(), next.wait), (0, Some(SignedDuration::from_secs(7))));
    let two = [
        pod("a", "Failed", "2026-01-01T00:00:00Z"),
        pod("b", "Failed", "2026-01-01T00:00:00Z"),
        pod("c", "Running", NOW),
    ];
    let next = plan(&job(spec.clone(), json!({})), &two, now());
    assert_eq!((kinds(&next), next.end.len()), (vec!["FailureTarget BackoffLimitExceeded".into()], 1));
    // Once nothing runs and all are counted.
    let conditions = next.status["conditions"].clone();
    let last = plan(&job(spec, json!({"failed": 3, "conditions": conditions})), &[], now());
    assert_eq!(kinds(&last), ["FailureTarget BackoffLimitExceeded", "Failed BackoffLimitExceeded"]);
    assert_eq!(last.events[0].1, "BackoffLimitExceeded");
}

#[test]
fn a_deadline_ends_it_and_is_waited_for() {
    let spec = json!({"activeDeadlineSeconds": 60, "completions": 1});
    let began =
        |at: &str| plan(&job(spec.clone(), json!({"startTime": at})), &[pod("a", "Running", NOW)], now());
    assert_eq!(began("2026-01-01T00:59:30Z").wait, Some(SignedDuration::from_secs(30)));
    assert_eq!(kinds(&began("2026-01-01T00:58:00Z")), ["FailureTarget DeadlineExceeded"]);
    // One that never comes, told by a clock that is ahead.
    let spec = json!({"activeDeadlineSeconds": i64::MAX, "completions": 1});
    let endless = plan(&job(spec, json!({"startTime": "2026-01-01T02:00:00Z"})), &[], now());
    assert_eq!(endless.wait, Some(SignedDuration::MAX));
}

#[test]
fn while_it_is_suspended_nothing_runs() {
    let held = plan(
        &job(json!({"suspend": true, "completions": 1}), json!({"startTime": NOW})),
        &[pod("a", "Running", NOW)],
        now(),
    );
    assert_eq!(
        (held.drop.len(), kinds(&held), &held.status["startTime"]),
        (1, vec!["Suspended JobSuspended".into()], &Value::Null)
    );
    let again =
        job(json!({"suspend": false, "completions": 1}), json!({"conditions": held.status["conditions"]}));
    let next = plan(&again, &[], now());
    assert_eq!((next.create.len(), kinds(&next)), (1, vec!["Suspended JobResumed".into()]));
}

#[test]
fn a_job_without_completions_ends_with_the_last_pod_after_a_success() {
    let spec = json!({"parallelism": 3});
    let some = [pod("a", "Succeeded", NOW), pod("b", "Running", NOW)];
    let next = plan(&job(spec.clone(), json!({})), &some, now());
    assert_eq!((next.create.len(), next.drop.len(), kinds(&next).len()), (0, 0, 0));
    let last = plan(&job(spec, json!({"succeeded": 2})), &[], now());
    assert_eq!(kinds(&last), ["SuccessCriteriaMet CompletionsReached", "Complete CompletionsReached"]);
    assert_eq!(last.status["completionTime"], NOW);
}
