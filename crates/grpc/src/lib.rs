//! gRPC over unix sockets: calls with one answer, and calls with a stream of them.
//!
//! It is what Kubernetes' interfaces need of gRPC, over hyper's HTTP/2 and prost's messages: deadlines, statuses with
//! texts, a limit on the size of messages, an orderly end. `cargo xtask codegen` makes a trait of each service, to be
//! implemented, and a client of it; docs/adr says why this is not tonic.
//!
//! **What it never does**: it knows no service and no message of its own. It neither compresses nor reads what is
//! compressed (it says so to the peer), takes no stream of requests, speaks no TLS and accepts no call on an address: a socket
//! file's permissions are the access control, and who serves a connection of another kind ([`Server::serve_stream`]) has its own. It retries nothing and never opens a connection by itself.
//!
//! Entry points: [`Server`] with a [`Service`] on what [`listen`] gives, [`Channel`]. Handlers fail with a [`Failure`].
//! [`process`] has what every process that serves does besides: it says when it is up, rests, and is told to end. [`page`] is a text for
//! who looks after it, over HTTP at an address that it is told.
//!
//! Invariants: a message is at most [`MAX_MESSAGE`] bytes, both ways, checked before memory is taken for it ([`Server::bounded`] has it be fewer); a handler
//! whose caller went away or ran out of time is dropped at its next await.

mod authority;
mod body;
mod client;
mod failure;
mod frame;
mod messages;
pub mod page;
pub mod process;
mod server;
mod service;
mod socket;
mod status;
mod timeout;
pub mod wire;

pub use client::{Channel, Incoming};
pub use failure::Failure;
pub use messages::{Messages, Sender};
pub use server::Server;
pub use service::{Answer, Reply, Service, streaming, unary};
pub use socket::{Bound, listen};
pub use status::{Code, Error, Status};

/// The largest message, in bytes: what Kubernetes' clients are set to.
pub const MAX_MESSAGE: usize = 16 * 1024 * 1024;
