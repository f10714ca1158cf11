//! What went on of a request's body and is kept, so that it can be sent once more.

use std::cell::Cell;
use std::rc::Rc;

/// So much of one request is kept, trailers included: as much as a first read of HTTP/1.1 has.
pub(super) const KEPT: usize = 16 << 10;
/// So much of all requests of one client's connection.
pub(super) const KEPT_IN_ALL: usize = 16 * KEPT;

/// The beginning of a body, up to where it has come.
#[derive(Debug)]
pub(super) struct Kept {
    bytes: Vec<u8>,
    /// So many of them went to the endpoint that is asked now.
    sent: usize,
    /// So much counts, trailers included.
    size: usize,
    /// The trailers are counted.
    whole: bool,
    /// What counts of all requests of the client's connection.
    all: Rc<Cell<usize>>,
}

impl Kept {
    /// Nothing yet.
    pub(super) fn new(all: &Rc<Cell<usize>>) -> Self {
        Self { bytes: Vec::new(), sent: 0, size: 0, whole: false, all: all.clone() }
    }

    /// What the endpoint that is asked now does not have of it.
    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    /// So many bytes of the rest went on.
    pub(super) fn passed(&mut self, count: usize) {
        self.sent = (self.sent + count).min(self.bytes.len());
    }

    /// It is sent from its beginning.
    pub(super) fn rewind(&mut self) {
        self.sent = 0;
    }

    /// More went on, behind all of this; false if that is too much to be kept.
    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        if !self.counts(bytes.len()) {
            return false;
        }
        self.bytes.extend_from_slice(bytes);
        self.sent = self.bytes.len();
        true
    }

    /// Trailers of this size went on behind it; false if they are too much to be kept.
    pub(super) fn ends(&mut self, size: usize) -> bool {
        self.whole = self.whole || self.counts(size);
        self.whole
    }

    fn counts(&mut self, count: usize) -> bool {
        let all = self.all.get() + count;
        if self.size + count > KEPT || all > KEPT_IN_ALL {
            return false;
        }
        self.size += count;
        self.all.set(all);
        true
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.all.set(self.all.get().saturating_sub(self.size));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_may_be() {
        let all = Rc::new(Cell::new(0));
        let mut kept = Kept::new(&all);
        assert!(kept.push(&[1; KEPT - 10]) && kept.rest().is_empty());
        assert!(!kept.push(&[2; 11]), "more than there is room for");
        assert!(kept.ends(10) && kept.ends(10), "the same trailers once more");
        assert_eq!(all.get(), KEPT);
        kept.rewind();
        kept.passed(KEPT - 12);
        assert_eq!(kept.rest(), [1, 1]);
        kept.passed(KEPT);
        assert!(kept.rest().is_empty() && !kept.push(&[3]));
        drop(kept);
        assert_eq!(all.get(), 0);
    }

    #[test]
    fn all_together_have_less_room_than_each() {
        let all = Rc::new(Cell::new(0));
        let mut many = Vec::new();
        for _ in 0..KEPT_IN_ALL / KEPT {
            let mut kept = Kept::new(&all);
            assert!(kept.push(&[0; KEPT]));
            many.push(kept);
        }
        let mut last = Kept::new(&all);
        assert!(!last.push(&[0]) && !last.ends(1));
        assert_eq!(all.get(), KEPT_IN_ALL);
        many.pop();
        assert!(last.push(&[0]));
        drop((many, last));
        assert_eq!(all.get(), 0);
    }
}
