//! Limits, and what happens at them.

use std::fs;
use std::time::Duration;

use serde_json::json;
use shim::protocol::{Happened, UpdateRequest};

use crate::{Pod, plain, wait_until};

/// Fills memory until it is killed.
const HOG: &str = "exec tail /dev/zero";

fn limited(pod: &Pod, id: &str, script: &str) -> shim::protocol::CreateRequest {
    pod.request(id, script, |c| {
        c["linux"]["resources"] = json!({"memory": {"limit": 24 << 20, "swap": 24 << 20}});
    })
}

#[test]
fn out_of_memory_is_told_at_once_and_at_the_end() {
    let mut pod = Pod::new(plain());
    let mut other = pod.connect();
    let stream = other.watch().unwrap();
    let request = limited(&pod, "first", HOG);
    pod.client.create(&request).unwrap();
    pod.client.start("first").unwrap();
    let exited = pod.client.wait("first", "").unwrap();
    assert!(exited.oom, "{exited:?}");
    assert_eq!(exited.code, 137);
    let text = fs::read_to_string(pod.path("first", "exit.json")).unwrap();
    assert!(text.contains("\"oom\":true"), "{text}");
    // A child's end that the container survives is told when it happens, and is not how the container ended.
    let request = limited(&pod, "child", "tail /dev/zero; echo survived; read x; exit 0");
    pod.client.create(&shim::protocol::CreateRequest { stdin: true, ..request }).unwrap();
    pod.client.start("child").unwrap();
    pod.wait_for_log("child", "survived");
    wait_until("the count", || pod.client.state("child", "").unwrap().oom_kills == 1);
    let attach =
        shim::protocol::AttachRequest { container: "child".into(), stdin: true, ..Default::default() };
    let input = pod.client.attach(&attach).unwrap();
    pod.client.send_input(input, &shim::protocol::Input { close: true, ..Default::default() }).unwrap();
    let exited = pod.client.wait("child", "").unwrap();
    assert!(!exited.oom && exited.code == 0, "{exited:?}");
    let mut told = Vec::new();
    while told.len() < 2 {
        let event = other.next_event(stream).unwrap();
        if event.happened() == Happened::Oom {
            told.push(event.container);
        }
    }
    assert_eq!(told, ["first", "child"]);
    pod.run("well", "exit 1");
    assert!(!pod.client.wait("well", "").unwrap().oom);
    pod.end();
}

#[test]
fn limits_are_changed_while_it_runs() {
    let mut pod = Pod::new(plain());
    pod.run("a", "exec sleep 3600");
    let update = |resources: serde_json::Value| UpdateRequest {
        container: "a".into(),
        resources: resources.to_string().into_bytes(),
    };
    let resources = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 77}});
    assert_eq!(pod.client.update(&update(resources)).unwrap(), [""; 0]);
    let cgroup = kernel::cgroup::Cgroup::at(pod.client.state("a", "").unwrap().cgroup.as_ref()).unwrap();
    assert_eq!(cgroup.usage().memory_limit, Some(64 << 20));
    assert_eq!(cgroup.read("pids.max").unwrap().trim(), "77");
    let error = pod.client.update(&update(json!({"cpu": {"shares": "many"}}))).unwrap_err().to_string();
    assert!(error.contains("cpu.shares"), "{error}");
    pod.stop("a");
    assert!(pod.client.update(&update(json!({}))).unwrap_err().to_string().contains("has ended"));
    pod.end();
}

#[test]
fn a_limit_that_does_not_hold_leaves_no_cgroup() {
    let mut pod = Pod::new(plain());
    let request = pod.request("a", "exec sleep 3600", |config| {
        // The kernel wants a millisecond at least.
        config["linux"]["resources"] = json!({"cpu": {"quota": 1, "period": 100_000}});
    });
    match pod.client.create(&request) {
        Err(error) => assert!(error.to_string().contains("cpu"), "{error}"),
        Ok(made) => {
            assert!(made.warnings.iter().any(|warning| warning.contains("cpu.quota")), "{:?}", made.warnings);
            return println!("skipped: no cgroup controller of this machine holds cpu.quota");
        }
    }
    assert!(!kernel::cgroup::Cgroup::at(&pod.cgroup.join("a")).unwrap().exists(), "its cgroup is left");
}

#[test]
fn a_cgroup_that_vanishes_disturbs_nobody() {
    let mut pod = Pod::new(plain());
    pod.run("a", "exec sleep 3600");
    let cgroup = pod.client.state("a", "").unwrap().cgroup;
    // What a person does, or a systemd that takes a scope away.
    kernel::cgroup::destroy(cgroup.as_ref()).unwrap();
    assert_eq!(pod.client.wait("a", "").unwrap().code, 137);
    let before = cpu(pod.shim.pid);
    std::thread::sleep(Duration::from_millis(300));
    assert!(cpu(pod.shim.pid) - before <= 1, "the shim is busy with nothing");
    pod.end();
}

/// Ticks of CPU time that a process has used.
fn cpu(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a shim");
    let fields: Vec<_> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}
