//! HTTP: everything that a client of Kubernetes asks an API server for.
//!
//! [`Instance::start`] is a whole API server with its folder; [`Server::start`] is the part that listens, and answers
//! through a [`Registry`](crate::registry::Registry). HTTP/1.1 and HTTP/2 over TLS; plain
//! HTTP/1.1 on loopback alone, for tests.
//!
//! **Bounds**: a head of 64 KiB that takes 32 seconds at most, bodies of 3 MiB (and 64 MiB of them at a time), 1,024
//! connections, 100 streams of each, 400 reads and 200 writes at a time, 60 seconds for what is no stream. A watch reads
//! its next event when the client has taken the one before, so a slow client costs one event.

mod aggregated;
mod answer;
mod api;
mod body;
mod collection;
mod connection;
mod discovery;
mod health;
mod hooks;
mod instance;
mod media;
mod metrics;
mod object;
mod openapi;
mod path;
mod pod;
pub mod protobuf;
mod request;
mod server;
mod version;
mod yaml;

pub use api::Api;
pub use hooks::{Later, LogOptions, Node, Upgrade};
pub use instance::{Instance, InstanceError, Options};
pub(crate) use path::query;
pub use server::{Server, Setup, StartError};
pub use version::KUBERNETES;
