//! Data under load: what is cut while somebody writes is as it was.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use csi::contract::v1::*;

use crate::rig::{from_snapshot, from_volume, request, text};
use crate::{MIB, Own};

const BLOCK: usize = 16 << 10;

/// A block that tells its number, and is the same nowhere else.
fn block(number: u64) -> Vec<u8> {
    (0..BLOCK as u64 / 8)
        .flat_map(|word| (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (word << 17) ^ number).to_le_bytes())
        .collect()
}

/// Appends blocks until it is stopped, and says how many are on the disk.
struct Writer {
    stop: AtomicBool,
    synced: AtomicU64,
}

impl Writer {
    fn write(&self, path: &Path) {
        let file = File::create_new(path).unwrap();
        for number in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            file.write_all_at(&block(number), number * BLOCK as u64).unwrap();
            file.sync_data().unwrap();
            self.synced.store(number + 1, Ordering::SeqCst);
        }
    }
}

/// How many blocks a file has, each of which is whole.
fn blocks(path: &Path) -> u64 {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(bytes.len() % BLOCK, 0);
    for (number, has) in bytes.chunks(BLOCK).enumerate() {
        assert!(has == block(number as u64), "block {number} of {}", path.display());
    }
    (bytes.len() / BLOCK) as u64
}

#[tokio::test]
async fn what_is_cut_while_somebody_writes_is_whole() {
    let own = Own::start(4 << 30).await;
    let id = own.rig.create("v", 256 * MIB).await.unwrap().volume_id;
    let mounted = own.rig.mount(own.path(), &id).await;
    let file = mounted.target.join("file");
    let writer = std::sync::Arc::new(Writer { stop: AtomicBool::new(false), synced: AtomicU64::new(0) });
    let writing = std::thread::spawn({
        let (writer, file) = (writer.clone(), file.clone());
        move || writer.write(&file)
    });
    while writer.synced.load(Ordering::SeqCst) == 0 && !writing.is_finished() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let mut cuts = Vec::new();
    for round in 0..4_i64 {
        let before = writer.synced.load(Ordering::SeqCst);
        let snapshot = own.rig.snapshot(&format!("s{round}"), &id).await.unwrap().snapshot_id;
        let after = writer.synced.load(Ordering::SeqCst) + 1;
        let of = |name: String, source| CreateVolumeRequest {
            volume_content_source: source,
            ..request(&name, (256 + round * 64) * MIB)
        };
        let restored = of(format!("r{round}"), from_snapshot(&snapshot));
        cuts.push((own.rig.create_as(restored).await.unwrap().volume_id, before, after));
        let before = writer.synced.load(Ordering::SeqCst);
        let cloned = own.rig.create_as(of(format!("c{round}"), from_volume(&id))).await.unwrap().volume_id;
        cuts.push((cloned, before, writer.synced.load(Ordering::SeqCst) + 1));
        own.expand(&id, (256 + (round + 1) * 64) * MIB).await;
        // Some more of it.
        let wanted = writer.synced.load(Ordering::SeqCst) + 50;
        while writer.synced.load(Ordering::SeqCst) < wanted && !writing.is_finished() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    writer.stop.store(true, Ordering::Relaxed);
    writing.join().unwrap();
    assert_eq!(blocks(&file), writer.synced.load(Ordering::SeqCst));
    for (cut, before, after) in &cuts {
        let mounted = own.rig.mount(own.path(), cut).await;
        let has = blocks(&mounted.target.join("file"));
        assert!((*before..=*after).contains(&has), "{cut}: {before} {has} {after}");
        own.rig.unmount(mounted).await;
    }
    own.rig.unmount(mounted).await;
}

/// One writes to two volumes in turn: at any moment the first has as much as the second, or one more.
#[tokio::test]
async fn a_group_is_of_one_moment() {
    let own = Own::start(4 << 30).await;
    let mut volumes = Vec::new();
    for name in ["a", "b", "c"] {
        let id = own.rig.create(name, 256 * MIB).await.unwrap().volume_id;
        volumes.push(own.rig.mount(own.path(), &id).await);
    }
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let files: Vec<_> =
        volumes.iter().map(|mounted| File::create_new(mounted.target.join("count")).unwrap()).collect();
    let writing = std::thread::spawn({
        let stop = stop.clone();
        move || {
            for number in 1_u64.. {
                for file in &files {
                    file.write_all_at(&number.to_le_bytes(), 0).unwrap();
                    file.sync_data().unwrap();
                }
                if stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    });
    let ids: Vec<String> = volumes.iter().map(|mounted| mounted.id.clone()).collect();
    let mut seen = 0;
    for round in 0..5 {
        let request = CreateVolumeGroupSnapshotRequest {
            name: format!("g{round}"),
            source_volume_ids: ids.clone(),
            ..Default::default()
        };
        let made =
            own.rig.client.create_volume_group_snapshot(request).await.unwrap().group_snapshot.unwrap();
        let count = |id: &str| {
            let of = made.snapshots.iter().find(|snapshot| snapshot.source_volume_id == id).unwrap();
            let place = own.disk.path().join("pool/snapshots").join(&of.snapshot_id);
            let bytes = std::fs::read(place.join("data/count")).unwrap_or_default();
            bytes.try_into().map_or(0, u64::from_le_bytes)
        };
        let counts: Vec<u64> = ids.iter().map(|id| count(id)).collect();
        let (first, last) = (counts[0], counts[2]);
        assert!(counts.is_sorted_by(|a, b| a >= b) && last + 1 >= first && first >= seen, "{counts:?}");
        seen = first;
        let delete = DeleteVolumeGroupSnapshotRequest {
            group_snapshot_id: made.group_snapshot_id,
            ..Default::default()
        };
        own.rig.client.delete_volume_group_snapshot(delete).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    writing.join().unwrap();
    assert!(seen > 0, "{} has nothing", text(&volumes[0].target));
    for mounted in volumes {
        own.rig.unmount(mounted).await;
    }
    assert_eq!(own.subvolumes().len(), 3);
}
