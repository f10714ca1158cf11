use std::fs;
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ledger::{Effect, Record};

use crate::contract::{Code, Error};

/// A network's leases, locked: a file an address, as the reference plugin has them, so that both may share a subnet.
#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
    _lock: fs::File,
}

/// Whose lease it is. The file holds both names, CRLF between them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holder<'a> {
    pub(super) container_id: &'a str,
    pub(super) ifname: &'a str,
}

impl Holder<'_> {
    fn text(self) -> String {
        format!("{}\r\n{}", self.container_id, self.ifname)
    }

    /// Leases written before interfaces were named hold the container alone.
    fn holds(self, text: &str) -> bool {
        let text = text.trim();
        text == self.text() || text == self.container_id
    }
}

impl Store {
    /// Locks the leases in `dir`, which is made if it is not there.
    pub(super) fn open(dir: PathBuf) -> Result<Self, Error> {
        fs::create_dir_all(&dir).map_err(failed("create directory", &dir))?;
        Self::lock(dir)
    }

    /// Locks the leases in `dir`; none if there is no such directory.
    pub(super) fn open_existing(dir: PathBuf) -> Result<Option<Self>, Error> {
        if dir.is_dir() { Self::lock(dir).map(Some) } else { Ok(None) }
    }

    fn lock(dir: PathBuf) -> Result<Self, Error> {
        let path = dir.join("lock");
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed("open", &path))?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive))
            .map_err(|e| failed("lock", &path)(e.into()))?;
        Ok(Self { dir, _lock: file })
    }

    fn path(&self, address: IpAddr) -> PathBuf {
        self.dir.join(address.to_string())
    }

    fn last_path(&self, set: usize) -> PathBuf {
        self.dir.join(format!("last_reserved_ip.{set}"))
    }

    /// The address that was given out last from a set of ranges.
    pub(super) fn last_given(&self, set: usize) -> Option<IpAddr> {
        fs::read_to_string(self.last_path(set)).ok()?.trim().parse().ok()
    }

    /// Takes an address for `holder`, recorded first. False if somebody has it.
    pub(super) fn take(
        &self,
        address: IpAddr,
        set: usize,
        holder: Holder<'_>,
        record: &mut dyn Record,
    ) -> Result<bool, Error> {
        let path = self.path(address);
        if path.exists() {
            return Ok(false);
        }
        record.record(Effect::Lease { path: path.clone(), holder: holder.container_id.to_owned() })?;
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(holder.text().as_bytes()))
            .map_err(failed("write lease", &path))?;
        let last = self.last_path(set);
        fs::write(&last, address.to_string()).map_err(failed("write", &last))?;
        Ok(true)
    }

    /// Who has an address.
    pub(super) fn is_held(&self, address: IpAddr, holder: Holder<'_>) -> bool {
        fs::read_to_string(self.path(address)).is_ok_and(|text| holder.holds(&text))
    }

    /// Gives back those of `addresses` that `holder` has.
    pub(super) fn release(&self, addresses: &[IpAddr], holder: Holder<'_>) -> Result<(), Error> {
        addresses.iter().filter(|a| self.is_held(**a, holder)).try_for_each(|a| remove(&self.path(*a)))
    }

    /// Gives back all that `holder` has: reads every lease.
    pub(super) fn release_all(&self, holder: Holder<'_>) -> Result<(), Error> {
        let held: Vec<_> =
            self.leases()?.into_iter().filter(|address| self.is_held(*address, holder)).collect();
        self.release(&held, holder)
    }

    /// All addresses that are given out.
    pub(super) fn leases(&self) -> Result<Vec<IpAddr>, Error> {
        let entries = fs::read_dir(&self.dir).map_err(failed("list", &self.dir))?;
        Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(failed("remove lease", path)(e)),
        _ => Ok(()),
    }
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |e| Error::because(format!("cannot {verb} {path}"), e).code(Code::Io)
}
