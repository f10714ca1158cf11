use std::net::IpAddr;

use kernel::netlink::IpNet;
use kernel::netlink::conntrack::Flows;
use kernel::nft::{Element, Family, Value};

use super::chains::{
    HOSTPORTS4, HOSTPORTS4_ADDR, HOSTPORTS6, HOSTPORTS6_ADDR, MASQ_ALL4, MASQ_ALL6, conditions_of,
};
use crate::contract::PortMapping;
use crate::plugin::table::Held;

/// The maps that send a port somewhere.
pub(super) const MAPS: [&str; 4] = [HOSTPORTS4, HOSTPORTS4_ADDR, HOSTPORTS6, HOSTPORTS6_ADDR];

/// All sets and maps whose elements a container holds alone.
pub(super) fn held_sets() -> Vec<(Family, &'static str)> {
    let conditions = MAPS.map(conditions_of);
    let all = MAPS.into_iter().chain(conditions).chain([MASQ_ALL4, MASQ_ALL6]);
    all.map(|set| (Family::Inet, set)).collect()
}

/// The map leads to conditions.
pub(super) fn is_conditions(map: &str) -> bool {
    MAPS.map(conditions_of).contains(&map)
}

/// One port of the host, in one family, as an element of one of the table's maps.
#[derive(Debug)]
pub(super) struct Publication<'a> {
    pub(super) mapping: &'a PortMapping,
    pub(super) held: Held,
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

    /// The element that leads to its conditions.
    pub(super) fn conditions(&self) -> Held {
        conditions(&self.held)
    }
}

fn conditions(of: &Held) -> Held {
    let element = Element { value: None, ..of.element.clone() };
    Held { set: conditions_of(of.set), element, ..*of }
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
        let mut held = Held::new(set, key, holder);
        held.element.value = Some(value);
        Some(Publication { mapping, held, ipv4: address.is_ipv4() })
    };
    mappings
        .iter()
        .flat_map(|mapping| addresses.iter().map(move |address| (mapping, address)))
        .filter_map(one)
        .collect()
}

/// The elements by which `mappings` may be published, whatever the container's addresses.
pub(super) fn possible<'a>(mappings: &'a [PortMapping], holder: &'a str) -> impl Iterator<Item = Held> + 'a {
    let keys =
        mappings.iter().flat_map(|mapping| [true, false].into_iter().filter_map(|ipv4| key(mapping, ipv4)));
    keys.flat_map(move |(set, key)| {
        let held = Held::new(set, key, holder);
        [conditions(&held), held]
    })
}

/// The element that has everybody masqueraded who asks at the container's published ports.
pub(super) fn masq_all(address: IpAddr, holder: &str) -> Held {
    let set = if address.is_ipv4() { MASQ_ALL4 } else { MASQ_ALL6 };
    Held::new(set, Value::new().address(address).into_bytes(), holder)
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
