//! One installation of Sextant on this machine: its directories, its names in the kernel, its ledger and its store.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ledger::{Ledger, OwnerId};
use oci_image::store::Store;

use crate::commands;
use crate::container::{self, Record};
use crate::failure::{Context, Failure, Result};

/// The instance that `--data-dir` and `--run-dir` name.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) data: PathBuf,
    pub(crate) run: PathBuf,
    /// What its bridge, table and cgroups are called after.
    pub(crate) name: String,
    pub(crate) ledger: Ledger,
}

const DEFAULT_RUN: &str = "/run/sextant";

impl Instance {
    /// Opens the instance, and takes back what killed commands and shims left behind.
    ///
    /// It must be root: everything it does takes capabilities.
    pub(crate) fn open(data: &Path, run: &Path) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err(Failure::new(
                "cannot manage containers as an ordinary user: run it as root (sudo sextant ...)",
            ));
        }
        let [data, run] = [data, run].map(|dir| {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .and_then(|()| fs::canonicalize(dir))
                .context(|| format!("create the directory {}", dir.display()))
        });
        let (data, run) = (data?, run?);
        let ledger = Ledger::open(&run, &data)?;
        let instance = Self { name: name(&run), data, run, ledger };
        instance.converge();
        Ok(instance)
    }

    /// The image store.
    pub(crate) fn store(&self) -> Result<Store> {
        Ok(Store::open(self.data.join("images"))?)
    }

    /// Where a container's record, log and writable layer are.
    pub(crate) fn state_dir(&self, id: &str) -> PathBuf {
        self.data.join("containers").join(id)
    }

    /// Where a running container's bundle and sockets are.
    pub(crate) fn bundle_dir(&self, id: &str) -> PathBuf {
        self.run.join("containers").join(id)
    }

    /// Where a running container's network namespace is pinned.
    pub(crate) fn netns(&self, id: &str) -> PathBuf {
        self.run.join("netns").join(id)
    }

    /// The cgroup of a container, below every hierarchy's root.
    pub(crate) fn cgroup(&self, id: &str) -> PathBuf {
        Path::new(&self.name).join(id)
    }

    /// Whether what `owner` has is to stay, though no pod of the node has it: a container's or an attachment's that was made from the
    /// command line, that of Services, which are reached while nobody looks after them, and that of pods which are closed as long as nobody is there
    /// who could tell whom they are open to.
    pub(crate) fn is_alive(&self, owner: &OwnerId) -> bool {
        if *owner == services::effects::owner() || *owner == commands::mesh::guarding() {
            return true;
        }
        commands::cni::is_alive(owner, &container::cni_cache(self))
            .unwrap_or_else(|| self.state_dir(owner.as_str()).join(container::RECORD).exists())
    }

    /// Undoes what nobody alive owns. What cannot be undone now stays recorded and is tried again by the next command.
    fn converge(&self) {
        let report = self.ledger.converge(&|owner: &OwnerId| {
            *owner == OwnerId::node() || cri::plugin::is_alive(&self.data, owner) || self.is_alive(owner)
        });
        for (owner, error) in report.errors {
            eprintln!("sextant: warning: {owner}: {error}");
        }
        for record in Record::all(self).unwrap_or_default() {
            if container::is_stale(self, &record) {
                for error in container::settle(self, &record.id) {
                    eprintln!("sextant: warning: {}: {error}", record.name);
                }
            }
        }
    }
}

/// `sextant` for the usual directories, and a name of its own for every other.
pub(crate) fn name(run: &Path) -> String {
    if is_default(run) {
        return "sextant".into();
    }
    // FNV-1a: short, stable, and nobody gains by a collision of directories they choose themselves.
    let hash = run.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("sextant-{:08x}", hash as u32 ^ (hash >> 32) as u32)
}

/// Whether that is the run directory of the instance that nobody named.
pub(crate) fn is_default(run: &Path) -> bool {
    run == Path::new(DEFAULT_RUN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_have_names_of_their_own() {
        assert_eq!(name(Path::new("/run/sextant")), "sextant");
        let (a, b) = (name(Path::new("/run/a")), name(Path::new("/run/b")));
        assert!(a != b && a.len() == "sextant-".len() + 8, "{a} {b}");
    }
}
