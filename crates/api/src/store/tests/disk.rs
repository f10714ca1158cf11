//! A disk in memory: it logs what is written, fails when it is told to, and loses its power.

use crate::store::engine::Engine;
use crate::store::{Options, Store, folder};
use redb::StorageBackend;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use testkit::Random;

/// One act on the disk.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Write(u64, Vec<u8>),
    Resize(u64),
    Sync,
}

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Writes and growth, as on a full disk.
    Full,
    /// Syncs, as on a dying one.
    Sync,
}

#[derive(Debug, Default)]
pub(super) struct Disk {
    content: Mutex<Vec<u8>>,
    log: Mutex<Vec<Act>>,
    /// After how many acts it fails, and for how many.
    faults: Mutex<Option<(Fault, u64, u64)>>,
    acts: AtomicU64,
    pub(super) unsynced: Arc<AtomicBool>,
}

impl Disk {
    /// One that holds `content`.
    pub(super) fn of(content: Vec<u8>) -> Arc<Disk> {
        Arc::new(Disk { content: Mutex::new(content), ..Disk::default() })
    }

    /// The acts on it so far.
    pub(super) fn acts(&self) -> usize {
        self.log.lock().unwrap().len()
    }

    /// From the act `after` on (of those to come), `count` acts fail that can.
    pub(super) fn fail(&self, fault: Fault, after: u64, count: u64) {
        *self.faults.lock().unwrap() = Some((fault, self.acts.load(Ordering::SeqCst) + after, count));
    }

    /// It is well again.
    pub(super) fn mend(&self) {
        *self.faults.lock().unwrap() = None;
    }

    /// What is on it when the power goes before the act `end`: all that was written before the last sync, and of what was
    /// written after it some or all or nothing, whole sectors of it or not. From the act `lies` on the disk says that it
    /// syncs, and does not.
    pub(super) fn cut(&self, end: usize, lies: usize, random: &mut Random) -> Vec<u8> {
        let log = self.log.lock().unwrap();
        let done = &log[..end];
        let honest = &done[..end.min(lies)];
        let synced = honest.iter().rposition(|act| matches!(act, Act::Sync)).map_or(0, |last| last + 1);
        let mut content = Vec::new();
        for (number, act) in done.iter().enumerate() {
            apply(&mut content, act, (number >= synced).then_some(&mut *random));
        }
        content
    }

    fn act(&self, act: Act) -> io::Result<()> {
        let number = self.acts.fetch_add(1, Ordering::SeqCst);
        if let Some((fault, from, count)) = *self.faults.lock().unwrap() {
            let hit = match fault {
                Fault::Full => !matches!(act, Act::Sync),
                Fault::Sync => matches!(act, Act::Sync),
            };
            if hit && number >= from && number < from + count {
                self.unsynced.fetch_or(fault == Fault::Sync, Ordering::SeqCst);
                let full = io::Error::from(io::ErrorKind::StorageFull);
                return Err(if fault == Fault::Full { full } else { io::Error::other("it is dying") });
            }
        }
        apply(&mut self.content.lock().unwrap(), &act, None);
        self.log.lock().unwrap().push(act);
        Ok(())
    }
}

const SECTOR: usize = 512;

/// Does an act; with luck, all, nothing or some sectors of it.
fn apply(content: &mut Vec<u8>, act: &Act, luck: Option<&mut Random>) {
    match act {
        Act::Sync => {}
        // The length of a file is the filesystem's, which journals it: here it is done or not.
        Act::Resize(length) => {
            if luck.is_none_or(|random| random.below(2) == 0) {
                content.resize(usize::try_from(*length).unwrap(), 0);
            }
        }
        Act::Write(at, bytes) => {
            let at = usize::try_from(*at).unwrap();
            let mut sectors = luck.map(|random| (random.below(4), random));
            for (number, sector) in bytes.chunks(SECTOR).enumerate() {
                let start = at + number * SECTOR;
                let keep = match &mut sectors {
                    None | Some((1 | 2, _)) => true,
                    Some((0, _)) => false,
                    Some((_, random)) => random.below(2) == 0,
                };
                // What lies behind the end was not resized to.
                if keep && start + sector.len() <= content.len() {
                    content[start..start + sector.len()].copy_from_slice(sector);
                }
            }
        }
    }
}

/// The disk as redb sees it.
#[derive(Debug)]
struct Handle(Arc<Disk>);

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.content.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let content = self.0.content.lock().unwrap();
        let start = usize::try_from(offset).unwrap();
        let found = content.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.act(Act::Resize(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.act(Act::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.act(Act::Write(offset, data.to_vec()))
    }
}

/// A store on the disk; an empty disk gets one first.
pub(super) fn store(disk: &Arc<Disk>, options: Options) -> Result<Store, redb::Error> {
    let (shared, cache) = (disk.clone(), options.cache);
    let opener = move || folder::database(Handle(shared.clone()), cache, false);
    let empty = disk.content.lock().unwrap().is_empty();
    let database = opener()?;
    if empty {
        folder::initialize(&database)?;
    }
    let engine = Engine::new(database, Box::new(opener), disk.unsynced.clone());
    Ok(Store::start(engine, None, options).unwrap())
}
