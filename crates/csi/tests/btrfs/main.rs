//! Volumes that are subvolumes, through the driver's socket. Needs root, loop devices, and mkfs.btrfs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod capacity;
mod data;
mod disk;
mod life;
mod nested;
#[path = "../driver/rig.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod rig;

use std::fs::File;
use std::path::{Path, PathBuf};

use csi::contract::v1::*;
use csi::plugin::PoolConfig;
use kernel::btrfs;

use disk::Disk;
use rig::{Rig, text};

const MIB: i64 = 1 << 20;

/// A driver with a pool in a directory of a btrfs.
struct Own {
    rig: Rig,
    _unmounted: Unmounted,
    disk: Disk,
    folder: tempfile::TempDir,
}

impl Own {
    async fn start(bytes: u64) -> Own {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path(), bytes);
        Own::on(folder, disk).await
    }

    async fn on(folder: tempfile::TempDir, disk: Disk) -> Own {
        let pool =
            PoolConfig { backends: vec!["btrfs".into()], ..PoolConfig::new("a", disk.path().join("pool")) };
        let rig = Rig::start(folder.path(), pool).await;
        Own { rig, _unmounted: Unmounted(folder.path().into()), disk, folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The root of the file system.
    fn root(&self) -> File {
        File::open(self.disk.path()).unwrap()
    }

    /// Subvolumes that are there.
    fn subvolumes(&self) -> Vec<u64> {
        btrfs::nested(self.root(), btrfs::id(self.root()).unwrap()).unwrap()
    }

    async fn available(&self) -> i64 {
        self.rig.client.get_capacity(GetCapacityRequest::default()).await.unwrap().available_capacity
    }

    async fn expand(&self, id: &str, bytes: i64) -> ControllerExpandVolumeResponse {
        let capacity_range = Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 });
        let request =
            ControllerExpandVolumeRequest { volume_id: id.into(), capacity_range, ..Default::default() };
        self.rig.client.controller_expand_volume(request).await.unwrap()
    }

    async fn stats(&self, id: &str, path: &Path) -> (VolumeUsage, VolumeCondition) {
        let request =
            NodeGetVolumeStatsRequest { volume_id: id.into(), volume_path: text(path), ..Default::default() };
        let stats = self.rig.client.node_get_volume_stats(request).await.unwrap();
        let bytes = stats.usage.into_iter().find(|usage| usage.unit() == volume_usage::Unit::Bytes).unwrap();
        (bytes, stats.volume_condition.unwrap())
    }

    async fn remove_snapshot(&self, id: &str) {
        let request = DeleteSnapshotRequest { snapshot_id: id.into(), ..Default::default() };
        self.rig.client.delete_snapshot(request).await.unwrap();
    }
}

/// Leaves no volume mounted where a test has failed.
struct Unmounted(PathBuf);

impl Drop for Unmounted {
    fn drop(&mut self) {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
        for point in points.filter(|point| point.starts_with(&self.0) && *point != self.0.join("disk")) {
            let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
        }
    }
}
