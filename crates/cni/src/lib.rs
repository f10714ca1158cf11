//! CNI: container networks, through the Container Network Interface alone.
//!
//! - [`contract`]: the specification's types, versions and error codes, and what a plugin is.
//! - [`caller`]: the runtime's side (what libcni does); it drives any plugin, built in or exec'd.
//! - [`plugin`]: Sextant's plugins: bridge, ptp, dhcp, host-local, static, portmap, firewall, bandwidth, tuning, loopback,
//!   macvlan, ipvlan, vlan, dummy, tap, host-device, vrf, sbr, sextant-mesh.
//! - [`mesh`]: how a node's mesh is told of a pod's network before the pod's first container starts.
//!
//! Entry points: [`caller::Caller`] with [`plugin::builtins`] and [`caller::default_network`].
//!
//! **What it never does**: it forks no helper program (`ip`, `nft`, `iptables`); it never moves the calling thread
//! into another network namespace; it makes no network namespace and deletes none (STATUS tries
//! in one that vanishes with the attempt); it decides on no owner (that is
//! the [`ledger::Record`] it is given).
//!
//! Invariants: every effect is recorded before it happens, but for what an inverse of the ledger would destroy or what is
//! several programs' own: the device that `host-device` moves (its alias tells where it belongs), `tuning`'s file of former
//! values, host-local's index and last address, the DHCP daemon's leases. Whatever a container has is named for it (links by a hash
//! of instance, container and interface, rules and leases by its id), so nothing of another's is ever deleted; DEL
//! works without the namespace and without the cache, and any number of times.

pub mod caller;
pub mod contract;
pub mod mesh;
pub mod plugin;
