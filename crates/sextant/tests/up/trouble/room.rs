//! No room: on the disk, for a port.

use std::fs::{self, File};
use std::net::TcpListener;
use std::process::Command;

use kernel::loopdev;
use oci_image::archive::{Content, Part, build};
use oci_image::contract::{Compression, ContainerConfig};
use oci_image::registry::server::{Config, Server};
use oci_image::store::Store;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::mount::{MountFlags, UnmountFlags};
use serde_json::{Value, json};

use super::super::Machine;
use super::luck::{Row, app, of, run, told};

/// The machine's data on a disk of so many megabytes, in this test's own mounts. The device goes with the mount.
struct Disk(std::path::PathBuf);

impl Disk {
    fn new(machine: &Machine, megabytes: u64) -> Self {
        let backing = machine.folder.path().join("disk");
        File::create(&backing).unwrap().set_len(megabytes << 20).unwrap();
        let made = Command::new("/sbin/mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&backing).status();
        assert!(made.unwrap().success());
        let backing = File::options().read(true).write(true).open(&backing).unwrap();
        let tag = format!("sextant-up-{}-{:?}", std::process::id(), std::thread::current().id());
        let options = loopdev::Options { autoclear: true, ..loopdev::Options::default() };
        let (device, _open) = loopdev::attach(&backing, &tag, options).unwrap();
        fs::create_dir_all(machine.data()).unwrap();
        rustix::mount::mount(&device, machine.data(), "ext4", MountFlags::empty(), None).unwrap();
        Self(machine.data())
    }

    /// Leaves so many bytes.
    fn fill(&self, left: u64) {
        let stat = rustix::fs::statvfs(&self.0).unwrap();
        let taken = (stat.f_bavail * stat.f_frsize).saturating_sub(left);
        let filler = File::create(self.0.join("filler")).unwrap();
        fallocate(&filler, FallocateFlags::empty(), 0, taken).unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What a failed test leaves on it goes with the namespace.
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
        // The machine's folder could not go while this was mounted there.
        if let Some(folder) = self.0.parent() {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

const WAITING: &str = "/containerStatuses/0/state/waiting/reason";
const APP: &str = "spec.containers{app}";

#[test]
fn a_disk_without_room_is_told_and_explained() {
    // It goes after the machine, whose data is on it.
    let disk;
    let machine = Machine::new();
    disk = Disk::new(&machine, 2048);
    let dir = machine.folder.path().join("registry");
    let server = Config { dir, listen: "127.0.0.1:0".parse().unwrap(), user: None };
    let server = Server::start(server).unwrap();
    let name = format!("{}/big:1", server.addr());
    big(&machine, &name);
    machine.says(&["demo", "--image"]);
    machine.up(&["--node-name", "here", "--eviction-hard", "nodefs.available<5%,imagefs.available<5%"]);

    let mut fills = of(app(json!({"args": ["serve"], "volumeMounts": [{"name": "v", "mountPath": "/v"}]})));
    fills["volumes"] = json!([{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]);
    let fills = Row {
        pod: "fills",
        spec: fills,
        status: &[
            ("/phase", "Failed"),
            ("/reason", "Evicted"),
            ("/message", "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". "),
            ("/containerStatuses/0/state/terminated/containerID", "://"),
        ],
        events: &[("", "Evicted", "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ")],
        explained: ["Evicted: Usage of EmptyDir volume", "emptyDir.sizeLimit"],
    };
    machine.says(&["apply", "-f", &machine.file("fills.yaml", &fills.pod())]);
    let running =
        machine.until(&["get", "pod", "fills", "-o", "json"], |said| said.contains("\"startedAt\""));
    let uid =
        serde_json::from_str::<Value>(&running).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    let volume = format!("agent/pods/{uid}/volumes/kubernetes.io~empty-dir/v/file");
    fs::write(machine.data().join(volume), vec![7; 2 << 20]).unwrap();
    told(&machine, &fills);

    // More than 5 % stay: nobody is evicted for it.
    disk.fill(160 << 20);
    // While it fills the disk nobody else may be evicted for it: it is the only one that could.
    let mut spec = of(json!({"name": "app", "image": name}));
    spec["priorityClassName"] = json!("system-node-critical");
    let big = Row {
        pod: "big",
        spec,
        status: &[("/phase", "Pending"), (WAITING, "ImagePullBackOff")],
        events: &[(APP, "Failed", "No space left on device"), (APP, "Failed", "Error: ErrImagePull")],
        explained: ["No space left on device", "make room on the disk of node here"],
    };
    run(&machine, &[big]);

    disk.free();
    disk.fill(48 << 20);
    let short = |said: &str| said.contains("node.kubernetes.io/disk-pressure");
    machine.until(&["get", "node", "here", "-o", "json"], short);
    let mut named = of(app(json!({"args": ["serve"]})));
    named["nodeName"] = json!("here");
    let rows = [
        Row {
            pod: "late",
            spec: of(app(json!({"args": ["serve"]}))),
            status: &[("/phase", "Pending"), ("/conditions/0/reason", "Unschedulable")],
            events: &[("", "FailedScheduling", "0/1 nodes are available: 1 node(s) had untolerated taint")],
            explained: ["untolerated taint", "node here is short of disk: free some"],
        },
        Row {
            pod: "named",
            spec: named,
            status: &[
                ("/phase", "Failed"),
                ("/reason", "Evicted"),
                ("/message", "Pod was rejected: The node had condition: [DiskPressure]. "),
            ],
            events: &[("", "Evicted", "The node had condition: [DiskPressure]. ")],
            explained: ["Evicted: Pod was rejected", "free what the node lacks"],
        },
    ];
    run(&machine, &rows);
    disk.free();
    machine.says(&["delete", "pod", "fills"]);
    assert!(machine.ask(&["down"]).status.success());
}

/// An image of 200 MB that are soon pulled, in a registry and not on the machine.
fn big(machine: &Machine, name: &str) {
    let place = machine.folder.path().join("elsewhere");
    let store = Store::open(place.join("images")).unwrap();
    let zeros = place.join("zeros");
    File::create(&zeros).unwrap().set_len(200 << 20).unwrap();
    let part = Part { path: "data".into(), content: Content::File(zeros), mode: 0o644 };
    build(&store, name, &[part], ContainerConfig::default(), Compression::Gzip).unwrap();
    let pushed = Command::new(env!("CARGO_BIN_EXE_sextant"))
        .arg("--data-dir")
        .arg(&place)
        .arg("--run-dir")
        .arg(machine.folder.path().join("elsewhere-run"))
        .args(["push", name])
        .output()
        .unwrap();
    assert!(pushed.status.success(), "{pushed:?}");
}

#[test]
fn ports_that_are_taken_are_told_and_explained() {
    let machine = Machine::new();
    machine.says(&["demo", "--image"]);
    machine.up(&["--node-name", "here"]);
    let port = |fields: Value| of(app(json!({"args": ["serve"], "ports": [fields]})));
    let on_host = || {
        let mut spec = port(json!({"containerPort": 8080}));
        spec["hostNetwork"] = json!(true);
        spec
    };
    let serves = |pod: &'static str, spec: Value| Row {
        pod,
        spec,
        status: &[("/phase", "Running")],
        events: &[(APP, "Started", "Container started")],
        explained: ["runs and is ready", ""],
    };
    let taken = |pod: &'static str, spec: Value| Row {
        pod,
        spec,
        status: &[
            ("/phase", "Pending"),
            ("/conditions/0/message", "1 node(s) didn't have free ports for the requested pod ports"),
        ],
        events: &[(
            "",
            "FailedScheduling",
            "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.",
        )],
        explained: ["free ports", "another pod has the host port"],
    };
    let first = serves("first", port(json!({"containerPort": 8080, "hostPort": 8081})));
    machine.says(&["apply", "-f", &machine.file("first.yaml", &first.pod())]);
    told(&machine, &first);
    let second = || port(json!({"containerPort": 8080, "hostPort": 8081}));
    let named = |mut spec: Value| {
        spec["nodeName"] = json!("here");
        spec
    };
    // Nobody asks a scheduler about a pod that names its node: the agent refuses it.
    let sent = Row {
        pod: "sent",
        spec: named(second()),
        status: &[
            ("/phase", "Failed"),
            ("/reason", "NodePorts"),
            (
                "/message",
                "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the",
            ),
        ],
        events: &[("", "NodePorts", "Predicate NodePorts failed: ")],
        explained: ["NodePorts: Pod was rejected", "another pod has the host port"],
    };
    let big = Row {
        pod: "big",
        spec: named(of(app(json!({"resources": {"requests": {"cpu": "5000"}}})))),
        status: &[
            ("/phase", "Failed"),
            ("/reason", "OutOfcpu"),
            (
                "/message",
                "Pod was rejected: Node didn't have enough resource: cpu, requested: 5000000, used: ",
            ),
        ],
        events: &[("", "OutOfcpu", "Node didn't have enough resource: cpu")],
        explained: ["OutOfcpu: Pod was rejected", "have the pod ask for less"],
    };
    run(&machine, &[taken("second", second()), sent, big]);

    // A scheduler does not know what programs of the machine listen on: the node's network does, and names them.
    let _held = TcpListener::bind("0.0.0.0:8082").unwrap();
    let beside = Row {
        pod: "beside",
        spec: port(json!({"containerPort": 8080, "hostPort": 8082})),
        status: &[("/phase", "Pending"), (WAITING, "ContainerCreating")],
        events: &[
            ("", "FailedCreatePodSandBox", "Failed to create pod sandbox: "),
            ("", "FailedCreatePodSandBox", "8082"),
            ("", "FailedCreatePodSandBox", "listens on it"),
        ],
        explained: ["listens on it", "take another hostPort"],
    };
    run(&machine, &[beside]);

    // On the machine's own network the pod's program is told, and says so.
    let held = TcpListener::bind("0.0.0.0:8080").unwrap();
    let refused = Row {
        pod: "refused",
        spec: on_host(),
        status: &[
            (WAITING, "CrashLoopBackOff"),
            ("/containerStatuses/0/lastState/terminated/reason", "Error"),
        ],
        events: &[(APP, "BackOff", "Back-off restarting failed container app in pod refused_default(")],
        explained: ["ended with code 1", "sextant logs pod/refused -c app"],
    };
    machine.says(&["apply", "-f", &machine.file("refused.yaml", &refused.pod())]);
    told(&machine, &refused);
    let said = machine.says(&["logs", "pod/refused", "--previous"]);
    assert!(said.to_lowercase().contains("address already in use") || said.contains("in use"), "{said}");
    run(&machine, &[taken("other", on_host())]);
    drop(held);
    for pod in ["refused", "first"] {
        machine.says(&["delete", "pod", pod, "--grace-period", "0"]);
    }
}
