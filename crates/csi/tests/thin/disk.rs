//! A disk for a pool of thin volumes.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use kernel::{dm, loopdev};

/// A loop device over an empty file, both of which go with it, and the pool that a killed driver leaves on it.
pub(crate) struct Disk {
    pub(crate) path: PathBuf,
    /// Pools that were there before.
    others: Vec<String>,
    _open: File,
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
        Some(Disk { path, others: dm::list("sextant-csi-").unwrap(), _open: open })
    }

    /// The devices of volumes: what has come since, without the pool's own.
    pub(crate) fn devices(&self) -> Vec<String> {
        let mut names = dm::list("sextant-csi-").unwrap();
        let is_own = |name: &String| ["-pool", "-data", "-metadata"].iter().any(|part| name.ends_with(part));
        names.retain(|name| !self.others.contains(name) && !is_own(name));
        names
    }

    /// A device goes a moment after its mount.
    pub(crate) fn until_without_device(&self) {
        for _ in 0..2000 {
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
        let own = dm::list("sextant-csi-").unwrap_or_default();
        for part in ["-pool", "-data", "-metadata"] {
            for name in own.iter().filter(|name| name.ends_with(part) && !self.others.contains(name)) {
                let _in_use = dm::remove(name, true);
            }
        }
    }
}
