//! The log of a disk's writes: the format of Linux's dm-log-writes (Documentation/admin-guide/device-mapper/
//! log-writes.rst), as QEMU's `blklogwrites` writes it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::{Error, Random, Result};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
/// Disks tear between sectors, not inside one.
const SECTOR: u64 = 512;

/// One write, flush or discard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where on the disk, in bytes.
    pub to: u64,
    /// How many bytes.
    pub length: u64,
    flags: u64,
    /// Where in the log its data is.
    data: u64,
}

impl Entry {
    /// All writes that were done before are on the disk for good.
    pub fn is_flush(&self) -> bool {
        self.flags & FLUSH != 0
    }
}

/// A log that was read.
#[derive(Debug)]
pub struct Log {
    file: File,
    entries: Vec<Entry>,
}

impl Log {
    /// Reads the log at `path`, up to where QEMU had come.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::access("open", path, e))?;
        let size = file.metadata().map_err(|e| Error::access("stat", path, e))?.len();
        let Some([magic, version, _, sector]) = fields(&file, 0) else {
            return Ok(Self { file, entries: Vec::new() });
        };
        let sector = sector & 0xffff_ffff;
        if magic != MAGIC || version != 1 || !sector.is_power_of_two() || sector < SECTOR {
            return Err(Error::refuse("read", path.display().to_string(), "it is no log of a disk's writes"));
        }
        let mut entries = Vec::new();
        let mut at = sector;
        while let Some([to, sectors, flags, _]) = fields(&file, at) {
            let data = at + sector;
            let Some(length) = sectors.checked_mul(sector) else { break };
            let stored = if flags & DISCARD == 0 { length } else { 0 };
            let end = data.saturating_add(stored);
            if (sectors == 0 && flags & FLUSH == 0) || end > size.next_multiple_of(sector) {
                break;
            }
            entries.push(Entry { to: to.saturating_mul(sector), length, flags, data });
            at = end;
        }
        Ok(Self { file, entries })
    }

    /// The entries, in the order they were done.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What was written to the one sector at `to`, each time, and the entry that wrote it.
    pub(super) fn texts(&self, to: u64) -> Result<Vec<(usize, String)>> {
        let mut texts = Vec::new();
        for (number, entry) in self.entries.iter().enumerate() {
            if entry.to == to && entry.length == SECTOR && entry.flags & DISCARD == 0 {
                let mut bytes = [0; SECTOR as usize];
                self.file
                    .read_exact_at(&mut bytes, entry.data)
                    .map_err(|e| Error::access("read", "the disk's log", e))?;
                texts.push((number, String::from_utf8_lossy(&bytes).trim_end().to_owned()));
            }
        }
        Ok(texts)
    }

    /// Makes `image` (the disk as it was before the log) what a cut of the power before `entry` leaves. From the entry
    /// `lies` on the disk says that it flushes, and does not.
    pub fn rebuild(&self, image: &Path, entry: usize, lies: usize, random: &mut Random) -> Result<()> {
        let disk = File::options().write(true).open(image).map_err(|e| Error::access("open", image, e))?;
        let done = self.entries.get(..entry).unwrap_or(&self.entries);
        let honest = done.get(..lies).unwrap_or(done);
        let flushed = honest.iter().rposition(Entry::is_flush).map_or(0, |last| last + 1);
        for (number, write) in done.iter().enumerate() {
            let safe = number < flushed || (number < lies && write.flags & FUA != 0);
            self.apply(write, &disk, if safe { None } else { Some(random) })
                .map_err(|e| Error::access("write", image, e))?;
        }
        Ok(())
    }

    /// Applies a write; with `luck`, all, nothing or some sectors of it.
    fn apply(&self, write: &Entry, disk: &File, luck: Option<&mut Random>) -> std::io::Result<()> {
        // A discarded range may hold anything; what it held is one possibility.
        if write.flags & DISCARD != 0 || write.length == 0 {
            return Ok(());
        }
        let mut content = vec![0; usize::try_from(write.length).unwrap_or(0)];
        self.file.read_exact_at(&mut content, write.data)?;
        let Some(random) = luck else { return disk.write_all_at(&content, write.to) };
        match random.below(4) {
            0 => Ok(()),
            1 | 2 => disk.write_all_at(&content, write.to),
            _ => {
                for (number, sector) in content.chunks(SECTOR as usize).enumerate() {
                    if random.below(2) == 0 {
                        disk.write_all_at(sector, write.to + number as u64 * SECTOR)?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// Four little-endian numbers at `at`; none past the end.
fn fields(file: &File, at: u64) -> Option<[u64; 4]> {
    let mut bytes = [0; 32];
    file.read_exact_at(&mut bytes, at).ok()?;
    let number = |n: usize| {
        let field = bytes.get(n * 8..n * 8 + 8)?.try_into().ok()?;
        Some(u64::from_le_bytes(field))
    };
    Some([number(0)?, number(1)?, number(2)?, number(3)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(entries: &[(u64, u64, u64, u8)]) -> (tempfile::TempDir, Log) {
        let mut bytes = Vec::new();
        let mut sector = |numbers: [u64; 4]| {
            let mut head: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
            head.resize(512, 0);
            bytes.extend(head);
        };
        sector([MAGIC, 1, entries.len() as u64, 512]);
        for &(to, sectors, flags, fill) in entries {
            let mut head: Vec<u8> = [to, sectors, flags, 0].iter().flat_map(|n| n.to_le_bytes()).collect();
            head.resize(512, 0);
            bytes.extend(head);
            bytes.extend(vec![fill; sectors as usize * 512]);
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("log"), bytes).unwrap();
        let log = Log::read(&dir.path().join("log")).unwrap();
        (dir, log)
    }

    #[test]
    fn flushed_writes_stay_and_others_may() {
        let (dir, log) = log(&[(0, 2, 0, 1), (0, 0, FLUSH, 0), (2, 2, 0, 2), (4, 1, FUA, 3)]);
        assert_eq!(log.entries().len(), 4);
        let image = dir.path().join("image");
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..50 {
            std::fs::write(&image, [0; 8 * 512]).unwrap();
            log.rebuild(&image, 4, usize::MAX, &mut Random::new(seed)).unwrap();
            let disk = std::fs::read(&image).unwrap();
            let sectors: Vec<u8> = disk.chunks(512).map(|sector| sector[0]).collect();
            assert_eq!((&sectors[..2], sectors[4], &sectors[5..]), (&[1, 1][..], 3, &[0, 0, 0][..]));
            seen.insert((sectors[2], sectors[3]));
        }
        assert_eq!(seen, [(0, 0), (0, 2), (2, 0), (2, 2)].into());
        std::fs::write(&image, [0; 8 * 512]).unwrap();
        log.rebuild(&image, 0, usize::MAX, &mut Random::new(1)).unwrap();
        assert!(std::fs::read(&image).unwrap().iter().all(|&byte| byte == 0));
    }

    #[test]
    fn a_disk_that_lies_loses_what_it_says_it_flushed() {
        let (dir, log) =
            log(&[(0, 1, 0, 1), (0, 0, FLUSH, 0), (1, 1, 0, 2), (0, 0, FLUSH, 0), (2, 1, FUA, 3)]);
        let image = dir.path().join("image");
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..50 {
            std::fs::write(&image, [0; 4 * 512]).unwrap();
            log.rebuild(&image, 5, 2, &mut Random::new(seed)).unwrap();
            let disk = std::fs::read(&image).unwrap();
            assert_eq!(disk[0], 1, "what was flushed before stays");
            seen.insert((disk[512], disk[1024]));
        }
        assert_eq!(seen, [(0, 0), (0, 3), (2, 0), (2, 3)].into());
    }

    #[test]
    fn texts_are_what_one_sector_was_told() {
        let (_dir, log) =
            log(&[(9, 1, 0, b'a'), (8, 2, 0, b'b'), (0, 0, FLUSH, 0), (9, 1, 0, b'c'), (9, 2, 0, b'd')]);
        let texts = log.texts(9 * 512).unwrap();
        assert_eq!(texts, [(0, "a".repeat(512)), (3, "c".repeat(512))]);
    }

    #[test]
    fn a_log_that_ends_in_the_middle_is_read_so_far() {
        let (dir, whole) = log(&[(0, 2, 0, 1), (0, 0, FLUSH, 0), (2, 2, 0, 2)]);
        let path = dir.path().join("log");
        let bytes = std::fs::read(&path).unwrap();
        for cut in (0..bytes.len()).step_by(100) {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let log = Log::read(&path).unwrap();
            assert!(whole.entries().starts_with(log.entries()));
        }
        std::fs::write(&path, [7; 4096]).unwrap();
        assert!(Log::read(&path).is_err());
    }
}
