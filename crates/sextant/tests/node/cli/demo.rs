//! `sextant demo`.

use std::fs;
use std::path::PathBuf;

use testkit::instance_name;

use crate::bench::Bench;

/// Where a demo is, by its process.
fn places(pid: u32) -> [PathBuf; 2] {
    ["/run", "/var/tmp"].map(|dir| format!("{dir}/sextant-demo-{pid}").into())
}

pub(super) fn shown(b: &Bench) {
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
        ("CRI", "image pulled"),
        ("CRI", "pod server up"),
        ("CRI", "exec in server"),
        ("CNI", "published port"),
        ("CNI", "across the bridge"),
        ("CRI", "pod client down"),
        ("CSI", "driver serves"),
        ("CSI", "volume published"),
        ("CSI", "snapshot cut"),
        ("CSI", "a third container reads what the first had written"),
        ("all", "everything undone"),
    ] {
        assert!(has(interface, what), "{interface} {what}: {told:#}");
    }
    assert!(steps.iter().all(|step| step["seconds"].as_f64().unwrap() > 0.0), "{told:#}");
    places(pid).iter().for_each(|place| assert!(!place.exists(), "{}", place.display()));
    // For people the same with what they would type.
    let shown = b.says(&["demo"]);
    for words in
        ["$ sextant pods", "$ sextant logs --pod demo/client", "hello 127.0.0.1, this is server", "WHAT RAN"]
    {
        assert!(shown.contains(words), "{words}: {shown}");
    }
}

pub(super) fn killed(b: &Bench) {
    let mut demo = b.command(&["demo", "--keep"]);
    let mut demo =
        demo.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let [run, data] = places(demo.id());
    let socket = run.join("cri.sock").display().to_string();
    b.until("its pod is up", || b.cli(&["pods", "-q", "--cri", &socket]).out.lines().count() >= 1);
    demo.kill().unwrap();
    demo.wait().unwrap();
    let netns = || fs::read_dir(run.join("netns")).map_or(0, Iterator::count);
    assert!(netns() > 0 && data.join("cri/pods").exists(), "pods outlive it");
    b.says(&["demo", "-o", "json"]);
    assert!(!run.exists() && !data.exists(), "{}", run.display());
    let cgroups = [PathBuf::from("/sys/fs/cgroup"), PathBuf::from("/sys/fs/cgroup/pids")];
    for cgroup in cgroups.map(|root| root.join(instance_name(&run))) {
        assert!(!cgroup.exists(), "{}", cgroup.display());
    }
}
