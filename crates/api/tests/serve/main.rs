//! The server over real sockets: what clients send, and what they get.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail as the test itself")]

mod aggregated;
mod client;
mod discovery;
mod frames;
mod hook;
mod hooks;
mod hostile;
mod kubelet;
mod lists;
mod memory;
mod objects;
mod other;
mod pod_security;
mod pods;
mod policies;
mod quotas;
mod rig;
mod runtime_classes;
mod streams;
mod whole;
