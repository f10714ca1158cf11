//! The driver's pools, each on a disk of its own, and what users may ask of them: all that this kernel has.

use std::fs::File;
use std::path::{Path, PathBuf};

use kernel::btrfs;

#[path = "../../../../csi/tests/driver/disk.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod quotas;
#[path = "../../../../csi/tests/btrfs/disk.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod subvolumes;
#[path = "../../../../csi/tests/thin/disk.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod thin;

/// Of each disk. They are sparse.
const BYTES: u64 = 1 << 30;

/// A class of volumes, how large they are, and how large once they were expanded, in MiB.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    pub(super) class: String,
    pub(super) backend: &'static str,
    pub(super) pool: String,
    pub(super) size: i64,
    pub(super) larger: i64,
}

/// Disks, and the folder that they are in.
pub(super) struct Pools {
    subvolumes: subvolumes::Disk,
    quotas: Vec<quotas::Disk>,
    thin: Option<thin::Disk>,
    folder: tempfile::TempDir,
}

impl Pools {
    /// Makes them; their mounts are the calling thread's.
    pub(super) fn new() -> Pools {
        let folder = tempfile::Builder::new().prefix("sextant-pools-").tempdir_in("/tmp").unwrap();
        let quotas = quotas::Disk::with_quotas(folder.path(), BYTES);
        Pools {
            subvolumes: subvolumes::Disk::new(folder.path(), BYTES),
            quotas,
            thin: thin::Disk::new(BYTES),
            folder,
        }
    }

    /// What is asked for. An image has no less room than any file system needs.
    pub(super) fn kinds(&self) -> Vec<Kind> {
        let kind = |class: String, backend, pool: String, size| Kind {
            class,
            backend,
            pool,
            size,
            larger: size + size.min(128) / 2,
        };
        let plain =
            [("dir", 16), ("image", 256)].map(|(name, size)| kind(name.into(), name, "default".into(), size));
        let subvolumes = kind("btrfs".into(), "btrfs", "btrfs".into(), 16);
        let quotas = self.quotas.iter().map(|disk| {
            let name = format!("quota-{}", disk.kind);
            kind(name.clone(), "quota", name, 16)
        });
        let thin = self.thin.iter().map(|_| kind("lvm-thin".into(), "lvm-thin", "lvm-thin".into(), 16));
        plain.into_iter().chain([subvolumes]).chain(quotas).chain(thin).collect()
    }

    /// The pools' directories, by name; those of directories and images are in `default`.
    pub(super) fn places(&self, default: &Path) -> Vec<(String, PathBuf)> {
        let mut places = vec![("default".to_owned(), default.to_owned())];
        places.push(("btrfs".to_owned(), self.subvolumes.path().join("pool")));
        places
            .extend(self.quotas.iter().map(|disk| (format!("quota-{}", disk.kind), disk.path.join("pool"))));
        places.extend(self.thin.iter().map(|_| ("lvm-thin".to_owned(), self.folder.path().join("lvm-thin"))));
        places
    }

    /// What the driver is told of them.
    pub(super) fn config(&self, default: &Path) -> String {
        let mut text = String::new();
        for (name, path) in self.places(default) {
            text += &format!("[[pool]]\nname = {name:?}\npath = {path:?}\n");
            if let Some(disk) = self.thin.as_ref().filter(|_| name == "lvm-thin") {
                text += &format!("device = {:?}\n", disk.path);
            }
        }
        text
    }

    /// Nothing is on the disks of what was deleted, whether a record names it or not.
    pub(super) fn are_empty(&self) {
        let root = File::open(self.subvolumes.path()).unwrap();
        assert_eq!(btrfs::nested(&root, btrfs::id(&root).unwrap()).unwrap(), Vec::<u64>::new());
        for disk in &self.quotas {
            let ids = csi::plugin::PoolConfig::new("a", "/").project_ids;
            disk.until_nothing_is_of_projects(&File::open(&disk.path).unwrap(), ids);
        }
        if let Some(disk) = &self.thin {
            disk.until_without_device();
            assert_eq!(disk.used(), 0);
        }
    }
}
