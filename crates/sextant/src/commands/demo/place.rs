//! Where a demo lives: an instance of its own, which the next demo clears away if this one is killed.

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::container::{self, Record};
use crate::failure::{Context, Failure, Result};
use crate::instance::Instance;

const RUN: &str = "/run";
const DATA: &str = "/var/tmp";
const PREFIX: &str = "sextant-demo-";

#[derive(Debug)]
pub(super) struct Place {
    instance: Instance,
    run: PathBuf,
    data: PathBuf,
    /// Locked while this demo lives.
    _lock: File,
}

impl Place {
    /// Makes one, and clears away those of demos that were killed.
    pub(super) fn make() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err(Failure::new(
                "cannot run the demo as an ordinary user: run it as root (sudo sextant demo)",
            ));
        }
        clear_dead();
        let name = format!("{PREFIX}{}", std::process::id());
        let (run, data) = (Path::new(RUN).join(&name), Path::new(DATA).join(&name));
        for dir in [&run, &data] {
            fs::DirBuilder::new().mode(0o700).create(dir).context(|| format!("create {}", dir.display()))?;
        }
        let lock = lock(&run).ok_or_else(|| Failure::new(format!("cannot lock {}", run.display())))?;
        let instance = Instance::open(&data, &run)?;
        Ok(Self { instance, run, data, _lock: lock })
    }

    pub(super) fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Where the registry keeps its own.
    pub(super) fn registry_dir(&self) -> PathBuf {
        self.data.join("registry")
    }

    /// Says how to look at it.
    pub(super) fn explain(&self) {
        let options = format!("--data-dir {} --run-dir {}", self.data.display(), self.run.display());
        eprintln!("\nIt is up. Look at it from another terminal:");
        eprintln!("  sextant {options} ps");
        eprintln!("  sextant {options} logs server");
        eprintln!("Ctrl-C here removes it.");
    }

    /// Undoes everything, and returns what could not be.
    pub(super) fn clean(self) -> Vec<Failure> {
        let mut errors = empty(&self.instance);
        if errors.is_empty() {
            errors.extend(remove(&self.data).err());
            errors.extend(remove(&self.run).err());
        }
        errors
    }
}

fn empty(instance: &Instance) -> Vec<Failure> {
    let records = Record::all(instance).unwrap_or_default();
    records.iter().filter_map(|record| container::remove(instance, record, true).err()).collect()
}

fn remove(dir: &Path) -> Result<()> {
    fs::remove_dir_all(dir).context(|| format!("remove {}", dir.display()))
}

fn lock(run: &Path) -> Option<File> {
    let file = File::options().create(true).truncate(false).write(true).open(run.join("demo.lock")).ok()?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(file)
}

/// Best effort: a demo that cannot be cleared now is tried by the next.
fn clear_dead() {
    for entry in fs::read_dir(RUN).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let (run, data) = (entry.path(), Path::new(DATA).join(&name));
        if !name.to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let Some(_lock) = lock(&run) else { continue };
        if Instance::open(&data, &run).is_ok_and(|instance| empty(&instance).is_empty()) {
            let _ = remove(&data);
            let _ = remove(&run);
        }
    }
}
