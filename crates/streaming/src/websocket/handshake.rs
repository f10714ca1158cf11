//! The key and its answer.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The answer to a client's `Sec-WebSocket-Key` (RFC 6455, 4.2.2): it shows that the server speaks WebSocket, no more.
pub(crate) fn accept_key(key: &str) -> String {
    let text = format!("{}258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key.trim());
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

/// A key for a request.
///
/// # Errors
/// The machine has no random numbers.
pub(crate) fn new_key() -> std::io::Result<String> {
    let mut key = [0; 16];
    aws_lc_rs::rand::fill(&mut key).map_err(|_| std::io::Error::other("cannot get random numbers"))?;
    Ok(STANDARD.encode(key))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_answer_is_the_one_of_the_rfc() {
        assert_eq!(super::accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
