//! Killed between any two effects of ADD and of DEL: the next start leaves nothing.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod rig;

use std::path::Path;
use std::process::Command;

use cni::caller::{Caller, Instance, default_network};
use cni::contract::{Attachment, NetworkList};
use ledger::{Ledger, OwnerId};
use rig::{Netns, on_a_host};
use serde_json::{Value, json};

const DIR: &str = "SEXTANT_TEST_DIR";

/// Which network the process attaches to.
const NETWORK: &str = "SEXTANT_TEST_NETWORK";

/// That of `sextant run`, or a pod's with every plugin that comes after others.
fn list(dir: &Path, name: &str) -> NetworkList {
    let mut list =
        default_network(&Instance::new("test"), &["10.88.0.0/16".parse().unwrap()], dir).unwrap().source;
    if name == "long" {
        let plugins = list["plugins"].as_array_mut().unwrap();
        let rates = json!({ "ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000 });
        let sysctl = json!({ "net.ipv4.conf.IFNAME.arp_filter": "1" });
        plugins.extend([
            json!({ "type": "firewall", "ingressPolicy": "same-bridge" }),
            with(json!({ "type": "bandwidth" }), rates),
            json!({ "type": "tuning", "mtu": 1400, "sysctl": sysctl, "dataDir": dir.join("tuning") }),
        ]);
        plugins[0]["macspoofchk"] = json!(true);
    }
    NetworkList::from_value(list).unwrap()
}

fn with(mut base: Value, patch: Value) -> Value {
    base.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
    base
}

/// Not a test of its own: the process that is killed. It runs in the namespace of the test that starts it.
#[test]
#[ignore = "started by the other tests of this file"]
fn killed() {
    let dir = std::env::var(DIR).unwrap();
    let dir = Path::new(&dir);
    let netns = std::env::var("SEXTANT_TEST_NETNS").unwrap();
    let mut attachment = Attachment::new("a", "eth0", Some(netns.into())).unwrap();
    let ports = cni::contract::PortMapping::parse("8080:80").unwrap();
    attachment.capability_args.insert("portMappings".into(), serde_json::to_value(ports).unwrap());
    let ledger = Ledger::open(&dir.join("run"), &dir.join("data")).unwrap();
    let caller = Caller::new(cni::plugin::builtins(), dir.join("cache"));
    let mut owner = ledger.owner(&OwnerId::new("a").unwrap()).unwrap();
    let list = list(dir, &std::env::var(NETWORK).unwrap());
    caller.add(&list, &attachment, &mut owner).unwrap();
    caller.del(&list, &attachment, &mut owner).unwrap();
    rig::undone(owner);
}

/// Runs [`killed`] in this thread's network namespace. True if it came to its end.
fn run_killed(dir: &Path, network: &str, netns: &Netns, step: usize) -> bool {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed", "--ignored", "--test-threads=1"])
        .env(DIR, dir)
        .env(NETWORK, network)
        .env("SEXTANT_TEST_NETNS", netns.path())
        .env("SEXTANT_CRASH_AT", step.to_string())
        .output()
        .unwrap();
    if output.status.success() {
        return true;
    }
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.code().is_none(), "failed, not killed: {text}");
    false
}

/// Kills at each step in turn (in the virtual machine, where each takes long, at every `SEXTANT_CNI_STRIDE`th), and has `recover` take back what is left.
fn at_each_step(network: &str, recover: impl Fn(&Path, &Attachment) + Sync) {
    on_a_host(|host| {
        let before = host.snapshot();
        let stride = std::env::var("SEXTANT_CNI_STRIDE").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
        let mut steps = 0;
        loop {
            let dir = tempfile::tempdir().unwrap();
            let netns = Netns::new();
            let ended = run_killed(dir.path(), network, &netns, steps);
            recover(dir.path(), &rig::attachment("a", &netns, &["8080:80"]));
            let ledger = Ledger::open(&dir.path().join("run"), &dir.path().join("data")).unwrap();
            // A child that another test has forked has what was locked here until it executes its program.
            let reports = || ledger.converge(&|_| false);
            let report = std::iter::repeat_with(reports).find(|report| report.busy.is_empty()).unwrap();
            assert!(report.errors.is_empty(), "step {steps}: {report:?}");
            assert_eq!(host.snapshot(), before, "step {steps}");
            let leases =
                std::fs::read_dir(dir.path().join("cni/networks/sextant-test")).into_iter().flatten();
            let left: Vec<_> = leases.flatten().map(|entry| entry.file_name()).collect();
            assert!(
                left.iter().all(|name| name == "lock" || name == "last_reserved_ip.0"),
                "step {steps}: {left:?}"
            );
            let tuned = std::fs::read_dir(dir.path().join("tuning")).into_iter().flatten().count();
            assert_eq!(tuned, 0, "step {steps}");
            assert!(cni::caller::cached_attachments(&dir.path().join("cache")).is_empty(), "step {steps}");
            if ended {
                break;
            }
            steps += stride;
        }
        assert!(steps > 20, "only {steps} steps: the ledger was not asked");
    });
}

#[test]
fn killed_between_any_two_effects_leaves_nothing() {
    at_each_step("default", |_, _| ());
}

#[test]
fn a_long_chain_killed_between_any_two_effects_leaves_nothing() {
    at_each_step("long", |_, _| ());
}

/// Whoever starts anew knows the container, and calls DEL instead of forgetting it.
#[test]
fn del_after_a_kill_between_any_two_effects_leaves_nothing() {
    at_each_step("long", |dir, attachment| {
        let ledger = Ledger::open(&dir.join("run"), &dir.join("data")).unwrap();
        let caller = Caller::new(cni::plugin::builtins(), dir.join("cache"));
        let mut owner = ledger.owner(&OwnerId::new("a").unwrap()).unwrap();
        caller.del(&list(dir, "long"), attachment, &mut owner).unwrap();
        rig::undone(owner);
    });
}
