//! A node that serves CSI too: volumes in pods, and calls that wait for nobody.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use cri::contract::v1::{ListPodSandboxRequest, Mount};
use csi::caller::Client;
use csi::caller::registration::{Event, watch};
use csi::contract::v1::volume_capability::{AccessMode, AccessType, MountVolume, access_mode::Mode};
use csi::contract::v1::*;
use tokio::runtime::Runtime;

use crate::Test;
use crate::bench::{Bench, LIMIT};
use crate::wishes::container;

pub(crate) const TESTS: &[Test] = &[
    ("a_node_serves_volumes_to_its_pods_and_ends_with_them", volumes),
    ("a_slow_mkfs_holds_no_call_of_cri", slow),
    ("a_node_serves_cri_while_its_pools_are_still_being_opened", opening),
    ("a_node_whose_pools_are_taken_says_so_and_ends", taken),
];

const DIRECTORY: [(&str, &str); 1] = [("backend", "dir")];

/// What a kubelet and its sidecars do with the driver of a node.
struct Caller {
    calls: Runtime,
    client: Client,
}

impl Caller {
    fn of(b: &Bench) -> Caller {
        serves(b);
        let calls = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = calls.block_on(Client::connect(&b.path("run/csi.sock"))).unwrap();
        Caller { calls, client: client.with_deadline(LIMIT) }
    }

    fn create(&self, name: &str, parameters: &[(&str, &str)]) -> String {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let request = CreateVolumeRequest {
            name: name.into(),
            capacity_range: Some(CapacityRange { required_bytes: 16 << 20, limit_bytes: 0 }),
            volume_capabilities: vec![files()],
            parameters: parameters.iter().map(owned).collect(),
            ..Default::default()
        };
        let made = self.calls.block_on(self.client.create_volume(request)).unwrap();
        made.volume.unwrap().volume_id
    }

    /// Stages and publishes a volume at a path.
    fn publish(&self, id: &str, at: &Path) {
        let staging = text(&at.with_extension("staged"));
        let stage = NodeStageVolumeRequest {
            volume_id: id.into(),
            staging_target_path: staging.clone(),
            volume_capability: Some(files()),
            ..Default::default()
        };
        self.calls.block_on(self.client.node_stage_volume(stage)).unwrap();
        let publish = NodePublishVolumeRequest {
            volume_id: id.into(),
            staging_target_path: staging,
            target_path: text(at),
            volume_capability: Some(files()),
            ..Default::default()
        };
        self.calls.block_on(self.client.node_publish_volume(publish)).unwrap();
    }

    fn unpublish(&self, id: &str, at: &Path) {
        let request = NodeUnpublishVolumeRequest { volume_id: id.into(), target_path: text(at) };
        self.calls.block_on(self.client.node_unpublish_volume(request)).unwrap();
        let staging_target_path = text(&at.with_extension("staged"));
        let request = NodeUnstageVolumeRequest { volume_id: id.into(), staging_target_path };
        self.calls.block_on(self.client.node_unstage_volume(request)).unwrap();
    }

    fn delete(&self, id: &str) {
        let request = DeleteVolumeRequest { volume_id: id.into(), ..Default::default() };
        self.calls.block_on(self.client.delete_volume(request)).unwrap();
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().into()
}

fn files() -> VolumeCapability {
    VolumeCapability {
        access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
        access_type: Some(AccessType::Mount(MountVolume::default())),
    }
}

/// A node of its own that serves CSI, too.
fn node(more: impl FnOnce(&mut Command) -> &mut Command) -> Bench {
    let b = Bench::new();
    b.terminate();
    let (pool, registry) = (format!("a={}", b.path("pool").display()), b.path("registry"));
    fs::create_dir(&registry).unwrap();
    b.start_with(|command| {
        command.args(["--csi", "--csi-node-id", "node-1", "--csi-pool", &pool, "--csi-registration-dir"]);
        more(command.arg(&registry))
    });
    serves(&b);
    b
}

/// CRI may be there before CSI is.
fn serves(b: &Bench) {
    b.until("the driver serves", || std::os::unix::net::UnixStream::connect(b.path("run/csi.sock")).is_ok());
}

/// A kubelet that takes every driver, on a thread that ends with the test.
fn kubelet(registry: PathBuf) -> mpsc::Receiver<Event> {
    let (tell, events) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(watch(&registry, move |event| {
            let _ = tell.send(event);
            std::future::ready(Ok(()))
        }));
    });
    events
}

fn volumes(_: &Bench) {
    let b = node(|command| command);
    let events = kubelet(b.path("registry"));
    let came = std::iter::from_fn(|| events.recv_timeout(LIMIT).ok());
    let came = came.into_iter().find(|event| matches!(event, Event::Came(_)));
    let Some(Event::Came(driver)) = came else { panic!("the driver is not registered: {}", b.said()) };
    assert_eq!(driver.endpoint, b.path("run/csi.sock"));

    let caller = Caller::of(&b);
    let (id, at) = (caller.create("v", &DIRECTORY), b.path("volume"));
    caller.publish(&id, &at);
    let pod = b.host_pod("user");
    let mut config = container("c", &["probe", "write", "/volume/file", "from a pod", "then", "sleep"]);
    config.mounts =
        vec![Mount { container_path: "/volume".into(), host_path: text(&at), ..Default::default() }];
    b.run_as(&pod, config);
    b.until("the pod has written", || fs::read_to_string(at.join("file")).is_ok_and(|said| !said.is_empty()));
    // What is killed and started again goes on with both.
    let pool = format!("a={}", b.path("pool").display());
    b.kill();
    b.start_with(|command| command.args(["--csi", "--csi-node-id", "node-1", "--csi-pool", &pool]));
    let caller = Caller::of(&b);
    assert_eq!(caller.create("v", &DIRECTORY), id);
    assert_eq!(b.pods().len(), 1);
    b.remove_pod(&pod);
    caller.unpublish(&id, &at);
    caller.delete(&id);
    assert!(!at.exists());
    // Nobody would hear on it that the driver ends, which would wait for that.
    drop(caller);
    b.terminate();
    assert!(!b.path("run/csi.sock").exists(), "the driver ends with its node");

    // Nothing of it where it is not asked for.
    b.start();
    assert!(!b.path("run/csi.sock").exists());
    let threads = fs::read_dir(format!("/proc/{}/task", b.pid())).unwrap().flatten();
    let names = threads.filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok());
    assert!(!names.into_iter().any(|name| name.trim() == "csi"));
    assert_eq!(fs::read_dir(b.path("run/csi/uses")).unwrap().count(), 0);
    b.terminate();
    b.end().unwrap();
}

/// A program that stands where `mkfs.ext4` is looked for first: it says that it runs, and waits until it may.
const SLOW: &str = "#!/bin/sh
: >\"$0.runs\"
until [ -e \"$0.may\" ]; do sleep 0.02; done
for place in /sbin /usr/sbin; do [ -x $place/mkfs.ext4 ] && exec $place/mkfs.ext4 \"$@\"; done
";

fn slow(_: &Bench) {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("mkfs.ext4");
    fs::write(&program, SLOW).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let paths = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let b = node(|command| command.env("PATH", paths));
    std::thread::scope(|scope| {
        let caller = Caller::of(&b);
        let making = scope.spawn(move || {
            let id = caller.create("v", &[("backend", "image"), ("csi.storage.k8s.io/fstype", "ext4")]);
            caller.delete(&id);
        });
        b.until("mkfs runs", || program.with_extension("ext4.runs").exists());
        let pod = b.host_pod("meanwhile");
        b.ok(async |c| c.list_pod_sandbox(ListPodSandboxRequest::default()).await);
        b.remove_pod(&pod);
        assert!(!making.is_finished());
        fs::write(program.with_extension("ext4.may"), "").unwrap();
        making.join().unwrap();
    });
    b.terminate();
    b.end().unwrap();
}

fn opening(_: &Bench) {
    let b = Bench::new();
    b.terminate();
    // Who opens it waits for who writes to it.
    let place = b.path("pool/volumes/v");
    fs::create_dir_all(&place).unwrap();
    let (record, mode) = (place.join("volume.json"), rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(rustix::fs::CWD, &record, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let pool = format!("a={}", b.path("pool").display());
    b.start_with(|command| command.args(["--csi", "--csi-node-id", "node-1", "--csi-pool", &pool]));
    assert!(b.said().contains("still opening its pools"), "{}", b.said());
    let pod = b.host_pod("meanwhile");
    b.remove_pod(&pod);
    assert!(!b.path("run/csi.sock").exists());
    fs::write(&record, "").unwrap();
    b.until("the driver serves", || b.said().contains("serves csi.sextant.dev on"));
    let caller = Caller::of(&b);
    let id = caller.create("v", &DIRECTORY);
    caller.delete(&id);
    drop(caller);
    b.terminate();
    b.end().unwrap();
}

fn taken(_: &Bench) {
    let b = node(|command| command);
    let (other, pool) = (b.path("other"), format!("a={}", b.path("pool").display()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_sextant"));
    command.arg("--data-dir").arg(other.join("data")).arg("--run-dir").arg(other.join("run"));
    command.args(["node", "--config"]).arg(b.path("node.toml")).args([
        "--csi",
        "--csi-node-id",
        "node-2",
        "--csi-pool",
        &pool,
    ]);
    let mut child = command.stderr(fs::File::create(b.path("other.err")).unwrap()).spawn().unwrap();
    let until = std::time::Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if std::time::Instant::now() > until {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let said = fs::read_to_string(b.path("other.err")).unwrap();
    assert_eq!(status.and_then(|status| status.code()), Some(1), "{said}");
    assert!(said.contains("another driver has the pool"), "{said}");
    b.terminate();
    b.end().unwrap();
}
