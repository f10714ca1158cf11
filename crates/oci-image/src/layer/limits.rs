/// How much one layer may unpack to. What goes beyond is a bomb, and refused.
///
/// gzip reaches 1:1000 and a bomb costs its sender nothing, so there are three bounds: 100 bytes out for each byte in,
/// but at least 4 GiB and at most 64 GiB. Layers of real images stay an order of magnitude below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of uncompressed tar.
    pub bytes: u64,
    /// The most bytes of uncompressed tar for each compressed byte, above `floor`.
    pub ratio: u64,
    /// Below this many bytes the ratio does not count.
    pub floor: u64,
    /// The most entries.
    pub entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 << 30, ratio: 100, floor: 4 << 30, entries: 4_000_000 }
    }
}

impl Limits {
    /// The most bytes that a layer of `compressed` bytes may have uncompressed.
    pub fn bytes_for(&self, compressed: u64) -> u64 {
        compressed.saturating_mul(self.ratio).max(self.floor).min(self.bytes)
    }
}

/// A layer went beyond its [`Limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitExceeded {
    /// Too many bytes.
    #[error(
        "it unpacks to more than {0} bytes, the limit for a layer of its size: is it a decompression bomb?"
    )]
    Bytes(u64),
    /// Too many entries.
    #[error("it has more than {0} entries, the limit for a layer")]
    Entries(u64),
}
