//! Sextant's own plugins. They are reached through the contract alone: [`builtins`] is all there is to see of
//! them. [`program`] makes a program of a plugin, ours or another's.

mod bridge;
mod forwarding;
mod host_local;
mod inside;
mod interface;
mod ipam;
mod loopback;
mod masquerade;
mod portmap;
pub mod program;
mod ptp;
mod status;
mod table;

use std::sync::Arc;

use crate::contract::Registry;

/// The plugins of this crate, by type.
pub fn builtins() -> Registry {
    Registry::from([
        ("bridge", Arc::new(bridge::Bridge) as _),
        ("host-local", Arc::new(host_local::HostLocal) as _),
        ("loopback", Arc::new(loopback::Loopback) as _),
        ("portmap", Arc::new(portmap::Portmap) as _),
        ("ptp", Arc::new(ptp::Ptp) as _),
    ])
}
