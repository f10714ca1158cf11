//! A container's root: a running one's through its first process, an ended one's mounted for as long as it takes, in no
//! mount table.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ledger::{Owner, OwnerId};
use oci_runtime::contract::Mount;
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::tree::Tree;
use crate::container::{self, Record, State};
use crate::failure::{Context, Failure, Result};
use crate::instance::Instance;

/// The files of one side.
pub(super) struct Root {
    pub(super) tree: Tree,
    /// Keeps an ended container from being started or removed while its writable layer is mounted here.
    _locked: Option<Owner>,
}

/// This machine's.
pub(super) fn here() -> Result<Root> {
    Ok(Root { tree: Tree::here(directory(Path::new("."))?), _locked: None })
}

/// A container's, and `path` in it.
pub(super) fn of(instance: &Instance, record: &Record, path: &Path, write: bool) -> Result<(Root, PathBuf)> {
    match container::state_of(instance, record) {
        State::Running { pid, .. } => Ok((running(instance, record, pid)?, path.to_owned())),
        State::Starting => {
            Err(Failure::new(format!("container {} is just starting: try again", record.name)))
        }
        State::Exited(_) | State::Created => ended(instance, record, path, write),
    }
}

fn running(instance: &Instance, record: &Record, pid: i32) -> Result<Root> {
    let root = directory(Path::new(&format!("/proc/{pid}/root")));
    // The number may have become another process's before it was opened; not if it is still the container's now.
    match (root, container::state_of(instance, record)) {
        (Ok(root), State::Running { pid: now, .. }) if now == pid => {
            Ok(Root { tree: Tree::container(root), _locked: None })
        }
        _ => Err(Failure::new(format!("container {} has just ended: try again", record.name))),
    }
}

fn ended(instance: &Instance, record: &Record, path: &Path, write: bool) -> Result<(Root, PathBuf)> {
    // To be read it is mounted read-only, which disturbs nobody.
    let locked = match write {
        true => Some(instance.ledger.owner(&OwnerId::new(record.id.clone())?)?),
        false => None,
    };
    if write && container::state_of(instance, record).is_active() {
        return Err(Failure::new(format!("container {} has just been started: try again", record.name)));
    }
    if let Some((root, rest)) = volume(instance, record, path, write)? {
        return Ok((Root { tree: Tree::container(root), _locked: locked }, rest));
    }
    let store = instance.store()?;
    let layers = record.layers.iter().map(|digest| Ok(store.layer_path(&digest.parse()?)?));
    let layers = layers.collect::<Result<Vec<PathBuf>>>()?;
    let state = instance.state_dir(&record.id);
    let (upper, work) = (state.join("upper"), state.join("work"));
    let mut lower: Vec<&Path> = layers.iter().map(PathBuf::as_path).collect();
    if !write {
        lower.insert(0, &upper);
    } else if let Err(error) = fs::remove_dir_all(work.join("work/incompat"))
        && error.kind() != std::io::ErrorKind::NotFound
    {
        // The kernel's note that the container's own, volatile mount was never synced.
        return Err(Failure::new(format!("cannot use {}: {error}", work.display())));
    }
    let upper = write.then_some((upper.as_path(), work.as_path()));
    let root = kernel::mount::overlay(&kernel::mount::Overlay { lower, upper, volatile: write })?;
    Ok((Root { tree: Tree::container(root), _locked: locked }, path.to_owned()))
}

/// The directory of this machine that an ended container has mounted at `path` or above, and what is left of the path.
fn volume(
    instance: &Instance,
    record: &Record,
    path: &Path,
    write: bool,
) -> Result<Option<(OwnedFd, PathBuf)>> {
    let config = instance.state_dir(&record.id).join("config.json");
    let bytes = fs::read(&config).context(|| format!("read {}", config.display()))?;
    let spec = oci_runtime::contract::parse(&bytes)?;
    let absolute = Path::new("/").join(path);
    let inside = |mount: &&Mount| mount.kind == "bind" && absolute.starts_with(&mount.destination);
    let Some(mount) =
        spec.mounts.iter().filter(inside).max_by_key(|m| Path::new(&m.destination).components().count())
    else {
        return Ok(None);
    };
    if write && mount.options.iter().any(|o| o == "ro" || o == "rro") {
        return Err(Failure::new(format!(
            "{} is mounted read-only in container {}",
            mount.destination, record.name
        )));
    }
    let source = Path::new(&mount.source);
    // A file of the run's own (/etc/hosts) is gone with the run.
    if !source.is_dir() {
        return Ok(None);
    }
    let rest = absolute.strip_prefix(&mount.destination).unwrap_or(Path::new(""));
    // What a path says by ending in a slash or a dot is lost in its components.
    let text = path.as_os_str().as_encoded_bytes();
    let tail = if text.ends_with(b"/.") { "." } else { "" };
    let slash = if text.ends_with(b"/") || !tail.is_empty() { "/" } else { "" };
    let name = rest.to_string_lossy();
    let rest = match name.is_empty() {
        true => format!("/{tail}"),
        false => format!("/{name}{slash}{tail}"),
    };
    Ok(Some((directory(source)?, rest.into())))
}

fn directory(path: &Path) -> Result<OwnedFd> {
    openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .context(|| format!("open {}", path.display()))
}
