//! Callers that leave before they are answered, and what becomes of what they asked for.

use std::time::Duration;

use cri::contract::Code;
use cri::contract::v1::*;

use crate::Test;
use crate::bench::Bench;
use crate::wishes::{container, pod};

pub(crate) const TESTS: &[Test] = &[
    ("a_pod_that_a_retry_takes_stays", retried),
    ("a_pod_that_is_found_and_used_stays", used),
    ("a_pod_that_nobody_comes_for_goes", abandoned),
    ("a_command_ends_with_its_caller", command),
];

/// The node's grace period, and then some.
const AFTER_GRACE: Duration = Duration::from_secs(5);

/// Asks for a pod and leaves at once. Whether the answer was too late, as it should be.
fn leave(b: &Bench, name: &str) -> bool {
    let request = b.pod_request(pod(name));
    let soon = Duration::from_millis(1);
    let code = b.wait(async |c| c.with_deadline(soon).run_pod_sandbox(request).await).err().map(|e| e.code());
    code == Some(Code::DeadlineExceeded)
}

fn is_there(b: &Bench, name: &str) -> Option<String> {
    let named = |p: &PodSandbox| p.metadata.as_ref().is_some_and(|m| m.name == name);
    b.pods().into_iter().find(named).map(|p| p.id)
}

fn retried(b: &Bench) {
    assert!(leave(b, "retried"));
    b.until("the pod is ready", || is_there(b, "retried").is_some());
    let request = b.pod_request(pod("retried"));
    let id = b.ok(async |c| c.run_pod_sandbox(request).await).pod_sandbox_id;
    assert_eq!(is_there(b, "retried").as_ref(), Some(&id));
    std::thread::sleep(AFTER_GRACE);
    assert_eq!(is_there(b, "retried").as_ref(), Some(&id));
    b.remove_pod(&id);
}

fn used(b: &Bench) {
    assert!(leave(b, "used"));
    b.until("the pod is ready", || is_there(b, "used").is_some());
    let id = is_there(b, "used").unwrap();
    let created = b.create(&id, container("c", &["probe", "sleep"]));
    b.start_container(&created);
    std::thread::sleep(AFTER_GRACE);
    assert_eq!(b.status(&created).state(), ContainerState::ContainerRunning);
    b.remove_pod(&id);
}

fn abandoned(b: &Bench) {
    assert!(leave(b, "abandoned"));
    b.until("the pod is ready", || is_there(b, "abandoned").is_some());
    b.until("the pod is removed", || is_there(b, "abandoned").is_none());
}

fn command(b: &Bench) {
    let pod = b.host_pod("caller");
    let c = b.run(&pod, "c", &["probe", "sleep"]);
    let cmd = ["probe", "sleep"].map(str::to_owned).to_vec();
    let request = ExecSyncRequest { container_id: c.clone(), cmd, timeout: 0 };
    let soon = Duration::from_millis(700);
    let gone = b.wait(async |client| client.with_deadline(soon).exec_sync(request).await);
    assert_eq!(gone.unwrap_err().code(), Code::DeadlineExceeded);
    b.until("the command is gone", || b.processes(&c) == 1);
    b.remove_pod(&pod);
}
