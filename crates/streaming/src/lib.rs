//! Exec, attach and port-forward as Kubernetes streams them: SPDY/3.1 and WebSocket, the side that serves and the
//! side that asks.
//!
//! Three users stand above it. A CRI server starts a [`server::TokenServer`] over its [`server::Runtime`] and answers
//! Exec, Attach and PortForward with the addresses it makes. A node agent, which has its own HTTP server and its own
//! paths, calls [`remote_command::answer`] and [`port_forward::answer`] with a request and gets the response to send and
//! the session to run. A command line calls [`client`].
//!
//! **What it never does**: it knows no container, no pod and no process. It starts no thread, and no task but the ones
//! its documentation names. It reads ahead of nobody: what a peer sends waits in a buffer of bounded size or in the
//! socket, and what a handler writes waits until the socket takes it.
//!
//! **Invariant**: bytes from the network are never trusted: a frame that is not as the protocol says ends its connection
//! with an error that names it, and no length from outside is allocated before it is checked.
//!
//! **Invariant**: what a handler wrote is sent before its result, and its result before the connection ends; a peer that
//! reads slowly is waited for, a peer that is gone is told of by [`remote_command::Client::gone`] and by every stream.

pub mod client;
pub mod limits;
mod mux;
mod negotiate;
pub mod port_forward;
mod relay;
pub mod remote_command;
pub mod server;
mod socket;
pub mod spdy;
#[cfg(test)]
mod tests;
pub mod websocket;

pub use limits::Limits;
pub use mux::{Input, Output};
pub use relay::{Broken, relay};

/// Why a handler could not do what it was asked: its text goes to the person who asked.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
