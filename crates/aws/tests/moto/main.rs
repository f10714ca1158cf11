//! The provider against moto's server, which is EC2 and Elastic Load Balancing in memory: `cargo xtask test --ring interop` starts it,
//! and names it in `SEXTANT_TEST_MOTO`. The provider is asked as the controllers ask it, through a proxy that fails calls.
#![allow(clippy::unwrap_used, reason = "a test")]

mod balancers;
mod faults;
mod instances;
mod rig;
mod routes;
