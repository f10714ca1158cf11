//! CRI: the contract between a kubelet and a node's runtime, `runtime.v1` as of Kubernetes 1.36.
//!
//! [`contract`] has the messages, the two services as traits and what a request must satisfy; [`caller`] calls any
//! runtime through them; [`plugin`] serves ours.
//!
//! **What it never does**: `contract` does no I/O; `caller` knows nothing of the plugin. No request is trusted: what is
//! wrong in it is an error that names the field, and a field that is not understood is refused rather than ignored.
//!
//! Entry points: [`caller::Client`], [`plugin::server::serve`].
//!
//! Invariants: `contract/v1.rs`, `caller/calls.rs` and `plugin/dispatch.rs` are what `cargo xtask codegen` makes of
//! `proto/`; tidy compares.

pub mod caller;
pub mod contract;
pub mod plugin;
