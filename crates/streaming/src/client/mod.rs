//! The side that asks: exec, attach and port-forward against a kubelet, an API server, containerd, CRI-O or our own.
//!
//! [`Command::start`] and [`PortForward::start`] go to a [`Target`] by the [`Protocol`] they are told, as kubectl does:
//! WebSocket first, SPDY if that is refused. A connection is read by a task that each spawns, which ends with it.

mod command;
mod error;
mod port_forward;
mod target;
mod upgrade;

pub use command::Command;
pub use error::Error;
pub use port_forward::{Forwarded, PortForward};
pub use target::Target;

use std::time::Duration;

/// How often a server is asked for a sign of life, as kubectl does.
const PING: Duration = Duration::from_secs(5);

/// How long a WebSocket's server may give none, as with kubectl. SPDY's may for ever: Go's do not read while a command does
/// not read, and do not answer then.
const PATIENCE: Duration = Duration::from_secs(61);

/// How long a server may take to consent to a stream.
const CONSENT: Duration = Duration::from_secs(30);

/// How long the server may take to close, once there is nothing more to say.
const LINGER: Duration = Duration::from_secs(1);

/// How to come to streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// WebSocket, and SPDY if the server refuses it. Not for containerd's and CRI-O's own addresses, which work once:
    /// they know WebSocket up to version 4, and a refused request uses the address up.
    #[default]
    Auto,
    /// Version 5 for commands, SPDY in a tunnel for ports.
    WebSocket,
    /// SPDY/3.1: every server speaks it.
    Spdy,
}
