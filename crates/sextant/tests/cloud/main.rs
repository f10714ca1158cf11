//! `sextant control --cloud-provider` with `sextant api`, as they run on a machine, and a provider of the test's own behind a socket.
//! They work with the rights of `examples/control.yaml`.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../control/admit.rs"]
mod admit;
mod aws;
mod identity;
mod kills;
mod metal;
mod nodes;
mod provider;
mod python;
mod rack;
#[path = "../control/rig.rs"]
mod rig;
mod services;
mod site;
mod status;
mod trouble;
