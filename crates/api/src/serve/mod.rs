//! HTTP: everything that a client of Kubernetes asks an API server for.
//!
//! [`Instance::start`] is a whole API server with its folder; [`Server::start`] is the part that listens, and answers
//! through a [`Registry`](crate::registry::Registry). HTTP/1.1 and HTTP/2 over TLS; plain
//! HTTP/1.1 on loopback alone, for tests.
//!
//! **Bounds**: a head of 64 KiB that takes 32 seconds at most, bodies of 3 MiB (of which 64 MiB are held at a time, 16 MiB
//! of one user, and no byte for what has not come), 1,024 connections, 100 streams of each, 400 reads and 200 writes at a
//! time, 60 seconds for what is no stream. What takes the processor for long goes through two lanes beside the threads
//! that answer ([`crate::lane`]). Lists and watches read their objects while they are sent, so a client that does not read
//! holds a page. A connection whose client takes nothing for 60 seconds is cut off; a stream of HTTP/2 whose window stays shut
//! beside others that go on is not, and what it holds stays counted.

mod aggregated;
mod answer;
mod api;
mod body;
mod budget;
mod collection;
mod connection;
mod discovery;
mod dress;
mod guard;
mod health;
mod hooks;
mod instance;
mod media;
mod metrics;
mod object;
mod openapi;
mod outcome;
mod path;
mod patience;
mod pod;
pub mod protobuf;
mod request;
mod server;
mod version;
pub mod yaml;

pub use api::Api;
pub use guard::is_answering;
pub use hooks::{Later, LogOptions, Node, Upgrade};
pub use instance::{Instance, InstanceError, Options};
pub(crate) use path::query;
pub use server::{Server, Setup, StartError};
pub use version::KUBERNETES;
