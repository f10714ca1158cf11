//! What is kept of a container between commands: a directory, with its state and a copy of its configuration.
//!
//! The format is docs/adr/0010. State is written before the effect it tells of, and replaced as a whole: whoever reads
//! it needs no lock. Whoever changes something holds the directory's lock, which ends with its process.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use kernel::cgroup::Cgroup;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use rustix::net::SocketType;
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use crate::contract::{self, Hooks, IntelRdt, Spec, State, Status};
use crate::rdt;

const STATE: &str = "state.json";
const CONFIG: &str = "config.json";
const NEXT: &str = "state.json.next";
const START: &str = "start.sock";

/// What `state.json` holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// The version of this format.
    pub(crate) format: u32,
    pub(crate) id: String,
    /// `creating`, then `created` (its process waits on the socket) or `running` (it was started by whoever made it).
    pub(crate) status: Status,
    /// 0 as long as there is none.
    pub(crate) pid: i32,
    /// With the number it names one process of this boot.
    pub(crate) start_time: u64,
    pub(crate) bundle: String,
    pub(crate) rootfs: String,
    /// RFC 3339.
    pub(crate) created: String,
    pub(crate) owner: u32,
    /// Below every hierarchy's root; `None` where it has none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cgroup: Option<String>,
    /// What its group in the resctrl filesystem was made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rdt: Option<IntelRdt>,
    /// It has no mount namespace: the mount that was seen at its root before it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) host_mount: Option<u64>,
    /// The unit that systemd has it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<OwnUnit>,
    /// Its first process is number 1 of a PID namespace that ends with it.
    pub(crate) own_pids: bool,
    /// Its processes keep the session keyring of whoever called.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) inherits_keyring: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    /// Those at the start, after it and after the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hooks: Option<Hooks>,
}

/// A unit of systemd's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OwnUnit {
    pub(crate) name: String,
    /// It is of the user's systemd, not of the machine's.
    pub(crate) user: bool,
    /// By which it is told from somebody else's of that name.
    pub(crate) description: String,
}

impl Record {
    /// The cgroup, which need not be there.
    pub(crate) fn cgroup(&self) -> Result<Option<Cgroup>, Failure> {
        Ok(self.cgroup.as_deref().map(|path| Cgroup::at(Path::new(path))).transpose()?)
    }

    /// The group in the resctrl filesystem, which need not be there.
    pub(crate) fn rdt(&self) -> Result<Option<rdt::Group>, Failure> {
        let Some(rdt) = &self.rdt else { return Ok(None) };
        Ok(rdt::Group::of(rdt, &self.id)?)
    }

    /// As hooks and agents see it.
    pub(crate) fn state(&self, status: Status) -> State {
        State {
            oci_version: contract::VERSION.to_owned(),
            id: self.id.clone(),
            status,
            pid: if status == Status::Stopped { 0 } else { self.pid },
            bundle: self.bundle.clone(),
            annotations: self.annotations.clone(),
        }
    }

    /// The first process, if it still is that one.
    pub(crate) fn process(&self) -> Option<OwnedFd> {
        if self.pid <= 0 {
            return None;
        }
        // Opened first: what the start time is read of is then the same process, or none.
        let pidfd = kernel::process::pidfd(self.pid).ok()?;
        (kernel::process::alive_since(self.pid) == Some(self.start_time)).then_some(pidfd)
    }
}

/// A container's directory.
#[derive(Debug)]
pub(crate) struct Dir {
    id: String,
    path: PathBuf,
    fd: OwnedFd,
}

impl Dir {
    /// Takes a name nobody has, and the lock with it.
    pub(crate) fn claim(root: &Path, id: &str) -> Result<Self, Failure> {
        check_id(id)?;
        let path = root.join(id);
        let make = || fs::DirBuilder::new().mode(0o700).create(&path);
        let made = make().or_else(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                fs::DirBuilder::new().mode(0o700).recursive(true).create(root).and_then(|()| make())
            }
            _ => Err(e),
        });
        match made {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Failure::container(
                    "create",
                    id,
                    format!(
                        "container with given ID already exists (in {}); delete it first",
                        root.display()
                    ),
                ));
            }
            Err(e) => return Err(Failure::new(format!("cannot create directory {}: {e}", path.display()))),
        }
        Self::open_at(path, id)?.locked()
    }

    /// The directory of a container that is there.
    pub(crate) fn open(root: &Path, id: &str) -> Result<Self, Failure> {
        check_id(id)?;
        Self::open_at(root.join(id), id)
    }

    fn open_at(path: PathBuf, id: &str) -> Result<Self, Failure> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { id: id.to_owned(), path, fd }),
            Err(Errno::NOENT | Errno::NOTDIR) => Err(missing(&path, id)),
            Err(e) => Err(Failure::new(format!("cannot open directory {}: {e}", path.display()))),
        }
    }

    /// Waits until nobody else changes this container. One that is deleted meanwhile is an error.
    pub(crate) fn locked(self) -> Result<Self, Failure> {
        let say = |e: Errno| Failure::new(format!("cannot lock {}: {e}", self.path.display()));
        rustix::io::retry_on_intr(|| flock(&self.fd, FlockOperation::LockExclusive)).map_err(say)?;
        if rustix::fs::fstat(&self.fd).map_err(say)?.st_nlink == 0 {
            return Err(missing(&self.path, &self.id));
        }
        Ok(self)
    }

    /// Whether somebody is changing this container now.
    fn is_locked(&self) -> bool {
        let taken = flock(&self.fd, FlockOperation::NonBlockingLockShared);
        if taken.is_ok() {
            // Taken only to ask; it ends with the descriptor at the latest.
            let _ = flock(&self.fd, FlockOperation::Unlock);
        }
        taken == Err(Errno::WOULDBLOCK)
    }

    /// Where a container that is made listens for its start.
    pub(crate) fn start_socket(&self) -> PathBuf {
        self.path.join(START)
    }

    /// The state, or `None` where its maker was killed before it wrote one.
    pub(crate) fn find(&self) -> Result<Option<Record>, Failure> {
        let say = |e: &dyn std::fmt::Display| {
            Failure::new(format!("cannot read {}/{STATE}: {e}", self.path.display()))
        };
        match fs::read(self.path.join(STATE)) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|e| say(&e)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(say(&e)),
        }
    }

    /// The state of a container that has one.
    pub(crate) fn read(&self) -> Result<Record, Failure> {
        self.find()?.ok_or_else(|| missing(&self.path, &self.id))
    }

    /// The configuration the container was made of.
    pub(crate) fn config(&self) -> Result<Spec, Failure> {
        let path = self.path.join(CONFIG);
        let text =
            fs::read(&path).map_err(|e| Failure::new(format!("cannot read {}: {e}", path.display())))?;
        Ok(contract::parse(&text)?)
    }

    pub(crate) fn write_config(&self, text: &[u8]) -> Result<(), Failure> {
        fs::write(self.path.join(CONFIG), text)
            .map_err(|e| Failure::new(format!("cannot write {}/{CONFIG}: {e}", self.path.display())))
    }

    /// Replaces the state.
    pub(crate) fn write(&self, record: &Record) -> Result<(), Failure> {
        let say =
            |e: std::io::Error| Failure::new(format!("cannot write {}/{STATE}: {e}", self.path.display()));
        let text = serde_json::to_vec(record).map_err(|e| say(e.into()))?;
        let next = self.path.join(NEXT);
        let mut file = fs::File::create(&next).map_err(say)?;
        file.write_all(&text).and_then(|()| fs::rename(&next, self.path.join(STATE))).map_err(say)
    }

    /// How far the container's life has come.
    pub(crate) fn status(&self, record: &Record) -> Result<Status, Failure> {
        if record.status == Status::Creating {
            if self.is_locked() {
                return Ok(Status::Creating);
            }
            // Done just now, or its maker was killed.
            return match self.find()? {
                Some(now) if now.status != Status::Creating => self.status(&now),
                _ => Ok(Status::Stopped),
            };
        }
        if record.process().is_none() {
            return Ok(Status::Stopped);
        }
        if record.status == Status::Created && self.is_waiting() {
            return Ok(Status::Created);
        }
        Ok(if record.cgroup()?.is_some_and(|c| c.is_frozen()) { Status::Paused } else { Status::Running })
    }

    /// Whether the process still listens for its start. The socket's name alone does not tell: whoever started it may
    /// have been killed before removing it.
    fn is_waiting(&self) -> bool {
        match crate::unix::try_connect(&self.start_socket(), SocketType::SEQPACKET) {
            Ok(_) | Err(Errno::AGAIN) => true,
            Err(_) => false,
        }
    }

    /// The start has come: nobody has to ask the socket any more.
    pub(crate) fn remove_socket(&self) {
        // Whoever finds it there asks it, and hears that nobody listens.
        let _ = fs::remove_file(self.start_socket());
    }

    /// Lets others change this container.
    pub(crate) fn unlock(&self) -> Result<(), Failure> {
        flock(&self.fd, FlockOperation::Unlock)
            .map_err(|e| Failure::new(format!("cannot unlock {}: {e}", self.path.display())))
    }

    /// Removes the directory. The name is free then.
    pub(crate) fn remove(self) -> Result<(), Failure> {
        self.unlink(&[CONFIG, STATE])?;
        match rustix::fs::rmdir(&self.path) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            other => return self.removed(other),
        }
        // Not started, or its maker was killed while it wrote.
        self.unlink(&[START, NEXT])?;
        self.removed(rustix::fs::rmdir(&self.path))
    }

    fn unlink(&self, names: &[&str]) -> Result<(), Failure> {
        names.iter().try_for_each(|name| {
            match rustix::fs::unlinkat(&self.fd, *name, rustix::fs::AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(e) => Err(Failure::new(format!("cannot remove {}/{name}: {e}", self.path.display()))),
            }
        })
    }

    fn removed(&self, outcome: rustix::io::Result<()>) -> Result<(), Failure> {
        match outcome {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(Failure::new(format!("cannot remove {}: {e}", self.path.display()))),
        }
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn missing(path: &Path, id: &str) -> Failure {
    let root = path.parent().unwrap_or(path).display();
    Failure::new(format!("cannot find container {id:?}: container does not exist (in {root}; see list)"))
}

/// An id is the name of a directory, and stands in messages and paths.
fn check_id(id: &str) -> Result<(), Failure> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-' | b'.');
    if id.is_empty() || id.len() > 255 || matches!(id, "." | "..") || !id.bytes().all(good) {
        return Err(Failure::usage(format!(
            "cannot use container id {id:?}: invalid id format (give 1 to 255 of A-Z a-z 0-9 _ + - .)"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_names() {
        for bad in ["", ".", "..", "a/b", "a b", "../x", &"x".repeat(256)] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
        check_id("a.b-c_d+1").unwrap();
    }
}
