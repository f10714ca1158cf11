//! Bytes that came and were not used yet.

use super::Reactor;

/// So many bytes at first.
const SIZE: usize = 16 << 10;
/// So many buffers are kept for whoever needs one next.
const SPARE: usize = 64;

/// Bytes of a stream: they are filled in behind and taken from before.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    /// What there is.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// The same, to be changed in place.
    #[must_use]
    pub fn data_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..).unwrap_or_default()
    }

    /// Puts bytes behind the others.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 && self.bytes.capacity() - self.bytes.len() < bytes.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == self.start
    }

    /// Whether it has no memory yet.
    pub(crate) fn is_unused(&self) -> bool {
        self.bytes.capacity() == 0
    }

    /// Whether as much is there as there was room for.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() == self.bytes.capacity()
    }

    /// Has room for so many bytes in all.
    pub(crate) fn widen(&mut self, size: usize) {
        self.bytes.reserve(size.saturating_sub(self.bytes.len()));
    }

    /// So many bytes are used.
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.bytes.len());
        if self.is_empty() {
            self.bytes.clear();
            self.start = 0;
        }
    }

    /// Room for more, for who reads.
    pub(super) fn room(&mut self) -> &mut Vec<u8> {
        // What is left of much is little: to move it costs less than to read in small pieces.
        if self.bytes.capacity() - self.bytes.len() < 1024 || self.start > self.bytes.capacity() / 2 {
            if self.start > 0 {
                self.bytes.drain(..self.start);
                self.start = 0;
            }
            if self.bytes.capacity() - self.bytes.len() < 1024 {
                self.bytes.reserve(SIZE.max(self.bytes.len()));
            }
        }
        &mut self.bytes
    }
}

impl Reactor {
    /// An empty buffer, one that was used before if there is one.
    #[must_use]
    pub fn buffer(&self) -> Buffer {
        Buffer { bytes: self.bytes(), start: 0 }
    }

    /// An empty vector, as [`Reactor::buffer`].
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.core.spare.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(SIZE))
    }

    /// Takes a buffer back.
    pub fn give_back(&self, buffer: Buffer) {
        self.give_back_bytes(buffer.bytes);
    }

    /// As [`Reactor::give_back`]. One that has grown is not kept.
    pub fn give_back_bytes(&self, mut bytes: Vec<u8>) {
        let mut spare = self.core.spare.borrow_mut();
        if bytes.capacity() == SIZE && spare.len() < SPARE {
            bytes.clear();
            spare.push(bytes);
        }
    }
}
