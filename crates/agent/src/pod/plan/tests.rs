use cri::contract::v1::{ContainerState, PodSandboxMetadata, PodSandboxState, PodSandboxStatus};
use serde_json::{Value, json};

use super::super::spec::parts;
use super::*;
use crate::names::CONTAINER_NAME;

const NOW: i64 = 1_000;

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec}))
        .unwrap()
}

fn sandbox(attempt: u32, state: PodSandboxState) -> PodSandboxStatus {
    let metadata = PodSandboxMetadata { attempt, ..Default::default() };
    PodSandboxStatus {
        id: format!("s{attempt}"),
        metadata: Some(metadata),
        state: state.into(),
        ..Default::default()
    }
}

/// A container of sandbox `s0`: name, state, exit code; it ended a second ago.
fn container(name: &str, state: ContainerState, exit_code: i32) -> ContainerStatus {
    ContainerStatus {
        id: format!("id-{name}"),
        state: state.into(),
        exit_code,
        finished_at: (NOW - 1) * 1_000_000_000,
        labels: [(CONTAINER_NAME.to_owned(), name.to_owned())].into(),
        ..Default::default()
    }
}

fn observed(sandboxes: &[PodSandboxStatus], containers: &[ContainerStatus]) -> Observed {
    let sandbox_of = containers.iter().map(|one| (one.id.clone(), "s0".to_owned())).collect();
    Observed::new(sandboxes.to_vec(), containers.to_vec(), sandbox_of)
}

fn next(pod: &Pod, observed: &Observed, memory: &Memory) -> Plan {
    plan(pod, &parts(pod), observed, memory, Timestamp::from_second(NOW).unwrap())
}

use ContainerState::{ContainerCreated as Created, ContainerExited as Exited, ContainerRunning as Running};
use PodSandboxState::{SandboxNotready as Gone, SandboxReady as Ready};

#[test]
fn a_sandbox_comes_first_and_again_when_it_is_lost() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let memory = Memory::default();
    assert_eq!(next(&pod, &observed(&[], &[]), &memory).step, Step::Sandbox(0));
    let lost = observed(&[sandbox(0, Gone)], &[container("a", Exited, 0)]);
    assert_eq!(next(&pod, &lost, &memory).step, Step::Sandbox(1));
    let half = observed(&[sandbox(0, Gone)], &[container("a", Running, 0)]);
    assert_eq!(next(&pod, &half, &memory).step, Step::Kill(vec![("id-a".into(), String::new())]));
    let made = observed(&[sandbox(0, Ready)], &[container("a", Created, 0)]);
    assert_eq!(next(&pod, &made, &memory).step, Step::Remove(vec!["id-a".into()]));
}

#[test]
fn init_containers_run_one_after_the_other_and_sidecars_stay() {
    let pod = pod(json!({
        "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always", "startupProbe": {}}, {"name": "j"}],
        "containers": [{"name": "a"}, {"name": "b"}]}));
    let mut memory = Memory::default();
    let mut all = Vec::new();
    let step = |all: &[ContainerStatus], memory: &Memory| {
        next(&pod, &observed(&[sandbox(0, Ready)], all), memory).step
    };
    assert_eq!(step(&all, &memory), Step::Start(vec![0]));
    all.push(container("i", Running, 0));
    assert_eq!(step(&all, &memory), Step::Rest);
    all[0] = container("i", Exited, 0);
    assert_eq!(step(&all, &memory), Step::Start(vec![1]));
    all.push(container("s", Running, 0));
    assert_eq!(step(&all, &memory), Step::Rest, "its startup probe has not succeeded");
    memory.probed.insert(("id-s".into(), super::super::probes::Asked::Startup), true);
    assert_eq!(step(&all, &memory), Step::Start(vec![2]));
    all.push(container("j", Exited, 0));
    assert_eq!(step(&all, &memory), Step::Start(vec![3, 4]));
    all.extend([container("a", Running, 0), container("b", Running, 0)]);
    assert_eq!(step(&all, &memory), Step::Rest);
    all[1] = container("s", Exited, 0);
    assert_eq!(step(&all, &memory), Step::Start(vec![1]), "a sidecar comes back while the others run");
}

#[test]
fn what_is_started_again_is_the_policys_and_the_backoffs() {
    let with =
        |policy: &str| pod(json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]}));
    let all = [container("a", Exited, 0), container("b", Exited, 3)];
    let seen = observed(&[sandbox(0, Ready)], &all);
    let mut memory = Memory::default();
    assert_eq!(next(&with("Always"), &seen, &memory).step, Step::Start(vec![0, 1]));
    assert_eq!(next(&with("OnFailure"), &seen, &memory).step, Step::Start(vec![1]));
    assert_eq!(next(&with("Never"), &seen, &memory).step, Step::Finish);
    let at = Timestamp::from_second(NOW - 1).unwrap();
    memory.crashes.next("b", at, at);
    let plan = next(&with("OnFailure"), &seen, &memory);
    assert_eq!(plan.step, Step::Rest);
    assert_eq!(plan.held, [("b".into(), Duration::from_secs(10), Duration::from_secs(9))]);
    let stopped = observed(&[sandbox(0, Gone)], &all);
    assert_eq!(next(&with("Never"), &stopped, &memory).step, Step::Rest);
}

#[test]
fn an_init_container_that_may_not_fail_again_ends_the_pod() {
    let pod = pod(
        json!({"restartPolicy": "Never", "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}),
    );
    let seen = observed(&[sandbox(0, Ready)], &[container("i", Exited, 1)]);
    assert_eq!(next(&pod, &seen, &Memory::default()).step, Step::Finish);
}

#[test]
fn a_container_whose_image_was_changed_ends() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "new"}]}));
    let mut running = container("a", Running, 0);
    running.annotations.insert(HASH.into(), "0".into());
    let Step::Kill(kills) = next(&pod, &observed(&[sandbox(0, Ready)], &[running]), &Memory::default()).step
    else {
        panic!("it stays");
    };
    assert_eq!(kills[0].1, "Container a definition changed, will be restarted");
}

#[test]
fn a_new_sandbox_runs_what_has_not_done_what_it_was_there_for() {
    let with = |policy: &str| {
        pod(json!({"restartPolicy": policy, "initContainers": [{"name": "i"}],
            "containers": [{"name": "a"}, {"name": "b"}]}))
    };
    // All of them were in the sandbox before this one.
    let mut all = vec![container("i", Exited, 0), container("a", Exited, 0), container("b", Exited, 137)];
    let seen = |all: &[ContainerStatus]| observed(&[sandbox(0, Gone), sandbox(1, Ready)], all);
    let mut memory = Memory::default();
    assert_eq!(next(&with("OnFailure"), &seen(&all), &memory).step, Step::Start(vec![0]));
    let again = ContainerStatus { id: "id-i1".into(), created_at: 1, ..container("i", Exited, 0) };
    all.push(again);
    let mut seen = seen(&all);
    seen.sandbox_of.insert("id-i1".into(), "s1".into());
    assert_eq!(next(&with("OnFailure"), &seen, &memory).step, Step::Start(vec![2]), "a has succeeded");
    assert_eq!(next(&with("Always"), &seen, &memory).step, Step::Start(vec![1, 2]));
    // It waits there, too.
    let at = Timestamp::from_second(NOW - 1).unwrap();
    memory.crashes.next("b", at, at);
    let plan = next(&with("OnFailure"), &seen, &memory);
    assert_eq!((plan.step, plan.held.len()), (Step::Rest, 1));
}
