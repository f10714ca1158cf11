//! Reads blocks of headers.

use super::table::{Dynamic, Marks, STATIC};
use super::{Fault, Field, Fields, huffman, integer};

/// How many headers a list may have.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes, counted as SETTINGS_MAX_HEADER_LIST_SIZE counts them: 32 for each header beside its own.
    pub size: usize,
    /// Headers.
    pub count: usize,
}

/// Reads the blocks of one direction of a connection.
#[derive(Debug)]
pub struct Decoder {
    table: Dynamic,
    allowed: usize,
}

/// Where the name of a literal is.
enum Name {
    Known(u32),
    Told,
}

impl Decoder {
    /// With a table of so many bytes at most, which the peer has been told (SETTINGS_HEADER_TABLE_SIZE).
    #[must_use]
    pub fn new(allowed: usize) -> Self {
        Self { table: Dynamic::new(allowed), allowed }
    }

    /// Reads a whole block behind what is in `out`; false if it was more than there may be, and not all of it is in there.
    ///
    /// # Errors
    /// It cannot be read, and no other block of this connection can be any more.
    pub fn decode(&mut self, block: &[u8], bounds: &Bounds, out: &mut Fields) -> Result<bool, Fault> {
        let mut rest = block;
        let (mut first, mut fits) = (true, true);
        while let Some(byte) = rest.first().copied() {
            match byte {
                0x80.. => {
                    let index = number(&mut rest, 7)?;
                    let (name, value) = self.entry(index)?;
                    // Once it is too much, a byte that stands for kilobytes is not made such.
                    if fits {
                        out.push(Field { name, value, never: false });
                        fits = bounded(out, bounds);
                    }
                }
                0x40..0x80 => {
                    let index = number(&mut rest, 6)?;
                    let field = self.literal(index, &mut rest, false, out)?;
                    let marks = Marks::default();
                    self.table.insert(field.name, field.value, marks);
                    fits = fits && bounded(out, bounds);
                }
                0x20..0x40 => {
                    let size = number(&mut rest, 5)?;
                    if !first {
                        return Err(Fault::LateSize);
                    }
                    let most = usize::try_from(size).ok().filter(|most| *most <= self.allowed);
                    self.table.resize(most.ok_or(Fault::TableSize(size))?);
                    continue;
                }
                _ => {
                    let index = number(&mut rest, 4)?;
                    self.literal(index, &mut rest, byte & 0x10 != 0, out)?;
                    fits = fits && bounded(out, bounds);
                }
            }
            first = false;
            if !fits && byte < 0x80 {
                out.pop();
            }
        }
        Ok(fits)
    }

    /// The size of its table, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.table.size()
    }

    fn entry(&self, index: u32) -> Result<(&[u8], &[u8]), Fault> {
        let at = usize::try_from(index).unwrap_or(usize::MAX).wrapping_sub(1);
        let known = STATIC.get(at).map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        known.or_else(|| self.table.get(at.checked_sub(STATIC.len())?)).ok_or(Fault::Index(index))
    }

    fn literal<'o>(
        &self,
        index: u32,
        rest: &mut &[u8],
        never: bool,
        out: &'o mut Fields,
    ) -> Result<Field<'o>, Fault> {
        let name = if index == 0 { Name::Told } else { Name::Known(index) };
        let bytes = out.open();
        let start = bytes.len();
        let mut read = || -> Result<usize, Fault> {
            match name {
                Name::Known(index) => bytes.extend_from_slice(self.entry(index)?.0),
                Name::Told => string(rest, bytes)?,
            }
            let colon = bytes.len();
            string(rest, bytes)?;
            Ok(colon)
        };
        match read() {
            Ok(colon) => Ok(out.wrote(start, colon, never)),
            Err(fault) => {
                bytes.truncate(start);
                Err(fault)
            }
        }
    }

    #[cfg(test)]
    pub(super) fn table(&self) -> &Dynamic {
        &self.table
    }
}

fn bounded(out: &Fields, bounds: &Bounds) -> bool {
    out.size() <= bounds.size && out.len() <= bounds.count
}

fn number(rest: &mut &[u8], prefix: u32) -> Result<u32, Fault> {
    let (value, used) = integer::read(rest, prefix)?;
    *rest = rest.get(used..).unwrap_or_default();
    Ok(value)
}

/// A string (RFC 7541, 5.2). It takes no more memory than it has bytes, or eight fifths of that.
fn string(rest: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    let coded = rest.first().is_some_and(|first| first & 0x80 != 0);
    let length = usize::try_from(number(rest, 7)?).unwrap_or(usize::MAX);
    let (bytes, behind) = rest.split_at_checked(length).ok_or(Fault::Truncated)?;
    *rest = behind;
    if coded {
        return huffman::read(bytes, out);
    }
    out.extend_from_slice(bytes);
    Ok(())
}
