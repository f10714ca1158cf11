//! One `effects` file: JSON lines, appended with one write each, the last of which may be torn.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::crash::{self, Crash};
use crate::{Effect, Error, membership};

pub(crate) const FILE: &str = "effects";
const FRESH: &str = "effects.new";
const FORMAT: u32 = 2;
/// Strikes are dropped from the file once there are this many and more than what lives.
const COMPACT: usize = 512;

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Header {
        format: u32,
        boot: String,
        next: u64,
    },
    Strike {
        struck: u64,
    },
    Made {
        made: String,
    },
    Record {
        id: u64,
        #[serde(flatten)]
        effect: Effect,
    },
}

/// A record as it was found: an effect, or one that only a newer version knows.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    Known(Effect),
    Newer(String),
}

/// The records of one folder; the caller holds the lock.
#[derive(Debug)]
pub(crate) struct Journal {
    dir: Arc<OwnedFd>,
    path: PathBuf,
    file: Option<OwnedFd>,
    outlives: bool,
    len: u64,
    struck: usize,
    /// Struck, but not in the file yet: undoing twice is harmless.
    pending: Vec<u64>,
    /// Of a shared effect: its parts that are there completely.
    made: BTreeSet<String>,
    /// Records since the last of them was: of a part that is not.
    unfinished: BTreeSet<u64>,
    /// The boot the file was written in; `None` while there is no header.
    pub(crate) boot: Option<String>,
    pub(crate) next: u64,
    pub(crate) live: BTreeMap<u64, Entry>,
    /// Lines (counted from 1) that are no JSON.
    pub(crate) damaged: Vec<usize>,
}

impl Journal {
    /// Reads the folder's file, if there is one, and cuts off a torn last line.
    ///
    /// `outlives` says that it outlives the kernel: then rewriting it waits for the disk, for a power cut must not
    /// leave less than there was.
    pub(crate) fn open(dir: Arc<OwnedFd>, folder: &Path, outlives: bool) -> Result<Self, Error> {
        let path = folder.join(FILE);
        let file = open_file(&dir, &path, OFlags::empty())?;
        let mut journal = Self::unread(dir, path, file, outlives);
        journal.read()?;
        Ok(journal)
    }

    /// The same for a folder that was made just now, and with a file, which nobody has written to: the first record is about to
    /// come.
    pub(crate) fn open_made(dir: Arc<OwnedFd>, folder: &Path) -> Result<Self, Error> {
        let path = folder.join(FILE);
        match open_file(&dir, &path, OFlags::CREATE | OFlags::EXCL) {
            // Another has had the folder before.
            Err(Error::Access { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                Self::open(dir, folder, false)
            }
            made => Ok(Self::unread(dir, path, made?, false)),
        }
    }

    fn unread(dir: Arc<OwnedFd>, path: PathBuf, file: Option<OwnedFd>, outlives: bool) -> Self {
        Self {
            dir,
            path,
            file,
            outlives,
            len: 0,
            struck: 0,
            pending: Vec::new(),
            made: BTreeSet::new(),
            unfinished: BTreeSet::new(),
            boot: None,
            next: 1,
            live: BTreeMap::new(),
            damaged: Vec::new(),
        }
    }

    fn read(&mut self) -> Result<(), Error> {
        let Some(file) = &self.file else { return Ok(()) };
        let text = read_all(file).map_err(|e| Error::access("read", &self.path, e))?;
        let whole = text.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        if whole < text.len() {
            rustix::fs::ftruncate(file, whole as u64)
                .map_err(|e| Error::access("truncate", &self.path, e))?;
        }
        self.len = whole as u64;
        for (at, line) in text.get(..whole).unwrap_or_default().split(|&b| b == b'\n').enumerate() {
            if !line.is_empty() {
                self.take(at + 1, line);
            }
        }
        Ok(())
    }

    fn take(&mut self, number: usize, line: &[u8]) {
        match serde_json::from_slice(line) {
            Ok(Line::Header { boot, next, .. }) => {
                self.boot = Some(boot);
                self.next = self.next.max(next);
            }
            Ok(Line::Strike { struck }) => {
                self.live.remove(&struck);
                self.struck += 1;
            }
            Ok(Line::Made { made }) => self.take_made(made),
            Ok(Line::Record { id, effect }) => self.take_record(id, Entry::Known(effect)),
            Err(_) => match newer(line) {
                Some((id, text)) => self.take_record(id, Entry::Newer(text)),
                None => self.damaged.push(number),
            },
        }
    }

    fn take_record(&mut self, id: u64, entry: Entry) {
        self.next = self.next.max(id.saturating_add(1));
        self.live.insert(id, entry);
        self.unfinished.insert(id);
    }

    fn take_made(&mut self, part: String) {
        self.made.insert(part);
        self.unfinished.clear();
    }

    /// Writes the header if the file has none yet, so that even an empty file tells its boot.
    pub(crate) fn begin(&mut self, boot: &str) -> Result<(), Error> {
        match self.len {
            0 => self.append(self.header(boot)?),
            _ => Ok(()),
        }
    }

    /// Writes `effect` down.
    pub(crate) fn record(&mut self, id: u64, effect: Effect, boot: &str, crash: &Crash) -> Result<(), Error> {
        crash.step("before-record");
        let mut text = if self.len == 0 { self.header(boot)? } else { Vec::new() };
        put_record(&mut text, id, &effect).map_err(|e| self.unwritten(e))?;
        if crash.reached("in-record") {
            let half = text.len() / 2;
            let _ = self.append(text.get(..half).unwrap_or_default().to_vec());
            crash::die();
        }
        self.append(text)?;
        self.boot.get_or_insert_with(|| boot.to_owned());
        self.take_record(id, Entry::Known(effect));
        crash.step("after-record");
        Ok(())
    }

    /// Writes down that all records of a part are followed by their effects.
    pub(crate) fn finish(&mut self, part: &str, crash: &Crash) -> Result<(), Error> {
        crash.step("before-made");
        self.append(line(&Line::Made { made: part.to_owned() }).map_err(|e| self.unwritten(e))?)?;
        self.take_made(part.to_owned());
        crash.step("after-made");
        Ok(())
    }

    /// The parts that are there completely.
    pub(crate) fn made(&self) -> &BTreeSet<String> {
        &self.made
    }

    /// The records of a part that was being made when its maker ended, the last first.
    pub(crate) fn unfinished(&self) -> Vec<u64> {
        self.unfinished.iter().rev().copied().filter(|id| self.live.contains_key(id)).collect()
    }

    /// Strikes a record whose effect is gone; the file learns of it with the next write or [`flush`](Self::flush).
    pub(crate) fn strike_later(&mut self, id: u64) {
        if self.live.remove(&id).is_some() {
            self.pending.push(id);
        }
    }

    /// Writes down what was struck, all in one write.
    pub(crate) fn flush(&mut self, boot: &str, crash: &Crash) -> Result<(), Error> {
        if self.pending.is_empty() {
            return Ok(());
        }
        crash.step("before-strike");
        self.append(Vec::new())?;
        crash.step("after-strike");
        self.compact_if_long(boot)
    }

    /// Strikes a record whose effect is gone.
    pub(crate) fn strike(&mut self, id: u64, boot: &str, crash: &Crash) -> Result<(), Error> {
        if !self.live.contains_key(&id) {
            return Ok(());
        }
        crash.step("before-strike");
        self.append(line(&Line::Strike { struck: id }).map_err(|e| self.unwritten(e))?)?;
        self.live.remove(&id);
        self.struck += 1;
        crash.step("after-strike");
        self.compact_if_long(boot)
    }

    fn compact_if_long(&mut self, boot: &str) -> Result<(), Error> {
        if self.struck > COMPACT && self.struck > self.live.len() { self.compact(boot) } else { Ok(()) }
    }

    /// Rewrites the file without what was struck.
    fn compact(&mut self, boot: &str) -> Result<(), Error> {
        let mut text = self.header(boot)?;
        for (&id, entry) in self.live.iter().filter(|(id, _)| !self.unfinished.contains(id)) {
            text.extend(self.record_line(id, entry)?);
        }
        for made in &self.made {
            text.extend(line(&Line::Made { made: made.clone() }).map_err(|e| self.unwritten(e))?);
        }
        for (&id, entry) in self.live.iter().filter(|(id, _)| self.unfinished.contains(id)) {
            text.extend(self.record_line(id, entry)?);
        }
        self.remove_file(FRESH)?;
        let file = self.create(FRESH)?;
        write_once(&file, &text).map_err(|e| self.unwritten(e))?;
        if self.outlives {
            rustix::fs::fsync(&file).map_err(|e| self.unwritten(e.into()))?;
        }
        rustix::fs::renameat(&self.dir, FRESH, &self.dir, FILE).map_err(|e| self.unwritten(e.into()))?;
        self.len = text.len() as u64;
        self.struck = 0;
        self.pending.clear();
        self.file = Some(file);
        Ok(())
    }

    fn record_line(&self, id: u64, entry: &Entry) -> Result<Vec<u8>, Error> {
        match entry {
            Entry::Known(effect) => {
                let mut text = Vec::new();
                put_record(&mut text, id, effect).map_err(|e| self.unwritten(e))?;
                Ok(text)
            }
            Entry::Newer(record) => Ok(format!("{record}\n").into_bytes()),
        }
    }

    /// Waits until all that was written is on the disk, the file's name included.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        if let Some(file) = &self.file {
            rustix::fs::fsync(file).map_err(|e| self.unwritten(e.into()))?;
        }
        rustix::fs::fsync(&self.dir).map_err(|e| self.unwritten(e.into()))
    }

    /// Drops everything: the file is history or has nothing live in it.
    pub(crate) fn clear(&mut self) -> Result<(), Error> {
        self.file = None;
        self.len = 0;
        self.struck = 0;
        self.pending.clear();
        self.made.clear();
        self.unfinished.clear();
        self.boot = None;
        self.live.clear();
        self.damaged.clear();
        self.remove_file(FILE)
    }

    /// Removes what a crash may have left beside the file: a new version of it, and memberships that nobody undoes any more.
    pub(crate) fn tidy(&self) -> Result<(), Error> {
        self.remove_file(FRESH)?;
        for name in membership::names(&self.dir, &self.path)? {
            self.remove_file(&name)?;
        }
        Ok(())
    }

    /// Drops a file of another boot. What its effects were died with that kernel, but files may have outlived it.
    pub(crate) fn drop_history(&mut self, boot: &str) -> Vec<Error> {
        if self.boot.as_ref().is_none_or(|written| written == boot) {
            return Vec::new();
        }
        let mut errors = self.take_damage();
        for entry in self.live.values().rev() {
            if let Entry::Known(effect) = entry {
                errors.extend(effect.undo_history().err());
            }
        }
        errors.extend(self.clear().err());
        errors.extend(self.tidy().err());
        errors
    }

    /// The damaged lines as errors, once. One of them may have been a membership's record, so that memberships end.
    pub(crate) fn take_damage(&mut self) -> Vec<Error> {
        let path = &self.path;
        let mut errors: Vec<_> =
            self.damaged.drain(..).map(|line| Error::ReadRecord { path: path.clone(), line }).collect();
        if !errors.is_empty() {
            errors.extend(self.tidy().err());
        }
        errors
    }

    /// The record of `effect`, if there is one.
    pub(crate) fn find(&self, effect: &Effect) -> Option<u64> {
        let is_it = |entry: &Entry| matches!(entry, Entry::Known(known) if known == effect);
        self.live.iter().find(|(_, entry)| is_it(entry)).map(|(id, _)| *id)
    }

    /// Nothing in it is worth keeping.
    pub(crate) fn is_spent(&self) -> bool {
        self.live.is_empty() && self.damaged.is_empty()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn header(&self, boot: &str) -> Result<Vec<u8>, Error> {
        line(&Line::Header { format: FORMAT, boot: boot.to_owned(), next: self.next })
            .map_err(|e| self.unwritten(e))
    }

    /// One write; a short one (a full disk) is taken back, so that no half line stays before a whole one.
    ///
    /// What was struck meanwhile goes before it: a record that is torn must be the last line.
    fn append(&mut self, text: Vec<u8>) -> Result<(), Error> {
        if self.file.is_none() {
            self.file = Some(self.create(FILE)?);
        }
        let text = if self.pending.is_empty() {
            text
        } else {
            let strikes = self.pending.iter().map(|&struck| line(&Line::Strike { struck }));
            let mut all = strikes.collect::<io::Result<Vec<_>>>().map_err(|e| self.unwritten(e))?.concat();
            all.extend(text);
            all
        };
        let Some(file) = &self.file else { return Ok(()) };
        if let Err(source) = write_once(file, &text) {
            let _ = rustix::fs::ftruncate(file, self.len);
            return Err(self.unwritten(source));
        }
        self.len += text.len() as u64;
        self.struck += self.pending.len();
        self.pending.clear();
        Ok(())
    }

    fn create(&self, name: &str) -> Result<OwnedFd, Error> {
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.dir, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| Error::access("create", self.path.with_file_name(name), e))
    }

    fn remove_file(&self, name: &str) -> Result<(), Error> {
        match rustix::fs::unlinkat(&self.dir, name, rustix::fs::AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(Error::access("remove", self.path.with_file_name(name), e)),
        }
    }

    fn unwritten(&self, source: io::Error) -> Error {
        Error::WriteRecord { path: self.path.clone(), source }
    }
}

fn line(line: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    Ok(text)
}

/// Appends a [`Line::Record`]: the effect's own object, with the number before the rest of it.
fn put_record(text: &mut Vec<u8>, id: u64, effect: &Effect) -> io::Result<()> {
    write!(text, "{{\"id\":{id}")?;
    let brace = text.len();
    serde_json::to_writer(&mut *text, effect)?;
    if let Some(brace) = text.get_mut(brace) {
        *brace = b',';
    }
    text.push(b'\n');
    Ok(())
}

/// A record in a shape this version does not know, told apart from a damaged line.
fn newer(line: &[u8]) -> Option<(u64, String)> {
    let value: serde_json::Value = serde_json::from_slice(line).ok()?;
    let id = value.get("id")?.as_u64()?;
    Some((id, String::from_utf8_lossy(line).into_owned()))
}

/// The file in `dir`, for reading and appending; none if it is not there.
pub(crate) fn open_file(dir: &OwnedFd, path: &Path, create: OFlags) -> Result<Option<OwnedFd>, Error> {
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC | create;
    match rustix::fs::openat(dir, FILE, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(Some(file)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(Error::access("open", path, e)),
    }
}

pub(crate) fn read_all(file: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        match rustix::io::pread(file, &mut chunk, text.len() as u64) {
            // A file gives less than was asked for at its end alone.
            Ok(n) if n < chunk.len() => {
                text.extend_from_slice(chunk.get(..n).unwrap_or_default());
                return Ok(text);
            }
            Ok(n) => text.extend_from_slice(chunk.get(..n).unwrap_or_default()),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn write_once(file: impl AsFd, text: &[u8]) -> io::Result<()> {
    loop {
        match rustix::io::write(&file, text) {
            Ok(n) if n == text.len() => return Ok(()),
            Ok(_) => return Err(Errno::NOSPC.into()),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}
