//! Pods that programs of others run, by handler. A program that is not installed is said to be missing: `cargo xtask test`
//! installs all of them.

use std::cell::Cell;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cri::contract::v1::*;
use oci_runtime::contract::Process;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use shim::client::{Client, Event};
use shim::protocol::{AttachRequest, ExecRequest, Input, StopRequest};

use crate::Test;
use crate::bench::Bench;
use crate::logs::counted;
use crate::machine::limit;
use crate::wishes::{container, pod, with_limits};

pub(crate) const TESTS: &[Test] = &[
    ("handlers_that_are_not_there_are_named", missing),
    ("handlers_runc_runs_pods", |b| runs(b, "runc")),
    ("handlers_crun_runs_pods", |b| runs(b, "crun")),
    ("handlers_containerds_shim_runs_pods", |b| runs(b, "containerd")),
    ("handlers_containerds_shim_outlives_the_node", |b| outlives(b, "containerd")),
    ("handlers_a_shim_that_speaks_version_3_runs_pods", |b| runs(b, "own")),
    ("handlers_a_shim_that_dies_takes_its_pod_along", dies),
    ("handlers_end_with_our_shim", lost),
    ("handlers_leave_nothing_of_unborn_pods", unborn),
    ("handlers_runc_outlives_the_node", |b| outlives(b, "runc")),
    ("handlers_crun_outlives_the_node", |b| outlives(b, "crun")),
];

/// The handlers that are configured, and their programs.
const PROGRAMS: [(&str, &str, &[&str]); 5] = [
    ("runc", "oci", &["/usr/bin/runc", "/usr/sbin/runc"]),
    ("crun", "oci", &["/usr/bin/crun"]),
    ("containerd", "shim", &["/usr/bin/containerd-shim-runc-v2"]),
    // Our own, as if it were another's: it speaks version 3, and says what it can do.
    ("own", "shim", &[]),
    ("gone", "oci", &["/nonexistent/runtime"]),
];

fn program(b: &Bench, handler: &str) -> PathBuf {
    let (.., paths) = PROGRAMS.iter().find(|(name, ..)| *name == handler).unwrap();
    let found = paths.iter().find(|path| Path::new(path).exists()).or(paths.first());
    found.map_or_else(|| b.path("containerd-shim-sextant-v1"), PathBuf::from)
}

/// Does `test` on a node that has the handlers.
fn with_handlers(b: &Bench, test: impl FnOnce()) {
    /// What was, when this goes.
    struct Before<'a>(&'a Bench, String);
    impl Drop for Before<'_> {
        fn drop(&mut self) {
            self.0.kill();
            fs::write(self.0.path("node.toml"), &self.1).unwrap();
            self.0.start();
        }
    }
    let before = Before(b, fs::read_to_string(b.path("node.toml")).unwrap());
    let handlers: String = PROGRAMS
        .iter()
        .map(|(name, kind, _)| {
            let program = program(b, name);
            format!("[runtime.handlers.{name}]\nkind = {kind:?}\nprogram = {program:?}\n")
        })
        .collect();
    b.kill();
    if !program(b, "own").exists() {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_sextant"), program(b, "own")).unwrap();
    }
    fs::write(b.path("node.toml"), format!("{}{handlers}", before.1)).unwrap();
    b.start();
    test();
    b.until("no shim of others is left", || others_shims(b).is_empty());
}

/// containerd's shims that this node's pods have: each stays where its bundle is.
fn others_shims(b: &Bench) -> Vec<i32> {
    let is_one = |entry: &fs::DirEntry| {
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let place = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        String::from_utf8_lossy(&words).contains("containerd-shim") && place.starts_with(b.dir())
    };
    let pids = fs::read_dir("/proc").unwrap().flatten().filter(is_one);
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The same, if the handler's program is here.
fn with_handler(b: &Bench, handler: &str, test: impl FnOnce()) {
    if !PROGRAMS.iter().any(|(name, _, paths)| *name == handler && paths.is_empty())
        && !program(b, handler).exists()
    {
        println!("SKIPPED: {} is missing (cargo xtask test installs it)", program(b, handler).display());
        return;
    }
    let _alone = (handler == "crun").then(Hidden::new);
    with_handlers(b, test);
}

/// crun refuses v1 hierarchies with a v2 one beside them: the mount namespace of these tests does not show that one
/// meanwhile.
struct Hidden(Cell<bool>);

const UNIFIED: &str = "/sys/fs/cgroup/unified";

impl Hidden {
    fn new() -> Self {
        let there = Path::new(UNIFIED).join("cgroup.controllers").exists();
        if there {
            mount("tmpfs", UNIFIED, "tmpfs", MountFlags::empty(), None).unwrap();
        }
        Self(Cell::new(there))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if self.0.take() {
            unmount(UNIFIED, UnmountFlags::empty()).unwrap();
        }
    }
}

fn run_pod(b: &Bench, handler: &str, config: PodSandboxConfig) -> String {
    let mut request = b.pod_request(config);
    request.runtime_handler = handler.into();
    b.ok(async |c| c.run_pod_sandbox(request).await).pod_sandbox_id
}

fn missing(b: &Bench) {
    with_handlers(b, || {
        let mut request = b.pod_request(pod("gone"));
        request.runtime_handler = "gone".into();
        let error = b.wait(async |c| c.run_pod_sandbox(request).await).unwrap_err().to_string();
        for part in ["handler gone", "/nonexistent/runtime", "No such file"] {
            assert!(error.contains(part), "{error}");
        }
        let status = b.ok(async |c| c.status(StatusRequest { verbose: false }).await);
        let of = |name: &str| {
            let handler = status.runtime_handlers.iter().find(|handler| handler.name == name).unwrap();
            handler.features.unwrap()
        };
        assert_eq!(of("gone"), RuntimeHandlerFeatures::default());
        assert!(of("sextant").user_namespaces && of("").recursive_read_only_mounts);
        assert!(of("own").recursive_read_only_mounts && !of("own").user_namespaces);
        if program(b, "runc").exists() {
            assert!(of("runc").recursive_read_only_mounts, "runc has rro since 1.1");
        }
    });
}

fn runs(b: &Bench, handler: &str) {
    with_handler(b, handler, || {
        let name = format!("by-{handler}");
        let pod = run_pod(b, handler, pod(&name));
        assert_eq!(b.pod_status(&pod).runtime_handler, handler);
        streams(b, &pod, &name);
        ends(b, &pod, &name);
        limits(b, &pod);
        input(b, &pod, &name);
        terminals(b, &pod, &name);
        strays(b, &pod);
        b.remove_pod(&pod);
    });
}

/// Logs and execs.
fn streams(b: &Bench, pod: &str, name: &str) {
    let id = b.run(pod, "c", &["probe", "say", "out", "then", "complain", "err", "then", "sleep"]);
    b.until_logged(name, "c", " stdout F out\n");
    b.until_logged(name, "c", " stderr F err\n");
    let words = ["probe", "say", "out", "then", "complain", "err", "then", "exit", "7"];
    let done = b.exec(&id, &words);
    assert_eq!((&done.stdout[..], &done.stderr[..], done.exit_code), (&b"out\n"[..], &b"err\n"[..], 7));
    let seen = b.look(&id, &["/etc/hostname"]);
    assert_eq!(seen["hostname"], name, "the pod's namespaces are the container's");
    assert!(seen["links"].as_array().unwrap().iter().any(|link| link == "eth0"), "{seen}");
    let nosuch = ExecSyncRequest { container_id: id.clone(), cmd: vec!["nosuch".into()], timeout: 30 };
    let error = b.wait(async |c| c.exec_sync(nosuch).await).unwrap_err().to_string();
    assert!(error.contains("nosuch"), "{error}");
    let slow = ["probe", "sleep"].map(str::to_owned).to_vec();
    let slow = ExecSyncRequest { container_id: id.clone(), cmd: slow, timeout: 1 };
    b.wait(async |c| c.exec_sync(slow).await).unwrap_err();
    b.until("the command is gone", || b.processes(&id) == 1);
    b.remove(&id);
}

/// Codes, signals, and what cannot start.
fn ends(b: &Bench, pod: &str, name: &str) {
    let id = b.run(pod, "bad", &["probe", "say", "last words", "then", "exit", "3"]);
    let status = b.until_exited(&id);
    assert_eq!((status.exit_code, status.reason.as_str()), (3, "Error"));
    assert!(b.log(name, "bad").ends_with(" stdout F last words\n"));
    let id = b.run(pod, "polite", &["probe", "trap", "TERM", "then", "exit", "4"]);
    b.until_logged(name, "polite", "ready");
    b.stop(&id, 60);
    assert_eq!(b.status(&id).exit_code, 4);
    let id = b.run(pod, "deaf", &["probe", "sleep"]);
    b.stop(&id, 1);
    assert_eq!(b.status(&id).exit_code, 137);
    let id = b.create(pod, container("none", &["nosuch"]));
    let request = StartContainerRequest { container_id: id.clone() };
    let error = b.wait(async |c| c.start_container(request).await).unwrap_err().to_string();
    assert!(error.contains("nosuch"), "{error}");
    let status = b.status(&id);
    assert_eq!((status.exit_code, status.reason.as_str()), (127, "StartError"), "{error}");
    // One that is never started leaves nothing either.
    b.create(pod, container("never", &["probe"]));
}

/// Limits, those of later, and the end of what eats more.
fn limits(b: &Bench, pod: &str) {
    let memory = |bytes: i64| LinuxContainerResources {
        memory_limit_in_bytes: bytes,
        memory_swap_limit_in_bytes: bytes,
        ..LinuxContainerResources::default()
    };
    let id = b.run_as(pod, with_limits(container("limits", &["probe", "sleep"]), memory(64 << 20)));
    let in_force = || limit(b.dir(), &id, ["memory", "memory.limit_in_bytes"], "memory.max");
    assert_eq!(in_force(), (64 << 20).to_string());
    let request = UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(memory(96 << 20)),
        ..UpdateContainerResourcesRequest::default()
    };
    b.ok(async |c| c.update_container_resources(request).await);
    assert_eq!(in_force(), (96 << 20).to_string());
    let stats = ContainerStatsRequest { container_id: id.clone() };
    let stats = b.ok(async |c| c.container_stats(stats).await).stats.unwrap();
    assert!(stats.memory.unwrap().working_set_bytes.unwrap().value > 0);
    let id = b.run_as(pod, with_limits(container("oom", &["probe", "eat"]), memory(32 << 20)));
    let status = b.until_exited(&id);
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
}

/// An input that ends.
fn input(b: &Bench, pod: &str, name: &str) {
    let config = ContainerConfig { stdin: true, stdin_once: true, ..container("input", &["probe", "copy"]) };
    let id = b.run_as(pod, config);
    let mut client = Client::connect(&b.path("run/cri/pods").join(pod).join("shim.sock")).unwrap();
    let request = AttachRequest { stdin: true, container: id.clone(), ..AttachRequest::default() };
    let attached = client.attach(&request).unwrap();
    client.send_input(attached, &Input { data: b"poured in\n".to_vec(), ..Input::default() }).unwrap();
    client.send_input(attached, &Input { close: true, ..Input::default() }).unwrap();
    assert_eq!(b.until_exited(&id).exit_code, 0);
    assert!(b.log(name, "input").contains("poured in"), "{}", b.log(name, "input"));
}

/// A container's terminal, and a command's.
fn terminals(b: &Bench, pod: &str, name: &str) {
    let config = ContainerConfig { tty: true, stdin: true, ..container("tty", &["probe", "lines"]) };
    let id = b.run_as(pod, config);
    let socket = b.path("run/cri/pods").join(pod).join("shim.sock");
    let mut client = Client::connect(&socket).unwrap();
    let request = AttachRequest { stdin: true, container: id.clone(), ..AttachRequest::default() };
    let attached = client.attach(&request).unwrap();
    client.send_input(attached, &Input { data: b"typed\n".to_vec(), ..Input::default() }).unwrap();
    b.until_logged(name, "tty", "line typed");
    let process = Process {
        terminal: true,
        args: ["probe", "look", "then", "exit", "5"].map(str::to_owned).to_vec(),
        env: vec!["PATH=/bin".into()],
        cwd: "/".into(),
        ..Process::default()
    };
    let mut client = Client::connect(&socket).unwrap();
    let exec = ExecRequest {
        exec_id: "with-terminal".into(),
        process: serde_json::to_vec(&process).unwrap(),
        stdin: true,
        container: id.clone(),
    };
    let (stream, started) = client.exec(&exec).unwrap();
    assert!(started.pid > 0);
    let mut said = Vec::new();
    let code = loop {
        match client.event(stream).unwrap() {
            Event::Output(output) => said.extend(output.stdout),
            Event::Exited(exited) => break exited.code,
        }
    };
    let said = String::from_utf8_lossy(&said).into_owned();
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("\"terminal\":true"), "{said}");
    b.stop(&id, 0);
}

/// Processes that outlive their parent are their shim's to reap, where their PID namespace is the machine's.
fn strays(b: &Bench, pod: &str) {
    let mut config = container("strays", &["probe", "fork", "3", "then", "exit", "0"]);
    let options = NamespaceOption { pid: NamespaceMode::Node.into(), ..NamespaceOption::default() };
    let linux = config.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().namespace_options = Some(options);
    let id = b.run_as(pod, config);
    assert_eq!(b.until_exited(&id).exit_code, 0);
    let zombie = format!(" Z {} ", shim_of(b, pod));
    let is_zombie = |entry: fs::DirEntry| {
        fs::read_to_string(entry.path().join("stat")).is_ok_and(|stat| stat.contains(&zombie))
    };
    b.until("strays are reaped", || !fs::read_dir("/proc").unwrap().flatten().any(is_zombie));
}

/// containerd's shim is killed: its containers end, with what it has left, and the pod is not ready any more.
fn dies(b: &Bench) {
    with_handler(b, "containerd", || {
        let pod = run_pod(b, "containerd", pod("dies"));
        let id = b.run(&pod, "c", &["probe", "sleep"]);
        let all = others_shims(b);
        assert_eq!(all.len(), 1, "{all:?}");
        kill(all[0]);
        let status = b.until_exited(&id);
        assert_eq!(status.exit_code, 137);
        b.until("the pod is not ready", || b.pod_status(&pod).state() == PodSandboxState::SandboxNotready);
        b.remove_pod(&pod);
    });
}

/// Our own is killed: the other ends with the pod.
fn lost(b: &Bench) {
    with_handler(b, "containerd", || {
        let pod = run_pod(b, "containerd", pod("lost"));
        let id = b.run(&pod, "c", &["probe", "sleep"]);
        kill(shim_of(b, &pod));
        assert_eq!(b.until_exited(&id).exit_code, 137);
        assert_eq!(others_shims(b).len(), 1);
        b.remove_pod(&pod);
    });
}

/// A node that is killed while pods come to be leaves nothing of them, however far they came.
fn unborn(b: &Bench) {
    with_handler(b, "containerd", || {
        for delay in [5, 15, 30, 50, 80, 120, 180] {
            let mut request = b.pod_request(pod("unborn"));
            request.runtime_handler = "containerd".into();
            let cri = b.connect().unwrap();
            let asked =
                std::thread::spawn(move || cri.wait(async |c| c.run_pod_sandbox(request).await).is_ok());
            std::thread::sleep(Duration::from_millis(delay));
            b.kill();
            let answered = asked.join().unwrap();
            b.start();
            let pods = b.pods();
            assert!(pods.len() == 1 || !answered, "{pods:?}");
            pods.iter().for_each(|pod| b.remove_pod(&pod.id));
            b.until(&format!("nothing is left after {delay} ms"), || others_shims(b).is_empty());
        }
    });
}

fn kill(pid: i32) {
    let pidfd = kernel::process::pidfd(pid).unwrap();
    kernel::process::signal(pidfd.as_fd(), 9).unwrap();
}

/// The number of a pod's own shim.
fn shim_of(b: &Bench, pod: &str) -> i32 {
    let numbers = fs::read(b.path("run/cri/pods").join(pod).join("shim.json")).unwrap();
    let numbers: serde_json::Value = serde_json::from_slice(&numbers).unwrap();
    i32::try_from(numbers["shim"]["pid"].as_i64().unwrap()).unwrap()
}

fn outlives(b: &Bench, handler: &str) {
    with_handler(b, handler, || {
        let name = format!("on-{handler}");
        let pod = run_pod(b, handler, pod(&name));
        let id = b.run(&pod, "c", &["probe", "count"]);
        let brief = b.run(&pod, "brief", &["probe", "trap", "TERM", "then", "exit", "6"]);
        b.until_logged(&name, "c", "line 10");
        b.until_logged(&name, "brief", "ready");
        let pid = b.look(&id, &["/"])["status"]["NSpid"].clone();
        let seen = b.log(&name, "c").lines().count();
        b.kill();
        b.until("the log goes on", || b.log(&name, "c").lines().count() > seen);
        let socket = b.path("run/cri/pods").join(&pod).join("shim.sock");
        let stop = StopRequest { container: brief.clone(), signal: 15, timeout: 60_000 };
        assert_eq!(Client::connect(&socket).unwrap().stop(&stop).unwrap().code, 6);
        b.start();
        assert_eq!(b.status(&brief).exit_code, 6);
        assert_eq!(b.status(&id).state(), ContainerState::ContainerRunning, "{pid}");
        assert_eq!(b.exec(&id, &["probe", "say", "x"]).stdout, "x\n");
        b.stop(&id, 0);
        assert_eq!(b.status(&id).exit_code, 137);
        assert!(counted(&b.log(&name, "c")) > 10);
        b.remove_pod(&pod);
    });
}
