//! What a registry, an archive or a disk can do to a pull, through the real program: every fault ends in one sentence
//! that says what is wrong and what can be done, leaves nothing behind, and does not spoil the pull after it.
//!
//! Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod cuts;
mod disk;
mod documents;
mod files;
mod image;
mod layers;
mod names;
mod place;
mod registry;
#[path = "../site/mod.rs"]
mod site;
