//! What either side asks of the other.

use super::{Broken, Code, LARGEST, PAYLOAD};

/// The settings that mean something here (RFC 9113, 6.5.2; RFC 8441, 3).
pub mod id {
    /// SETTINGS_HEADER_TABLE_SIZE, in bytes.
    pub const TABLE: u16 = 1;
    /// SETTINGS_ENABLE_PUSH, 0 or 1.
    pub const PUSH: u16 = 2;
    /// SETTINGS_MAX_CONCURRENT_STREAMS.
    pub const STREAMS: u16 = 3;
    /// SETTINGS_INITIAL_WINDOW_SIZE, in bytes.
    pub const WINDOW: u16 = 4;
    /// SETTINGS_MAX_FRAME_SIZE, in bytes.
    pub const FRAME: u16 = 5;
    /// SETTINGS_MAX_HEADER_LIST_SIZE, in bytes.
    pub const LIST: u16 = 6;
    /// SETTINGS_ENABLE_CONNECT_PROTOCOL, 0 or 1.
    pub const CONNECT: u16 = 8;
}

/// What a peer has asked for, and before it has what everybody starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The largest table of headers, in bytes.
    pub table: u32,
    /// Whether it takes pushes.
    pub push: bool,
    /// So many streams it lets the other side have open.
    pub streams: u32,
    /// The window of a new stream, in bytes.
    pub window: u32,
    /// The longest payload, in bytes.
    pub frame: u32,
    /// The largest list of headers, in bytes; advice.
    pub list: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            table: 4096,
            push: true,
            streams: u32::MAX,
            window: 65_535,
            frame: PAYLOAD as u32,
            list: u32::MAX,
        }
    }
}

impl Settings {
    /// Takes a setting over. What is not known is let pass.
    ///
    /// # Errors
    /// A value that the setting cannot have.
    pub fn set(&mut self, id: u16, value: u32) -> Result<(), Broken> {
        let wrong = |why| Err(Broken::new(Code::PROTOCOL_ERROR, why));
        match id {
            id::TABLE => self.table = value,
            id::PUSH if value > 1 => return wrong("SETTINGS_ENABLE_PUSH is neither 0 nor 1"),
            id::PUSH => self.push = value == 1,
            id::STREAMS => self.streams = value,
            id::WINDOW if value > LARGEST => {
                let why = "SETTINGS_INITIAL_WINDOW_SIZE is larger than a window may be";
                return Err(Broken::new(Code::FLOW_CONTROL_ERROR, why));
            }
            id::WINDOW => self.window = value,
            id::FRAME if !(PAYLOAD as u32..1 << 24).contains(&value) => {
                return wrong("SETTINGS_MAX_FRAME_SIZE is not from 16384 to 16777215");
            }
            id::FRAME => self.frame = value,
            id::LIST => self.list = value,
            id::CONNECT if value > 1 => return wrong("SETTINGS_ENABLE_CONNECT_PROTOCOL is neither 0 nor 1"),
            _ => {}
        }
        Ok(())
    }
}

/// The payload of a SETTINGS frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettingsFrame<'a>(pub(super) &'a [u8]);

impl SettingsFrame<'_> {
    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u32)> {
        self.0.chunks_exact(6).filter_map(|entry| match *entry {
            [a, b, c, d, e, f] => Some((u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]))),
            _ => None,
        })
    }
}
