//! Callers that leave before they are answered, and what becomes of what they asked for.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use cri::contract::Code;
use cri::contract::v1::*;
use rustix::fs::{FlockOperation, flock};

use crate::Test;
use crate::bench::{Bench, GRACE};
use crate::gate::Gate;
use crate::wishes::{container, pod};

pub(crate) const TESTS: &[Test] = &[
    ("a_pod_that_a_retry_takes_stays", retried),
    ("a_pod_that_is_found_and_used_stays", used),
    ("a_pod_that_nobody_comes_for_goes", abandoned),
    ("a_pod_in_the_making_is_not_listed_and_can_be_joined", joined),
    ("a_pod_in_the_making_goes_with_its_daemon", killed),
    ("a_container_in_the_making_is_not_listed_and_can_be_joined", container_joined),
    ("a_container_that_nobody_comes_for_goes", container_abandoned),
    ("a_command_ends_with_its_caller", command),
];

/// The node's grace period, and then some.
const AFTER_GRACE: Duration = Duration::from_secs(GRACE + 2);
/// The patience of who leaves.
const SOON: Duration = Duration::from_millis(50);
/// So long somebody waits who must not get on.
const A_WHILE: Duration = Duration::from_millis(300);

/// Asks for a pod, and leaves while it is being made: it waits for its network.
fn leave<'a>(b: &'a Bench, name: &str) -> Gate<'a> {
    let gate = Gate::new(b);
    // A caller may be so early to leave that nobody has heard it.
    b.until("the pod is being made", || {
        let request = b.pod_request(pod(name));
        let late = b.wait(async |c| c.with_deadline(SOON).run_pod_sandbox(request).await).unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
        !gate.calls().is_empty()
    });
    assert_eq!(gate.calls(), ["ADD"]);
    assert!(b.pods().is_empty());
    gate
}

fn is_there(b: &Bench, name: &str) -> Option<String> {
    let named = |p: &PodSandbox| p.metadata.as_ref().is_some_and(|m| m.name == name);
    b.pods().into_iter().find(named).map(|p| p.id)
}

fn retried(b: &Bench) {
    let gate = leave(b, "retried");
    gate.open();
    b.until("the pod is ready", || is_there(b, "retried").is_some());
    let request = b.pod_request(pod("retried"));
    let id = b.ok(async |c| c.run_pod_sandbox(request).await).pod_sandbox_id;
    assert_eq!(is_there(b, "retried").as_ref(), Some(&id));
    std::thread::sleep(AFTER_GRACE);
    assert_eq!(is_there(b, "retried").as_ref(), Some(&id));
    b.remove_pod(&id);
}

fn used(b: &Bench) {
    let gate = leave(b, "used");
    gate.open();
    b.until("the pod is ready", || is_there(b, "used").is_some());
    let id = is_there(b, "used").unwrap();
    let created = b.create(&id, container("c", &["probe", "sleep"]));
    b.start_container(&created);
    std::thread::sleep(AFTER_GRACE);
    assert_eq!(b.status(&created).state(), ContainerState::ContainerRunning);
    b.remove_pod(&id);
}

/// Whether the daemon has told that nobody came for one of these.
fn gave_up(b: &Bench, what: &str) -> bool {
    b.said().lines().any(|line| line.contains(&format!(": {what} ")) && line.contains("nobody came for it"))
}

fn abandoned(b: &Bench) {
    let gate = leave(b, "abandoned");
    gate.open();
    b.until("the pod is removed", || gate.calls() == ["ADD", "DEL"] && b.pods().is_empty());
    assert!(gave_up(b, "pod sandbox"), "{}", b.said());
}

fn joined(b: &Bench) {
    let gate = leave(b, "joined");
    let (cri, request) = (b.connect().unwrap(), b.pod_request(pod("joined")));
    let again = std::thread::spawn(move || cri.wait(async |c| c.run_pod_sandbox(request).await).unwrap());
    std::thread::sleep(A_WHILE);
    assert!(b.pods().is_empty() && !again.is_finished());
    gate.open();
    let id = again.join().unwrap().pod_sandbox_id;
    assert_eq!(b.pod_status(&id).network.unwrap().ip, "192.0.2.7");
    std::thread::sleep(AFTER_GRACE);
    assert_eq!(is_there(b, "joined").as_ref(), Some(&id));
    b.remove_pod(&id);
    assert_eq!(gate.calls(), ["ADD", "DEL"], "it was made once");
}

fn killed(b: &Bench) {
    let gate = leave(b, "unmade");
    b.kill();
    gate.open();
    b.start();
    assert!(b.pods().is_empty());
    assert_eq!(gate.calls(), ["ADD", "DEL"], "what a foreign plugin made is given back");
    let id = b.pod("unmade");
    b.remove_pod(&id);
}

/// The store as whoever collects layers has it: no container can be made meanwhile.
fn hold_store(b: &Bench) -> File {
    let file = File::open(b.path("data/images/lock")).unwrap();
    flock(&file, FlockOperation::LockExclusive).unwrap();
    file
}

fn create_request(pod: &str) -> CreateContainerRequest {
    let config = Some(container("c", &["probe", "sleep"]));
    CreateContainerRequest { pod_sandbox_id: pod.into(), config, sandbox_config: None }
}

/// Asks for a container, and leaves while it waits for the store.
fn leave_container(b: &Bench, pod: &str, store: &File) {
    let inode = format!(":{} ", store.metadata().unwrap().ino());
    b.until("it waits for the store", || {
        let request = create_request(pod);
        let late = b.wait(async |c| c.with_deadline(SOON).create_container(request).await).unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        locks.lines().any(|lock| lock.contains("->") && lock.contains(&inode))
    });
    assert!(b.containers().is_empty());
}

fn container_joined(b: &Bench) {
    let pod = b.host_pod("container-joined");
    let store = hold_store(b);
    leave_container(b, &pod, &store);
    let (cri, request) = (b.connect().unwrap(), create_request(&pod));
    let again = std::thread::spawn(move || cri.wait(async |c| c.create_container(request).await).unwrap());
    std::thread::sleep(A_WHILE);
    assert!(b.containers().is_empty() && !again.is_finished());
    drop(store);
    let id = again.join().unwrap().container_id;
    std::thread::sleep(AFTER_GRACE);
    assert_eq!(b.containers().iter().map(|c| &c.id).collect::<Vec<_>>(), [&id]);
    b.start_container(&id);
    b.remove_pod(&pod);
}

fn container_abandoned(b: &Bench) {
    let pod = b.host_pod("container-abandoned");
    let store = hold_store(b);
    leave_container(b, &pod, &store);
    drop(store);
    b.until("the container is given up", || gave_up(b, "container"));
    b.until("the container is removed", || b.containers().is_empty());
    // Another that is started does not wait for anybody.
    let store = hold_store(b);
    leave_container(b, &pod, &store);
    drop(store);
    b.until("the container is made", || !b.containers().is_empty());
    let id = b.containers()[0].id.clone();
    b.start_container(&id);
    std::thread::sleep(AFTER_GRACE);
    assert_eq!(b.status(&id).state(), ContainerState::ContainerRunning);
    b.remove_pod(&pod);
}

fn command(b: &Bench) {
    let pod = b.host_pod("caller");
    let c = b.run(&pod, "c", &["probe", "sleep"]);
    let cmd = ["probe", "sleep"].map(str::to_owned).to_vec();
    let request = ExecSyncRequest { container_id: c.clone(), cmd, timeout: 0 };
    let cri = b.connect().unwrap();
    let call = std::thread::spawn(move || {
        let soon = Duration::from_secs(20);
        cri.wait(async |client| client.with_deadline(soon).exec_sync(request).await).unwrap_err().code()
    });
    b.until("the command runs", || b.processes(&c) == 2 || call.is_finished());
    assert!(!call.is_finished(), "the command has not begun within the deadline");
    assert_eq!(call.join().unwrap(), Code::DeadlineExceeded);
    b.until("the command is gone", || b.processes(&c) == 1);
    b.remove_pod(&pod);
}
