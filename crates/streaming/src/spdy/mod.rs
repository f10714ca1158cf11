//! SPDY/3.1: its frames, and the streams of a connection.
//!
//! What Kubernetes speaks is moby/spdystream's part of it: streams with headers, data and half-close, pings and farewells.
//! That library has no flow control: it sends no window updates and heeds none. So a peer is held to windows, and kept to
//! its own, only if it announces them (SETTINGS with an initial window, or a first WINDOW_UPDATE), as this crate's own
//! client does; one that does not is held back by not reading the connection, and written to as the connection takes it.
//!
//! Headers that are received are inflated with the protocol's dictionary. Those that are sent are stored, not deflated: a
//! few dozen bytes each, and a deflate state would cost a quarter of a megabyte for every connection.

mod dictionary;
mod frame;
mod headers;
mod inflate;
mod protocol;

pub use frame::{Frame, Parser};
pub use headers::Headers;
pub(crate) use protocol::Spdy;

pub use crate::mux::Malformed;

/// What requests and responses call it in their Upgrade header.
pub const UPGRADE: &str = "SPDY/3.1";
