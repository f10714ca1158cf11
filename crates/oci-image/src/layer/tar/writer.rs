use std::io::{self, Read, Write};

use super::{BLOCK, Kind, Time};

/// What [`Writer::append`] writes in front of the data.
#[derive(Clone, Debug, Default)]
pub struct Header {
    /// The name; a directory's gets its trailing slash when written.
    pub path: Vec<u8>,
    /// The target of a link.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// How many bytes of data follow: 0 for all but files.
    pub size: u64,
    /// When it was last changed.
    pub mtime: Time,
    /// A device's major and minor number.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Header {
    /// A regular file of root's, at time 0.
    pub fn file(path: impl AsRef<[u8]>, mode: u32, size: u64) -> Self {
        Self { path: path.as_ref().to_vec(), mode, size, ..Self::default() }
    }

    /// A directory of root's, at time 0.
    pub fn directory(path: impl AsRef<[u8]>, mode: u32) -> Self {
        Self { path: path.as_ref().to_vec(), kind: Kind::Directory, mode, ..Self::default() }
    }

    /// A symbolic link of root's, at time 0.
    pub fn symlink(path: impl AsRef<[u8]>, link: impl AsRef<[u8]>) -> Self {
        let (path, link) = (path.as_ref().to_vec(), link.as_ref().to_vec());
        Self { path, link, kind: Kind::Symlink, mode: 0o777, ..Self::default() }
    }
}

/// Writes a tar: ustar headers, PAX records where ustar's fields do not reach. The same calls give the same bytes.
pub struct Writer<W> {
    output: W,
}

impl<W: Write> Writer<W> {
    /// A writer of an empty archive.
    pub fn new(output: W) -> Self {
        Self { output }
    }

    /// Appends one entry with `header.size` bytes of `data`.
    pub fn append(&mut self, header: &Header, data: &mut dyn Read) -> io::Result<()> {
        let mut path = header.path.clone();
        if header.kind == Kind::Directory && !path.ends_with(b"/") {
            path.push(b'/');
        }
        let records = records(header, &path);
        if !records.is_empty() {
            let mut extension = block(b"PaxHeaders/entry", b'x');
            octal(&mut extension, 124, 12, records.len() as u64);
            octal(&mut extension, 100, 8, 0o644);
            self.block(extension)?;
            self.output.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.block(ustar(header, &path))?;
        let written = io::copy(&mut data.take(header.size), &mut self.output)?;
        if written != header.size {
            let name = String::from_utf8_lossy(&header.path).into_owned();
            let text = format!("{name}: {written} bytes were there and {} were announced", header.size);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        self.pad(written)
    }

    /// Ends the archive and gives back what it was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.output.write_all(&[0; 2 * BLOCK])?;
        Ok(self.output)
    }

    fn block(&mut self, mut block: [u8; BLOCK]) -> io::Result<()> {
        let sum: u64 = block.iter().map(|&b| u64::from(b)).sum::<u64>() + 8 * u64::from(b' ');
        octal(&mut block, 148, 7, sum);
        put(&mut block, 155, b" ");
        self.output.write_all(&block)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = usize::try_from(size.wrapping_neg() % BLOCK as u64).unwrap_or_default();
        self.output.write_all([0; BLOCK].get(..padding).unwrap_or_default())
    }
}

fn ustar(header: &Header, path: &[u8]) -> [u8; BLOCK] {
    let flag = match header.kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::Char => b'3',
        Kind::Block => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    };
    let mut block = block(path, flag);
    octal(&mut block, 100, 8, u64::from(header.mode & 0o7777));
    octal(&mut block, 108, 8, u64::from(header.uid));
    octal(&mut block, 116, 8, u64::from(header.gid));
    octal(&mut block, 124, 12, header.size);
    octal(&mut block, 136, 12, u64::try_from(header.mtime.seconds).unwrap_or_default());
    put(&mut block, 157, header.link.get(..header.link.len().min(100)).unwrap_or_default());
    octal(&mut block, 329, 8, u64::from(header.device.0));
    octal(&mut block, 337, 8, u64::from(header.device.1));
    block
}

fn block(path: &[u8], flag: u8) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    put(&mut block, 0, path.get(..path.len().min(100)).unwrap_or_default());
    put(&mut block, 156, &[flag]);
    put(&mut block, 257, b"ustar\x0000");
    block
}

fn put(block: &mut [u8; BLOCK], from: usize, bytes: &[u8]) {
    for (to, byte) in block.iter_mut().skip(from).zip(bytes) {
        *to = *byte;
    }
}

/// Octal digits, zero-padded, with a NUL behind; what does not fit is written as 0 and said in a PAX record.
fn octal(block: &mut [u8; BLOCK], from: usize, length: usize, value: u64) {
    let value = if fits(value, length) { value } else { 0 };
    let width = length - 1;
    put(block, from, format!("{value:0width$o}").as_bytes());
}

fn fits(value: u64, length: usize) -> bool {
    u64::BITS - value.leading_zeros() <= 3 * u32::try_from(length - 1).unwrap_or_default()
}

/// The PAX records for what ustar's fields cannot say.
fn records(header: &Header, path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let long_or_odd = |text: &[u8]| text.len() > 100 || !text.is_ascii();
    if long_or_odd(path) {
        record(&mut out, b"path", path);
    }
    if long_or_odd(&header.link) {
        record(&mut out, b"linkpath", &header.link);
    }
    if !fits(header.size, 12) {
        record(&mut out, b"size", header.size.to_string().as_bytes());
    }
    for (key, value) in [("uid", header.uid), ("gid", header.gid)] {
        if !fits(u64::from(value), 8) {
            record(&mut out, key.as_bytes(), value.to_string().as_bytes());
        }
    }
    if header.mtime.seconds < 0
        || header.mtime.nanoseconds != 0
        || !fits(header.mtime.seconds.unsigned_abs(), 12)
    {
        record(&mut out, b"mtime", decimal(header.mtime).as_bytes());
    }
    for (name, value) in &header.xattrs {
        let key = [b"SCHILY.xattr.".as_slice(), name].concat();
        record(&mut out, &key, value);
    }
    out
}

fn decimal(time: Time) -> String {
    match (time.seconds < 0, time.nanoseconds) {
        (_, 0) => time.seconds.to_string(),
        (false, n) => format!("{}.{n:09}", time.seconds),
        (true, n) => format!("-{}.{:09}", -(time.seconds + 1), 1_000_000_000 - n),
    }
}

/// One record; its length counts its own digits.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} ").as_bytes());
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}
