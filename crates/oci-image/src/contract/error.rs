/// A document or value that the image-spec does not allow.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a digest.
    #[error("cannot read digest {value:?}: {reason}")]
    Digest {
        /// The text, cut to a printable length.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Not a platform.
    #[error("cannot read platform {value:?}: {reason}")]
    Platform {
        /// The text as given.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A document larger than any honest one.
    #[error("cannot read {document}: it has {size} bytes and {limit} are the most accepted")]
    TooLarge {
        /// Which document.
        document: &'static str,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A document that is not JSON of the right shape.
    #[error("cannot read {document}: field {field}: {source}")]
    Json {
        /// Which document.
        document: &'static str,
        /// The path of the field, as in `layers[2].size`.
        field: String,
        /// The parser's words.
        source: serde_json::Error,
    },
    /// A document of the right shape that says something impossible.
    #[error("cannot accept {document}: field {field}: {reason}")]
    Invalid {
        /// Which document.
        document: &'static str,
        /// The path of the field.
        field: String,
        /// What is wrong with it, value included.
        reason: String,
    },
}

/// The result of parsing a document.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Cuts text from outside to what a message can hold.
pub(crate) fn shortened(text: &str) -> String {
    const MOST: usize = 160;
    if text.len() <= MOST {
        return text.to_owned();
    }
    let end = (0..=MOST).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    format!("{}…", text.get(..end).unwrap_or_default())
}
