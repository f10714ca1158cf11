//! A disk for a pool of thin volumes.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use kernel::{dm, loopdev};

/// A loop device over an empty file, both of which go with it, and the pool that a killed driver leaves on it.
pub(crate) struct Disk {
    pub(crate) path: PathBuf,
    /// As tables name it.
    number: String,
    pub(crate) bytes: u64,
    file: File,
    open: File,
}

impl Disk {
    /// None where there is no device mapper, which is told; in the guest there must be.
    pub(crate) fn new(bytes: u64) -> Option<Disk> {
        match dm::version() {
            Ok(_) => {}
            Err(e) if std::env::var_os("SEXTANT_NEEDS_DM").is_none() => {
                eprintln!("skipped: {e}");
                return None;
            }
            Err(e) => panic!("{e}"),
        }
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes).unwrap();
        let options = loopdev::Options { autoclear: true, ..loopdev::Options::default() };
        let (path, open) = loopdev::attach(&file, "sextant-test-thin", options).unwrap();
        let number = open.metadata().unwrap().rdev();
        let number = format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number));
        Some(Disk { path, number, bytes, file, open })
    }

    /// Makes it larger.
    pub(crate) fn grow(&mut self, bytes: u64) {
        self.file.set_len(bytes).unwrap();
        loopdev::set_capacity(&self.open).unwrap();
        self.bytes = bytes;
    }

    /// Bytes that it takes of what it is on.
    pub(crate) fn taken(&self) -> u64 {
        self.open.sync_all().unwrap();
        self.file.metadata().unwrap().blocks() * 512
    }

    /// What the names of the pool's devices begin with, if it is active: of the pool whose data is on this disk.
    fn pool(&self) -> Option<String> {
        let is_here = |name: &str| {
            let table = dm::table(name).unwrap_or_default();
            table.iter().any(|target| target.parameters.split(' ').next() == Some(&*self.number))
        };
        let names = dm::list("sextant-csi-").unwrap();
        names
            .iter()
            .filter_map(|name| name.strip_suffix("data").filter(|_| is_here(name)))
            .map(str::to_owned)
            .next()
    }

    /// The devices of volumes, without the pool's own.
    pub(crate) fn devices(&self) -> Vec<String> {
        let Some(pool) = self.pool() else { return Vec::new() };
        let mut names = dm::list(&pool).unwrap();
        names.retain(|name| !["-pool", "-data", "-metadata"].iter().any(|part| name.ends_with(part)));
        names
    }

    /// Blocks of the pool that volumes and snapshots have, also those that nobody knows any more.
    pub(crate) fn used(&self) -> u64 {
        let status = dm::status(&(self.pool().expect("a pool") + "pool")).unwrap();
        // The transaction, and metadata and data as USED/ALL.
        let used = status[0].parameters.split(['/', ' ']).nth(3).map(str::parse);
        used.expect("what is used").unwrap()
    }

    /// A device goes a moment after its mount.
    pub(crate) fn until_without_device(&self) {
        for _ in 0..36_000 {
            if self.devices().is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("there still are {:?}", self.devices());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let Some(pool) = self.pool() else { return };
        for part in ["pool", "data", "metadata"] {
            let _in_use = dm::remove(&format!("{pool}{part}"), true);
        }
    }
}
