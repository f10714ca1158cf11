//! A server in a process of its own, asked over TLS: killed at random moments under load, and filled with much.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail as the test itself")]

mod client;
mod kills;
mod kubeconfig;
mod scale;
mod server;
mod watcher;
