//! What is in a directory of leases, so that nobody has to read all of it.
//!
//! The files of the leases are the truth, and other programs write them too. The index knows that nobody has by the
//! directory's modification time: whoever changes the directory gets the present time into it, and whoever brings the
//! index up to date afterwards sets it to a time that has passed ([`Index::seal`]). So the two agree only if the index
//! has seen the last change, however coarse the clock, and whoever is killed in the middle leaves them apart.

mod bitmaps;
mod layout;

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bitmaps::Bitmaps;
use layout::{BLOCK, EMPTY, GONE, HEADER, Header, MIN_CAPACITY, SLOT, Slot};

pub(super) use layout::hash;

/// So many blocks are read without a look at whether they are there.
const FEW: u64 = 1024;
/// Slots that are read first.
const SOME: u64 = 16;
/// Slots that are read at once after them: a page.
const PAGE: u64 = 4096 / SLOT as u64;
/// Of an index of fewer bytes a copy is kept: of some 400 leases.
const SMALL: usize = 32 * 1024;

/// Which state of which directory an index is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    /// The boot that it was written in.
    pub(super) boot: [u8; 16],
    /// The directory's modification time.
    pub(super) seconds: i64,
    pub(super) nanoseconds: u64,
    pub(super) inode: u64,
    pub(super) device: u64,
}

/// A lease, as an index knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// [`hash`] of what is in its file.
    pub(super) holder: u64,
    pub(super) address: IpAddr,
    /// When its file was written, in nanoseconds.
    pub(super) modified: i64,
}

/// Where an index is: in a file, or in memory where it cannot be written.
#[derive(Debug)]
enum Place {
    /// With a copy of all of it, if it is small: nobody else changes it while the directory's state is the one that it is of.
    File {
        file: File,
        copy: Vec<u8>,
    },
    Memory(Vec<u8>),
}

impl Place {
    fn length(&self) -> io::Result<u64> {
        match self {
            Self::File { file, .. } => file.metadata().map(|file| file.len()),
            Self::Memory(all) => Ok(all.len() as u64),
        }
    }

    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let (Self::File { copy: all, .. } | Self::Memory(all)) = self;
        let from = usize::try_from(at).unwrap_or(usize::MAX);
        match (all.get(from..).and_then(|rest| rest.get(..bytes.len())), self) {
            (Some(part), _) => bytes.copy_from_slice(part),
            (None, Self::File { file, .. }) => file.read_exact_at(bytes, at)?,
            (None, Self::Memory(_)) => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        let from = usize::try_from(at).unwrap_or(usize::MAX);
        let end = from.checked_add(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        let all = match self {
            Self::File { file, copy } => {
                file.write_all_at(bytes, at)?;
                if from > copy.len() || end > SMALL {
                    copy.clear();
                    return Ok(());
                }
                copy
            }
            Self::Memory(all) => all,
        };
        all.resize(all.len().max(end), 0);
        all[from..end].copy_from_slice(bytes);
        Ok(())
    }
}

/// The index of one directory of leases. Whoever uses it has the directory's lock.
#[derive(Debug)]
pub(super) struct Index {
    place: Place,
    header: Header,
    taken: Bitmaps,
}

impl Index {
    /// The index in `file`, whatever state it is of. An error means that it is none.
    pub(super) fn open(file: File) -> io::Result<Self> {
        let mut copy = vec![0; SMALL];
        let length = file.read_at(&mut copy, 0)?;
        // A file gives less than was asked for at its end alone.
        copy.truncate(if length < SMALL { length } else { 0 });
        copy.shrink_to_fit();
        Self::read(Place::File { file, copy })
    }

    fn read(place: Place) -> io::Result<Self> {
        let mut bytes = [0; HEADER];
        place.read(&mut bytes, 0)?;
        let header = Header::from_bytes(&bytes).ok_or(io::ErrorKind::InvalidData)?;
        // There is at least what the header promises, or reading it fails before it costs memory.
        let length = HEADER as u64 + header.capacity * SLOT as u64 + header.blocks * BLOCK as u64;
        if !(1..=FEW).contains(&header.blocks) && place.length()? < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut blocks = vec![0; usize::try_from(header.blocks).unwrap_or(0) * BLOCK];
        place.read(&mut blocks, blocks_at(header.capacity))?;
        Ok(Self { place, header, taken: Bitmaps::read(&blocks) })
    }

    /// An index of `entries`, in memory, of no state yet but of the boot `boot`.
    pub(super) fn of(entries: &[Entry], boot: [u8; 16]) -> Self {
        let capacity = (entries.len() as u64 * 3).next_power_of_two().max(MIN_CAPACITY);
        let mut slots = vec![0; usize::try_from(capacity).unwrap_or(0) * SLOT];
        let mut taken = Bitmaps::default();
        for entry in entries {
            taken.set(entry.address, true);
            let mut at = entry.holder & (capacity - 1);
            loop {
                let from = usize::try_from(at).unwrap_or(0) * SLOT;
                let Some(place) = slots.get_mut(from..from + SLOT) else { break };
                if place[..8] == EMPTY.to_le_bytes() {
                    place.copy_from_slice(&entry.slot().to_bytes());
                    break;
                }
                at = (at + 1) & (capacity - 1);
            }
        }
        let identity = Identity { boot, seconds: 0, nanoseconds: 0, inode: 0, device: 0 };
        let header = Header { identity, capacity, used: entries.len() as u64, blocks: taken.places() };
        let bytes = [&header.to_bytes()[..], &slots, &taken.to_bytes()].concat();
        Self { place: Place::Memory(bytes), header, taken }
    }

    /// Puts an index that is in memory into the file `path`, at once, by way of `new`. Where that fails it stays in memory.
    pub(super) fn save(&mut self, new: &Path, path: &Path) -> io::Result<()> {
        let Place::Memory(bytes) = &mut self.place else { return Ok(()) };
        let file = open_options().create(true).truncate(true).open(new)?;
        file.write_all_at(bytes, 0)?;
        std::fs::rename(new, path)?;
        let copy = if bytes.len() < SMALL { std::mem::take(bytes) } else { Vec::new() };
        self.place = Place::File { file, copy };
        Ok(())
    }

    /// The state that it is of.
    pub(super) fn identity(&self) -> Identity {
        self.header.identity
    }

    /// From now on it is of the state `identity`.
    pub(super) fn seal(&mut self, identity: Identity) -> io::Result<()> {
        self.header.identity = identity;
        self.place.write(&self.header.to_bytes(), 0)
    }

    /// Some of it was used up: it should be built anew, of [`entries`](Self::entries).
    pub(super) fn is_crowded(&self) -> bool {
        self.header.used > self.header.capacity / 4 * 3
    }

    /// Addresses of whoever has this hash; another holder may have the same.
    pub(super) fn find(&self, holder: u64) -> io::Result<Vec<IpAddr>> {
        let mut found = Vec::new();
        self.probe(holder, |_, slot| {
            if slot.hash == holder {
                found.push(slot.address);
            }
            slot.hash == EMPTY
        })?;
        Ok(found)
    }

    /// Notes a lease.
    pub(super) fn insert(&mut self, entry: Entry) -> io::Result<()> {
        let mut vacant = None;
        self.probe(entry.holder, |at, slot| {
            vacant = (slot.hash <= GONE).then_some((at, slot.hash));
            vacant.is_some()
        })?;
        let (at, was) = vacant.ok_or(io::ErrorKind::StorageFull)?;
        self.header.used += u64::from(was == EMPTY);
        self.place.write(&entry.slot().to_bytes(), slot_at(at))?;
        self.mark(entry.address, true)
    }

    /// Strikes the lease of an address.
    pub(super) fn remove(&mut self, holder: u64, address: IpAddr) -> io::Result<()> {
        let mut place = None;
        self.probe(holder, |at, slot| {
            let same = slot.hash == holder && slot.address == address;
            place = same.then_some(at);
            same || slot.hash == EMPTY
        })?;
        if let Some(at) = place {
            self.place.write(&Slot::gone().to_bytes(), slot_at(at))?;
        }
        self.mark(address, false)
    }

    fn mark(&mut self, address: IpAddr, taken: bool) -> io::Result<()> {
        let (place, bytes) = self.taken.set(address, taken);
        self.header.blocks = self.taken.places();
        self.place.write(&bytes, blocks_at(self.header.capacity) + place * BLOCK as u64)
    }

    /// Somebody has the address.
    pub(super) fn is_taken(&self, address: IpAddr) -> bool {
        self.taken.is_taken(address)
    }

    /// The first address from `from` to `to` that nobody has and that is not `but`.
    pub(super) fn free(&self, from: IpAddr, to: IpAddr, but: IpAddr) -> Option<IpAddr> {
        self.taken.free(from, to, but)
    }

    /// All that it knows.
    pub(super) fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let each = |_, slot: Slot| {
            if slot.hash > GONE {
                entries.push(Entry { holder: slot.hash, address: slot.address, modified: slot.modified });
            }
            false
        };
        self.probe(0, each)?;
        Ok(entries)
    }

    /// Goes over the slots from the one of `holder` on, around once, until `done` says so.
    fn probe(&self, holder: u64, mut done: impl FnMut(u64, Slot) -> bool) -> io::Result<()> {
        let capacity = self.header.capacity;
        let mut at = holder & (capacity - 1);
        let mut left = capacity;
        // Nearly always one of the first few ends it.
        let (mut few, mut page) = ([0; SOME as usize * SLOT], Vec::new());
        let mut step = SOME;
        while left > 0 {
            let count = (step - at % step).min(left);
            step = PAGE;
            let room = if count > SOME { page.as_mut_slice() } else { few.as_mut_slice() };
            let bytes = room.get_mut(..count as usize * SLOT).unwrap_or_default();
            self.place.read(bytes, slot_at(at))?;
            for (i, bytes) in bytes.as_chunks::<SLOT>().0.iter().enumerate() {
                if done(at + i as u64, Slot::from_bytes(bytes)) {
                    return Ok(());
                }
            }
            at = (at + count) & (capacity - 1);
            left -= count;
            page.resize(PAGE as usize * SLOT, 0);
        }
        Ok(())
    }
}

impl Entry {
    fn slot(&self) -> Slot {
        Slot { hash: self.holder, address: self.address, modified: self.modified }
    }
}

fn slot_at(slot: u64) -> u64 {
    HEADER as u64 + slot * SLOT as u64
}

fn blocks_at(capacity: u64) -> u64 {
    slot_at(capacity)
}

/// For reading and writing, 0600.
pub(super) fn open_options() -> std::fs::OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.read(true).write(true).mode(0o600);
    options
}

/// Reads any bytes as an index and uses it: for the fuzzer.
pub(super) fn exercise(bytes: &[u8]) {
    let Ok(mut index) = Index::read(Place::Memory(bytes.to_vec())) else { return };
    let entry = Entry { holder: hash("a\r\neth0"), address: [10, 0, 0, 7].into(), modified: 1 };
    let _ = index.find(entry.holder).map(|found| found.len());
    if index.insert(entry).is_ok() {
        assert!(index.is_taken(entry.address));
        assert!(index.find(entry.holder).is_ok_and(|found| found.contains(&entry.address)));
        assert_ne!(
            index.free(entry.address, [10, 0, 1, 255].into(), [10, 0, 0, 8].into()),
            Some(entry.address)
        );
        assert!(index.remove(entry.holder, entry.address).is_ok() && !index.is_taken(entry.address));
    }
    if let Ok(entries) = index.entries() {
        let again = Index::of(&entries, [0; 16]);
        assert!(entries.iter().all(|e| again.find(e.holder).is_ok_and(|found| found.contains(&e.address))));
    }
}

#[cfg(test)]
mod tests;
