//! The server over real sockets: what clients send, and what they get.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail as the test itself")]

mod client;
mod discovery;
mod objects;
mod pod_security;
mod quotas;
mod rig;
mod streams;
mod whole;
