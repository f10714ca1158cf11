//! Device mapper: block devices whose sectors are elsewhere (linear), not there yet (thin) or encrypted (crypt).
//!
//! A device is known by its name, which is its UUID as well; it is at `/dev/dm-MINOR`. A table is loaded beside the one in use,
//! and takes its place when the device is resumed. Nothing here waits for udev.

mod request;

use std::fs::File;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::{Act, Error, Result};
use request::{
    ACTIVE, CONTROL, Command, DEFERRED, NO_FLUSH, NO_LOCK, READ_ONLY, Request, STATUS_TABLE, SUSPEND,
};

/// Bytes of a sector, in which everything of a table is counted.
pub const SECTOR: u64 = 512;

/// A line of a table, or what a target says of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// Its first sector.
    pub start: u64,
    /// How many sectors it has.
    pub length: u64,
    /// Its kind: `linear`, `thin-pool`, `thin`, `crypt`.
    pub kind: String,
    /// The kind's own words. Those of `crypt` have the key in them.
    pub parameters: String,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parameters = if self.kind == "crypt" { "(hidden)" } else { &self.parameters };
        write!(f, "{} {} {} {parameters}", self.start, self.length, self.kind)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.kind == "crypt" {
            let mut parameters = std::mem::take(&mut self.parameters).into_bytes();
            parameters.fill(0);
            std::hint::black_box(&parameters);
        }
    }
}

/// How a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// Its number.
    pub number: (u32, u32),
    /// How many have it open, other devices among them.
    pub opened: u32,
    /// What is written and read waits.
    pub suspended: bool,
    /// It has a table. One without was being made when its maker ended.
    pub active: bool,
    /// It goes when the last who has it open closes it.
    pub deferred: bool,
    /// Nothing can be written.
    pub read_only: bool,
}

impl Info {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/dev/dm-{}", self.number.1))
    }

    /// Its number as tables name it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}:{}", self.number.0, self.number.1)
    }

    fn of(request: &Request) -> Info {
        let flags = request.flags();
        Info {
            number: (request.major(), request.minor()),
            opened: request.opened(),
            suspended: flags & SUSPEND != 0,
            active: flags & ACTIVE != 0,
            deferred: flags & DEFERRED != 0,
            read_only: flags & READ_ONLY != 0,
        }
    }
}

/// The version of device mapper's interface.
///
/// # Errors
/// `ENOENT`, `ENODEV` where the kernel has no device mapper, or its module is not loaded.
pub fn version() -> Result<(u32, u32, u32)> {
    Ok(ask(Command::Version, "", 0, "ask", |_| {})?.version())
}

/// Makes a device that has a table. Where that fails there is none.
///
/// # Errors
/// `EBUSY` where there is one of this name; `EINVAL` where the kernel does not know a target, or its words; what else a target
/// refuses.
pub fn create(name: &str, targets: &[Target], read_only: bool) -> Result<Info> {
    ask(Command::Create, name, 0, "make", |request| request.uuid(name))?;
    let made = load(name, targets, read_only).and_then(|()| resume(name));
    match made {
        Ok(info) => Ok(info),
        Err(error) => {
            // What failed is told; one that stays is found by its name.
            let _there_still = remove(name, false);
            Err(error)
        }
    }
}

/// Loads a table beside the one in use.
///
/// # Errors
/// As [`create`].
pub fn load(name: &str, targets: &[Target], read_only: bool) -> Result<()> {
    let flags = if read_only { READ_ONLY } else { 0 };
    ask(Command::Load, name, flags, "load a table into", |request| request.table(targets)).map(drop)
}

/// Has a device go on, with the table that was loaded last.
///
/// # Errors
/// What the table's targets refuse; `ENXIO` where there is no such device.
pub fn resume(name: &str) -> Result<Info> {
    Ok(Info::of(&ask(Command::Suspend, name, 0, "resume", |_| {})?))
}

/// Holds a device still: what is under way is done when this returns, and what comes then waits. Where `freeze` says so a file
/// system on it is frozen before.
///
/// # Errors
/// `EINVAL` where it is suspended already; what the file system says.
pub fn suspend(name: &str, freeze: bool) -> Result<()> {
    let flags = if freeze { SUSPEND } else { SUSPEND | NO_LOCK };
    ask(Command::Suspend, name, flags, "suspend", |_| {}).map(drop)
}

/// Removes a device; one that is not there is removed. `deferred`: one in use goes with its last user.
///
/// # Errors
/// `EBUSY` where it is in use.
pub fn remove(name: &str, deferred: bool) -> Result<()> {
    match ask(Command::Remove, name, if deferred { DEFERRED } else { 0 }, "remove", |_| {}) {
        Err(e) if e.errno() == Some(Errno::NXIO) => Ok(()),
        done => done.map(drop),
    }
}

/// How a device is; none where there is none of this name.
///
/// # Errors
/// The kernel's.
pub fn info(name: &str) -> Result<Option<Info>> {
    match ask(Command::Info, name, 0, "look at", |_| {}) {
        Ok(request) => Ok(Some(Info::of(&request))),
        Err(e) if e.errno() == Some(Errno::NXIO) => Ok(None),
        Err(e) => Err(e),
    }
}

/// What a device's targets say of themselves.
///
/// # Errors
/// `ENXIO` where there is no such device.
pub fn status(name: &str) -> Result<Vec<Target>> {
    Ok(ask(Command::Status, name, NO_FLUSH, "look at", |_| {})?.targets())
}

/// The table of a device, with the keys in it.
///
/// # Errors
/// `ENXIO` where there is no such device.
pub fn table(name: &str) -> Result<Vec<Target>> {
    Ok(ask(Command::Status, name, STATUS_TABLE | NO_FLUSH, "look at", |_| {})?.targets())
}

/// Tells a device's only target something.
///
/// # Errors
/// What the target says.
pub fn message(name: &str, text: &str) -> Result<()> {
    let verb = "send a message to";
    ask(Command::Message, name, 0, verb, |request| request.message(text))
        .map(drop)
        .map_err(|e| Error::new(verb, format!("{}: {text:?}", e.object), e.source))
}

/// The names of all devices that begin with `prefix`.
///
/// # Errors
/// The kernel's.
pub fn list(prefix: &str) -> Result<Vec<String>> {
    let mut names = ask(Command::List, "", 0, "list", |_| {})?.names();
    names.retain(|name| name.starts_with(prefix));
    Ok(names)
}

fn ask(
    command: Command,
    name: &str,
    flags: u32,
    verb: &'static str,
    fill: impl FnOnce(&mut Request),
) -> Result<Request> {
    let control = File::options().read(true).write(true).open(CONTROL).act("open", || CONTROL)?;
    let object = || match name {
        "" => "the devices of device mapper".to_owned(),
        name => format!("the device {name:?}"),
    };
    let mut request = Request::new(command, name, flags).act(verb, object)?;
    fill(&mut request);
    request.ask(&control).act(verb, object)?;
    Ok(request)
}

/// Whether an error says that the kernel has no device mapper.
#[must_use]
pub fn is_missing(error: &Error) -> bool {
    error.object == CONTROL && matches!(error.errno(), Some(Errno::NOENT | Errno::NODEV | Errno::NXIO))
}

#[cfg(test)]
mod tests;
