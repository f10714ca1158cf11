//! A blob on its way: one thread appends to its file, another reads behind it.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

/// What a fetcher tells the unpacker.
#[derive(Debug, Default)]
pub(super) struct Body {
    state: Mutex<Content>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Content {
    file: Option<Arc<File>>,
    /// How many bytes of the file count.
    length: u64,
    end: Option<End>,
    /// Counts up whenever what was there turned out wrong and the file begins anew.
    generation: u32,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The blob is whole and its digest right.
    Whole,
    /// The store had it already: its digest was right once.
    Present,
    /// It will not come.
    Failed,
}

impl Body {
    fn lock(&self) -> MutexGuard<'_, Content> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Content)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// The file is open; its first `length` bytes are there.
    pub(super) fn begin(&self, file: Arc<File>, length: u64) {
        self.change(|c| (c.file, c.length) = (Some(file), length));
    }

    /// So many bytes are there now.
    pub(super) fn grow(&self, length: u64) {
        self.change(|c| c.length = length);
    }

    /// What was there is worth nothing: it begins anew.
    pub(super) fn restart(&self) {
        self.change(|c| {
            (c.file, c.length, c.end) = (None, 0, None);
            c.generation += 1;
        });
    }

    /// No more comes.
    pub(super) fn end(&self, end: End) {
        self.change(|c| c.end = Some(end));
    }

    /// Waits for the end; also which generation that was.
    pub(super) fn wait(&self) -> (End, u32) {
        let mut content = self.lock();
        loop {
            if let Some(end) = content.end {
                return (end, content.generation);
            }
            content = self.changed.wait(content).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A reader from the first byte on.
    pub(super) fn reader(&self) -> Follow<'_> {
        let generation = self.lock().generation;
        Follow { body: self, file: None, offset: 0, known: 0, forgotten: 0, generation }
    }
}

/// How much is read before its pages are let go of.
const FORGET: u64 = 4 << 20;

/// Reads a blob as it comes; waits where it has not come yet. Nobody reads it again soon: its pages in memory are let go
/// of behind the reader, for the files that are written meanwhile.
pub(super) struct Follow<'a> {
    body: &'a Body,
    file: Option<Arc<File>>,
    offset: u64,
    known: u64,
    /// Up to where pages were let go of.
    forgotten: u64,
    generation: u32,
}

impl Follow<'_> {
    /// Which beginning of the blob it reads.
    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// Waits until there is a byte at the offset; `false` at the end.
    fn more(&mut self) -> io::Result<bool> {
        let mut content = self.body.lock();
        loop {
            if content.generation != self.generation {
                return Err(io::Error::other("the download began anew"));
            }
            if content.length > self.offset {
                self.known = content.length;
                if self.file.is_none() {
                    self.file.clone_from(&content.file);
                }
                return Ok(true);
            }
            match content.end {
                Some(End::Failed) => return Err(io::Error::other("the download failed")),
                Some(End::Whole | End::Present) => return Ok(false),
                None => content = self.body.changed.wait(content).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl Read for Follow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.known <= self.offset && !self.more()? {
            return Ok(0);
        }
        let Some(file) = &self.file else { return Ok(0) };
        let there = usize::try_from(self.known - self.offset).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(there);
        let n = file.read_at(buffer.get_mut(..wanted).unwrap_or_default(), self.offset)?;
        if n == 0 && wanted > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the downloaded file was cut short"));
        }
        self.offset += n as u64;
        if self.offset - self.forgotten >= FORGET {
            // Advice: what the filesystem keeps, it keeps.
            let _ = kernel::cache::forget(file, self.forgotten, self.offset - self.forgotten);
            self.forgotten = self.offset;
        }
        Ok(n)
    }
}
