//! What the containers of a pod share.

use std::fs;

use serde_json::json;
use shim::protocol::{IdMapping, SandboxRequest, UserNamespace};

use crate::{Pod, gone, plain, rig, wait_until};

fn mapped() -> SandboxRequest {
    let map = vec![IdMapping { container_id: 0, host_id: 300_000, size: 65_536 }];
    SandboxRequest {
        user: Some(UserNamespace { uid_mappings: map.clone(), gid_mappings: map }),
        network: true,
        ..plain()
    }
}

#[test]
fn containers_share_ipc_and_host_name_and_nothing_else() {
    let mut request = plain();
    request.sysctls.insert("kernel.shm_rmid_forced".into(), "1".into());
    request.sysctls.insert("fs.mqueue.msg_max".into(), "77".into());
    let mut pod = Pod::new(request);
    pod.run("a", "exec sleep 3600");
    pod.run("b", "exec sleep 3600");
    let links = "readlink /proc/self/ns/ipc /proc/self/ns/uts /proc/self/ns/net";
    assert_eq!(pod.exec("a", links), pod.exec("b", links));
    let one = "readlink /proc/self/ns/pid";
    assert_ne!(pod.exec("a", one), pod.exec("b", one));
    let (out, code) =
        pod.exec("b", "hostname; cat /proc/sys/kernel/shm_rmid_forced /proc/sys/fs/mqueue/msg_max");
    assert_eq!((out.as_str(), code), ("pod\n1\n77\n", 0));
    let ours = |kind: &str| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
    let shims = |kind: &str| fs::read_link(format!("/proc/{}/ns/{kind}", pod.shim.pid)).unwrap();
    assert_ne!(ours("ipc"), shims("ipc"));
    assert_eq!(ours("net"), shims("net"));
    assert_eq!(ours("mnt"), shims("mnt"));
    pod.end();
}

#[test]
fn a_shared_pid_namespace_has_an_init_that_reaps_and_cannot_be_killed_from_inside() {
    let mut pod = Pod::new(SandboxRequest { share_pid: true, ..plain() });
    let init = pod.reply.pid;
    assert!(init > 0);
    pod.run("a", "exec sleep 61");
    pod.run("b", "exec sleep 62");
    let (out, _) = pod.exec("b", "cat /proc/*/cmdline | tr '\\0' ' '; cat /proc/1/comm");
    assert!(out.contains("sleep 61") && out.contains("sleep 62"), "{out}");
    assert!(out.ends_with("sextant-pod\n"), "{out}");
    // An orphan becomes init's and leaves nothing; no signal from inside reaches init.
    let zombies = "grep -ls '^State:.Z' /proc/[0-9]*/status";
    let (out, _) = pod.exec("b", &format!("(sleep 0.05 &) ; for s in TERM KILL STOP INT USR1; do kill -$s 1; done; sleep 0.3; \
        i=0; while [ -n \"$({zombies})\" ] && [ $i -lt 900 ]; do sleep 0.1; i=$((i + 1)); done; {zombies}; ls -d /proc/1"));
    assert_eq!(out, "/proc/1\n");
    assert!(!gone(init));
    let state = fs::read_to_string(format!("/proc/{init}/status")).unwrap();
    assert!(state.contains("State:\tS"), "{state}");
    assert_eq!(fs::read_dir(format!("/proc/{init}/fd")).unwrap().count(), 0, "it holds nothing open");
    // A container's end takes what it left behind along, and nothing of the others.
    pod.exec("a", "sleep 77 & sleep 78 &");
    pod.stop("a");
    let mut out = String::new();
    wait_until("the rest's end", || {
        out = pod.exec("b", "cat /proc/*/cmdline | tr '\\0' ' '").0;
        !out.contains("sleep 77")
    });
    assert!(!out.contains("sleep 61") && out.contains("sleep 62"), "{out}");
    pod.end();
    assert!(gone(init));
}

#[test]
fn the_end_of_init_is_the_end_of_the_pods_containers() {
    let mut pod = Pod::new(SandboxRequest { share_pid: true, ..plain() });
    pod.run("a", "exec sleep 3600");
    pod.run("b", "exec sleep 3600");
    let mut other = pod.connect();
    let watch = other.watch().unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pod.reply.pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    for id in ["a", "b"] {
        assert_eq!(pod.client.wait(id, "").unwrap().code, 137);
    }
    let told = std::iter::from_fn(|| other.next_event(watch).ok());
    let mut kinds = told.map(|e| e.happened());
    assert!(kinds.any(|kind| kind == shim::protocol::Happened::PodEnded));
    let error = pod.client.create(&pod.request("c", "true", |_| {})).unwrap_err().to_string();
    assert!(error.starts_with("cannot "), "{error}");
    pod.end();
}

#[test]
fn the_shims_end_is_that_of_a_shared_pid_namespace() {
    let mut pod = Pod::new(SandboxRequest { share_pid: true, ..plain() });
    pod.run("a", "exec sleep 3600");
    let pid = pod.client.state("a", "").unwrap().pid;
    let init = pod.reply.pid;
    drop(pod);
    wait_until("all has ended", || gone(pid) && gone(init));
}

#[test]
fn a_user_namespace_owns_all_others() {
    for share_pid in [false, true] {
        let mut request = SandboxRequest { share_pid, ..mapped() };
        request.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "0".into());
        request.sysctls.insert("kernel.msgmax".into(), "9999".into());
        let mut pod = Pod::new(request);
        for id in ["a", "b"] {
            let mut request = pod.request(id, "exec sleep 3600", |_| {});
            // The host's root belongs to nobody in there: a tree of its own will do.
            request.rootfs = Some(own_root(&pod, id));
            pod.client.create(&request).expect("a container");
            pod.client.start(id).expect("started");
        }
        let (out, code) = pod.exec("a", "read a < /proc/self/uid_map; echo $a; id -u; hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax");
        assert_eq!(code, 0, "{out}");
        let words: Vec<_> = out.split_whitespace().collect();
        assert_eq!(words, ["0", "300000", "65536", "0", "pod", "0", "9999"]);
        let (out, code) = pod.exec("a", "hostname changed && hostname");
        if code == 0 {
            assert_eq!(out, "changed\n");
        }
        // Both are in one network, which is owned by the user namespace: root there may use it.
        let links: Vec<_> =
            ["a", "b"].map(|id| pod.exec(id, "readlink /proc/self/ns/net /proc/self/ns/user").0).into();
        assert_eq!(links[0], links[1]);
        assert_eq!(pod.reply.pid > 0, share_pid);
        pod.end();
    }
}

/// Some of this machine's programs in a directory, mapped with its ids.
fn own_root(pod: &Pod, id: &str) -> shim::protocol::Rootfs {
    let map = vec![IdMapping { container_id: 0, host_id: 300_000, size: 65_536 }];
    let text = |name: &str| pod.path(id, name).display().to_string();
    crate::roots::small_root(&pod.dir.path().join("layer"));
    shim::protocol::Rootfs {
        lower: vec![pod.dir.path().join("layer").display().to_string()],
        upper: text("upper"),
        work: text("work"),
        uid_mappings: map.clone(),
        gid_mappings: map,
        ..shim::protocol::Rootfs::default()
    }
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let none = SandboxRequest::default();
    let mut machine = plain();
    machine.sysctls.insert("vm.swappiness".into(), "1".into());
    let mut climbs = plain();
    climbs.sysctls.insert("kernel.msgmax/../../vm/swappiness".into(), "1".into());
    let mut of_network = plain();
    of_network.sysctls.insert("net.ipv4.ip_forward".into(), "1".into());
    let mut value = plain();
    value.sysctls.insert("kernel.msgmax".into(), "many".into());
    let empty = UserNamespace::default();
    for (request, named) in [
        (SandboxRequest { hostname: "x".into(), ..none.clone() }, "hostname"),
        (SandboxRequest { network: true, ..none.clone() }, "network"),
        (SandboxRequest { user: Some(empty), ..none.clone() }, "user.uid_mappings"),
        (machine, "sysctls.vm.swappiness"),
        (climbs, "sysctls.kernel.msgmax/../../vm/swappiness"),
        (of_network, "sysctls.net.ipv4.ip_forward"),
        (value, "sysctls.kernel.msgmax"),
        (SandboxRequest { directory: "/no/such".into(), ..none.clone() }, "/no/such"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (shim, mut client) = rig::spawn(dir.path());
        let directory = dir.path().display().to_string();
        let request = SandboxRequest {
            id: "pod".into(),
            directory: if request.directory.is_empty() { directory } else { request.directory.clone() },
            ..request
        };
        let error = client.sandbox(&request).unwrap_err().to_string();
        assert!(error.contains(named), "{error} names {named}");
        drop(client);
        assert_eq!(shim.wait().unwrap().code(), 0, "a shim that nobody needs ends");
    }
}

#[test]
fn a_pod_is_made_once_and_its_numbers_are_written() {
    let mut pod = Pod::new(SandboxRequest { share_pid: true, ..plain() });
    let again = SandboxRequest { directory: "/".into(), ..plain() };
    assert!(pod.client.sandbox(&again).unwrap_err().to_string().contains("already"));
    let text = fs::read_to_string(pod.dir.path().join("shim.json")).unwrap();
    let numbers: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(numbers["shim"]["pid"], json!(pod.shim.pid));
    assert_eq!(numbers["shim"]["startTime"], json!(kernel::process::start_time(pod.shim.pid).unwrap()));
    assert_eq!(numbers["init"]["pid"], json!(pod.reply.pid));
    pod.end();
}

/// The first process of the PID namespace does not end before all in it are reaped.
#[test]
fn a_pod_ends_though_a_process_that_was_brought_in_has_not() {
    let mut pod = Pod::new(SandboxRequest { share_pid: true, ..plain() });
    // Without a cgroup it is not killed with its container.
    let request = pod.request("a", "exec sleep 3600", |config| {
        config["linux"].as_object_mut().expect("linux").remove("cgroupsPath");
    });
    pod.client.create(&request).unwrap();
    pod.client.start("a").unwrap();
    let mut other = pod.connect();
    let (stream, _) = other.exec(&crate::exec_request("a", "exec sleep 3600")).unwrap();
    pod.stop("a");
    // What hangs fails.
    let mut client = pod.connect();
    let shutdown = std::thread::spawn(move || client.shutdown());
    wait_until("an answer", || shutdown.is_finished());
    shutdown.join().unwrap().unwrap();
    let end = other.event(stream).unwrap_err();
    assert!(end.to_string().contains("shut down"), "{end}");
    wait_until("the shim's end", || pod.shim.try_wait().is_ok_and(|exit| exit.is_some()));
}
