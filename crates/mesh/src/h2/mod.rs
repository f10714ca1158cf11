//! HTTP/2 as a proxy needs it (RFC 9113), without I/O.
//!
//! [`frame`] reads and writes frames, [`hpack`] headers, [`message`] says whether headers make a message, and a [`Connection`] is the state of either
//! side of a connection: bytes that came go in, [`Event`]s come out, and what is to be sent waits in it.
//!
//! Not there, on purpose: priorities (read and forgotten), pushes (refused), and CONNECT with `:protocol` (RFC 8441, not offered).

pub mod connection;
pub mod frame;
pub mod hpack;
pub mod message;

pub use connection::{Connection, Event, Failure, Limits, Side};
pub use frame::Code;
pub use hpack::{Field, Fields};
