use cri::contract::v1::{
    ContainerState as State, PodSandboxNetworkStatus, PodSandboxState, PodSandboxStatus,
};
use serde_json::{Value, json};

use super::super::memory::Waiting;
use super::super::spec::parts;
use super::*;
use crate::names::CONTAINER_NAME;

fn pod(spec: Value) -> Pod {
    serde_json::from_value(
        json!({"metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 3}, "spec": spec}),
    )
    .unwrap()
}

fn container(name: &str, state: State, exit_code: i32) -> ContainerStatus {
    let labels = [(CONTAINER_NAME.to_owned(), name.to_owned())].into();
    let (started_at, finished_at) = (5_000_000_000, 9_000_000_000);
    let id = format!("id-{name}");
    ContainerStatus {
        id,
        state: state.into(),
        exit_code,
        labels,
        started_at,
        finished_at,
        ..Default::default()
    }
}

fn told(pod: &Pod, containers: &[ContainerStatus], memory: &Memory) -> Value {
    let network = PodSandboxNetworkStatus { ip: "10.2.2.2".into(), ..Default::default() };
    let state = PodSandboxState::SandboxReady.into();
    let sandbox = PodSandboxStatus { id: "s".into(), state, network: Some(network), ..Default::default() };
    let of = containers.iter().map(|one| (one.id.clone(), "s".to_owned())).collect();
    let observed = Observed::new(vec![sandbox], containers.to_vec(), of);
    let now = Timestamp::from_second(20).unwrap();
    let parts = parts(pod);
    let view =
        View { pod, parts: &parts, observed: &observed, memory, runtime: "sextant", host: "10.1.1.1", now };
    serde_json::to_value(status(&view)).unwrap()
}

fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    status["conditions"].as_array().unwrap().iter().find(|one| one["type"] == kind).unwrap()
}

#[test]
fn a_pod_that_runs_is_ready_with_addresses() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "i"}]}));
    let status = told(&pod, &[container("a", State::ContainerRunning, 0)], &Memory::default());
    assert_eq!(status["phase"], "Running");
    assert_eq!((&status["podIP"], &status["hostIP"]), (&json!("10.2.2.2"), &json!("10.1.1.1")));
    assert_eq!(condition(&status, "Ready")["status"], "True");
    assert_eq!(status["qosClass"], "BestEffort");
    assert_eq!(status["observedGeneration"], 3);
    let one = &status["containerStatuses"][0];
    assert_eq!(
        (&one["ready"], &one["started"], &one["restartCount"]),
        (&json!(true), &json!(true), &json!(0))
    );
    assert_eq!(one["containerID"], "sextant://id-a");
    assert_eq!(one["state"]["running"]["startedAt"], "1970-01-01T00:00:05Z");
}

#[test]
fn phases_follow_from_containers() {
    let with =
        |policy: &str| pod(json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]}));
    let (good, bad) = (container("a", State::ContainerExited, 0), container("b", State::ContainerExited, 2));
    let fine = container("b", State::ContainerExited, 0);
    let running = container("b", State::ContainerRunning, 0);
    let cases = [
        ("Always", vec![], "Pending"),
        ("Always", vec![good.clone()], "Pending"),
        ("Always", vec![good.clone(), bad.clone()], "Running"),
        ("OnFailure", vec![good.clone(), bad.clone()], "Running"),
        ("OnFailure", vec![good.clone(), fine.clone()], "Succeeded"),
        ("Never", vec![good.clone(), bad], "Failed"),
        ("Never", vec![good.clone(), fine], "Succeeded"),
        ("Never", vec![good, running], "Running"),
    ];
    for (policy, containers, phase) in cases {
        let status = told(&with(policy), &containers, &Memory::default());
        assert_eq!(status["phase"], phase, "{policy} {containers:?}");
    }
}

#[test]
fn who_crashes_waits_and_says_what_was_before() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let mut memory = Memory::default();
    memory.waiting.insert("a".into(), Waiting::new("CrashLoopBackOff", "back-off 10s"));
    let status = told(&pod, &[container("a", State::ContainerExited, 7)], &memory);
    let one = &status["containerStatuses"][0];
    assert_eq!(one["state"]["waiting"], json!({"reason": "CrashLoopBackOff", "message": "back-off 10s"}));
    assert_eq!(one["lastState"]["terminated"]["exitCode"], 7);
    assert_eq!(one["lastState"]["terminated"]["reason"], "Error");
    assert_eq!(status["phase"], "Running");
    let ready = condition(&status, "Ready");
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("ContainersNotReady")));
    assert_eq!(ready["message"], "containers with unready status: [a]");
}

#[test]
fn what_is_before_the_start_is_told() {
    let pod = pod(json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}));
    let status = told(&pod, &[container("i", State::ContainerRunning, 0)], &Memory::default());
    assert_eq!(status["phase"], "Pending");
    assert_eq!(status["containerStatuses"][0]["state"]["waiting"]["reason"], "PodInitializing");
    let initialized = condition(&status, "Initialized");
    assert_eq!(initialized["reason"], "ContainersNotInitialized");
    assert_eq!(initialized["message"], "containers with incomplete status: [i]");
}

#[test]
fn conditions_of_others_stay_and_open_gates() {
    let mut pod = pod(json!({"readinessGates": [{"conditionType": "x/y"}], "containers": [{"name": "a"}]}));
    let running = [container("a", State::ContainerRunning, 0)];
    let status = told(&pod, &running, &Memory::default());
    assert_eq!(condition(&status, "Ready")["reason"], "ReadinessGatesNotReady");
    pod.status =
        Some(serde_json::from_value(json!({"conditions": [{"type": "x/y", "status": "True"}]})).unwrap());
    let status = told(&pod, &running, &Memory::default());
    assert_eq!(condition(&status, "Ready")["status"], "True");
    assert_eq!(condition(&status, "x/y")["status"], "True");
}

#[test]
fn a_pod_that_is_deleted_comes_to_an_end_whatever_its_policy() {
    let mut pod = pod(json!({"restartPolicy": "Always", "containers": [{"name": "a"}, {"name": "b"}]}));
    let (good, bad) =
        (container("a", State::ContainerExited, 0), container("b", State::ContainerExited, 143));
    let fine = container("b", State::ContainerExited, 0);
    let phase = |pod: &Pod, all: &[ContainerStatus]| told(pod, all, &Memory::default())["phase"].clone();
    assert_eq!(phase(&pod, &[good.clone(), bad.clone()]), "Running");
    pod.metadata.deletion_timestamp = Some(Time(Timestamp::from_second(10).unwrap()));
    assert_eq!(phase(&pod, &[good.clone(), bad]), "Failed");
    assert_eq!(phase(&pod, &[good.clone(), fine]), "Succeeded");
    assert_eq!(phase(&pod, &[]), "Failed", "it never ran");
    let running = container("b", State::ContainerRunning, 0);
    assert_eq!(phase(&pod, &[good, running]), "Running", "its end is still to come");
}

#[test]
fn a_container_that_the_runtime_has_forgotten_counts_once() {
    let mut pod = pod(json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}));
    let of = |name: &str, count: u32, state: Value| {
        json!({"name": name, "image": "", "imageID": "", "ready": true, "restartCount": count,
            "containerID": format!("sextant://{name}"), "state": state})
    };
    let ended = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
    let all = json!({"containerStatuses": [of("a", 2, json!({"running": {}}))], "initContainerStatuses": [of("i", 0, ended.clone())]});
    pod.status = Some(serde_json::from_value(all.clone()).unwrap());
    for turn in ["at the first look", "and at the next one"] {
        let status = told(&pod, &[], &Memory::default());
        let one = &status["containerStatuses"][0];
        assert_eq!((&one["restartCount"], &one["containerID"]), (&json!(3), &Value::Null), "{turn}: {one}");
        let last = &one["lastState"]["terminated"];
        assert_eq!((&last["reason"], &last["exitCode"]), (&json!("ContainerStatusUnknown"), &json!(137)));
        assert_eq!(one["state"]["waiting"]["reason"], "PodInitializing");
        let begun = &status["initContainerStatuses"][0];
        assert_eq!((&begun["restartCount"], &begun["state"]), (&json!(0), &ended), "it has done its part");
        pod.status = Some(serde_json::from_value(status).unwrap());
        let now = pod.status.as_ref().unwrap();
        let next = |name| next_restart(past(now, name).unwrap());
        assert_eq!([next("a"), next("i")], [3, 1]);
    }
    let waits = json!({"name": "a", "image": "", "imageID": "", "ready": false, "restartCount": 0, "lastState": {},
        "state": {"waiting": {"reason": "ErrImagePull"}}});
    pod.status = Some(serde_json::from_value(json!({"containerStatuses": [waits]})).unwrap());
    let status = told(&pod, &[], &Memory::default());
    assert_eq!(
        (&status["phase"], &status["containerStatuses"][0]["lastState"]),
        (&json!("Pending"), &Value::Null)
    );
    pod.status = Some(serde_json::from_value(all).unwrap());
    pod.metadata.deletion_timestamp = Some(Time(Timestamp::from_second(10).unwrap()));
    let status = told(&pod, &[], &Memory::default());
    assert_eq!(status["containerStatuses"][0]["restartCount"], 2, "it does not start again: {status}");
}

#[test]
fn a_container_that_was_made_and_never_ran_counts_for_no_start() {
    let mut pod = pod(json!({"containers": [{"name": "a"}]}));
    let status = told(&pod, &[container("a", State::ContainerCreated, 0)], &Memory::default());
    let one = &status["containerStatuses"][0];
    assert_eq!((&one["restartCount"], &one["containerID"]), (&json!(0), &Value::Null), "{one}");
    pod.status = Some(serde_json::from_value(status).unwrap());
    assert_eq!(next_restart(past(pod.status.as_ref().unwrap(), "a").unwrap()), 0);
    let status = told(&pod, &[], &Memory::default());
    assert_eq!(status["containerStatuses"][0]["restartCount"], 0, "it is gone: {status}");
}
