//! OCI images.
#![allow(missing_docs, reason = "being written")]
pub mod contract;
pub mod layer;
pub mod pull;
pub mod reference;
pub mod registry;
pub mod store;
