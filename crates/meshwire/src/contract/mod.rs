//! The messages, and what is put into them.

pub mod flows;
mod pack;
mod secret;
#[cfg(test)]
mod tests;
#[allow(missing_docs, reason = "the words of the .proto file are what there is")]
pub mod v1;
mod validate;

pub use pack::{Gathered, Gathering, PART, Packed, Unreadable, parts};
pub use validate::Validate;

/// Whom a node's token is for.
pub const AUDIENCE: &str = "mesh.sextant.dev";
/// What a control plane's certificate is for, wherever it is reached: its clients know whom they look for, and not only where.
pub const SERVER: &str = "control.mesh.sextant.dev";
