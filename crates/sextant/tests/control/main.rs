//! `sextant control` with `sextant api` and `sextant csi-driver`, as they run on a machine: what objects ask for comes true,
//! whichever of the three is killed on the way.
#![allow(clippy::unwrap_used, reason = "a test")]

mod admit;
mod attach;
mod command;
mod hand;
mod health;
mod leader;
mod provision;
mod resize;
mod rig;
mod rights;
mod slow;
mod snapshot;
mod stand;
#[path = "../stands/mod.rs"]
mod stands;
mod together;
mod zones;
