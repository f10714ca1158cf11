//! Data while somebody writes: what was synced before a snapshot or a clone is in it, and what a volume grows by takes nothing away.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use csi::contract::v1::*;
use grpc::Code;

use crate::pattern;
use crate::rig::{Rig, from_snapshot, from_volume, refusal};
use crate::rows::{Disk, Row, each_row};

/// Longer than anything takes that will happen at all.
const LIMIT: Duration = Duration::from_secs(120);
const FILE: u64 = 16 << 10;
/// So many files take turns, so that a volume is not filled.
const FILES: u64 = 300;

/// Somebody who writes file after file, each synced with its name before the next.
struct Writer {
    stop: Arc<AtomicBool>,
    synced: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

fn path(root: &Path, number: u64) -> PathBuf {
    root.join(format!("f{}", number % FILES))
}

/// Where on a device it is.
fn at(number: u64) -> u64 {
    number % FILES * 2 * FILE
}

/// A file, or its part of a device.
fn write(root: &Path, number: u64) -> std::io::Result<()> {
    if !root.is_dir() {
        let device = File::options().write(true).open(root)?;
        device.write_all_at(&[number.to_le_bytes().to_vec(), pattern(number, FILE)].concat(), at(number))?;
        return device.sync_data();
    }
    let next = root.join("next");
    let mut file = File::create(&next)?;
    file.write_all(&number.to_le_bytes())?;
    file.write_all(&pattern(number, FILE))?;
    file.sync_all()?;
    fs::rename(&next, path(root, number))?;
    File::open(root)?.sync_all()
}

impl Writer {
    fn start(root: PathBuf) -> Writer {
        let (stop, synced) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ends, tells) = (Arc::clone(&stop), Arc::clone(&synced));
        let thread = std::thread::spawn(move || {
            for number in 1_u64.. {
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                write(&root, number).unwrap();
                tells.store(number, Ordering::Release);
            }
        });
        Writer { stop, synced, thread }
    }

    /// Waits until more is there than now.
    async fn goes_on(&self) -> u64 {
        let (before, until) = (self.synced.load(Ordering::Acquire), Instant::now() + LIMIT);
        while self.synced.load(Ordering::Acquire) < before + 5 {
            assert!(Instant::now() < until && !self.thread.is_finished(), "the writer stands still");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.synced.load(Ordering::Acquire)
    }

    /// The last one that may have been begun by now.
    fn begun(&self) -> u64 {
        self.synced.load(Ordering::Acquire) + 1
    }

    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.synced.load(Ordering::Acquire)
    }
}

fn read(root: &Path, number: u64) -> std::io::Result<Vec<u8>> {
    if root.is_dir() {
        return fs::read(path(root, number));
    }
    let mut bytes = vec![0; 8 + FILE as usize];
    File::open(root)?.read_exact_at(&mut bytes, at(number)).map(|()| bytes)
}

/// Each file that was synced when the first of these was is whole, and of that number or a later one up to the second: what was begun
/// after a copy was made is not in it. On a device, where it is written in place, one may be half written.
fn check(what: &str, root: &Path, [synced, begun]: [u64; 2]) {
    let mut halves = u64::from(!root.is_dir());
    for wanted in synced.saturating_sub(FILES - 1).max(1)..=synced {
        let bytes = read(root, wanted).unwrap_or_else(|e| panic!("{what}: {wanted} of {synced}: {e}"));
        let (head, rest) = bytes.split_at(8);
        let has = u64::from_le_bytes(head.try_into().unwrap());
        let is_between = (wanted..=begun).contains(&has) && has % FILES == wanted % FILES;
        if is_between && rest == pattern(has, FILE) {
            continue;
        }
        let may_be_written = wanted + FILES <= begun && halves > 0;
        assert!(may_be_written, "{what}: {has}, whole or not, and not {wanted} to {begun}");
        halves -= 1;
    }
}

each_row! { data_hold_while_a_volume_is_snapshot_cloned_restored_and_grown_under_a_writer }

async fn data_hold_while_a_volume_is_snapshot_cloned_restored_and_grown_under_a_writer(row: Row) {
    let Some(disk) = Disk::of(&row, row.capacity / (1 << 20) * 4 + 150) else { return };
    let rig = disk.rig(100.0).await;
    let id = rig.create_as(row.request("v", row.capacity)).await.unwrap().volume_id;
    let mounted = disk.mount(&rig, &id).await;
    let writer = Writer::start(mounted.target.clone());
    for round in 0..3 {
        let what = format!("{}, round {round}", row.name);
        let synced = writer.goes_on().await;
        let snapshot = rig.snapshot(&format!("s{round}"), &id).await.unwrap().snapshot_id;
        let then = [synced, writer.begun()];
        let made = copy(&row, &rig, from_snapshot(&snapshot)).await;
        check_copy(&disk, &rig, made, then, &format!("{what}, snapshot")).await;
        let synced = writer.goes_on().await;
        let made = copy(&row, &rig, from_volume(&id)).await;
        check_copy(&disk, &rig, made, [synced, writer.begun()], &format!("{what}, clone")).await;
        grow(&row, &rig, &id, row.capacity + (round + 1) * (16 << 20)).await;
        writer.goes_on().await;
        // Once more, after the volume went on and grew.
        let made = copy(&row, &rig, from_snapshot(&snapshot)).await;
        check_copy(&disk, &rig, made, then, &what).await;
        let delete = DeleteSnapshotRequest { snapshot_id: snapshot, ..Default::default() };
        rig.client.delete_snapshot(delete).await.unwrap();
    }
    let last = writer.end();
    check(row.name, &mounted.target, [last, last]);
    rig.unmount(mounted).await;
    let mounted = disk.mount(&rig, &id).await;
    check(row.name, &mounted.target, [last, last]);
    rig.unmount(mounted).await;
    rig.delete(&id).await.unwrap();
    println!("{}: {last} files", row.name);
}

async fn copy(row: &Row, rig: &Rig, source: Option<VolumeContentSource>) -> String {
    let copy =
        CreateVolumeRequest { capacity_range: None, volume_content_source: source, ..row.request("copy", 0) };
    rig.create_as(copy).await.unwrap().volume_id
}

async fn check_copy(disk: &Disk, rig: &Rig, id: String, then: [u64; 2], what: &str) {
    let mounted = disk.mount(rig, &id).await;
    check(what, &mounted.target, then);
    // It is a volume of its own.
    write(&mounted.target, then[1] + 1).unwrap();
    rig.unmount(mounted).await;
    rig.delete(&id).await.unwrap();
}

async fn grow(row: &Row, rig: &Rig, id: &str, bytes: i64) {
    let request = ControllerExpandVolumeRequest {
        volume_id: id.into(),
        capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
        ..Default::default()
    };
    match rig.client.controller_expand_volume(request).await {
        Ok(done) => assert_eq!(done.capacity_bytes, bytes, "{}", row.name),
        // An ext4 in use, by a driver without CAP_SYS_RESOURCE.
        error => assert_eq!(refusal(error).0, Code::FailedPrecondition, "{}", row.name),
    }
}
