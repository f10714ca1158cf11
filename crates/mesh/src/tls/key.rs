//! What protects the records of one direction (RFC 8446, 5.2 to 5.5).

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use rustls::ConnectionTrafficSecrets;

use super::Fault;

/// A record has so many bytes of payload at most (RFC 8446, 5.1).
pub const RECORD: usize = 16 << 10;
/// A record's head.
pub const HEAD: usize = 5;
/// The tag behind what is encrypted.
pub const TAG: usize = 16;
/// What is added to a record: its head, the type of its content, and the tag (RFC 8446, 5.2).
pub const ADDED: usize = HEAD + 1 + TAG;
/// A record with all of its padding has so many bytes behind its head at most (RFC 8446, 5.2).
pub(super) const LONGEST: usize = RECORD + 256;

/// The types of content that may come once the handshake is over (RFC 8446, 5.1).
pub mod kind {
    /// An alert.
    pub const ALERT: u8 = 21;
    /// A message of the handshake, or one that follows it.
    pub const HANDSHAKE: u8 = 22;
    /// Data; every record that is protected says so on its outside.
    pub const DATA: u8 = 23;
}

/// An AEAD of TLS 1.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// AES-128-GCM.
    Aes128Gcm,
    /// AES-256-GCM.
    Aes256Gcm,
    /// ChaCha20-Poly1305.
    ChaCha20Poly1305,
}

impl Suite {
    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Aes128Gcm => &AES_128_GCM,
            Self::Aes256Gcm => &AES_256_GCM,
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        }
    }

    /// So many records one key may encrypt before the next takes its place. RFC 8446, 5.5 lets AES-GCM have 2^24.5 full ones; of ChaCha20-Poly1305
    /// the number of records is the bound, and this is far below it.
    fn limit(self) -> u64 {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => 1 << 23,
            Self::ChaCha20Poly1305 => 1 << 48,
        }
    }
}

/// A key of one direction, and how many records it has protected. When this is dropped aws-lc overwrites what it has of the key, as it does whatever it
/// frees, and rustls has done so with the bytes that it gave. The initial vector is not overwritten, nor is what calls have left on the stack.
pub struct Key {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
    limit: u64,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl Key {
    /// One whose next record has this number.
    ///
    /// # Errors
    /// The key is not as long as this suite's is.
    pub fn new(suite: Suite, key: &[u8], iv: [u8; 12], sequence: u64) -> Result<Self, Fault> {
        let key = UnboundKey::new(suite.algorithm(), key).map_err(|_| Fault::Own)?;
        Ok(Self { key: LessSafeKey::new(key), iv, sequence, limit: suite.limit() })
    }

    /// One that rustls has made.
    pub(super) fn of(sequence: u64, secrets: &ConnectionTrafficSecrets) -> Result<Self, Fault> {
        let (suite, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Suite::Aes128Gcm, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Suite::Aes256Gcm, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (Suite::ChaCha20Poly1305, key, iv),
            _ => return Err(Fault::Own),
        };
        let iv: &[u8] = iv.as_ref();
        let iv: [u8; 12] = iv.try_into().map_err(|_| Fault::Own)?;
        Self::new(suite, key.as_ref(), iv, sequence)
    }

    /// Whether so many records more would be too many.
    pub(super) fn is_worn(&self, more: u64) -> bool {
        self.sequence.saturating_add(more) > self.limit
    }

    #[cfg(test)]
    pub(super) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// The next record's nonce: its number, which never comes twice, over the initial vector (RFC 8446, 5.3).
    fn nonce(&mut self) -> Result<Nonce, Fault> {
        let mut nonce = self.iv;
        for (byte, of_sequence) in nonce.iter_mut().skip(4).zip(self.sequence.to_be_bytes()) {
            *byte ^= of_sequence;
        }
        self.sequence = self.sequence.checked_add(1).ok_or(Fault::Own)?;
        Ok(Nonce::assume_unique_for_key(nonce))
    }

    /// Protects a record in place, and writes its head: in front of the content there is room for that, and behind it, and behind the type of
    /// content and the padding that follow it, for a tag.
    ///
    /// # Errors
    /// It is longer than a record may be, or there is no number left.
    pub fn seal(&mut self, record: &mut [u8]) -> Result<(), Fault> {
        let (head, body) = record.split_first_chunk_mut::<HEAD>().ok_or(Fault::Own)?;
        let (inner, tag) = body.split_last_chunk_mut::<TAG>().ok_or(Fault::Own)?;
        let length = inner.len() + TAG;
        if inner.len() > RECORD + 1 {
            return Err(Fault::Own);
        }
        let [a, b] = u16::try_from(length).map_err(|_| Fault::Own)?.to_be_bytes();
        *head = [kind::DATA, 3, 3, a, b];
        let nonce = self.nonce()?;
        let sealed = self.key.seal_in_place_separate_tag(nonce, Aad::from(*head), inner);
        tag.copy_from_slice(sealed.map_err(|_| Fault::Own)?.as_ref());
        Ok(())
    }

    /// Opens a record in place: gives the type of its content, and the content.
    ///
    /// # Errors
    /// It was not protected by this key, is not the next, or has no content.
    pub fn open<'a>(&mut self, record: &'a mut [u8]) -> Result<(u8, &'a [u8]), Fault> {
        let (head, body) = record.split_first_chunk_mut::<HEAD>().ok_or(Fault::Mac)?;
        let (inner, tag) = body.split_last_chunk_mut::<TAG>().ok_or(Fault::Mac)?;
        let nonce = self.nonce()?;
        let opened = self.key.open_in_place_separate_tag(nonce, Aad::from(*head), tag.as_slice(), inner);
        let inner: &'a [u8] = opened.map_err(|_| Fault::Mac)?;
        if inner.len() > RECORD + 1 {
            return Err(Fault::Overflow);
        }
        // Zeros behind the type of the content are padding (RFC 8446, 5.4).
        let end = inner.iter().rposition(|byte| *byte != 0);
        let none = Fault::Unexpected("a record without a content");
        let (content, rest) = inner.split_at_checked(end.ok_or(none)?).ok_or(none)?;
        Ok((*rest.first().ok_or(none)?, content))
    }
}
