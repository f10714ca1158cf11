//! The driver over its socket, as any caller sees it. Mounts are made, so it needs root.

#![allow(clippy::unwrap_used, reason = "a test")]

mod capacity;
mod disk;
mod life;
mod node;
mod program;
mod quota;
mod restart;
mod rig;
