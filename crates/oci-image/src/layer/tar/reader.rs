use std::io::BufRead;

use super::{
    BLOCK, EXTENSION_LIMIT, Span, Time,
    entry::{Entry, Kind},
    error::{Error, Result},
    header::{Block, Format, span},
    pax::Overrides,
    sparse,
};

/// Reads a tar as it streams by. Data is handed out in place, as slices of what the input has buffered.
///
/// ```
/// # use oci_image::layer::tar::{Header, Reader, Writer};
/// let mut writer = Writer::new(Vec::new());
/// writer.append(&Header::file(b"etc/hostname", 0o644, 3), &mut b"box".as_slice())?;
/// let bytes = writer.finish()?;
/// let mut reader = Reader::new(bytes.as_slice());
/// while reader.next()? {
///     assert_eq!(reader.entry().path, b"etc/hostname");
///     assert_eq!(reader.data()?, b"box");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Reader<R> {
    input: R,
    offset: u64,
    entry: Entry,
    /// Data of the current entry not yet handed out.
    left: u64,
    padding: u64,
    globals: Overrides,
    done: bool,
}

impl<R: BufRead> Reader<R> {
    /// A reader at the start of an archive.
    pub fn new(input: R) -> Self {
        let globals = Overrides::default();
        Self { input, offset: 0, entry: Entry::default(), left: 0, padding: 0, globals, done: false }
    }

    /// The entry that [`Self::next`] came to.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// What it reads from.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// How far into the archive it is, in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Goes to the next entry, past what is left of the current one's data; `false` at the end of the archive.
    #[expect(
        clippy::should_implement_trait,
        reason = "an entry borrows from the reader: this is no iterator"
    )]
    pub fn next(&mut self) -> Result<bool> {
        if self.done {
            return Ok(false);
        }
        self.skip(self.left + self.padding)?;
        (self.left, self.padding) = (0, 0);
        let mut overrides: Option<Overrides> = None;
        let (mut long_name, mut long_link) = (None, None);
        loop {
            let Some(raw) = self.block()? else {
                self.done = true;
                return Ok(false);
            };
            let block = Block(&raw);
            if block.is_zero() {
                return self.at_end();
            }
            if !block.checksum_holds() {
                return Err(self.malformed("the header's checksum is wrong"));
            }
            let size = block.size().ok_or_else(|| self.malformed("the header's size is no number"))?;
            match block.typeflag() {
                b'x' | b'X' => {
                    let data = self.extension(size)?;
                    let overrides = overrides.get_or_insert_with(|| self.globals.clone());
                    overrides.read(&data).map_err(|reason| self.malformed(reason))?;
                }
                b'g' => self.global(size)?,
                b'L' => long_name = Some(self.long(size)?),
                b'K' => long_link = Some(self.long(size)?),
                b'V' => {
                    self.extension(size)?;
                }
                _ => {
                    let overrides = overrides.unwrap_or_else(|| self.globals.clone());
                    self.header(&block, size, overrides, long_name, long_link)?;
                    return Ok(true);
                }
            }
        }
    }

    /// The next bytes of the current entry's data, as many as are at hand; empty at its end. They are handed out again
    /// until [`Self::consume`] takes them.
    pub fn data(&mut self) -> Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let offset = self.offset;
        let buffered = self.input.fill_buf()?;
        if buffered.is_empty() {
            return Err(Error::Truncated { offset });
        }
        let take = usize::try_from(self.left).map_or(buffered.len(), |left| left.min(buffered.len()));
        Ok(buffered.get(..take).unwrap_or_default())
    }

    /// Takes `amount` bytes that [`Self::data`] handed out.
    pub fn consume(&mut self, amount: usize) {
        self.input.consume(amount);
        self.offset += amount as u64;
        self.left = self.left.saturating_sub(amount as u64);
    }

    /// Reads on to the end of the input, where only padding is expected after the archive's end.
    pub fn drain(&mut self) -> Result<()> {
        loop {
            let n = self.input.fill_buf()?.len();
            if n == 0 {
                return Ok(());
            }
            self.input.consume(n);
            self.offset += n as u64;
        }
    }

    fn malformed(&self, reason: impl Into<String>) -> Error {
        Error::Malformed { offset: self.offset, reason: reason.into() }
    }

    /// One zero block was read: a second one, or the end of the input, ends the archive.
    fn at_end(&mut self) -> Result<bool> {
        self.done = true;
        match self.block()? {
            Some(second) if !Block(&second).is_zero() => {
                Err(self.malformed("an empty block is followed by another header"))
            }
            _ => Ok(false),
        }
    }

    /// The next block; `None` when the input ends before it.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let buffered = self.input.fill_buf()?;
            let Some(rest) = block.get_mut(filled..) else { break };
            let take = buffered.len().min(rest.len());
            match (take, filled) {
                (0, 0) => return Ok(None),
                (0, _) => return Err(Error::Truncated { offset: self.offset }),
                _ => {}
            }
            for (to, from) in rest.iter_mut().zip(buffered) {
                *to = *from;
            }
            self.input.consume(take);
            self.offset += take as u64;
            filled += take;
        }
        Ok(Some(block))
    }

    fn skip(&mut self, mut amount: u64) -> Result<()> {
        while amount > 0 {
            let n = self.input.fill_buf()?.len();
            if n == 0 {
                return Err(Error::Truncated { offset: self.offset });
            }
            let take = usize::try_from(amount).map_or(n, |a| a.min(n));
            self.input.consume(take);
            self.offset += take as u64;
            amount -= take as u64;
        }
        Ok(())
    }

    /// The data of an extension header, and past its padding.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > EXTENSION_LIMIT {
            return Err(
                self.malformed(format!("an extended header of {size} bytes; {EXTENSION_LIMIT} are the most"))
            );
        }
        let mut data = Vec::new();
        let mut left = usize::try_from(size).unwrap_or_default();
        while left > 0 {
            let buffered = self.input.fill_buf()?;
            let Some(part) = buffered.get(..left.min(buffered.len())).filter(|p| !p.is_empty()) else {
                return Err(Error::Truncated { offset: self.offset });
            };
            let n = part.len();
            data.extend_from_slice(part);
            self.input.consume(n);
            self.offset += n as u64;
            left -= n;
        }
        self.skip(padding(size))?;
        Ok(data)
    }

    fn long(&mut self, size: u64) -> Result<Vec<u8>> {
        let mut name = self.extension(size)?;
        name.truncate(name.iter().position(|&b| b == 0).unwrap_or(name.len()));
        Ok(name)
    }

    /// A global header: it may set owners, times and attributes, never what one entry alone can have.
    fn global(&mut self, size: u64) -> Result<()> {
        let data = self.extension(size)?;
        self.globals.read(&data).map_err(|reason| self.malformed(reason))?;
        let g = &self.globals;
        if g.path.is_some() || g.link.is_some() || g.size.is_some() || g.sparse.present {
            return Err(self.malformed("a global header sets a name, a size or a sparse map"));
        }
        Ok(())
    }

    fn header(
        &mut self,
        block: &Block<'_>,
        size: u64,
        mut overrides: Overrides,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<()> {
        self.entry.clear();
        match long_name {
            Some(name) => self.entry.path = name,
            None => block.name_into(&mut self.entry.path),
        }
        match long_link {
            Some(link) => self.entry.link = link,
            None => self.entry.link.extend_from_slice(block.linkname()),
        }
        self.numbers(block, &overrides)?;
        let size = overrides.size.unwrap_or(size);
        overrides.put_on(&mut self.entry);
        self.entry.kind = block.kind(&self.entry.path).ok_or_else(|| {
            let flag = char::from(block.typeflag()).escape_debug();
            self.malformed(format!("an entry of type '{flag}', which is not known"))
        })?;
        if matches!(self.entry.kind, Kind::Char | Kind::Block) && block.format() != Format::V7 {
            let header = block.device().ok_or_else(|| self.malformed("a device number is no number"))?;
            let (major, minor) = overrides.device;
            self.entry.device = (major.unwrap_or(header.0), minor.unwrap_or(header.1));
        }
        // GNU's directory dumps are the one kind besides files whose size counts data.
        let has_data = self.entry.kind == Kind::File
            || block.typeflag() == b'D'
            || self.entry.kind == Kind::Directory && block.typeflag() != b'5';
        self.left = if has_data { size } else { 0 };
        self.padding = padding(self.left);
        if self.entry.kind == Kind::File {
            self.sparse(block, &mut overrides)?;
            self.entry.size = self.left;
        }
        Ok(())
    }

    /// Owners, mode and time from the header block, where no PAX record replaces what may not fit there.
    fn numbers(&mut self, block: &Block<'_>, overrides: &Overrides) -> Result<()> {
        let id = |value: Option<i64>| value.and_then(|n| u32::try_from(n).ok()).filter(|&n| n != u32::MAX);
        let fallback =
            |over: bool, value: Option<u32>| if over { Some(value.unwrap_or_default()) } else { value };
        let bad = |what| self.malformed(format!("the header's {what} is no number that fits"));
        let uid = fallback(overrides.uid.is_some(), id(block.uid())).ok_or_else(|| bad("uid"))?;
        let gid = fallback(overrides.gid.is_some(), id(block.gid())).ok_or_else(|| bad("gid"))?;
        let mode = block.mode().ok_or_else(|| bad("mode"))?;
        let seconds = match block.mtime() {
            Some(seconds) => seconds,
            None if overrides.mtime.is_some() => 0,
            None => return Err(bad("mtime")),
        };
        (self.entry.uid, self.entry.gid, self.entry.mode) = (uid, gid, mode);
        self.entry.mtime = Time { seconds, nanoseconds: 0 };
        Ok(())
    }

    /// The map of a sparse file, from wherever its version keeps it.
    fn sparse(&mut self, block: &Block<'_>, overrides: &mut Overrides) -> Result<()> {
        let records = &mut overrides.sparse;
        let (real, spans) = if block.typeflag() == b'S' {
            let (first, more, real) = block.gnu_sparse();
            let spans = self.gnu_spans(first, more)?;
            (real, spans)
        } else if records.present && (records.major.unwrap_or(0), records.minor.unwrap_or(0)) == (1, 0) {
            (records.real_size, self.leading_map()?)
        } else if records.present && records.major.unwrap_or(0) == 0 {
            (records.real_size, std::mem::take(&mut records.spans))
        } else if records.present {
            return Err(self.malformed("a sparse file of a version that is not known"));
        } else {
            return Ok(());
        };
        let real = real.ok_or_else(|| self.malformed("a sparse file does not tell its size"))?;
        sparse::check(&spans, real, self.left).map_err(|reason| self.malformed(reason))?;
        self.entry.sparse = Some((real, spans));
        Ok(())
    }

    fn gnu_spans(&mut self, first: &[u8], mut more: bool) -> Result<Vec<Span>> {
        let mut spans = Vec::new();
        let mut take = |fields: &[u8], offset| -> Result<()> {
            for field in fields.chunks_exact(24) {
                match span(field) {
                    Some(Ok(span)) => spans.push(span),
                    Some(Err(())) => {
                        let reason = "a sparse map holds something that is no number".into();
                        return Err(Error::Malformed { offset, reason });
                    }
                    None => break,
                }
            }
            Ok(())
        };
        take(first, self.offset)?;
        let mut blocks = 0_u64;
        while more {
            blocks += 1;
            if blocks > EXTENSION_LIMIT / BLOCK as u64 {
                return Err(self.malformed("a sparse map is too long"));
            }
            let block = self.block()?.ok_or(Error::Truncated { offset: self.offset })?;
            let (fields, flag) = block.split_at(504);
            take(fields, self.offset)?;
            more = flag.first() != Some(&0);
        }
        Ok(spans)
    }

    /// Version 1.0 puts the map before the data, as decimal lines padded to a block.
    fn leading_map(&mut self) -> Result<Vec<Span>> {
        let mut text = Vec::new();
        let mut read = 0_usize;
        let mut number = |reader: &mut Self| -> Result<u64> {
            loop {
                match sparse::line(text.get(read..).unwrap_or_default()) {
                    Some(Ok((n, taken))) => {
                        read += taken;
                        return Ok(n);
                    }
                    Some(Err(reason)) => return Err(reader.malformed(reason)),
                    None => {}
                }
                if reader.left < BLOCK as u64 || text.len() as u64 >= EXTENSION_LIMIT {
                    return Err(reader.malformed("a sparse map does not end"));
                }
                let block = reader.block()?.ok_or(Error::Truncated { offset: reader.offset })?;
                reader.left -= BLOCK as u64;
                text.extend_from_slice(&block);
            }
        };
        let count = number(self)?;
        let mut spans = Vec::new();
        for _ in 0..count {
            let (offset, length) = (number(self)?, number(self)?);
            spans.push(Span { offset, length });
        }
        Ok(spans)
    }
}

/// How many bytes fill up the last block of `size` bytes.
fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}
