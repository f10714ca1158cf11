//! Which blocks of a snapshot hold data, and which differ from those of another.
//!
//! Where two images share their blocks (xfs, btrfs) equal places are equal bytes and are not read. All else is compared.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use kernel::extents::{self, Extent};

use crate::plugin::backend::filesystem::size::BLOCK;
use crate::plugin::backend::{Range, Ranges};

/// Bytes that are read of each side at once.
const CHUNK: usize = 1 << 20;
/// Bytes of each side after which a call ends: two large images that are the same would keep it for ever.
const COMPARED: u64 = if cfg!(test) { 4 << 20 } else { 1 << 30 };

/// Collects ranges in ascending order, joining those that touch, until there are enough.
struct Found {
    ranges: Vec<Range>,
    most: usize,
}

impl Found {
    /// Adds a range; false where it has no room.
    fn add(&mut self, offset: u64, length: u64) -> bool {
        match self.ranges.last_mut() {
            Some(last) if last.offset + last.length == offset => last.length += length,
            _ => {
                if self.ranges.len() >= self.most {
                    return false;
                }
                self.ranges.push(Range { offset, length });
            }
        }
        true
    }

    fn until(self, next: Option<u64>) -> Ranges {
        Ranges { found: self.ranges, next }
    }
}

/// Ranges of whole blocks that hold data, from the block that `offset` is in.
pub(super) fn ranges(image: &File, offset: u64, most: usize) -> io::Result<Ranges> {
    let mut found = Found { ranges: Vec::new(), most };
    let mut at = offset - offset % BLOCK;
    while let Some(data) = extents::data(image, at).map_err(|e| e.source)? {
        let start = (data.start - data.start % BLOCK).max(at);
        let end = data.end.next_multiple_of(BLOCK);
        if !found.add(start, end - start) {
            return Ok(found.until(Some(start)));
        }
        at = end;
    }
    Ok(found.until(None))
}

/// Ranges of whole blocks that are not the same in `base`, from the block that `offset` is in. Beyond its end `base` is
/// zeros.
pub(super) fn changes(base: &File, image: &File, offset: u64, most: usize) -> io::Result<Ranges> {
    let length = image.metadata()?.len();
    let (mut old, mut new) = (Places::of(base), Places::of(image));
    let mut found = Found { ranges: Vec::new(), most };
    let mut buffers = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut at = offset - offset % BLOCK;
    let mut compared = 0;
    while at < length {
        if compared >= COMPARED {
            return Ok(found.until(Some(at)));
        }
        let ((before, until), (after, then)) = (old.at(at)?, new.at(at)?);
        // A run that ends inside a block is looked at as far as the block goes.
        let end = until.min(then).min(length).next_multiple_of(BLOCK);
        if end <= at {
            return Err(io::Error::other(format!("the extents at byte {at} have no end")));
        }
        if before.is_same(after) && (until.min(then) % BLOCK == 0 || end >= length) {
            at = end;
            continue;
        }
        let part = (end - at).min(CHUNK as u64) as usize;
        read(base, &mut buffers.0[..part], at)?;
        read(image, &mut buffers.1[..part], at)?;
        let blocks = buffers.0[..part].chunks(BLOCK as usize).zip(buffers.1[..part].chunks(BLOCK as usize));
        for (number, (before, after)) in blocks.enumerate() {
            let block = at + number as u64 * BLOCK;
            if before != after && !found.add(block, BLOCK) {
                return Ok(found.until(Some(block)));
            }
        }
        at += part as u64;
        compared += part as u64;
    }
    Ok(found.until(None))
}

/// Reads what there is; the rest is zeros.
fn read(file: &File, into: &mut [u8], at: u64) -> io::Result<()> {
    let mut done = 0;
    while done < into.len() {
        match file.read_at(&mut into[done..], at + done as u64)? {
            0 => break,
            length => done += length,
        }
    }
    into[done..].fill(0);
    Ok(())
}

/// What is at a byte of a file.
#[derive(Clone, Copy, Debug)]
enum What {
    /// A hole, or room that was never written.
    Zeros,
    /// Bytes at this place of the device.
    At(u64),
    /// Something that has to be read.
    Unknown,
}

impl What {
    fn is_same(self, other: What) -> bool {
        match (self, other) {
            (What::Zeros, What::Zeros) => true,
            (What::At(one), What::At(other)) => one == other,
            _ => false,
        }
    }
}

/// The extents of a file, in order, read as they are asked for.
struct Places<'a> {
    file: &'a File,
    some: std::collections::VecDeque<Extent>,
    /// From here on nothing was read yet; none where the file system does not tell.
    next: Option<u64>,
}

impl<'a> Places<'a> {
    fn of(file: &'a File) -> Self {
        Self { file, some: std::collections::VecDeque::new(), next: Some(0) }
    }

    /// What is at byte `at`, and where that ends. `at` never goes back.
    fn at(&mut self, at: u64) -> io::Result<(What, u64)> {
        loop {
            while self.some.front().is_some_and(|extent| extent.logical + extent.length <= at) {
                self.some.pop_front();
            }
            if let Some(extent) = self.some.front() {
                return Ok(if at < extent.logical {
                    (What::Zeros, extent.logical)
                } else {
                    let end = extent.logical + extent.length;
                    (what(extent, at), end)
                });
            }
            match self.next {
                None => return Ok((What::Unknown, u64::MAX - BLOCK)),
                Some(u64::MAX) => return Ok((What::Zeros, u64::MAX - BLOCK)),
                Some(from) => self.read(from.max(at))?,
            }
        }
    }

    fn read(&mut self, from: u64) -> io::Result<()> {
        match extents::places(self.file, from) {
            Ok(extents) => {
                let last = extents.last().filter(|extent| extent.flags & Extent::LAST == 0);
                self.next = Some(last.map_or(u64::MAX, |extent| extent.logical + extent.length));
                self.some.extend(extents);
                Ok(())
            }
            Err(e) if e.errno().is_some_and(kernel::reflink::is_unsupported) => {
                self.next = None;
                Ok(())
            }
            Err(e) => Err(e.source),
        }
    }
}

fn what(extent: &Extent, at: u64) -> What {
    if extent.flags & Extent::UNWRITTEN != 0 {
        What::Zeros
    } else if extent.has_place() {
        What::At(extent.physical + (at - extent.logical))
    } else {
        What::Unknown
    }
}
