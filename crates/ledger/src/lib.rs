//! Every effect has an owner, a record and an inverse.
#![allow(missing_docs, reason = "being written")]
mod effect;
pub use effect::{Effect, Record, RecordId};
#[derive(Debug, thiserror::Error)]
pub enum Error {}
/// One owner's folder, locked.
#[derive(Debug)]
pub struct Owner;
