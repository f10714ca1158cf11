//! What a mesh's control plane and the proxies of its nodes say to each other.
//!
//! [`contract`] has the messages (`proto/mesh/v1/mesh.proto`), and how changes of [`smi::model`] are put into them. [`caller`] is a node's side of a connection,
//! [`plugin`] the control plane's.
//!
//! **What it never does**: it compiles nothing, signs nothing and decides nothing about who may ask what: crate `control` does. It keeps no key and no token.
//!
//! Invariants: an update has at most [`contract::PART`] bytes of entries and one more entry, so that no model is too large for a message; what is taken from
//! updates is whole changes, or nothing.

pub mod caller;
pub mod contract;
pub mod plugin;

use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;

/// The kernel asks a peer that is silent for so long.
const SILENT: Duration = Duration::from_secs(20);
/// It asks again after this long.
const AGAIN: Duration = Duration::from_secs(5);
/// So often without an answer, and the connection has ended.
const ASKED: u32 = 3;

/// Has a connection end when its peer is gone without a word, and has what is said go out at once. Either end waits for the other most of the time.
///
/// # Errors
/// The kernel's.
pub fn look_after(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, SILENT)?;
    sockopt::set_tcp_keepintvl(stream, AGAIN)?;
    sockopt::set_tcp_keepcnt(stream, ASKED)?;
    Ok(())
}
