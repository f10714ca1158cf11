//! Frames (RFC 9113, 4 and 6): read in place, and written.
//!
//! [`read`] gives one frame of the bytes that came. What is wrong with a frame alone ends its stream ([`Frame::Wrong`]); what
//! leaves open what comes next ends the connection ([`Broken`]).

mod code;
mod read;
mod settings;
pub mod write;

#[cfg(test)]
mod tests;

pub use code::Code;
pub use read::{Frame, read};
pub use settings::{Settings, SettingsFrame, id};

/// The bytes of a frame before its payload.
pub const HEAD: usize = 9;
/// What a client sends first (RFC 9113, 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest payload that everybody takes, in bytes (SETTINGS_MAX_FRAME_SIZE).
pub const PAYLOAD: usize = 16 << 10;
/// The largest window (RFC 9113, 6.9.1), and the largest number of a stream.
pub const LARGEST: u32 = (1 << 31) - 1;

/// The kinds of frames that are known.
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// The flags that are known.
pub(crate) mod flag {
    pub(crate) const ACK: u8 = 0x1;
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(crate) const PADDED: u8 = 0x8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{why} ({code})")]
pub struct Broken {
    /// What the peer is told.
    pub code: Code,
    /// What it did.
    pub why: &'static str,
}

impl Broken {
    /// One of these.
    #[must_use]
    pub fn new(code: Code, why: &'static str) -> Self {
        Self { code, why }
    }
}
