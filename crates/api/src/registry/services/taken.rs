//! Which addresses and ports services have.

use super::texts;
use crate::contract::names::{Cidr, parse_ip};
use crate::contract::{Object, Result};
use crate::registry::Registry;
use serde_json::Value;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

/// Addresses and ports.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    addresses: HashSet<IpAddr>,
    ports: HashSet<u16>,
}

impl Given {
    pub(super) fn with(&mut self, more: &Given) {
        self.addresses.extend(&more.addresses);
        self.ports.extend(&more.ports);
    }

    pub(super) fn without(&mut self, less: &Given) {
        self.addresses.retain(|address| !less.addresses.contains(address));
        self.ports.retain(|port| !less.ports.contains(port));
    }
}

/// Which addresses and ports the other services have, and which this one had.
pub(super) struct Taken {
    addresses: HashSet<IpAddr>,
    ports: HashSet<u16>,
    kept_addresses: HashSet<IpAddr>,
    kept_ports: HashSet<u16>,
    /// What was taken for this one.
    new: Given,
}

impl Taken {
    /// What is taken by all services but `service`, which had what `old` says, and what is promised.
    pub(super) fn of(
        registry: &Registry,
        service: &Object,
        old: Option<&Object>,
        promised: &Given,
    ) -> Result<Taken> {
        let mut taken = Taken {
            addresses: promised.addresses.clone(),
            ports: promised.ports.clone(),
            kept_addresses: old.map(addresses).unwrap_or_default(),
            kept_ports: old.map(ports).unwrap_or_default(),
            new: Given::default(),
        };
        for other in registry.every("services", None)? {
            if other.name() == service.name() && other.namespace() == service.namespace() && old.is_some() {
                continue;
            }
            taken.addresses.extend(addresses(&other));
            taken.ports.extend(ports(&other));
        }
        Ok(taken)
    }

    /// What was taken for the service. What it says besides is not its own: it is refused for that, or never looked at.
    pub(super) fn given(self) -> Given {
        self.new
    }

    /// Whether the service has the address already.
    pub(super) fn keeps(&self, address: IpAddr) -> bool {
        self.kept_addresses.contains(&address)
    }

    /// Whether the service has the port already.
    pub(super) fn keeps_port(&self, port: u16) -> bool {
        self.kept_ports.contains(&port)
    }

    /// Takes an address, or says why not.
    pub(super) fn take(&mut self, address: IpAddr, range: Cidr) -> std::result::Result<(), String> {
        if !range.contains(address) {
            return Err(format!(
                "the provided IP ({address}) is not in the valid range. The range of valid IPs is {}",
                range.canonical()
            ));
        }
        if self.insert(address) { Ok(()) } else { Err("provided IP is already allocated".to_owned()) }
    }

    /// False where another has the address.
    fn insert(&mut self, address: IpAddr) -> bool {
        self.addresses.insert(address) && self.new.addresses.insert(address)
    }

    /// False where another has the port.
    fn insert_port(&mut self, port: u16) -> bool {
        self.ports.insert(port) && self.new.ports.insert(port)
    }

    /// Takes a free address. The first ones of a range are left to who asks for them by number.
    pub(super) fn next(&mut self, range: Cidr) -> Option<IpAddr> {
        let bits = if range.address.is_ipv4() { 32 } else { 128 } - u32::from(range.prefix);
        // A /64 has more than anybody walks through.
        let count = 1u64 << bits.min(32);
        let usable = count.saturating_sub(2);
        let low = (usable / 16).clamp(16.min(usable), 256);
        let upper = usable.saturating_sub(low).max(1);
        let start = random() % upper;
        let in_upper = (0..upper).map(|step| low + 1 + (start + step) % upper);
        let all = in_upper.chain(1..=low.min(usable));
        for offset in all {
            let address = at(range.network(), offset);
            if range.contains(address) && self.insert(address) {
                return Some(address);
            }
        }
        None
    }

    /// Takes a port, or says why not.
    pub(super) fn take_port(
        &mut self,
        port: u16,
        range: &RangeInclusive<u16>,
        dry_run: bool,
    ) -> std::result::Result<(), String> {
        // Kubernetes looks at the range only where it means to keep the port.
        if !dry_run && !range.contains(&port) {
            return Err(format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                range.start(),
                range.end()
            ));
        }
        if self.insert_port(port) { Ok(()) } else { Err("provided port is already allocated".to_owned()) }
    }

    /// Takes a free port.
    pub(super) fn next_port(&mut self, range: &RangeInclusive<u16>) -> Option<u16> {
        let count = u64::from(range.end().saturating_sub(*range.start())) + 1;
        let start = random() % count;
        for step in 0..count {
            let offset = u16::try_from((start + step) % count).ok()?;
            let port = range.start() + offset;
            if self.insert_port(port) {
                return Some(port);
            }
        }
        None
    }
}

/// The address so many behind the first of a range.
pub(super) fn at(network: IpAddr, offset: u64) -> IpAddr {
    match network {
        IpAddr::V4(address) => {
            let offset = u32::try_from(offset).unwrap_or(u32::MAX);
            Ipv4Addr::from(u32::from(address).wrapping_add(offset)).into()
        }
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address).wrapping_add(offset.into())).into(),
    }
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).expect("the kernel's random numbers do not fail");
    u64::from_ne_bytes(bytes)
}

fn addresses(service: &Object) -> HashSet<IpAddr> {
    texts(service, "clusterIPs").iter().filter_map(|text| parse_ip(text)).collect()
}

fn ports(service: &Object) -> HashSet<u16> {
    let list = service.at(&["spec", "ports"]).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|port| port.get("nodePort"))
        .chain(service.at(&["spec", "healthCheckNodePort"]))
        .filter_map(Value::as_u64)
        .filter_map(|port| u16::try_from(port).ok())
        .filter(|port| *port != 0)
        .collect()
}
