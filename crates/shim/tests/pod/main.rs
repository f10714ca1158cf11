//! A shim that is a pod's, with real containers, whose root is this machine's own under an overlay.
//!
//! Needs root.

#[path = "../rig/mod.rs"]
mod rig;

mod cgroups;
mod crash;
mod events;
mod logs;
mod many;
mod namespaces;
mod roots;
mod streams;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kernel::process::Child;
use serde_json::{Value, json};
use shim::client::Client;
use shim::protocol::{CreateRequest, ExecRequest, Rootfs, SandboxReply, SandboxRequest, StopRequest};

/// A pod's shim, its directories and its cgroup.
struct Pod {
    dir: tempfile::TempDir,
    cgroup: PathBuf,
    shim: Child,
    client: Client,
    reply: SandboxReply,
}

impl Drop for Pod {
    fn drop(&mut self) {
        rig::end(&self.shim, &self.cgroup);
    }
}

/// What most pods are.
fn plain() -> SandboxRequest {
    SandboxRequest { ipc: true, uts: true, hostname: "pod".into(), ..SandboxRequest::default() }
}

impl Pod {
    fn new(request: SandboxRequest) -> Self {
        // An upper directory must not be below the lower one: this is another filesystem.
        let dir = tempfile::Builder::new().prefix("sextant-").tempdir_in("/dev/shm").expect("a directory");
        let (shim, mut client) = rig::spawn(dir.path());
        let directory = dir.path().display().to_string();
        let request = SandboxRequest { id: "pod".into(), directory, ..request };
        let reply = client.sandbox(&request).expect("a pod");
        let cgroup = PathBuf::from(format!("sextant-test-{}-pod-{}", std::process::id(), rig::number()));
        Self { dir, cgroup, shim, client, reply }
    }

    fn connect(&self) -> Client {
        Client::connect(&self.dir.path().join("shim.sock")).expect("a connection")
    }

    fn path(&self, container: &str, name: &str) -> PathBuf {
        self.dir.path().join(container).join(name)
    }

    /// A container in the pod's namespaces; `change` its configuration.
    fn request(&self, id: &str, script: &str, change: impl FnOnce(&mut Value)) -> CreateRequest {
        for name in ["upper", "work"] {
            fs::create_dir_all(self.path(id, name)).expect(name);
        }
        let mut config = rig::config(script, &self.cgroup.join(id));
        let mut namespaces = vec![json!({"type": "mount"})];
        for kind in ["pid", "ipc", "uts", "network", "user"] {
            let held = self.reply.namespaces.iter().find(|n| n.kind == kind);
            match held {
                Some(held) => namespaces.push(json!({"type": kind, "path": held.path})),
                None if kind == "pid" => namespaces.push(json!({"type": "pid"})),
                None => {}
            }
        }
        config["linux"]["namespaces"] = json!(namespaces);
        change(&mut config);
        fs::write(self.path(id, "config.json"), config.to_string()).expect("config.json");
        let text = |name: &str| self.path(id, name).display().to_string();
        CreateRequest {
            id: id.into(),
            bundle: text(""),
            rootfs: Some(Rootfs {
                lower: vec!["/".into()],
                upper: text("upper"),
                work: text("work"),
                ..Rootfs::default()
            }),
            log: text("log"),
            state: text(""),
            ..CreateRequest::default()
        }
    }

    /// Made and started.
    fn run(&mut self, id: &str, script: &str) {
        let request = self.request(id, script, |_| {});
        self.client.create(&request).expect("a container");
        self.client.start(id).expect("started");
    }

    /// Runs a script in a container: what it printed, and its code.
    fn exec(&mut self, container: &str, script: &str) -> (String, i32) {
        let mut client = self.connect();
        let (stream, _) = client.exec(&exec_request(container, script)).expect("an exec");
        let (out, err, code) = rig::drain(&mut client, stream);
        (out + &err, code)
    }

    /// The text of a container's log, without times.
    fn log(&self, id: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(id, "log")).expect("a log");
        text.split_terminator('\n').map(|l| l.split_once(' ').expect("an entry").1.to_owned()).collect()
    }

    fn wait_for_log(&self, id: &str, wanted: &str) {
        wait_until(wanted, || self.log(id).iter().any(|line| line.contains(wanted)));
    }

    fn stop(&mut self, id: &str) -> i32 {
        let request = StopRequest { container: id.into(), signal: 9, timeout: 0 };
        self.client.stop(&request).expect("stopped").code
    }

    /// Every container is stopped and deleted, and the shim ends.
    fn end(mut self) {
        for state in self.client.list().expect("a list") {
            if state.running {
                self.stop(&state.container);
            }
            self.client.delete(&state.container).expect("deleted");
        }
        self.client.shutdown().expect("shut down");
        wait_until("the shim's end", || {
            self.shim.try_wait().is_ok_and(|exit| exit.is_some()) || gone(self.shim.pid)
        });
    }
}

fn exec_request(container: &str, script: &str) -> ExecRequest {
    let process = json!({"args": ["/bin/sh", "-c", script], "cwd": "/", "env": ["PATH=/usr/bin:/bin"],
        "user": {"uid": 0, "gid": 0}});
    ExecRequest {
        exec_id: format!("exec-{}", rig::number()),
        process: process.to_string().into_bytes(),
        stdin: false,
        container: container.into(),
    }
}

fn gone(pid: i32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(90);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
