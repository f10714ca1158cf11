//! HPACK, the compression of headers (RFC 7541).
//!
//! A [`Decoder`] reads blocks into [`Fields`], an [`Encoder`] writes them; each holds the dynamic table of its direction. A list of headers is one
//! vector of bytes and one of places, to be used again: nothing is allocated for a header.
//!
//! A block that says more than there may be is read to its end all the same, since the table must go on as the peer has it, but what is
//! too much is not kept: a few bytes that stand for megabytes cost a few bytes.

mod decode;
mod encode;
mod fields;
mod huffman;
mod integer;
mod table;

#[cfg(test)]
mod tests;

pub use decode::{Bounds, Decoder};
pub use encode::Encoder;
pub use fields::{Field, Fields};

/// The size of a dynamic table that nobody has said anything about, and the largest that either side here has, in bytes (RFC 7541, 4.2;
/// RFC 9113, 6.5.2).
pub const TABLE: usize = 4096;

/// Why a block cannot be read. Whoever sent it has another table than its reader from here on: the connection ends with COMPRESSION_ERROR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It ends within a field.
    #[error("the block of headers ends within one")]
    Truncated,
    /// A number of more than 28 bits.
    #[error("the block of headers has a number that is larger than any that is meant")]
    Number,
    /// An index without an entry.
    #[error("the block of headers names entry {0}, which neither table has")]
    Index(u32),
    /// A Huffman string with the code for its end inside, or with another padding than less than eight ones (RFC 7541, 5.2).
    #[error("the block of headers has a string that is no Huffman code")]
    Huffman,
    /// A table larger than it may be.
    #[error("the block of headers makes the table {0} bytes large, more than it may be")]
    TableSize(u32),
    /// A change of the table's size behind a field (RFC 7541, 4.2).
    #[error("the block of headers changes the table's size behind a header")]
    LateSize,
}
