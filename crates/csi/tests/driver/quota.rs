//! Volumes with project quotas, where this kernel has them: all that is true of directories, their bounds, and their data.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use csi::contract::v1::*;
use csi::plugin::{Config, PoolConfig, Setup};
use grpc::Code;
use rustix::io::Errno;

use crate::disk::Disk;
use crate::rig::{
    BACKEND, Mounted, Rig, be_a_container, from_snapshot, from_volume, map, refusal, request, text,
};

const MIB: i64 = 1 << 20;

fn quotas(disk: &Disk) -> PoolConfig {
    PoolConfig { backends: vec!["quota".into()], ..PoolConfig::new("a", disk.path.join("pool")) }
}

/// What a driver has beside its pool.
fn folder_of(folder: &tempfile::TempDir, disk: &Disk) -> PathBuf {
    let own = folder.path().join(format!("{}-driver", disk.kind));
    fs::create_dir(&own).unwrap();
    own
}

#[test]
fn what_is_true_of_directories_is_true_of_them() {
    let folder = tempfile::tempdir().unwrap();
    for disk in Disk::with_quotas(folder.path(), 1 << 30) {
        // Beside each other, with pools on one file system: none takes a project of another.
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["life::", "node::", "restart::"])
            .env("TMPDIR", &disk.path)
            .env(BACKEND, "quota")
            .status()
            .unwrap();
        assert!(status.success(), "{}", disk.kind);
    }
}

#[tokio::test]
async fn a_pool_that_cannot_have_them_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::without_quotas(folder.path(), "ext4");
    let setup = Setup {
        config: Config { pools: vec![quotas(&disk)] },
        node: "n".into(),
        run: folder.path().join("run"),
        socket: folder.path().join("csi.sock"),
    };
    let refused = csi::plugin::run(setup.clone(), std::future::pending(), || ()).await.unwrap_err();
    let refused = refused.to_string();
    assert!(refused.contains("pool.backends") && refused.contains("tune2fs -O project,quota"), "{refused}");
    // Where all that can be had is meant, the others are.
    let mut setup = setup;
    setup.config.pools[0].backends.clear();
    let rig = Rig::of(setup).await;
    let wish = CreateVolumeRequest { parameters: map("backend", "quota"), ..request("v", 16 * MIB) };
    let (code, message) = refusal(rig.create_as(wish).await);
    assert!(code == Code::InvalidArgument && message.contains("tune2fs -O project,quota"), "{message}");
}

async fn available(rig: &Rig) -> i64 {
    rig.client.get_capacity(GetCapacityRequest::default()).await.unwrap().available_capacity
}

async fn expand(rig: &Rig, id: &str, bytes: i64) -> i64 {
    let capacity_range = Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 });
    let request =
        ControllerExpandVolumeRequest { volume_id: id.into(), capacity_range, ..Default::default() };
    rig.client.controller_expand_volume(request).await.unwrap().capacity_bytes
}

async fn usage(rig: &Rig, id: &str, path: &Path) -> VolumeUsage {
    let request =
        NodeGetVolumeStatsRequest { volume_id: id.into(), volume_path: text(path), ..Default::default() };
    let stats = rig.client.node_get_volume_stats(request).await.unwrap();
    assert!(!stats.volume_condition.unwrap().abnormal);
    stats.usage.into_iter().find(|usage| usage.unit() == volume_usage::Unit::Bytes).unwrap()
}

/// A MiB whose sectors are the same nowhere else.
fn part(seed: u64) -> Vec<u8> {
    let mut bytes = vec![7; MIB as usize];
    for (number, sector) in bytes.chunks_exact_mut(512).enumerate() {
        sector[..16].copy_from_slice(&[seed.to_le_bytes(), number.to_le_bytes()].concat());
    }
    bytes
}

#[tokio::test]
async fn all_that_is_promised_can_be_written_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for disk in Disk::with_quotas(folder.path(), 320 << 20) {
        let rig = Rig::start(&folder_of(&folder, &disk), quotas(&disk)).await;
        let all = available(&rig).await;
        let first = rig.create("first", 96 * MIB).await.unwrap().volume_id;
        let rest = available(&rig).await;
        assert!((all - 97 * MIB..=all - 96 * MIB).contains(&rest), "{}: {rest} of {all}", disk.kind);
        assert_eq!(refusal(rig.create("more", rest + 4096).await).0, Code::ResourceExhausted);
        let second = rig.create("second", rest).await.unwrap().volume_id;
        assert!(available(&rig).await <= 4096);
        let mounted = [rig.mount(folder.path(), &first).await, rig.mount(folder.path(), &second).await];
        let wanted = if disk.kind == "ext4" { Errno::DQUOT } else { Errno::NOSPC };
        let wrote = std::thread::scope(|scope| {
            let writers = mounted.each_ref().map(|mounted| {
                scope.spawn(|| {
                    be_a_container();
                    let file = File::create(mounted.target.join("file")).unwrap();
                    let (part, mut at) = (part(1), 0);
                    loop {
                        match file.write_at(&part, at) {
                            Ok(length) => at += length as u64,
                            Err(e) => {
                                file.sync_all().unwrap();
                                return (at as i64, e.raw_os_error());
                            }
                        }
                    }
                })
            });
            writers.map(|writer| writer.join().unwrap())
        });
        for (number, capacity) in [96 * MIB, rest].into_iter().enumerate() {
            let (bytes, stopped) = wrote[number];
            assert_eq!(stopped, Some(wanted.raw_os_error()), "{}", disk.kind);
            assert!(
                (capacity..=capacity + capacity / 20).contains(&bytes),
                "{}: {bytes} of {capacity}",
                disk.kind
            );
            let Mounted { id, target, .. } = &mounted[number];
            let told = usage(&rig, id, target).await;
            assert_eq!((told.total, told.used, told.available), (capacity, capacity, 0), "{}", disk.kind);
        }
        for mounted in mounted {
            let id = mounted.id.clone();
            rig.unmount(mounted).await;
            rig.delete(&id).await.unwrap();
        }
    }
}

/// More than the volume has at first.
const PARTS: u64 = 48;

/// Writes them, and waits where there is no room until there is `enough`.
fn write_parts(path: &Path, enough: &AtomicBool) {
    be_a_container();
    let file = File::create(path).unwrap();
    let mut number = 0;
    while number < PARTS {
        let was_enough = enough.load(Ordering::Relaxed);
        match file.write_all_at(&part(100 + number), number * MIB as u64) {
            Ok(()) => number += 1,
            Err(_) if !was_enough => std::thread::sleep(Duration::from_millis(1)),
            Err(e) => panic!("{e} after {number}"),
        }
    }
    file.sync_all().unwrap();
}

#[tokio::test]
async fn data_hold_while_a_volume_grows_and_is_copied() {
    let folder = tempfile::tempdir().unwrap();
    for disk in Disk::with_quotas(folder.path(), 1 << 30) {
        let rig = Rig::start(&folder_of(&folder, &disk), quotas(&disk)).await;
        let id = rig.create("v", 32 * MIB).await.unwrap().volume_id;
        let mounted = rig.mount(folder.path(), &id).await;
        let target = &mounted.target;
        for number in 0..8 {
            fs::write(target.join(format!("still{number}")), part(number)).unwrap();
        }
        let enough = Arc::new(AtomicBool::new(false));
        let path = target.join("written");
        let writing = std::thread::spawn({
            let (enough, path) = (Arc::clone(&enough), path.clone());
            move || write_parts(&path, &enough)
        });
        let snapshot = rig.snapshot("s", &id).await.unwrap().snapshot_id;
        for larger in [40 * MIB, 96 * MIB] {
            assert_eq!(expand(&rig, &id, larger).await, larger);
        }
        enough.store(true, Ordering::Relaxed);
        writing.join().unwrap();
        let told = usage(&rig, &id, target).await;
        // The snapshot is none of the volume's bytes.
        assert!(told.total == 96 * MIB && (56 * MIB..58 * MIB).contains(&told.used), "{told:?}");
        let written = File::open(&path).unwrap();
        let mut read = part(0);
        for number in 0..PARTS {
            written.read_exact_at(&mut read, number * MIB as u64).unwrap();
            assert!(read == part(100 + number), "{}: {number}", disk.kind);
        }
        drop(written);
        for (name, source) in [("restored", from_snapshot(&snapshot)), ("cloned", from_volume(&id))] {
            let wish = CreateVolumeRequest { volume_content_source: source, ..request(name, 96 * MIB) };
            let copy = rig.create_as(wish).await.unwrap().volume_id;
            let copied = rig.mount(folder.path(), &copy).await;
            for number in 0..8 {
                let data = fs::read(copied.target.join(format!("still{number}"))).unwrap();
                assert!(data == part(number), "{}: {name} {number}", disk.kind);
            }
            rig.unmount(copied).await;
            rig.delete(&copy).await.unwrap();
        }
        rig.unmount(mounted).await;
        rig.delete(&id).await.unwrap();
        let delete = DeleteSnapshotRequest { snapshot_id: snapshot, ..Default::default() };
        rig.client.delete_snapshot(delete).await.unwrap();
        let pool = File::open(&disk.path).unwrap();
        disk.until_nothing_is_of_projects(&pool, quotas(&disk).project_ids);
    }
}
