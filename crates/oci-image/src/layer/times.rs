//! What a directory gets last: its times, which every entry made in it would change, and a set-group-id bit, which every
//! entry made in it would inherit.

use std::{collections::BTreeMap, ops::Range};

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, fchmod, openat, utimensat};
use rustix::io::Errno;

use super::{
    directories::Directories,
    error::{At, Error, Result},
    name,
    tar::Time,
};

/// The most bytes of directory names kept: about a million directories.
const BYTES: usize = 64 << 20;

/// Directories whose attributes wait for the end of the layer, by their real paths.
#[derive(Default)]
pub(super) struct Deferred {
    directories: BTreeMap<Vec<u8>, (Time, Option<u32>)>,
    bytes: usize,
}

impl Deferred {
    /// Keeps the time of the directory at the real path `path`, and its mode if that must wait too.
    pub(super) fn push(&mut self, path: Vec<u8>, time: Time, mode: Option<u32>) -> Result<()> {
        self.bytes += path.len();
        if self.bytes > BYTES {
            return Err(Error::name(&path, "the layer has too many directories"));
        }
        self.directories.insert(path, (time, mode));
        Ok(())
    }

    /// Drops what was kept for `path` and below: it is no more.
    pub(super) fn forget(&mut self, path: &[u8]) {
        self.directories.remove(path);
        let below: Vec<_> = self.directories.range(below(path)).map(|(p, _)| p.clone()).collect();
        for path in below {
            self.directories.remove(&path);
        }
    }

    /// Puts everything on. A directory that gave way to something else is passed over.
    pub(super) fn apply(&self, directories: &mut Directories) -> Result<()> {
        self.directories.iter().try_for_each(|(path, &(time, mode))| {
            match put(directories, path, time, mode) {
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
                Err(e) => Err(e).at("set the times of", path),
            }
        })
    }
}

/// Everything below a path, in the order of bytes.
pub(super) fn below(path: &[u8]) -> Range<Vec<u8>> {
    // The byte after the slash ends it.
    [path, b"/"].concat()..[path, b"0"].concat()
}

fn put(directories: &mut Directories, path: &[u8], time: Time, mode: Option<u32>) -> Result<(), Errno> {
    let (parent, last) = name::split(path);
    directories.enter(parent)?;
    let (parent, _) = directories.current();
    let last = if last.is_empty() { b"." } else { last };
    if let Some(mode) = mode {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fchmod(openat(parent, last, flags, Mode::empty())?, Mode::from_raw_mode(mode))?;
    }
    utimensat(parent, last, &both(time), AtFlags::SYMLINK_NOFOLLOW)
}

/// `time` as both last access and last change.
pub(super) fn both(time: Time) -> Timestamps {
    let spec = Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
    Timestamps { last_access: spec, last_modification: spec }
}
