//! The words of `kubectl get pods`.

use super::*;

const NOW: i64 = 1_700_000_000;

/// Ready, status and restarts of a pod with one container and `status`.
fn row(spec: Value, status: Value) -> [String; 3] {
    let mut object = pod(spec);
    object.metadata_mut().insert("creationTimestamp".to_owned(), "2023-11-14T22:13:20Z".into());
    if status.has("deleted") {
        object.metadata_mut().insert("deletionTimestamp".to_owned(), "2023-11-14T22:13:20Z".into());
    }
    object.0.insert("status".to_owned(), status);
    let row = kind().resource().strategy.row(&object, NOW);
    [1, 2, 3].map(|at| row[at].as_str().unwrap_or_default().to_owned())
}

fn container_status(ready: bool, restarts: i64, state: Value) -> Value {
    json!({ "name": "c", "ready": ready, "restartCount": restarts, "state": state,
        "lastState": { "terminated": { "exitCode": 1, "finishedAt": "2023-11-14T22:08:20Z" } } })
}

#[test]
fn a_container_says_why_it_waits() {
    let waits = container_status(false, 3, json!({ "waiting": { "reason": "CrashLoopBackOff" } }));
    assert_eq!(
        row(json!({}), json!({ "phase": "Running", "containerStatuses": [waits] })),
        ["0/1", "CrashLoopBackOff", "3 (5m ago)"]
    );
    let runs = container_status(true, 0, json!({ "running": {} }));
    assert_eq!(
        row(json!({}), json!({ "phase": "Running", "containerStatuses": [runs] })),
        ["1/1", "Running", "0"]
    );
}

#[test]
fn ends_are_told_by_reason_signal_or_code() {
    let cases = [
        (json!({ "reason": "Completed", "exitCode": 0 }), "Completed"),
        (json!({ "reason": "Error", "exitCode": 1 }), "Error"),
        (json!({ "exitCode": 3 }), "ExitCode:3"),
        (json!({ "exitCode": 137, "signal": 9 }), "Signal:9"),
    ];
    for (ended, word) in cases {
        let ended = container_status(false, 0, json!({ "terminated": ended }));
        let status = json!({ "phase": "Succeeded", "containerStatuses": [ended] });
        assert_eq!(row(json!({}), status)[1], word);
    }
}

#[test]
fn what_runs_beside_what_is_done_is_not_ready() {
    let (done, runs) = (
        container_status(false, 0, json!({ "terminated": { "reason": "Completed", "exitCode": 0 } })),
        container_status(true, 0, json!({ "running": {} })),
    );
    let status = json!({ "phase": "Running", "containerStatuses": [done, runs] });
    assert_eq!(row(json!({}), status)[1], "NotReady");
}

#[test]
fn containers_that_run_before_are_counted() {
    let spec = json!({ "initContainers": [
        { "name": "i", "image": "x" },
        { "name": "s", "image": "x", "restartPolicy": "Always" },
    ] });
    let first = json!({ "name": "i", "state": { "running": {} }, "restartCount": 0 });
    let status = json!({ "phase": "Pending", "initContainerStatuses": [first] });
    assert_eq!(row(spec.clone(), status), ["0/2", "Init:0/2", "0"]);
    let failed = json!({ "name": "i", "restartCount": 2, "state": { "terminated": { "exitCode": 2 } } });
    let status = json!({ "phase": "Pending", "initContainerStatuses": [failed] });
    assert_eq!(row(spec, status), ["0/2", "Init:ExitCode:2", "2"]);
}

#[test]
fn a_pod_that_goes_says_so() {
    assert_eq!(row(json!({}), json!({ "phase": "Running", "deleted": true }))[1], "Terminating");
    assert_eq!(
        row(json!({}), json!({ "phase": "Running", "deleted": true, "reason": "NodeLost" }))[1],
        "Unknown"
    );
    assert_eq!(row(json!({}), json!({ "phase": "Succeeded", "deleted": true }))[1], "Succeeded");
}
