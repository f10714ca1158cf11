//! The backends that are tried, and pools for them.

use std::ffi::CStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use csi::contract::v1::*;
use csi::plugin::PoolConfig;
use kernel::loopdev;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::rig::{Mounted, Rig, device, published, request};
use crate::thin;

const MIB: i64 = 1 << 20;
/// What this kernel lacks is passed over, except where this is set.
const ALL: &str = "SEXTANT_CSI_ALL_BACKENDS";

/// A backend, as a class asks for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) backend: &'static str,
    /// The file system that a class asks for; empty where it asks for none.
    pub(crate) fs_type: &'static str,
    /// Whether volumes are block devices.
    pub(crate) is_block: bool,
    /// The file system that the pool is on; empty where its data are on a device.
    pool: &'static str,
    /// What that file system is made with, and mounted with.
    features: &'static [&'static str],
    options: &'static CStr,
    /// MiB that the pool needs for itself, whatever is in it.
    own: i64,
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
    is_block: false,
    pool: "ext4",
    features: &[],
    options: c"",
    own: 350,
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

/// Some of what a volume may have goes to the blocks of its directories.
pub(crate) fn quota_on_ext4() -> Row {
    Row {
        name: "quota on ext4",
        backend: "quota",
        fs_type: "",
        features: &["-O", "project,quota"],
        options: c"prjquota",
        full: Errno::DQUOT,
        ..IMAGE
    }
}

pub(crate) fn quota_on_xfs() -> Row {
    Row { name: "quota on xfs", backend: "quota", fs_type: "", pool: "xfs", options: c"prjquota", ..IMAGE }
}

pub(crate) fn thin_ext4() -> Row {
    Row { name: "lvm-thin with ext4", backend: "lvm-thin", pool: "", own: 96, ..IMAGE }
}

pub(crate) fn thin_block() -> Row {
    Row { name: "lvm-thin, block", fs_type: "", is_block: true, ..thin_ext4() }
}

pub(crate) fn image_block_on_xfs() -> Row {
    Row { name: "image on xfs, block", fs_type: "", is_block: true, pool: "xfs", ..IMAGE }
}

/// A test of each row, which is called after it.
macro_rules! each_row {
    ($check:ident) => {
        crate::rows::each_row! {
            $check: image_ext4_on_ext4 image_ext4_on_xfs image_xfs_on_ext4 image_btrfs_on_ext4 image_block_on_xfs subvolume
                dir_on_ext4 dir_on_xfs quota_on_ext4 quota_on_xfs thin_ext4 thin_block
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

/// What a pool is on, in a file, and what tests have beside it.
pub(crate) struct Disk {
    folder: tempfile::TempDir,
    row: Row,
    on: On,
}

enum On {
    /// A file system, mounted there.
    Mount(PathBuf),
    Device(thin::Disk),
}

impl Disk {
    /// An empty one with so many MiB beside what its pool needs; none where this kernel lacks what it takes, which is told.
    pub(crate) fn of(row: &Row, mib: i64) -> Option<Disk> {
        // Not in /tmp, which may be in memory.
        let folder = tempfile::Builder::new().prefix("sextant-csi-").tempdir_in("/var/tmp").unwrap();
        let bytes = u64::try_from((mib + row.own) * MIB).unwrap();
        let on = if row.pool.is_empty() {
            On::Device(thin::Disk::new(bytes)?)
        } else {
            On::Mount(row.file_system(folder.path(), bytes)?)
        };
        Some(Disk { folder, row: *row, on })
    }

    /// All of it, in bytes.
    pub(crate) fn size(&self) -> i64 {
        let size = match &self.on {
            On::Mount(point) => {
                let told = rustix::fs::statvfs(point).unwrap();
                told.f_blocks * told.f_frsize
            }
            On::Device(disk) => disk.bytes,
        };
        i64::try_from(size).unwrap()
    }

    /// A driver with a pool on it.
    pub(crate) async fn rig(&self, overcommit: f64) -> Rig {
        let (path, device) = match &self.on {
            On::Mount(point) => (point.join("pool"), None),
            On::Device(disk) => (self.folder.path().join("pool"), Some(disk.path.clone())),
        };
        let backends = vec![self.row.backend.into()];
        let pool = PoolConfig { backends, overcommit, device, ..PoolConfig::new("a", path) };
        Rig::start(self.folder.path(), pool).await
    }

    /// Stages and publishes a volume; where it is.
    pub(crate) async fn mount(&self, rig: &Rig, id: &str) -> Mounted {
        let folder = self.folder.path();
        if !self.row.is_block {
            return rig.mount(folder, id).await;
        }
        let [staging, target] = ["s", "t"].map(|part| folder.join(format!("{id}-{part}")));
        rig.stage(id, &staging, device()).await.unwrap();
        let publish = published(id, &staging, &target);
        rig.publish(NodePublishVolumeRequest { volume_capability: Some(device()), ..publish }).await.unwrap();
        Mounted { id: id.into(), staging, target }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What a test that failed has left in use, and the pool. A raw device stays otherwise, and the pool with it.
        for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
            let file = fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
            if Path::new(file.trim_end()).starts_with(self.folder.path()) {
                let device = Path::new("/dev").join(entry.file_name());
                let _ = loopdev::detach_if(&device, |status| !status.options.autoclear);
            }
        }
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
    /// Makes a file system for a pool in a folder, and mounts it; none where this kernel does not mount it with these options.
    fn file_system(&self, folder: &Path, bytes: u64) -> Option<PathBuf> {
        let (image, point) = (folder.join("disk"), folder.join("mount"));
        let file = File::options().read(true).write(true).create_new(true).open(&image).unwrap();
        file.set_len(bytes).unwrap();
        let arguments: &[&str] = match self.pool {
            "ext4" => &["-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
            "xfs" => &["-q", "-f", "-m", "reflink=1"],
            _ => &["-q", "-f"],
        };
        let mut mkfs = Command::new(format!("/usr/sbin/mkfs.{}", self.pool));
        mkfs.args(arguments).args(self.features).arg(&image);
        assert!(mkfs.status().unwrap().success(), "{mkfs:?}");
        fs::create_dir(&point).unwrap();
        let tag = format!("sextant-test-{}", folder.file_name().unwrap().to_string_lossy());
        let options = loopdev::Options { read_only: false, autoclear: true, direct_io: false };
        let (device, _held) = loopdev::attach(&file, &tag, options).unwrap();
        match mount(&device, &point, self.pool, MountFlags::empty(), Some(self.options)) {
            Ok(()) => Some(point),
            Err(e) if !self.options.is_empty() && std::env::var_os(ALL).is_none() => {
                println!("skipped: {} with {:?} cannot be had here: {e}", self.pool, self.options);
                None
            }
            Err(e) => panic!("cannot mount {} with {:?}: {e}", self.pool, self.options),
        }
    }

    pub(crate) fn request(&self, name: &str, bytes: i64) -> CreateVolumeRequest {
        let request = CreateVolumeRequest { parameters: self.parameters(), ..request(name, bytes) };
        if self.is_block {
            CreateVolumeRequest { volume_capabilities: vec![device()], ..request }
        } else {
            request
        }
    }

    fn parameters(&self) -> std::collections::BTreeMap<String, String> {
        let fs_type = ("csi.storage.k8s.io/fstype".to_owned(), self.fs_type.to_owned());
        let all = [("backend".to_owned(), self.backend.to_owned()), fs_type];
        all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
    }

    /// What the next volume can have.
    pub(crate) async fn available(&self, rig: &Rig) -> i64 {
        let volume_capabilities = self.request("", 0).volume_capabilities;
        let request =
            GetCapacityRequest { parameters: self.parameters(), volume_capabilities, ..Default::default() };
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
