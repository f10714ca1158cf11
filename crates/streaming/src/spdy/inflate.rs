//! Header blocks are one zlib stream in each direction, flushed after each block.

use bytes::{BufMut, BytesMut};
use flate2::{Decompress, FlushDecompress};

use super::Malformed;
use super::dictionary::DICTIONARY;

/// The most that one block inflates to.
const BLOCK_MAX: usize = 64 * 1024;

/// Reads the peer's blocks.
pub(super) struct Inflater {
    zlib: Decompress,
}

impl Inflater {
    pub(super) fn new() -> Inflater {
        Inflater { zlib: Decompress::new(true) }
    }

    /// Inflates one block.
    pub(super) fn block(&mut self, mut deflated: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut block = Vec::new();
        let mut chunk = [0; 1024];
        loop {
            let (before, made_before) = (self.zlib.total_in(), self.zlib.total_out());
            let inflated = self.zlib.decompress(deflated, &mut chunk, FlushDecompress::Sync);
            let used = usize::try_from(self.zlib.total_in() - before).unwrap_or(usize::MAX);
            let made = usize::try_from(self.zlib.total_out() - made_before).unwrap_or(usize::MAX);
            deflated = deflated.get(used..).unwrap_or_default();
            block.extend_from_slice(chunk.get(..made).unwrap_or_default());
            if block.len() > BLOCK_MAX {
                return Err(wrong("it inflates to more than 64 KiB"));
            }
            match inflated {
                Ok(flate2::Status::StreamEnd) => {
                    return Err(wrong("its compression ends, but a connection has one stream"));
                }
                // All is read and what it makes had room.
                Ok(_) if deflated.is_empty() && made < chunk.len() => return Ok(block),
                Ok(_) if used == 0 && made == 0 => return Err(wrong("it is not deflated")),
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.zlib.set_dictionary(DICTIONARY).map_err(|_| wrong("it wants another dictionary"))?;
                }
                Err(_) => return Err(wrong("it is not deflated")),
            }
        }
    }
}

fn wrong(why: &'static str) -> Malformed {
    Malformed { what: "a compressed SPDY header block", why }
}

/// Writes our blocks: stored, as level 0 of zlib does, each with an empty block behind it, which is what a flush is.
#[derive(Default)]
pub(super) struct Storer {
    begun: bool,
}

impl Storer {
    pub(super) fn block(&mut self, block: &[u8]) -> BytesMut {
        let mut stored = BytesMut::with_capacity(block.len() + 12);
        if !std::mem::replace(&mut self.begun, true) {
            // A window of 32 KiB, no dictionary, the fastest level (RFC 1950).
            stored.put_slice(&[0x78, 0x01]);
        }
        for part in block.chunks(usize::from(u16::MAX)).chain([&[][..]]) {
            let length = u16::try_from(part.len()).unwrap_or_default();
            stored.put_u8(0);
            stored.put_u16_le(length);
            stored.put_u16_le(!length);
            stored.put_slice(part);
        }
        stored
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};
    use proptest::prelude::*;

    use super::*;

    /// What other implementations send.
    struct Deflater(Compress);

    impl Deflater {
        fn new() -> Deflater {
            let mut zlib = Compress::new(Compression::best(), true);
            zlib.set_dictionary(DICTIONARY).expect("a dictionary");
            Deflater(zlib)
        }

        fn block(&mut self, block: &[u8]) -> Vec<u8> {
            let mut deflated = Vec::with_capacity(block.len() * 2 + 128);
            self.0.compress_vec(block, &mut deflated, FlushCompress::Sync).expect("deflated");
            deflated
        }
    }

    proptest! {
        #[test]
        fn blocks_come_back(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..3000), 1..6)) {
            let (mut deflater, mut storer) = (Deflater::new(), Storer::default());
            let (mut first, mut second) = (Inflater::new(), Inflater::new());
            for block in blocks {
                prop_assert_eq!(first.block(&deflater.block(&block)).expect("inflated"), block.clone());
                prop_assert_eq!(second.block(&storer.block(&block)).expect("inflated"), block);
            }
        }

        #[test]
        fn rubbish_is_an_error_or_short(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Inflater::new().block(&bytes);
        }
    }

    #[test]
    fn a_bomb_is_an_error() {
        let bomb = Deflater::new().block(&vec![0; BLOCK_MAX + 1]);
        assert!(bomb.len() < 1000);
        Inflater::new().block(&bomb).expect_err("too much");
    }

    #[test]
    fn another_dictionary_is_an_error() {
        let mut zlib = Compress::new(Compression::best(), true);
        zlib.set_dictionary(b"something else").expect("a dictionary");
        let mut deflated = Vec::with_capacity(100);
        zlib.compress_vec(b"abc", &mut deflated, FlushCompress::Sync).expect("deflated");
        Inflater::new().block(&deflated).expect_err("another dictionary");
    }
}
