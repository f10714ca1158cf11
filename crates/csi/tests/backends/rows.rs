//! The backends that are tried, and pools for them.

use std::ffi::CString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use csi::contract::v1::*;
use csi::plugin::PoolConfig;
use kernel::loopdev;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::rig::{Rig, request};

const MIB: i64 = 1 << 20;

/// A backend, as a class asks for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) backend: &'static str,
    /// The file system that a class asks for; empty where it asks for none.
    pub(crate) fs_type: &'static str,
    /// What the pool is on, and what that is mounted with.
    pub(crate) pool: &'static str,
    pub(crate) options: &'static str,
    /// A capacity that is quick to fill.
    pub(crate) capacity: i64,
    /// Whether who writes more than that is stopped, and with which error.
    pub(crate) is_bounded: bool,
    pub(crate) full: Errno,
    /// What of its capacity a writer of small files gets at least, in hundredths: a file system has inodes and names for them.
    pub(crate) small: u64,
}

const IMAGE: Row = Row {
    name: "image with ext4 on ext4",
    backend: "image",
    fs_type: "ext4",
    pool: "ext4",
    options: "",
    capacity: 48 * MIB,
    is_bounded: true,
    full: Errno::NOSPC,
    small: 90,
};

pub(crate) fn image_ext4_on_ext4() -> Row {
    IMAGE
}

pub(crate) fn image_ext4_on_xfs() -> Row {
    Row { name: "image with ext4 on xfs", pool: "xfs", ..IMAGE }
}

pub(crate) fn image_xfs_on_ext4() -> Row {
    Row { name: "image with xfs on ext4", fs_type: "xfs", capacity: 256 * MIB, ..IMAGE }
}

pub(crate) fn image_btrfs_on_ext4() -> Row {
    Row { name: "image with btrfs on ext4", fs_type: "btrfs", capacity: 256 * MIB, ..IMAGE }
}

/// Each small file takes metadata that count, too.
pub(crate) fn subvolume() -> Row {
    Row {
        name: "btrfs",
        backend: "btrfs",
        fs_type: "",
        pool: "btrfs",
        full: Errno::DQUOT,
        small: 70,
        ..IMAGE
    }
}

pub(crate) fn dir_on_ext4() -> Row {
    Row { name: "dir on ext4", backend: "dir", fs_type: "", is_bounded: false, ..IMAGE }
}

pub(crate) fn dir_on_xfs() -> Row {
    Row { name: "dir on xfs", backend: "dir", fs_type: "", pool: "xfs", is_bounded: false, ..IMAGE }
}

/// A test of each row, which is called after it.
macro_rules! each_row {
    ($check:ident) => {
        crate::rows::each_row! {
            $check: image_ext4_on_ext4 image_ext4_on_xfs image_xfs_on_ext4 image_btrfs_on_ext4 subvolume dir_on_ext4
                dir_on_xfs
        }
    };
    ($check:ident: $($row:ident)*) => {
        mod $check {
            $(#[tokio::test]
            async fn $row() {
                super::$check(crate::rows::$row()).await;
            })*
        }
    };
}
pub(crate) use each_row;

/// A pool's file system, in a file.
pub(crate) struct Disk {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) mount: PathBuf,
}

impl Disk {
    /// An empty one of so many MiB.
    pub(crate) fn of(row: &Row, mib: i64) -> Disk {
        // Not in /tmp, which may be in memory.
        let folder = tempfile::Builder::new().prefix("sextant-csi-").tempdir_in("/var/tmp").unwrap();
        let (image, point) = (folder.path().join("disk"), folder.path().join("mount"));
        File::create(&image).unwrap().set_len(u64::try_from(mib * MIB).unwrap()).unwrap();
        let arguments: &[&str] = match row.pool {
            "ext4" => &["-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
            "xfs" => &["-q", "-f", "-m", "reflink=1"],
            _ => &["-q", "-f"],
        };
        let mut mkfs = Command::new(format!("/usr/sbin/mkfs.{}", row.pool));
        assert!(mkfs.args(arguments).arg(&image).status().unwrap().success(), "{mkfs:?}");
        fs::create_dir(&point).unwrap();
        let tag = format!("sextant-test-{}", folder.path().file_name().unwrap().to_string_lossy());
        let options = loopdev::Options { read_only: false, autoclear: true, direct_io: false };
        let file = File::options().read(true).write(true).open(&image).unwrap();
        let (device, _held) = loopdev::attach(&file, &tag, options).unwrap();
        let said = CString::new(row.options).unwrap();
        mount(&device, &point, row.pool, MountFlags::empty(), Some(said.as_c_str())).unwrap();
        Disk { folder, mount: point }
    }

    /// A driver with a pool on it.
    pub(crate) async fn rig(&self, row: &Row, overcommit: f64) -> Rig {
        let pool = PoolConfig {
            backends: vec![row.backend.into()],
            overcommit,
            ..PoolConfig::new("a", self.mount.join("pool"))
        };
        Rig::start(self.folder.path(), pool).await
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What a test that failed has left in use, and the pool.
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        let mut points: Vec<_> = points.filter(|point| point.starts_with(self.folder.path())).collect();
        points.reverse();
        for point in points {
            let _ = unmount(point, UnmountFlags::DETACH);
        }
    }
}

impl Row {
    pub(crate) fn request(&self, name: &str, bytes: i64) -> CreateVolumeRequest {
        CreateVolumeRequest { parameters: self.parameters(), ..request(name, bytes) }
    }

    fn parameters(&self) -> std::collections::BTreeMap<String, String> {
        let fs_type = ("csi.storage.k8s.io/fstype".to_owned(), self.fs_type.to_owned());
        let all = [("backend".to_owned(), self.backend.to_owned()), fs_type];
        all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
    }

    /// What the next volume can have.
    pub(crate) async fn available(&self, rig: &Rig) -> i64 {
        let request = GetCapacityRequest { parameters: self.parameters(), ..Default::default() };
        rig.client.get_capacity(request).await.unwrap().available_capacity
    }

    /// What the driver says of a volume that is mounted there.
    pub(crate) async fn usage(&self, rig: &Rig, id: &str, path: &Path) -> VolumeUsage {
        let request = NodeGetVolumeStatsRequest {
            volume_id: id.into(),
            volume_path: path.to_str().unwrap().into(),
            ..Default::default()
        };
        let told = rig.client.node_get_volume_stats(request).await.unwrap();
        told.usage.into_iter().find(|usage| usage.unit() == volume_usage::Unit::Bytes).unwrap()
    }
}
