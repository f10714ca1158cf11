//! HBONE: connections between members of the mesh, carried by streams of HTTP/2 over TLS, in which both sides prove who they are
//! (docs/adr/0030-hbone-and-how-identities-are-kept.md).
//!
//! A `Link` is one such connection, of either side, run by a task of its own. Each of its streams is opened by a CONNECT that names an address and
//! a port (RFC 9113, 8.5), and is a [`Socket`](crate::reactor::Socket) to whoever uses it.

mod inner;
mod link;
mod stream;
mod streams;

#[cfg(test)]
mod tests;

pub(crate) use link::{Asked, Denied, Link, NoStream};
pub(crate) use stream::{FILLED, PIECES};

use std::time::Duration;

/// Where members listen for HBONE.
pub const PORT: u16 = 15008;
/// So many streams one connection carries at a time.
pub(crate) const STREAMS: u32 = 100;
/// So many streams may be broken off on one connection, and in each second so many more: then others are opened on another. A server bears a thousand, and a
/// hundred a second, and ends the connection with all that it has; those that are open by then may be broken off, too.
pub(crate) const ABORTS: u32 = 800;
pub(crate) const ABORTS_A_SECOND: u32 = 80;
/// A connection without a stream is kept for so long.
pub(crate) const IDLE: Duration = Duration::from_secs(300);
