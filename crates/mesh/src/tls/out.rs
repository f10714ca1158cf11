//! Bytes that are to be sent.

/// What is to be sent, in one piece, as a single call of the kernel can take it.
#[derive(Debug, Default)]
pub struct Out {
    /// Bytes to be sent are those from `start` to `end`; what is behind is only room.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Out {
    /// What there is.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Room for so many bytes behind the others.
    pub(crate) fn room(&mut self, size: usize) -> &mut [u8] {
        let until = self.end + size;
        if self.bytes.len() < until {
            self.bytes.resize(until, 0);
        }
        self.bytes.get_mut(self.end..until).unwrap_or_default()
    }

    /// So many bytes of the room were filled.
    pub(crate) fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// So many bytes were sent.
    pub fn sent(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Whether it holds memory.
    pub(crate) fn holds(&self) -> bool {
        self.bytes.capacity() > 0
    }

    /// Holds no memory while there is nothing to be sent.
    pub(crate) fn rest(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }
}
