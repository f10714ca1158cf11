//! Sextant's own plugins. They are reached through the contract alone: [`builtins`] is all there is to see of
//! them. [`program`] makes a program of a plugin, ours or another's.

mod bandwidth;
mod bridge;
mod dhcp;
mod dummy;
mod endpoint;
mod firewall;
mod fixed;
mod forwarding;
mod host_device;
mod host_local;
mod inside;
mod interface;
mod ipam;
mod ipvlan;
mod loopback;
mod macvlan;
mod masquerade;
mod mesh;
mod parent;
mod portmap;
pub mod program;
mod ptp;
mod sbr;
mod status;
mod table;
mod tap;
mod tuning;
mod vlan;
mod vrf;

use std::sync::Arc;

use crate::contract::Registry;

/// The plugins of this crate, by type.
pub fn builtins() -> Registry {
    Registry::from([
        ("bandwidth", Arc::new(bandwidth::Bandwidth) as _),
        ("bridge", Arc::new(bridge::Bridge::default()) as _),
        ("dhcp", Arc::new(dhcp::Dhcp) as _),
        ("dummy", Arc::new(dummy::Dummy) as _),
        ("firewall", Arc::new(firewall::Firewall) as _),
        ("host-device", Arc::new(host_device::HostDevice) as _),
        ("host-local", Arc::new(host_local::HostLocal::default()) as _),
        ("ipvlan", Arc::new(ipvlan::Ipvlan) as _),
        ("loopback", Arc::new(loopback::Loopback) as _),
        ("macvlan", Arc::new(macvlan::Macvlan) as _),
        ("portmap", Arc::new(portmap::Portmap) as _),
        ("sbr", Arc::new(sbr::Sbr) as _),
        ("sextant-mesh", Arc::new(mesh::Mesh) as _),
        ("static", Arc::new(fixed::Static) as _),
        ("tap", Arc::new(tap::Tap) as _),
        ("tuning", Arc::new(tuning::Tuning) as _),
        ("vlan", Arc::new(vlan::Vlan) as _),
        ("vrf", Arc::new(vrf::Vrf) as _),
        ("ptp", Arc::new(ptp::Ptp) as _),
    ])
}

/// Any bytes where Sextant's plugins keep or receive some: what the fuzz targets feed. No panic, whatever they are.
#[doc(hidden)]
pub mod fuzz {
    /// An index, or a lease, of host-local.
    pub fn leases(bytes: &[u8]) {
        super::host_local::exercise(bytes);
    }

    /// A DHCP packet, what a daemon keeps, and what plugin and daemon say to each other.
    pub fn dhcp(bytes: &[u8]) {
        super::dhcp::exercise(bytes);
    }
}
