//! Subvolumes that a workload makes in its volume.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use csi::contract::v1::*;
use kernel::btrfs;
use rustix::io::Errno;

use crate::rig::{from_snapshot, request};
use crate::{MIB, Own};

/// Writes up to `most` bytes; how many there were until it was refused.
fn write(path: &Path, most: i64) -> i64 {
    let mut file = match File::create_new(path) {
        Err(e) if Errno::from_io_error(&e) == Some(Errno::DQUOT) => return 0,
        other => other.unwrap(),
    };
    let block = vec![7; 1 << 16];
    let mut written = 0;
    while written < most {
        match file.write_all(&block).and_then(|()| file.sync_data()) {
            Ok(()) => written += 1 << 16,
            Err(e) if Errno::from_io_error(&e) == Some(Errno::DQUOT) => break,
            Err(e) => panic!("{e}"),
        }
    }
    file.sync_all().unwrap();
    written
}

#[tokio::test]
async fn they_share_what_the_volume_has() {
    let own = Own::start(1 << 30).await;
    let capacity = 64 * MIB;
    let id = own.rig.create("v", capacity).await.unwrap().volume_id;
    let mounted = own.rig.mount(own.path(), &id).await;
    let root = File::open(&mounted.target).unwrap();
    assert_eq!(write(&mounted.target.join("own"), 8 * MIB), 8 * MIB);
    btrfs::create(&root, c"nested").unwrap();
    btrfs::snapshot(&root, c"copy", &root, false).unwrap();
    let nested = mounted.target.join("nested");
    btrfs::create(File::open(&nested).unwrap(), c"deeper").unwrap();
    // Whoever asks for the statistics holds them all.
    own.stats(&id, &mounted.target).await;
    let mut written = 16 * MIB;
    for round in 0..20 {
        for within in ["", "nested", "nested/deeper", "copy"] {
            written += write(&mounted.target.join(within).join(format!("file{round}")), capacity);
        }
        own.stats(&id, &mounted.target).await;
    }
    // All have it among them, as each gets half of what is left again and again.
    assert!((capacity - 2 * MIB..=capacity + capacity / 20).contains(&written), "{written}");
    let (usage, condition) = own.stats(&id, &mounted.target).await;
    assert!(usage.used > capacity - 4 * MIB && !condition.abnormal, "{usage:?} {condition:?}");
    own.expand(&id, 2 * capacity).await;
    assert!(write(&nested.join("more"), capacity) > 8 * MIB);
    // They are not in a snapshot, where empty directories are in their place.
    let snapshot = own.rig.snapshot("s", &id).await.unwrap().snapshot_id;
    let source =
        CreateVolumeRequest { volume_content_source: from_snapshot(&snapshot), ..request("r", 2 * capacity) };
    let restored = own.rig.create_as(source).await.unwrap().volume_id;
    let other = own.rig.mount(own.path(), &restored).await;
    assert_eq!(fs::metadata(other.target.join("own")).unwrap().len(), 8 << 20);
    assert_eq!(fs::read_dir(other.target.join("nested")).unwrap().count(), 0);
    own.rig.unmount(other).await;
    own.rig.delete(&restored).await.unwrap();
    own.remove_snapshot(&snapshot).await;
    // They go with the volume.
    drop(root);
    own.rig.unmount(mounted).await;
    own.rig.delete(&id).await.unwrap();
    assert!(own.subvolumes().is_empty());
}

/// What one of them had is the volume's again once it is gone.
#[tokio::test]
async fn what_they_had_is_given_back() {
    let own = Own::start(1 << 30).await;
    let capacity = 64 * MIB;
    let id = own.rig.create("v", capacity).await.unwrap().volume_id;
    let mounted = own.rig.mount(own.path(), &id).await;
    btrfs::create(File::open(&mounted.target).unwrap(), c"nested").unwrap();
    own.stats(&id, &mounted.target).await;
    assert!(write(&mounted.target.join("half"), capacity) < capacity * 2 / 3);
    // Who is full cannot remove it.
    own.stats(&id, &mounted.target).await;
    fs::remove_dir(mounted.target.join("nested")).unwrap();
    own.stats(&id, &mounted.target).await;
    let half = fs::metadata(mounted.target.join("half")).unwrap().len() as i64;
    let written = half + write(&mounted.target.join("rest"), capacity);
    assert!((capacity..=capacity + capacity / 20).contains(&written), "{written}");
    own.rig.unmount(mounted).await;
    own.rig.delete(&id).await.unwrap();
}

/// Whoever owns a subvolume may make it read-only, and is not to keep a volume from going by that.
#[tokio::test]
async fn what_is_read_only_goes_with_its_volume() {
    let own = Own::start(1 << 30).await;
    let id = own.rig.create("v", 64 * MIB).await.unwrap().volume_id;
    let mounted = own.rig.mount(own.path(), &id).await;
    for (within, name) in [("", c"nested"), ("nested/a/b", c"deeper"), ("nested/a/b/deeper", c"deepest")] {
        let place = mounted.target.join(within);
        fs::create_dir_all(&place).unwrap();
        btrfs::create(File::open(place).unwrap(), name).unwrap();
    }
    for within in ["nested/a/b/deeper", "nested", ""] {
        let place = mounted.target.join(within);
        let set = Command::new("btrfs").args(["property", "set"]).arg(place).args(["ro", "true"]).output();
        let set = set.unwrap();
        assert!(set.status.success(), "{set:?}");
    }
    let innermost = *own.subvolumes().last().unwrap();
    assert_eq!(btrfs::destroy(own.root(), innermost).unwrap_err().errno(), Some(Errno::ROFS));
    own.rig.unmount(mounted).await;
    own.rig.delete(&id).await.unwrap();
    assert!(
        own.subvolumes().is_empty() && own.disk.path().join("pool/gone").read_dir().unwrap().count() == 0
    );
}
