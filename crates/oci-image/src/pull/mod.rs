//! Pulling: download, verify, inflate and unpack as one pipeline.

mod source;

pub use source::{Source, SourceError};
