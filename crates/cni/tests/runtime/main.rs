//! The plugins as programs, called as containerd, CRI-O and podman call them: each a process of its own that knows
//! nothing but its environment and its configuration, and may be killed at any moment.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod chain;
mod gone;
mod kills;
mod parallel;
mod refusals;
#[path = "../rig/mod.rs"]
mod rig;
