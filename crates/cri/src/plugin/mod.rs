//! Our runtime: pods, containers and images of a node, behind both services.
//!
//! [`Node`](node::Node) is what the calls work on. Truth is in files and in shims: this process may be killed at any
//! moment, and [`recover`] finds everything again.

pub mod cdi;
mod cgroup;
mod clock;
mod config;
mod container;
mod dispatch;
mod errors;
mod events;
mod exec;
mod files;
mod handlers;
mod history;
mod ids;
mod images;
mod metrics;
mod node;
pub mod nri;
mod operations;
mod place;
mod pod;
mod recover;
mod run;
pub mod server;
mod service;
mod shims;
mod state;
mod stats;
mod writer;

pub use cgroup::Driver;
pub use config::Config;
pub use place::{Place, is_alive, layers_in_use};
pub use run::{Setup, run};
