//! Killed between any two effects of ADD and of DEL: the next start leaves nothing.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod rig;

use std::path::Path;
use std::process::Command;

use cni::caller::{Caller, Instance, default_network};
use cni::contract::{Attachment, NetworkList};
use ledger::{Ledger, OwnerId};
use rig::{Netns, on_a_host};

const DIR: &str = "SEXTANT_TEST_DIR";

fn list(dir: &Path) -> NetworkList {
    default_network(&Instance::new("test"), &["10.88.0.0/16".parse().unwrap()], dir).unwrap()
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
    caller.add(&list(dir), &attachment, &mut owner).unwrap();
    caller.del(&list(dir), &attachment, &mut owner).unwrap();
    rig::undone(owner);
}

/// Runs [`killed`] in this thread's network namespace. True if it came to its end.
fn run_killed(dir: &Path, netns: &Netns, step: usize) -> bool {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed", "--ignored", "--test-threads=1"])
        .env(DIR, dir)
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

#[test]
fn killed_between_any_two_effects_leaves_nothing() {
    on_a_host(|host| {
        let before = host.snapshot();
        let mut steps = 0;
        loop {
            let dir = tempfile::tempdir().unwrap();
            let netns = Netns::new();
            let ended = run_killed(dir.path(), &netns, steps);
            let ledger = Ledger::open(&dir.path().join("run"), &dir.path().join("data")).unwrap();
            let report = ledger.converge(&|_| false);
            assert!(report.errors.is_empty(), "step {steps}: {report:?}");
            assert_eq!(host.snapshot(), before, "step {steps}");
            let leases =
                std::fs::read_dir(dir.path().join("cni/networks/sextant-test")).into_iter().flatten();
            let left: Vec<_> = leases.flatten().map(|entry| entry.file_name()).collect();
            assert!(
                left.iter().all(|name| name == "lock" || name == "last_reserved_ip.0"),
                "step {steps}: {left:?}"
            );
            assert!(cni::caller::cached_attachments(&dir.path().join("cache")).is_empty(), "step {steps}");
            if ended {
                break;
            }
            steps += 1;
        }
        assert!(steps > 20, "only {steps} steps: the ledger was not asked");
    });
}
