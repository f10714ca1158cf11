//! The driver over its socket, as any caller sees it. Mounts are made, so it needs root.

mod capacity;
mod life;
mod node;
mod restart;
mod rig;
