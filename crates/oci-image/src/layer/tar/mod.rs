//! tar, read and written as a stream: ustar, GNU's and star's extensions, POSIX (PAX) headers.
//!
//! Names are bytes, passed on as they stand: what may be done with them is the unpacker's business.

mod entry;
mod error;
mod header;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use entry::{Entry, Kind, Span, Time};
pub use error::{Error, Result};
pub use reader::Reader;
pub use writer::{Header, Writer};

/// The unit everything in a tar is padded to.
pub const BLOCK: usize = 512;
/// The most bytes one extended header (PAX records, a GNU long name, a sparse map) may have.
pub const EXTENSION_LIMIT: u64 = 1 << 20;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::block;
