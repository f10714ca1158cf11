//! WebSocket (RFC 6455), as far as Kubernetes' streams need it: frames, Kubernetes' channels, and a tunnel for bytes.

mod channels;
mod frame;
mod handshake;
mod tunnel;

pub(crate) use channels::{Channels, Encoding};
pub use frame::{Parser, Piece, Side};
pub(crate) use handshake::{accept_key, new_key};
pub(crate) use tunnel::Tunnel;

/// What requests and responses call it in their Upgrade header.
pub const UPGRADE: &str = "websocket";
