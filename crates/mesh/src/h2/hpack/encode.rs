//! Writes blocks of headers.

use super::table::{Dynamic, Known, Marks, fixed};
use super::{Field, Fields, TABLE, huffman, integer};

/// So many headers that went by are remembered.
const SEEN: usize = 64;
/// Cookies shorter than this could be found out by trying (RFC 7541, 7.1.3).
const COOKIE: usize = 24;

/// Writes the blocks of one direction of a connection.
///
/// A header goes into the table when it is sent for the second time, or when nobody knows its name yet: what is different each time (dates, ids,
/// paths) does not push out what stays.
#[derive(Debug)]
pub struct Encoder {
    table: Dynamic,
    /// The smallest size that the table had since the last block, where the peer was not told yet.
    shrunk: Option<usize>,
    seen: [u32; SEEN],
}

/// How a header is sent.
enum Way {
    Index,
    Plain,
    Never,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { table: Dynamic::new(TABLE), shrunk: None, seen: [0; SEEN] }
    }
}

impl Encoder {
    /// The peer has a table of so many bytes at most (its SETTINGS_HEADER_TABLE_SIZE); ours is no larger than [`TABLE`].
    pub fn allow(&mut self, size: usize) {
        let most = size.min(TABLE);
        if most != self.table.most() || self.shrunk.is_some() {
            self.table.resize(most);
            self.shrunk = Some(self.shrunk.unwrap_or(usize::MAX).min(most));
        }
    }

    /// Writes a block.
    pub fn encode<'a>(&mut self, fields: impl Iterator<Item = Field<'a>>, out: &mut Vec<u8>) {
        if let Some(smallest) = self.shrunk.take() {
            let most = self.table.most();
            if smallest < most {
                integer::write(out, 0x20, 5, smallest);
            }
            integer::write(out, 0x20, 5, most);
        }
        fields.for_each(|field| self.field(field, out));
    }

    fn field(&mut self, field: Field<'_>, out: &mut Vec<u8>) {
        let Field { name, value, never } = field;
        let marks = Marks::of(name, value);
        let mut known = fixed(name, value, marks);
        if !matches!(known, Known::All(_)) {
            known = match (self.table.find(name, value, marks), known) {
                (Known::All(index), _) => Known::All(index),
                // The shorter index.
                (_, Known::Name(index)) | (Known::Name(index), Known::Nothing) => Known::Name(index),
                _ => Known::Nothing,
            };
        }
        if let Known::All(index) = known
            && !never
        {
            return integer::write(out, 0x80, 7, index);
        }
        let way = if never || secret(name, value) { Way::Never } else { self.way(field, known, marks) };
        let (first, prefix) = match way {
            Way::Index => (0x40, 6),
            Way::Plain => (0, 4),
            Way::Never => (0x10, 4),
        };
        match known {
            Known::All(index) | Known::Name(index) => integer::write(out, first, prefix, index),
            Known::Nothing => {
                out.push(first);
                string(name, out);
            }
        }
        string(value, out);
        if matches!(way, Way::Index) {
            self.table.insert(name, value, marks);
        }
    }

    fn way(&mut self, field: Field<'_>, known: Known, marks: Marks) -> Way {
        // One that would push out half of the others is not worth it.
        if field.name.len() + field.value.len() + Fields::EACH > self.table.most() / 2 {
            return Way::Plain;
        }
        let slot = &mut self.seen[marks.all as usize % SEEN];
        let again = std::mem::replace(slot, marks.all) == marks.all;
        if again || known == Known::Nothing { Way::Index } else { Way::Plain }
    }

    /// The size of its table, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.table.size()
    }
}

fn secret(name: &[u8], value: &[u8]) -> bool {
    matches!(name, b"authorization" | b"proxy-authorization")
        || (matches!(name, b"cookie" | b"set-cookie") && value.len() < COOKIE)
}

fn string(bytes: &[u8], out: &mut Vec<u8>) {
    let length = huffman::length(bytes);
    if length < bytes.len() {
        integer::write(out, 0x80, 7, length);
        huffman::write(bytes, out);
    } else {
        integer::write(out, 0, 7, bytes.len());
        out.extend_from_slice(bytes);
    }
}
