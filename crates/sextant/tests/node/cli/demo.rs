//! `sextant demo`.

use std::fs::{self, File};
use std::path::PathBuf;

use kernel::namespace::in_netns;
use kernel::netlink::{Protocol, Socket, link_by_name};
use testkit::instance_name;

use crate::bench::Bench;

/// Where a demo is, by its process.
fn places(pid: u32) -> [PathBuf; 2] {
    ["/run", "/var/tmp"].map(|dir| format!("{dir}/sextant-demo-{pid}").into())
}

/// Whether another host is joined to a network.
fn is_joined(network: &File) -> bool {
    in_netns(network, || link_by_name(&mut Socket::open(Protocol::Route)?, "e0")).unwrap().is_some()
}

/// One demo's test at a time: each demo clears away those that were killed, as one is here on purpose.
fn alone() -> File {
    let file = File::create(std::env::temp_dir().join("sextant-test-demo.lock")).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    file
}

pub(super) fn shown(b: &Bench) {
    let _alone = alone();
    let mut demo = b.command(&["demo", "-o", "json"]);
    let demo = demo.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let pid = demo.id();
    let output = demo.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let steps = told["steps"].as_array().unwrap();
    let has = |interface: &str, what: &str| {
        steps.iter().any(|s| s["interface"] == interface && s["what"].as_str().unwrap().contains(what))
    };
    for (interface, what) in [
        ("OCI", "pushed"),
        ("API", "the node is ready"),
        ("API", "examples/shop applied"),
        ("CRI", "statefulset.apps/database is ready"),
        ("CRI", "deployment.apps/web is ready"),
        ("CRI", "job.batch/orders has ended well"),
        ("OCI", "image pulled by the node"),
        ("CNI", "this machine asks the Service web"),
        ("CNI", "asks the database by its name"),
        ("CPI", "the Service web has a load balancer at 192.0.2."),
        ("CPI", "another host of the link asks for it by ARP, and is served there"),
        ("CSI", "volume published"),
        ("CSI", "snapshot cut"),
        ("CSI", "volume made of the snapshot"),
        ("SMI", "examples/mesh applied"),
        ("SMI", "split 90 to 10: of "),
        ("SMI", "split shifted to 0 to 100 under load: "),
        ("SMI", " requests meanwhile, none failed"),
        ("SMI", "a stranger, whom no TrafficTarget names, is answered 403"),
        ("API", "objects deleted"),
        ("all", "everything undone"),
    ] {
        assert!(has(interface, what), "{interface} {what}: {told:#}");
    }
    assert!(steps.iter().all(|step| step["seconds"].as_f64().unwrap() > 0.0), "{told:#}");
    places(pid).iter().for_each(|place| assert!(!place.exists(), "{}", place.display()));
    // For people the same with what they would type.
    let shown = b.says(&["demo"]);
    for words in [
        "$ sextant get pods",
        "ordered apple 2",
        "orders-1: apple 1",
        "runs and is ready, on node demo",
        "$ sextant mesh routes canary/web",
        "TrafficSplit/canary/web/0",
        "WHAT RAN",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
}

pub(super) fn killed(b: &Bench) {
    let _alone = alone();
    let mut demo = b.command(&["demo", "--keep"]);
    let mut demo =
        demo.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let [run, data] = places(demo.id());
    let socket = run.join("cri.sock").display().to_string();
    b.until("its pod is up", || b.cli(&["pods", "-q", "--cri", &socket]).out.lines().count() >= 1);
    // This and the programs that run there keep the demo's network; nobody but the demo keeps the other host's.
    let network = File::open(format!("/proc/{}/ns/net", demo.id())).unwrap();
    assert!(is_joined(&network), "there is another host");
    demo.kill().unwrap();
    demo.wait().unwrap();
    b.until("the other host has gone with it", || !is_joined(&network));
    drop(network);
    let netns = || fs::read_dir(run.join("netns")).map_or(0, Iterator::count);
    assert!(netns() > 0 && data.join("cri/pods").exists(), "pods outlive it");
    b.says(&["demo", "-o", "json"]);
    assert!(!run.exists() && !data.exists(), "{}", run.display());
    let cgroups = [PathBuf::from("/sys/fs/cgroup"), PathBuf::from("/sys/fs/cgroup/pids")];
    for root in cgroups {
        for name in [instance_name(&run), format!("{}-agent", instance_name(&run))] {
            assert!(!root.join(&name).exists(), "{name}");
        }
    }
}
