//! A writer gets what was asked for, and hardly more.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use csi::contract::v1::*;
use rustix::io::Errno;

use crate::disk::Disk;
use crate::rig::{from_snapshot, from_volume, request};
use crate::{MIB, Own};

/// Bytes that no file system makes smaller.
fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes / 4).flat_map(|n| (n as u32).wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

/// Writes to a new file until that is refused, `bytes` at a time; how many bytes it has then.
fn fill(path: &Path, bytes: usize, sync: bool) -> i64 {
    let mut file = File::create_new(path).unwrap();
    let block = noise(bytes);
    let mut written = 0;
    let refused = loop {
        let done = file.write_all(&block).and_then(|()| if sync { file.sync_data() } else { Ok(()) });
        match done {
            Ok(()) => written += bytes as i64,
            Err(e) => break Errno::from_io_error(&e),
        }
        assert!(written < 1 << 31, "nobody stops it");
    };
    assert_eq!(refused, Some(Errno::DQUOT), "after {written}");
    file.sync_all().unwrap();
    written
}

#[tokio::test]
async fn a_writer_gets_its_bytes_and_hardly_more() {
    let own = Own::start(2 << 30).await;
    for (at, (mib, bytes, sync)) in
        [(16, 1 << 16, true), (16, 4096, true), (64, 1 << 16, true), (64, 1 << 20, false)]
            .into_iter()
            .enumerate()
    {
        let id = own.rig.create(&format!("v{at}"), mib * MIB).await.unwrap().volume_id;
        let mounted = own.rig.mount(own.path(), &id).await;
        let capacity = mib * MIB;
        let written = fill(&mounted.target.join("file"), bytes, sync);
        assert!((capacity..=capacity + capacity / 20).contains(&written), "{mib} MiB by {bytes}: {written}");
        let (usage, _) = own.stats(&id, &mounted.target).await;
        assert_eq!((usage.total, usage.used, usage.available), (capacity, capacity, 0));
        // In use, and full.
        own.expand(&id, 2 * capacity).await;
        let more = fill(&mounted.target.join("more"), 1 << 18, false);
        assert!(
            (2 * capacity..=2 * capacity + capacity / 10).contains(&(written + more)),
            "{written} {more}"
        );
        fs::remove_file(mounted.target.join("file")).unwrap();
        own.rig.unmount(mounted).await;
        own.rig.delete(&id).await.unwrap();
    }
}

#[tokio::test]
async fn snapshots_and_clones_do_not_eat_what_a_volume_has() {
    let own = Own::start(2 << 30).await;
    let capacity = 32 * MIB;
    let id = own.rig.create("v", capacity).await.unwrap().volume_id;
    let mounted = own.rig.mount(own.path(), &id).await;
    let block = noise(20 << 20);
    fs::write(mounted.target.join("file"), &block).unwrap();
    let mut snapshots = Vec::new();
    for number in 0..3 {
        let snapshot = own.rig.snapshot(&format!("s{number}"), &id).await.unwrap().snapshot_id;
        snapshots.push(snapshot);
        // Another 20 MiB, while the snapshots keep the ones before.
        fs::remove_file(mounted.target.join("file")).unwrap();
        fs::write(mounted.target.join("file"), &block).unwrap();
        File::open(mounted.target.join("file")).unwrap().sync_all().unwrap();
    }
    let sources = [from_snapshot(&snapshots[0]), from_volume(&id)];
    for (at, source) in sources.into_iter().enumerate() {
        let made =
            CreateVolumeRequest { volume_content_source: source, ..request(&format!("c{at}"), capacity) };
        let made = own.rig.create_as(made).await.unwrap().volume_id;
        let mounted = own.rig.mount(own.path(), &made).await;
        assert!(fs::read(mounted.target.join("file")).unwrap() == block);
        // What it shares counts in it.
        let rest = fill(&mounted.target.join("rest"), 1 << 16, true);
        let most = capacity + capacity / 20 - (20 * MIB);
        assert!((capacity - (20 * MIB)..=most).contains(&rest), "{rest}");
        own.rig.unmount(mounted).await;
        own.rig.delete(&made).await.unwrap();
    }
    own.rig.unmount(mounted).await;
}

/// What is promised can be written, by all volumes at once.
#[tokio::test]
async fn a_pool_has_what_it_promises() {
    let own = Own::start(1 << 30).await;
    let all = own.available().await;
    assert!((700 * MIB..1000 * MIB).contains(&all), "{all}");
    let mut volumes = Vec::new();
    for (name, bytes) in [("a", all / 3 / 4096 * 4096), ("b", all / 3 / 4096 * 4096), ("c", 0)] {
        let bytes = if bytes == 0 { own.available().await } else { bytes };
        let id = own.rig.create(name, bytes).await.unwrap().volume_id;
        volumes.push((own.rig.mount(own.path(), &id).await, bytes));
    }
    assert!(own.available().await < 16 * MIB && own.rig.create("d", 16 * MIB).await.is_err());
    for (mounted, bytes) in &volumes {
        let written = fill(&mounted.target.join("file"), 1 << 20, false);
        assert!(written >= *bytes / MIB * MIB, "{written} of {bytes}");
    }
    for (mounted, _) in volumes {
        let id = mounted.id.clone();
        fs::remove_file(mounted.target.join("file")).unwrap();
        own.rig.unmount(mounted).await;
        own.rig.delete(&id).await.unwrap();
    }
}

/// What is mirrored has no use for what one device alone has left.
#[tokio::test]
async fn a_pool_on_devices_that_differ_has_what_it_promises() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::on(folder.path(), &[1 << 30, 3 << 30]);
    let own = Own::on(folder, disk).await;
    let all = own.available().await;
    assert!((600 * MIB..1000 * MIB).contains(&all), "{all}");
    let id = own.rig.create("v", all / MIB * MIB).await.unwrap().volume_id;
    let mounted = own.rig.mount(own.path(), &id).await;
    let written = fill(&mounted.target.join("file"), 1 << 20, false);
    assert!(written >= all / MIB * MIB, "{written} of {all}");
    own.rig.unmount(mounted).await;
    own.rig.delete(&id).await.unwrap();
}
