use std::{
    io::{self, BufRead, Read},
    time::Duration,
};

use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::{LimitExceeded, clock::thread_time, gzip};
use crate::contract::{Algorithm, Compression, Digest, Hasher};

const INPUT: usize = 64 << 10;
const OUTPUT: usize = 256 << 10;
/// What RFC 8878 asks every decoder to take is 8 MiB; `zstd --long` needs 128 MiB.
const ZSTD_WINDOW_LOG: u32 = 27;

/// A layer's tar, inflated and hashed as it is read.
///
/// The compression is told from the first bytes and not from the media type, which writers get wrong; the digests
/// decide what is right. Concatenated gzip members and zstd frames are one stream, zero padding behind them is passed
/// over, any other trailing bytes are an error, as is a stream cut short.
pub struct Inflate<S> {
    source: S,
    input: Vec<u8>,
    taken: usize,
    codec: Codec,
    output: Vec<u8>,
    read: usize,
    filled: usize,
    hasher: Option<Hasher>,
    total: u64,
    limit: u64,
    busy: Busy,
}

/// Where the time went, waiting for input left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Busy {
    /// Inflating.
    pub inflate: Duration,
    /// Hashing the uncompressed bytes.
    pub hash: Duration,
}

enum Codec {
    Unknown,
    Plain,
    Gzip(Box<Gzip>),
    Zstd {
        decoder: Box<Decoder<'static>>,
        inside: bool,
    },
    /// Behind the last member or frame: only zeros may follow.
    Padding,
}

struct Gzip {
    stage: Stage,
    deflate: Decompress,
}

enum Stage {
    Header(gzip::Header),
    Deflate,
    Trailer(u8),
    /// A member is through: another, padding or the end may follow.
    Between,
}

impl<S: Read> Inflate<S> {
    /// Reads `source`, hashes what it inflates to under `algorithm`, and fails beyond `limit` bytes.
    pub fn new(source: S, algorithm: Algorithm, limit: u64) -> Self {
        Self {
            source,
            input: Vec::with_capacity(INPUT),
            taken: 0,
            codec: Codec::Unknown,
            output: Vec::new(),
            read: 0,
            filled: 0,
            hasher: Some(Hasher::new(algorithm)),
            total: 0,
            limit,
            busy: Busy::default(),
        }
    }

    /// How the source is compressed, once the first bytes were read.
    pub fn compression(&self) -> Option<Compression> {
        match self.codec {
            Codec::Unknown => None,
            Codec::Plain => Some(Compression::None),
            Codec::Gzip(_) => Some(Compression::Gzip),
            Codec::Zstd { .. } => Some(Compression::Zstd),
            Codec::Padding => None,
        }
    }

    /// How many bytes came out so far.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Where the time went so far.
    pub fn busy(&self) -> Busy {
        self.busy
    }

    /// The digest of everything that came out: the diffID, if it was read to the end.
    pub fn finish(self) -> Digest {
        self.hasher.unwrap_or_else(|| Hasher::new(Algorithm::Sha256)).finish()
    }

    /// Reads more input when there is none left; `false` at the end of the source.
    fn more(&mut self) -> io::Result<bool> {
        if self.taken < self.input.len() {
            return Ok(true);
        }
        self.taken = 0;
        self.input.resize(INPUT, 0);
        let n = loop {
            match self.source.read(&mut self.input) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.input.truncate(*n.as_ref().unwrap_or(&0));
        Ok(n? > 0)
    }

    fn detect(&mut self) -> io::Result<()> {
        // The four bytes of a magic number may come one by one.
        let mut start = Vec::new();
        while start.len() < 4 && self.more()? {
            start.extend_from_slice(&self.input);
            self.taken = self.input.len();
        }
        self.codec = match start.as_slice() {
            [0x1f, 0x8b, ..] => {
                let stage = Stage::Header(gzip::Header::default());
                Codec::Gzip(Box::new(Gzip { stage, deflate: Decompress::new(false) }))
            }
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                let mut decoder = Decoder::new()?;
                decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
                Codec::Zstd { decoder: Box::new(decoder), inside: false }
            }
            _ => Codec::Plain,
        };
        self.input = start;
        self.taken = 0;
        if !matches!(self.codec, Codec::Plain) {
            self.output = vec![0; OUTPUT];
        }
        Ok(())
    }

    /// Fills the output buffer, or as much of it as the rest of the source comes to.
    fn refill(&mut self) -> io::Result<()> {
        (self.read, self.filled) = (0, 0);
        if matches!(self.codec, Codec::Unknown) {
            self.detect()?;
        }
        if matches!(self.codec, Codec::Plain) {
            return self.plain();
        }
        while self.filled < self.output.len() {
            if !self.more()? {
                self.check_end()?;
                break;
            }
            let start = thread_time();
            let step = self.step();
            self.busy.inflate += thread_time().saturating_sub(start);
            step?;
        }
        let filled = self.filled;
        self.account(filled)
    }

    /// Uncompressed input is its own output.
    fn plain(&mut self) -> io::Result<()> {
        self.output.clear();
        if self.more()? {
            std::mem::swap(&mut self.output, &mut self.input);
            self.output.drain(..self.taken);
            self.input.clear();
            self.taken = 0;
        }
        self.filled = self.output.len();
        self.account(self.filled)
    }

    fn account(&mut self, filled: usize) -> io::Result<()> {
        self.total += filled as u64;
        if self.total > self.limit {
            return Err(io::Error::other(LimitExceeded::Bytes(self.limit)));
        }
        let start = thread_time();
        if let (Some(hasher), Some(bytes)) = (&mut self.hasher, self.output.get(..filled)) {
            hasher.update(bytes);
        }
        self.busy.hash += thread_time().saturating_sub(start);
        Ok(())
    }

    /// One call of the decompressor, or one piece of framing.
    fn step(&mut self) -> io::Result<()> {
        let input = self.input.get(self.taken..).unwrap_or_default();
        let output = self.output.get_mut(self.filled..).unwrap_or_default();
        match &mut self.codec {
            Codec::Gzip(gzip) => {
                let (taken, made, through) = gzip.step(input, output)?;
                self.taken += taken;
                self.filled += made;
                if through {
                    self.codec = Codec::Padding;
                }
            }
            Codec::Zstd { inside: false, .. } if input.first() == Some(&0) => self.codec = Codec::Padding,
            Codec::Zstd { decoder, inside } => {
                let mut from = InBuffer::around(input);
                let mut to = OutBuffer::around(output);
                let hint = decoder.run(&mut from, &mut to)?;
                *inside = hint != 0;
                let (taken, made) = (from.pos(), to.pos());
                self.taken += taken;
                self.filled += made;
            }
            Codec::Padding => {
                if input.iter().any(|&b| b != 0) {
                    return Err(invalid("there are bytes behind the compressed data"));
                }
                self.taken = self.input.len();
            }
            Codec::Unknown | Codec::Plain => {}
        }
        Ok(())
    }

    /// Whether the source may end here.
    fn check_end(&self) -> io::Result<()> {
        let whole = match &self.codec {
            Codec::Gzip(gzip) => matches!(gzip.stage, Stage::Between),
            Codec::Zstd { inside, .. } => !inside,
            Codec::Unknown | Codec::Plain | Codec::Padding => true,
        };
        if whole {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the compressed data is cut short"))
        }
    }
}

impl Gzip {
    /// How much was taken, how much made, and whether only padding follows.
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<(usize, usize, bool)> {
        match &mut self.stage {
            Stage::Header(header) => {
                let (taken, through) = header.read(input).map_err(invalid)?;
                if through {
                    self.deflate.reset(false);
                    self.stage = Stage::Deflate;
                }
                Ok((taken, 0, false))
            }
            Stage::Deflate => {
                let (before_in, before_out) = (self.deflate.total_in(), self.deflate.total_out());
                let status = self
                    .deflate
                    .decompress(input, output, FlushDecompress::None)
                    .map_err(|e| invalid(format!("gzip: {e}")))?;
                let taken = usize::try_from(self.deflate.total_in() - before_in).unwrap_or_default();
                let made = usize::try_from(self.deflate.total_out() - before_out).unwrap_or_default();
                match status {
                    Status::StreamEnd => self.stage = Stage::Trailer(8),
                    Status::Ok | Status::BufError if taken == 0 && made == 0 => {
                        return Err(invalid("gzip: the data makes no progress"));
                    }
                    Status::Ok | Status::BufError => {}
                }
                Ok((taken, made, false))
            }
            Stage::Trailer(left) => {
                let taken = usize::from(*left).min(input.len());
                *left -= u8::try_from(taken).unwrap_or(*left);
                if *left == 0 {
                    self.stage = Stage::Between;
                }
                Ok((taken, 0, false))
            }
            Stage::Between if input.first() == Some(&0) => Ok((0, 0, true)),
            Stage::Between => {
                self.stage = Stage::Header(gzip::Header::default());
                Ok((0, 0, false))
            }
        }
    }
}

fn invalid(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

impl<S: Read> BufRead for Inflate<S> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.read == self.filled {
            self.refill()?;
        }
        Ok(self.output.get(self.read..self.filled).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.read = (self.read + amount).min(self.filled);
    }
}

impl<S: Read> Read for Inflate<S> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let from = self.fill_buf()?;
        let n = from.len().min(to.len());
        for (to, from) in to.iter_mut().zip(from) {
            *to = *from;
        }
        self.consume(n);
        Ok(n)
    }
}
