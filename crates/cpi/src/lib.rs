//! CPI, the contract between Kubernetes and the cloud that a cluster runs in.
//!
//! [`contract`] has the trait that a provider implements, and what is needed to write one from it alone. [`plugin`] serves a provider
//! on a unix socket, so that it can be a program of its own, in any language (`proto/cpi/v1/cpi.proto`). [`caller`] is such a
//! provider again on the other side, and puts any through its paces.
//!
//! **What it never does**: it knows no cloud and decides on no object: controllers do (crate `control`). It reads and writes nothing
//! but the socket that it is given.
//!
//! Invariants: what comes from the other side is checked before anybody sees it; a provider is asked nothing that it has said it has
//! not.

pub mod caller;
pub mod contract;
pub mod plugin;
