//! A driver that is killed at any moment, again and again, while callers use it: what was acknowledged is true, and nothing
//! is left over. `SEXTANT_KILLS=500 cargo test -p csi --test kills` for more of it.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../driver/disk.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod disk;
#[path = "../btrfs/disk.rs"]
mod subvolumes;
#[path = "../thin/disk.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod thin;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use csi::caller::Client;
use csi::contract::v1::volume_capability::{AccessMode, AccessType, MountVolume, access_mode::Mode};
use csi::contract::v1::*;
use csi::plugin::{Config, PoolConfig, Setup};
use grpc::Error;

const FOLDER: &str = "SEXTANT_TEST_CSI_FOLDER";
const BACKEND: &str = "SEXTANT_TEST_CSI_BACKEND";
const DEVICE: &str = "SEXTANT_TEST_CSI_DEVICE";
const NAMES: usize = 6;
const BYTES: i64 = 16 << 20;

/// The process that is killed.
#[tokio::test]
#[ignore = "started by the other test"]
async fn child() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).expect("a folder"));
    let setup = Setup {
        config: Config {
            pools: vec![PoolConfig {
                backends: vec![std::env::var(BACKEND).expect("a backend")],
                device: std::env::var_os(DEVICE).map(PathBuf::from),
                ..PoolConfig::new("a", folder.join("pool"))
            }],
        },
        node: "n".into(),
        run: folder.join("run"),
        socket: folder.join("csi.sock"),
    };
    csi::plugin::run(setup, std::future::pending(), || ()).await.expect("it serves");
}

/// Killed when it is dropped.
struct Driver(Child);

impl Driver {
    fn start(folder: &Path, backend: &str, device: Option<&Path>) -> Driver {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "child", "--nocapture"])
            .env(FOLDER, folder)
            .env(BACKEND, backend)
            .envs(device.map(|device| (DEVICE, device)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Driver(child)
    }

    async fn client(&mut self, folder: &Path) -> Client {
        for _ in 0..18_000 {
            // Connected is not served: a child that the killed one had not brought to its exec listens on its socket.
            if let Ok(client) = Client::connect(&folder.join("csi.sock")).await {
                let client = client.with_deadline(Duration::from_secs(120));
                if client.list_volumes(ListVolumesRequest::default()).await.is_ok() {
                    return client;
                }
            }
            assert!(self.0.try_wait().unwrap().is_none(), "it ended by itself");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it does not come up");
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is known of one name: what the last answer said, and whether a call since has had none.
#[derive(Clone, Debug, Default)]
struct Known {
    /// The volume's id, where the last answer said that it is there.
    id: Option<String>,
    /// A call that changes that had no answer.
    unsure: bool,
    /// The text that was written to it while it was mounted, and synced.
    text: Option<String>,
}

fn capability() -> VolumeCapability {
    VolumeCapability {
        access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
        access_type: Some(AccessType::Mount(MountVolume::default())),
    }
}

struct Caller<'a> {
    client: Client,
    folder: &'a Path,
}

impl Caller<'_> {
    async fn create(&self, name: &str) -> Result<String, Error> {
        let request = CreateVolumeRequest {
            name: name.into(),
            capacity_range: Some(CapacityRange { required_bytes: BYTES, limit_bytes: 0 }),
            volume_capabilities: vec![capability()],
            ..Default::default()
        };
        Ok(self.client.create_volume(request).await?.volume.expect("a volume").volume_id)
    }

    fn paths(&self, name: &str) -> [PathBuf; 2] {
        ["s", "t"].map(|part| self.folder.join(format!("{name}-{part}")))
    }

    async fn mount(&self, name: &str, id: &str) -> Result<PathBuf, Error> {
        let [staging, target] = self.paths(name).map(|path| path.to_str().unwrap().to_owned());
        let stage = NodeStageVolumeRequest {
            volume_id: id.into(),
            staging_target_path: staging.clone(),
            volume_capability: Some(capability()),
            ..Default::default()
        };
        self.client.node_stage_volume(stage).await?;
        let publish = NodePublishVolumeRequest {
            volume_id: id.into(),
            staging_target_path: staging,
            target_path: target.clone(),
            volume_capability: Some(capability()),
            ..Default::default()
        };
        self.client.node_publish_volume(publish).await?;
        Ok(target.into())
    }

    async fn unmount(&self, name: &str, id: &str) -> Result<(), Error> {
        let [staging_target_path, target_path] =
            self.paths(name).map(|path| path.to_str().unwrap().to_owned());
        self.client
            .node_unpublish_volume(NodeUnpublishVolumeRequest { volume_id: id.into(), target_path })
            .await?;
        let request = NodeUnstageVolumeRequest { volume_id: id.into(), staging_target_path };
        self.client.node_unstage_volume(request).await.map(drop)
    }

    /// One step in the life of a name.
    async fn step(&self, name: &str, known: &mut Known, choice: u64) -> Result<(), Error> {
        let Some(id) = known.id.clone() else {
            known.unsure = true;
            known.id = Some(self.create(name).await?);
            *known = Known { unsure: false, text: None, ..known.clone() };
            return Ok(());
        };
        match choice % 4 {
            0 => {
                let target = self.mount(name, &id).await?;
                let file = target.join("file");
                if let Some(text) = &known.text {
                    assert_eq!(&fs::read_to_string(&file).unwrap(), text, "{name}");
                }
                let text = format!("{choice}");
                fs::write(&file, &text).unwrap();
                fs::File::open(&file).unwrap().sync_all().unwrap();
                known.text = Some(text);
            }
            1 => {
                let request = CreateSnapshotRequest {
                    name: format!("{id}-snap"),
                    source_volume_id: id.clone(),
                    ..Default::default()
                };
                let snapshot = self.client.create_snapshot(request).await?.snapshot.expect("a snapshot");
                let request =
                    DeleteSnapshotRequest { snapshot_id: snapshot.snapshot_id, ..Default::default() };
                self.client.delete_snapshot(request).await?;
            }
            2 => self.unmount(name, &id).await?,
            _ => {
                self.unmount(name, &id).await?;
                known.unsure = true;
                self.client
                    .delete_volume(DeleteVolumeRequest { volume_id: id, ..Default::default() })
                    .await?;
                *known = Known::default();
            }
        }
        Ok(())
    }

    /// Compares what is known with what there is, and learns what became of calls without an answer.
    async fn compare(&self, names: &mut BTreeMap<String, Known>) {
        let list = self.client.list_volumes(ListVolumesRequest::default()).await.expect("a list");
        let there: BTreeSet<String> =
            list.entries.into_iter().map(|entry| entry.volume.expect("a volume").volume_id).collect();
        for (name, known) in names.iter_mut() {
            match &known.id {
                Some(id) if known.unsure && !there.contains(id) => *known = Known::default(),
                Some(id) => assert!(there.contains(id), "{name} was acknowledged and is gone"),
                None => {}
            }
            known.unsure = false;
        }
        let held: BTreeSet<&String> = names.values().filter_map(|known| known.id.as_ref()).collect();
        // One whose creation had no answer may be there; nobody else.
        let unknown = there.iter().filter(|id| !held.contains(id)).count();
        let nameless = names.values().filter(|known| known.id.is_none()).count();
        assert!(unknown <= nameless, "{there:?} {names:?}");
    }
}

fn kill(pid: u32, after: Duration) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        std::thread::sleep(after);
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    })
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn mounts_below(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(str::to_owned);
    points.filter(|point| Path::new(point).starts_with(folder) && Path::new(point) != folder).collect()
}

/// Leaves no mount behind where a test has failed.
struct Unmounted<'a>(&'a Path);

impl Drop for Unmounted<'_> {
    fn drop(&mut self) {
        for point in mounts_below(self.0) {
            let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_of_directories_is_true_whenever_it_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    whenever_it_is_killed("dir", dir.path(), None).await;
}

#[tokio::test]
async fn what_was_acknowledged_of_images_is_true_whenever_it_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    whenever_it_is_killed("image", dir.path(), None).await;
}

#[tokio::test]
async fn what_was_acknowledged_of_quotas_is_true_whenever_it_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    for disk in disk::Disk::with_quotas(folder.path(), 1 << 30) {
        let own = disk.path.join("own");
        fs::create_dir(&own).unwrap();
        whenever_it_is_killed("quota", &own, None).await;
        let pool = fs::File::open(&disk.path).unwrap();
        disk.until_nothing_is_of_projects(&pool, PoolConfig::new("a", "/").project_ids);
    }
}

#[tokio::test]
async fn what_was_acknowledged_of_thin_volumes_is_true_whenever_it_is_killed() {
    let Some(disk) = thin::Disk::new(512 << 20) else { return };
    let dir = tempfile::tempdir().unwrap();
    whenever_it_is_killed("lvm-thin", dir.path(), Some(&disk.path)).await;
    disk.until_without_device();
    // No number is without an owner: each has what mkfs writes.
    assert_eq!(disk.used(), 0);
}

#[tokio::test]
async fn what_was_acknowledged_of_subvolumes_is_true_whenever_it_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let disk = subvolumes::Disk::new(dir.path(), 1 << 30);
    whenever_it_is_killed("btrfs", disk.path(), None).await;
    let root = fs::File::open(disk.path()).unwrap();
    let left = kernel::btrfs::nested(&root, kernel::btrfs::id(&root).unwrap()).unwrap();
    assert_eq!(left, Vec::<u64>::new());
}

async fn whenever_it_is_killed(backend: &str, folder: &Path, device: Option<&Path>) {
    let kills: usize = std::env::var("SEXTANT_KILLS").map_or(20, |text| text.parse().expect("a number"));
    let _tidy = Unmounted(folder);
    let mut state = std::env::var("SEXTANT_SEED")
        .map_or(0x9E37_79B9_7F4A_7C15 ^ u64::from(std::process::id()), |text| {
            u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("a seed")
        });
    println!("seed {state:#x}");
    let mut names: BTreeMap<String, Known> =
        (0..NAMES).map(|at| (format!("v{at}"), Known::default())).collect();
    let mut acknowledged = 0;
    for _ in 0..kills {
        let mut driver = Driver::start(folder, backend, device);
        let caller = Caller { client: driver.client(folder).await, folder };
        caller.compare(&mut names).await;
        let mut steps = random(&mut state) % 8;
        let mut killer = None;
        loop {
            // So long after so many steps: in whatever the driver is doing then.
            if steps == 0 {
                killer = Some(kill(driver.0.id(), Duration::from_micros(random(&mut state) % 4000)));
            }
            steps = steps.wrapping_sub(1);
            let name = format!("v{}", random(&mut state) % NAMES as u64);
            let choice = random(&mut state);
            match caller.step(&name, names.get_mut(&name).unwrap(), choice).await {
                Ok(()) => acknowledged += 1,
                // The connection broke off, or nobody is there.
                Err(error) if killer.is_some() && error.code() == grpc::Code::Unavailable => break,
                Err(error) => panic!("{name}: {error}"),
            }
        }
        killer.unwrap().join().unwrap();
    }
    println!("{kills} kills, {acknowledged} steps acknowledged");
    // Everything can be taken away, and then nothing is left.
    let mut driver = Driver::start(folder, backend, device);
    let caller = Caller { client: driver.client(folder).await, folder };
    caller.compare(&mut names).await;
    for name in names.keys() {
        let id = caller.create(name).await.unwrap();
        if let Some(text) = names.get(name).and_then(|known| known.text.as_ref()) {
            let target = caller.mount(name, &id).await.unwrap();
            assert_eq!(&fs::read_to_string(target.join("file")).unwrap(), text, "{name}");
        }
        caller.unmount(name, &id).await.unwrap();
        caller
            .client
            .delete_volume(DeleteVolumeRequest { volume_id: id, ..Default::default() })
            .await
            .unwrap();
        let snapshots = caller.client.list_snapshots(ListSnapshotsRequest::default()).await.unwrap();
        for entry in snapshots.entries {
            let snapshot_id = entry.snapshot.unwrap().snapshot_id;
            let request = DeleteSnapshotRequest { snapshot_id, ..Default::default() };
            caller.client.delete_snapshot(request).await.unwrap();
        }
    }
    assert_eq!(mounts_below(folder), Vec::<String>::new());
    for part in ["pool/volumes", "pool/snapshots", "pool/incoming", "pool/gone", "run/uses"] {
        assert_eq!(fs::read_dir(folder.join(part)).unwrap().count(), 0, "{part}");
    }
    for name in names.keys() {
        assert!(caller.paths(name).iter().all(|path| !path.exists()), "{name}");
    }
}
