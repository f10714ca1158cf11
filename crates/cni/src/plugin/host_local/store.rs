use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ledger::{Effect, Record};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::boot::Boot;
use super::index::{self, Entry, Identity, Index};
use super::range::Range;
use super::scan;
use crate::contract::{Code, Error};

/// Beside the networks' directories, of which the reference plugin reads every file: what it need not see. No network can
/// have this name.
const INDEX_DIR: &str = ".index";
/// How far in the past the directory's time is set: more than any clock of the kernel lags behind.
const PAST: i64 = 2;

/// The reference plugin's, too.
const LOCK: &str = "lock";

/// A network's leases, locked: a file an address, as the reference plugin has them, so that both may share a subnet.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    dir: File,
    index: Index,
    /// Where the index is, and what is being written.
    index_path: PathBuf,
    boot: Boot,
    last: Option<Last>,
    lock: File,
    /// A state of the directory, once it was seen that its file system keeps a time as it is given.
    exact: Option<Identity>,
}

/// The file that says which address was given last, once it was read.
#[derive(Debug)]
struct Last {
    set: usize,
    file: File,
    /// How long its text is, known while the lock is held under which it was read.
    length: Option<usize>,
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
}

impl Store {
    /// Locks the leases in `path`, which is made if it is not there.
    pub(super) fn open(path: PathBuf) -> Result<Self, Error> {
        match lock_file(&path) {
            Ok(lock) => Self::lock(path, lock),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(&path).map_err(failed("create directory", &path))?;
                let lock = lock_file(&path).map_err(failed("open", &path.join(LOCK)))?;
                Self::lock(path, lock)
            }
            Err(e) => Err(failed("open", &path.join(LOCK))(e)),
        }
    }

    /// Locks the leases in `path`; none if there is no such directory.
    pub(super) fn open_existing(path: PathBuf) -> Result<Option<Self>, Error> {
        match lock_file(&path) {
            Ok(lock) => Self::lock(path, lock).map(Some),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(failed("open", &path.join(LOCK))(e)),
        }
    }

    fn lock(path: PathBuf, lock: File) -> Result<Self, Error> {
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(|e| failed("lock", &path.join(LOCK))(e.into()))?;
        let dir = File::open(&path).map_err(failed("open", &path))?;
        let boot = Boot::current();
        let name = path.file_name().unwrap_or_default();
        let index_path = path.with_file_name(INDEX_DIR).join(name);
        let known = index::open_options().open(&index_path).and_then(Index::open).ok();
        let fresh = known.as_ref().is_some_and(|index| is_of(index, &dir, boot));
        let index = match known {
            Some(index) if fresh => index,
            known => Index::of(&scan::scan(&path, &dir, boot, known.as_ref())?, boot.id),
        };
        let mut store = Self { path, dir, index, index_path, boot, last: None, lock, exact: None };
        if !fresh {
            store.save();
        }
        Ok(store)
    }

    /// Where its leases are.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Lets go of the lock, but of nothing else. None if the file system seems to know whole seconds only: then somebody else
    /// may change the leases, and seal them with the same time.
    pub(super) fn unlocked(mut self) -> Option<Self> {
        if self.index.identity().nanoseconds == 0 {
            return None;
        }
        if let Some(last) = &mut self.last {
            last.length = None;
        }
        flock(&self.lock, FlockOperation::Unlock).ok()?;
        Some(self)
    }

    /// Locks it again. None if somebody else has changed the directory (another file may be the lock now), or if another one
    /// has its path: then all of it is opened anew.
    pub(super) fn lock_again(self) -> Option<Self> {
        flock(&self.lock, FlockOperation::LockExclusive).ok()?;
        let now = rustix::fs::stat(&self.path).ok()?;
        (state(&now, self.boot) == self.index.identity()).then_some(self)
    }

    /// Reads every lease again.
    pub(super) fn rebuild(&mut self) -> Result<(), Error> {
        let entries = scan::scan(&self.path, &self.dir, self.boot, Some(&self.index))?;
        self.index = Index::of(&entries, self.boot.id);
        self.save();
        Ok(())
    }

    /// Keeps the index for the next call. Where that cannot be, the next call reads the leases again.
    fn save(&mut self) {
        if let Some(dir) = self.index_path.parent() {
            let _ = fs::DirBuilder::new().mode(0o700).create(dir);
        }
        if self.index.save(&self.beside("new"), &self.index_path).is_ok() {
            self.seal();
        }
    }

    /// The index and the directory agree.
    fn seal(&mut self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        let past = Timespec { tv_sec: now.tv_sec - PAST, tv_nsec: now.tv_nsec };
        let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
        let times = Timestamps { last_access: omit, last_modification: past };
        if rustix::fs::futimens(&self.dir, &times).is_err() {
            return;
        }
        let (seconds, nanoseconds) = (past.tv_sec, past.tv_nsec.cast_unsigned());
        let expected = |identity| Identity { seconds, nanoseconds, ..identity };
        let sealed = match self.exact.map(expected) {
            // Not asked for: somebody without the lock may have changed the directory since.
            Some(sealed) => sealed,
            None => {
                let Ok(found) = identity(&self.dir, self.boot) else { return };
                self.exact = Some(found).filter(|found| *found == expected(*found));
                found
            }
        };
        let _ = self.index.seal(sealed);
    }

    /// After each change. The directory has the present time now, so a change that did not get into the index leaves
    /// the two apart, and the next call reads the leases.
    fn note(&mut self, change: impl FnOnce(&mut Index) -> std::io::Result<()>) {
        if change(&mut self.index).is_err() {
            return;
        }
        if !self.index.is_crowded() {
            return self.seal();
        }
        if let Ok(entries) = self.index.entries() {
            self.index = Index::of(&entries, self.boot.id);
            self.save();
        }
    }

    /// A file beside the index that no network's index can be.
    fn beside(&self, what: &str) -> PathBuf {
        let name = self.index_path.file_name().unwrap_or_default().display();
        self.index_path.with_file_name(format!(".{name}.{what}"))
    }

    fn lease(&self, address: IpAddr) -> PathBuf {
        self.path.join(address.to_string())
    }

    fn last_path(&self, set: usize) -> PathBuf {
        self.path.join(format!("last_reserved_ip.{set}"))
    }

    /// The address that was given out last from a set of ranges.
    pub(super) fn last_given(&mut self, set: usize) -> Option<IpAddr> {
        // The directory is as it was, so it has the same files still; what is in them may be new.
        let file = match self.last.take().filter(|last| last.set == set) {
            Some(last) => last.file,
            None => index::open_options().open(self.last_path(set)).ok()?,
        };
        let text = small_text(&file).ok()?;
        self.last = Some(Last { set, file, length: Some(text.len()) });
        text.trim().parse().ok()
    }

    /// The first address of a part of a range that nobody has, without the gateway.
    pub(super) fn free(&self, from: IpAddr, to: IpAddr, range: &Range) -> Option<IpAddr> {
        self.index.free(from, to, range.gateway)
    }

    /// Takes an address for `holder`, recorded first. False if somebody has it.
    pub(super) fn take(
        &mut self,
        address: IpAddr,
        set: usize,
        holder: Holder<'_>,
        record: &mut dyn Record,
    ) -> Result<bool, Error> {
        let path = self.lease(address);
        if self.index.is_taken(address) {
            return Ok(false);
        }
        let id =
            record.record(Effect::Lease { path: path.clone(), holder: holder.container_id.to_owned() })?;
        let text = holder.text();
        let file = match write(&self.dir, address, &text) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                record.undo(id)?;
                return Ok(false);
            }
            written => written.map_err(failed("write lease", &path))?,
        };
        let told = self.tell_last(set, &address.to_string());
        let modified = file.metadata().map_or(0, |file| scan::modified(&file));
        self.note(|index| index.insert(Entry { holder: index::hash(&text), address, modified }));
        told.map(|()| true)
    }

    fn tell_last(&mut self, set: usize, text: &str) -> Result<(), Error> {
        let last = self.last.take().filter(|last| last.set == set);
        let write = || match last {
            // The room that it has is kept, where a file system would give it away and look for it again.
            Some(Last { file, length, .. }) => {
                file.write_all_at(text.as_bytes(), 0)?;
                if length.is_none_or(|length| length > text.len()) {
                    file.set_len(text.len() as u64)?;
                }
                Ok(Some(Last { set, file, length: Some(text.len()) }))
            }
            None => fs::write(self.last_path(set), text).map(|()| None),
        };
        self.last = write().map_err(|e| failed("write", &self.last_path(set))(e))?;
        Ok(())
    }

    /// The addresses that `holder` has.
    pub(super) fn held(&mut self, holder: Holder<'_>) -> Result<Vec<IpAddr>, Error> {
        self.stated(holder).map(|(held, _)| held)
    }

    /// The same, and what their files say.
    fn stated(&mut self, holder: Holder<'_>) -> Result<(Vec<IpAddr>, String), Error> {
        let text = holder.text();
        let mut found = self.find(&text)?;
        let states = |store: &Self, address: &IpAddr, text: &str| {
            store.text(*address).is_ok_and(|written| written.trim() == text)
        };
        if !found.iter().all(|address| states(self, address, &text)) {
            // Somebody has written over a lease, which the directory's time does not tell.
            self.rebuild()?;
            found = self.find(&text)?;
            found.retain(|address| states(self, address, &text));
        }
        if !found.is_empty() {
            return Ok((found, text));
        }
        // Leases written before interfaces were named hold the container alone.
        let old = holder.container_id;
        found = self.find(old)?;
        found.retain(|address| states(self, address, old));
        Ok((found, old.to_owned()))
    }

    /// What a lease's file says.
    fn text(&self, address: IpAddr) -> std::io::Result<String> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, address.to_string(), flags, Mode::empty())?;
        small_text(&File::from(file))
    }

    fn find(&self, text: &str) -> Result<Vec<IpAddr>, Error> {
        self.index.find(index::hash(text)).map_err(failed("read index", &self.index_path))
    }

    /// Gives back all that `holder` has.
    pub(super) fn release(&mut self, holder: Holder<'_>, record: &mut dyn Record) -> Result<(), Error> {
        let (held, text) = self.stated(holder)?;
        let effect = |path| Effect::Lease { path, holder: holder.container_id.to_owned() };
        let one = |address| {
            self.remove_stated(address, &text)?;
            Ok(record.undone(&effect(self.lease(address)))?)
        };
        // All of them are tried.
        held.into_iter().map(one).fold(Ok(()), Result::and)
    }

    /// Gives back one address.
    pub(super) fn remove(&mut self, address: IpAddr) -> Result<(), Error> {
        let text = self.text(address).unwrap_or_default();
        self.remove_stated(address, text.trim())
    }

    /// The same for a lease whose file says `text`.
    fn remove_stated(&mut self, address: IpAddr, text: &str) -> Result<(), Error> {
        match rustix::fs::unlinkat(&self.dir, address.to_string(), AtFlags::empty()) {
            Err(e) if e != Errno::NOENT => Err(failed("remove lease", &self.lease(address))(e.into())),
            _ => {
                self.note(|index| index.remove(index::hash(text), address));
                Ok(())
            }
        }
    }

    /// Gives back what `stays` says nothing of: it is asked with a container and, in leases that have one, an interface.
    /// Goes on past errors.
    pub(super) fn retain(&mut self, stays: impl Fn(&str, Option<&str>) -> bool) -> Vec<Error> {
        let leases = match scan::leases(&self.path) {
            Ok(leases) => leases,
            Err(e) => return vec![e],
        };
        let stale = |address: &IpAddr| {
            let text = fs::read_to_string(self.lease(*address)).unwrap_or_default();
            let (id, ifname) = scan::holder(&text);
            !stays(id, ifname)
        };
        let stale: Vec<_> = leases.into_iter().filter(stale).collect();
        stale.into_iter().filter_map(|address| self.remove(address).err()).collect()
    }
}

fn lock_file(dir: &Path) -> std::io::Result<File> {
    File::options().write(true).create(true).truncate(false).mode(0o600).open(dir.join(LOCK))
}

/// As the reference plugin does it: whoever has the lock and finds an empty file knows that its writer was killed.
fn write(dir: &File, address: IpAddr, text: &str) -> std::io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, address.to_string(), flags, Mode::RUSR | Mode::WUSR)?;
    let mut file = File::from(file);
    file.write_all(text.as_bytes())?;
    Ok(file)
}

/// The text of a small file, in one piece nearly always.
fn small_text(file: &File) -> std::io::Result<String> {
    let mut text = [0; 512];
    let length = file.read_at(&mut text, 0)?;
    let mut text = text.get(..length).unwrap_or_default().to_vec();
    if length == 512 {
        (&mut &*file).seek(SeekFrom::Start(512))?;
        (&mut &*file).read_to_end(&mut text)?;
    }
    String::from_utf8(text).map_err(|e| std::io::Error::new(ErrorKind::InvalidData, e))
}

/// The index has seen the last change of the directory.
fn is_of(index: &Index, dir: &File, boot: Boot) -> bool {
    identity(dir, boot).is_ok_and(|now| index.identity() == now)
}

fn flock(lock: &File, operation: FlockOperation) -> rustix::io::Result<()> {
    rustix::io::retry_on_intr(|| rustix::fs::flock(lock, operation))
}

/// The state that a directory is in now.
fn identity(dir: &File, boot: Boot) -> std::io::Result<Identity> {
    Ok(state(&rustix::fs::fstat(dir)?, boot))
}

fn state(found: &Stat, boot: Boot) -> Identity {
    Identity {
        boot: boot.id,
        seconds: found.st_mtime,
        nanoseconds: found.st_mtime_nsec,
        inode: found.st_ino,
        device: found.st_dev,
    }
}

pub(super) fn failed(verb: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |e| Error::because(format!("cannot {verb} {path}"), e).code(Code::Io)
}
