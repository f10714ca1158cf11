use std::net::IpAddr;

use kernel::netlink::conntrack::Flows;
use kernel::netlink::{IpNet, Socket};
use kernel::nft::{Element, Family, Value};

use super::chains::{HOSTPORTS4, HOSTPORTS4_ADDR, HOSTPORTS6, HOSTPORTS6_ADDR};
use crate::contract::{Error, PortMapping};
use crate::plugin::table::{Held, Table};

/// One port of the host, in one family, as an element of one of the table's maps.
#[derive(Debug)]
pub(super) struct Publication<'a> {
    pub(super) mapping: &'a PortMapping,
    pub(super) set: &'static str,
    pub(super) element: Element,
    ipv4: bool,
}

impl Publication<'_> {
    /// `127.0.0.1:8080/tcp`.
    pub(super) fn words(&self) -> String {
        let PortMapping { host_port, protocol, host_ip, .. } = self.mapping;
        match host_ip {
            Some(ip) => format!("{}/{}", std::net::SocketAddr::new(*ip, *host_port), protocol.as_str()),
            None => format!("{host_port}/{}", protocol.as_str()),
        }
    }

    /// Whether it is about IPv4.
    pub(super) fn is_ipv4(&self) -> bool {
        self.ipv4
    }

    /// The flows that were on their way before the port was published.
    pub(super) fn flows(&self) -> Flows {
        Flows::FirstSentTo {
            ipv4: self.ipv4,
            address: self.mapping.host_ip.filter(|ip| !ip.is_unspecified()),
            protocol: self.mapping.protocol.number(),
            port: self.mapping.host_port,
        }
    }
}

/// The map and key of a mapping in one family; none if it is published on an address of the other.
fn key(mapping: &PortMapping, ipv4: bool) -> Option<(&'static str, Vec<u8>)> {
    let port = |value: Value| value.protocol(mapping.protocol.number()).port(mapping.host_port).into_bytes();
    match mapping.host_ip {
        Some(ip) if ip.is_ipv4() != ipv4 => None,
        Some(ip) if !ip.is_unspecified() => {
            Some((if ipv4 { HOSTPORTS4_ADDR } else { HOSTPORTS6_ADDR }, port(Value::new().address(ip))))
        }
        _ => Some((if ipv4 { HOSTPORTS4 } else { HOSTPORTS6 }, port(Value::new()))),
    }
}

/// The elements that publish `mappings` of a container with `addresses`.
pub(super) fn publications<'a>(
    mappings: &'a [PortMapping],
    addresses: &[IpNet],
    holder: &str,
) -> Vec<Publication<'a>> {
    let one = |(mapping, address): (&'a PortMapping, &IpNet)| {
        let (set, key) = key(mapping, address.is_ipv4())?;
        let value = Value::new().address(address.address()).port(mapping.container_port).into_bytes();
        let element = Element { key, value: Some(value), comment: Some(holder.to_owned()), key_end: None };
        Some(Publication { mapping, set, element, ipv4: address.is_ipv4() })
    };
    mappings
        .iter()
        .flat_map(|mapping| addresses.iter().map(move |address| (mapping, address)))
        .filter_map(one)
        .collect()
}

/// The elements of `mappings` that are there and `holder`'s.
pub(super) fn held_of(
    table: &Table,
    mappings: &[PortMapping],
    holder: &str,
    socket: &mut Socket,
) -> Result<Vec<Held>, Error> {
    let mut held = Vec::new();
    for mapping in mappings {
        for (set, key) in [true, false].into_iter().filter_map(|ipv4| key(mapping, ipv4)) {
            let there = table.find(Family::Inet, set, &key, socket)?;
            held.extend(there.filter(|element| element.is_held_by(holder)).map(|element| (set, element)));
        }
    }
    Ok(held)
}

/// All elements whose holder is wanted: lists the maps.
pub(super) fn held_by(
    table: &Table,
    wanted: impl Fn(&str) -> bool,
    socket: &mut Socket,
) -> Result<Vec<Held>, Error> {
    table.held(Family::Inet, &[HOSTPORTS4, HOSTPORTS4_ADDR, HOSTPORTS6, HOSTPORTS6_ADDR], wanted, socket)
}

/// The container's address that an element leads to.
pub(super) fn target(element: &Element) -> Option<IpAddr> {
    let value = element.value.as_deref()?;
    match value.len() {
        8 => Some((*value.first_chunk::<4>()?).into()),
        20 => Some((*value.first_chunk::<16>()?).into()),
        _ => None,
    }
}
