//! The two tables of headers (RFC 7541, 2.3).

use std::collections::VecDeque;

use super::Fields;

/// The static table (RFC 7541, appendix A), from index 1 on.
#[rustfmt::skip]
pub(super) const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// What a header is looked for by: of its name, and of all of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) name: u32,
    pub(super) all: u32,
}

impl Marks {
    pub(super) fn of(name: &[u8], value: &[u8]) -> Self {
        let name = mark(0x811c_9dc5, name);
        Self { name, all: mark(name ^ 0x3a, value) }
    }
}

/// FNV-1a. Who makes two headers of one mark has a worse code for both, and nothing else.
const fn mark(mut mark: u32, bytes: &[u8]) -> u32 {
    let mut n = 0;
    while n < bytes.len() {
        mark = (mark ^ bytes[n] as u32).wrapping_mul(0x0100_0193);
        n += 1;
    }
    mark
}

const SLOTS: usize = 128;

/// By a name's mark the first entry of the static table with that name; those that share a slot are in the next ones.
static SLOT: [u8; SLOTS] = {
    let mut slots = [0_u8; SLOTS];
    let mut n = 0;
    while n < STATIC.len() {
        // Entries of one name stand together, and the first has been put in already.
        let name = STATIC[n].0.as_bytes();
        if n == 0 || !same(name, STATIC[n - 1].0.as_bytes()) {
            let mut slot = mark(0x811c_9dc5, name) as usize % SLOTS;
            while slots[slot] != 0 {
                slot = (slot + 1) % SLOTS;
            }
            slots[slot] = n as u8 + 1;
        }
        n += 1;
    }
    slots
};

const fn same(one: &[u8], other: &[u8]) -> bool {
    let mut n = 0;
    while n < one.len() && n < other.len() && one[n] == other[n] {
        n += 1;
    }
    n == one.len() && n == other.len()
}

/// What a table knows of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// All of it, at this index.
    All(usize),
    /// The name.
    Name(usize),
    Nothing,
}

/// What the static table knows of a header.
pub(super) fn fixed(name: &[u8], value: &[u8], marks: Marks) -> Known {
    let mut slot = marks.name as usize % SLOTS;
    loop {
        let index = usize::from(SLOT[slot]);
        if index == 0 {
            return Known::Nothing;
        }
        if STATIC[index - 1].0.as_bytes() == name {
            let named = STATIC[index - 1..].iter().take_while(|entry| entry.0.as_bytes() == name);
            let found = named.enumerate().find(|(_, entry)| entry.1.as_bytes() == value);
            // What has no value there may still have an empty one here.
            return found.map_or(Known::Name(index), |(n, _)| Known::All(index + n));
        }
        slot = (slot + 1) % SLOTS;
    }
}

/// The dynamic table of one direction. Its entries are one behind the other in one vector, which is moved together when it has grown to twice
/// what may be in it.
#[derive(Debug)]
pub(super) struct Dynamic {
    bytes: Vec<u8>,
    /// The newest first.
    entries: VecDeque<Entry>,
    size: usize,
    most: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    start: usize,
    name: usize,
    value: usize,
    marks: Marks,
}

impl Entry {
    fn size(&self) -> usize {
        self.name + self.value + Fields::EACH
    }
}

impl Dynamic {
    pub(super) fn new(most: usize) -> Self {
        Self { bytes: Vec::new(), entries: VecDeque::new(), size: 0, most }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Name and value at an index, the first behind the static table being 0.
    pub(super) fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let entry = self.entries.get(index)?;
        self.bytes.get(entry.start..entry.start + entry.name + entry.value)?.split_at_checked(entry.name)
    }

    /// What it knows of a header; the index is that of both tables.
    pub(super) fn find(&self, name: &[u8], value: &[u8], marks: Marks) -> Known {
        let mut known = Known::Nothing;
        for (n, entry) in self.entries.iter().enumerate() {
            if entry.marks.name != marks.name {
                continue;
            }
            let Some((its_name, its_value)) = self.get(n) else { continue };
            if its_name == name {
                let index = STATIC.len() + 1 + n;
                if entry.marks.all == marks.all && its_value == value {
                    return Known::All(index);
                }
                if known == Known::Nothing {
                    known = Known::Name(index);
                }
            }
        }
        known
    }

    /// Makes room for so many bytes, and no more than that from now on.
    pub(super) fn resize(&mut self, most: usize) {
        self.most = most;
        self.shrink(most);
    }

    /// Puts a header before all others. One that is larger than the table leaves it empty (RFC 7541, 4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8], marks: Marks) {
        let entry = Entry { start: 0, name: name.len(), value: value.len(), marks };
        let Some(rest) = self.most.checked_sub(entry.size()) else { return self.shrink(0) };
        self.shrink(rest);
        if self.bytes.len() + name.len() + value.len() > 2 * self.most {
            let dead = self.entries.back().map_or(self.bytes.len(), |oldest| oldest.start);
            self.bytes.drain(..dead);
            self.entries.iter_mut().for_each(|entry| entry.start -= dead);
        }
        self.entries.push_front(Entry { start: self.bytes.len(), ..entry });
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.size += entry.size();
    }

    fn shrink(&mut self, to: usize) {
        while self.size > to {
            let Some(oldest) = self.entries.pop_back() else { break };
            self.size -= oldest.size();
        }
        if self.entries.is_empty() {
            self.bytes.clear();
        }
    }
}
