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

/// A pod of an index, of a job that bounds the failures of each.
fn nth(index: &str, before: i32, phase: &str, ended: &str) -> Arc<Pod> {
    let mut nth = (*pod(index, phase, ended)).clone();
    let uid = format!("{index}-{before}");
    (nth.metadata.uid, nth.metadata.name) = (Some(uid.clone()), Some(uid));
    let annotations = nth.metadata.annotations.get_or_insert_default();
    annotations.insert(count::FAILURES.into(), before.to_string());
    Arc::new(nth)
}

#[test]
fn an_index_fails_by_itself_and_the_others_go_on() {
    let spec = json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed", "backoffLimitPerIndex": 1,
        "backoffLimit": i32::MAX});
    let of = |status: Value| job(spec.clone(), status);
    let early = "2026-01-01T00:00:00Z";
    // The first failure of an index: the pod is kept until the next is there, which is told of it, after a while.
    let all = [
        nth("0", 0, "Failed", "2026-01-01T00:59:57Z"),
        nth("1", 0, "Running", NOW),
        nth("2", 0, "Running", NOW),
    ];
    let next = plan(&of(json!({})), &all, now());
    assert_eq!((next.create.len(), next.release.len()), (0, 0));
    assert_eq!(next.wait, Some(SignedDuration::from_secs(7)));
    let all = [nth("0", 0, "Failed", early), all[1].clone(), all[2].clone()];
    let next = plan(&of(json!({})), &all, now());
    assert_eq!((next.create.as_slice(), next.failures.get(&0)), ([Some(0)].as_slice(), Some(&(1, 0))));
    assert_eq!((next.release.len(), &next.status["uncountedTerminatedPods"]["failed"]), (0, &Value::Null));
    // The next one is there: the first is counted, and goes.
    let mut all = Vec::from(all);
    all.push(nth("0", 1, "Running", NOW));
    let next = plan(&of(json!({})), &all, now());
    assert_eq!((next.create.len(), next.release.len()), (0, 1));
    assert_eq!(next.status["uncountedTerminatedPods"]["failed"], json!(["0-0"]));
    // It fails, too: the index has failed, and the job goes on until the others are done.
    all[3] = nth("0", 1, "Failed", early);
    let next = plan(&of(json!({})), &all, now());
    assert_eq!((&next.status["failedIndexes"], next.create.len(), next.release.len()), (&json!("0"), 0, 2));
    assert!(kinds(&next).is_empty(), "{:?}", kinds(&next));
    let rest = [nth("1", 0, "Succeeded", early), nth("2", 0, "Succeeded", early)];
    let next = plan(&of(json!({"failedIndexes": "0"})), &rest, now());
    assert_eq!(kinds(&next), ["FailureTarget FailedIndexes"]);
}

#[test]
fn what_was_kept_for_the_next_of_its_index_is_counted_when_there_will_be_none() {
    let spec = json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed", "backoffLimitPerIndex": 1,
        "maxFailedIndexes": 0, "backoffLimit": i32::MAX});
    // One index has failed, and with it the job; another has failed once, and one runs.
    let mut all = [nth("0", 1, "Failed", NOW), nth("1", 0, "Failed", NOW), nth("2", 0, "Running", NOW)];
    let next = plan(&job(spec.clone(), json!({})), &all, now());
    assert_eq!((kinds(&next), next.end.len()), (vec!["FailureTarget MaxFailedIndexesExceeded".into()], 1));
    assert_eq!(next.status["uncountedTerminatedPods"]["failed"], json!(["0-1"]));
    let mut going = (*all[2]).clone();
    going.metadata.deletion_timestamp = Some(Time(now()));
    all[2] = Arc::new(going);
    let next = plan(&job(spec.clone(), next.status), &all, now());
    assert_eq!(next.status["uncountedTerminatedPods"]["failed"], json!(["0-1", "1-0", "2-0"]));
    assert_eq!((next.release.len(), kinds(&next).len()), (3, 1));
    let last = plan(&job(spec.clone(), next.status), &[], now());
    assert_eq!((&last.status["failed"], kinds(&last).len()), (&json!(3), 2), "{:?}", kinds(&last));
    // It has not ended before they are, though nothing runs.
    let quiet = [nth("0", 1, "Failed", NOW), nth("1", 0, "Failed", NOW)];
    let counted = json!({"failed": 1, "failedIndexes": "0"});
    let next = plan(&job(spec, counted), &quiet[1..], now());
    assert_eq!((kinds(&next).len(), next.release.len()), (1, 0));
}

#[test]
fn a_pod_that_is_sent_away_has_failed_when_that_is_asked() {
    let spec =
        json!({"completions": 1, "parallelism": 1, "completionMode": "Indexed", "backoffLimitPerIndex": 9});
    let mut going = (*nth("0", 0, "Running", "2026-01-01T00:00:00Z")).clone();
    going.metadata.deletion_timestamp = Some("2026-01-01T01:00:25Z".parse().map(Time).unwrap());
    going.metadata.deletion_grace_period_seconds = Some(30);
    let next = plan(&job(spec.clone(), json!({})), &[Arc::new(going.clone())], now());
    assert_eq!((next.create.len(), next.wait), (0, Some(SignedDuration::from_secs(5))));
    // Once it is not ready it has ended; what has ended of its containers says nothing while others run.
    let terminated = json!({"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:00:00Z"}});
    let container = |name: &str, state: &Value| json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
    let mut status = json!({"phase": "Running",
        "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:59:58Z"}],
        "containerStatuses": [container("a", &terminated), container("b", &json!({"running": {}}))]});
    going.status = serde_json::from_value(status.clone()).unwrap();
    let next = plan(&job(spec.clone(), json!({})), &[Arc::new(going.clone())], now());
    assert_eq!((next.create.len(), next.wait), (0, Some(SignedDuration::from_secs(8))));
    status["containerStatuses"][1] = container("b", &terminated);
    going.status = serde_json::from_value(status).unwrap();
    assert_eq!(plan(&job(spec, json!({})), &[Arc::new(going)], now()).create, [Some(0)]);
}

#[test]
fn so_many_indexes_may_fail() {
    let spec = json!({"completions": 5, "parallelism": 5, "completionMode": "Indexed", "backoffLimitPerIndex": 0,
        "maxFailedIndexes": 1, "backoffLimit": i32::MAX});
    let failed = |index: &str| nth(index, 0, "Failed", "2026-01-01T00:00:00Z");
    let next = plan(&job(spec.clone(), json!({})), &[failed("0")], now());
    assert_eq!((kinds(&next).len(), &next.status["failedIndexes"]), (0, &json!("0")));
    assert_eq!(next.create, [Some(1), Some(2), Some(3), Some(4)]);
    let next = plan(&job(spec, json!({})), &[failed("0"), failed("3")], now());
    assert_eq!(kinds(&next), ["FailureTarget MaxFailedIndexesExceeded"]);
    assert_eq!(next.status["failedIndexes"], "0,3");
}

#[test]
fn a_job_succeeds_by_the_first_rule_that_holds() {
    let by = |rules: Value, done: &[&str]| {
        let spec = json!({"completions": 4, "parallelism": 4, "completionMode": "Indexed", "successPolicy": {"rules": rules}});
        let mut all: Vec<_> =
            done.iter().map(|index| pod(index, "Succeeded", "2026-01-01T00:00:00Z")).collect();
        all.push(pod("3", "Running", NOW));
        let next = plan(&job(spec, json!({})), &all, now());
        let why =
            next.status["conditions"].as_array().and_then(|all| all.first()).map(|one| text(one, "message"));
        (why, next.drop.len())
    };
    let matched = |at: usize| (Some(format!("Matched rules at index {at}")), 1);
    let named = json!([{"succeededIndexes": "0,2"}, {"succeededCount": 3}]);
    assert_eq!(by(named.clone(), &["0", "1"]), (None, 0));
    assert_eq!(by(named.clone(), &["0", "2"]), matched(0));
    assert_eq!(by(json!([{"succeededIndexes": "3"}, {"succeededCount": 2}]), &["0", "1"]), matched(1));
    let both = json!([{"succeededIndexes": "0-2", "succeededCount": 1}]);
    assert_eq!(by(both.clone(), &[]), (None, 0));
    assert_eq!(by(both, &["1"]), matched(0));
}

#[test]
fn too_many_failures_fail_a_job_though_enough_have_succeeded() {
    let spec = json!({"completions": 1, "backoffLimit": 0});
    let all = [pod("a", "Succeeded", NOW), pod("b", "Failed", NOW)];
    assert_eq!(
        kinds(&plan(&job(spec.clone(), json!({})), &all, now())),
        ["FailureTarget BackoffLimitExceeded"]
    );
    // Why it fails is told once.
    let decided =
        json!([{"type": "FailureTarget", "status": "True", "reason": "PodFailurePolicy", "message": "m"}]);
    let next =
        plan(&job(spec, json!({"conditions": decided, "failed": 7})), &[pod("c", "Running", NOW)], now());
    assert_eq!(kinds(&next), ["FailureTarget PodFailurePolicy"]);
}

#[test]
fn while_it_is_suspended_no_deadline_passes() {
    let spec = json!({"completions": 1, "activeDeadlineSeconds": 1, "suspend": true});
    let next = plan(&job(spec, json!({"startTime": "2026-01-01T00:00:00Z"})), &[], now());
    assert_eq!(kinds(&next), ["Suspended JobSuspended"]);
}

#[test]
fn more_successes_than_were_wanted_are_told() {
    let met = json!([{"type": "SuccessCriteriaMet", "status": "True", "reason": "CompletionsReached", "message": "m"}]);
    let end = plan(&job(json!({"completions": 1}), json!({"succeeded": 2, "conditions": met})), &[], now());
    let told: Vec<&str> = end.events.iter().map(|(_, reason, _)| reason.as_str()).collect();
    assert_eq!(told, ["TooManySucceededPods", "Completed"]);
}
