use std::net::{IpAddr, SocketAddr};

use kernel::netlink::IpNet;
use kernel::netlink::conntrack::Flows;
use kernel::nft::{Element, Family, Value};
use ledger::Sent;

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
            Some(ip) => format!("{}/{}", SocketAddr::new(*ip, *host_port), protocol.as_str()),
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

/// The flows that an element sends to its container; none if it is no published port, or says not where it leads.
pub(in crate::plugin) fn sent(held: &Held) -> Option<Sent> {
    if !MAPS.contains(&held.set) {
        return None;
    }
    let Element { key, value, .. } = &held.element;
    let address = target(&held.element)?;
    let [high, low, ..] = *value.as_deref()?.last_chunk::<4>()?;
    let answered_from = SocketAddr::new(address, u16::from_be_bytes([high, low]));
    // (address .) protocol . port, each of four bytes or more.
    let (to, [protocol, _, _, _, high, low, ..]) = key.split_last_chunk::<8>()?;
    let to = match to.len() {
        0 => None,
        4 => Some((*to.first_chunk::<4>()?).into()),
        16 => Some((*to.first_chunk::<16>()?).into()),
        _ => return None,
    };
    Some(Sent { protocol: *protocol, to, port: u16::from_be_bytes([*high, *low]), answered_from })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(mapping: &str, address: &str) -> Held {
        let mappings = PortMapping::parse(mapping).unwrap();
        let addresses: [IpNet; 1] = [address.parse().unwrap()];
        let published = publications(&mappings, &addresses, "n/a/eth0");
        published[0].held.clone()
    }

    #[test]
    fn what_a_publication_sends_is_read_from_its_element() {
        for (mapping, address, protocol, to, answered_from) in [
            ("8080:80", "10.5.0.2/24", 6, None, "10.5.0.2:80"),
            ("0.0.0.0:8080:80/udp", "10.5.0.2/24", 17, None, "10.5.0.2:80"),
            ("192.0.2.1:8080:65535", "10.5.0.2/24", 6, Some("192.0.2.1"), "10.5.0.2:65535"),
            ("8080:80", "fd05::2/64", 6, None, "[fd05::2]:80"),
            ("[2001:db8::1]:8080:80/sctp", "fd05::2/64", 132, Some("2001:db8::1"), "[fd05::2]:80"),
        ] {
            let to: Option<IpAddr> = to.map(|to| to.parse().unwrap());
            let expected = Sent { protocol, to, port: 8080, answered_from: answered_from.parse().unwrap() };
            assert_eq!(sent(&published(mapping, address)), Some(expected), "{mapping}");
        }
    }

    #[test]
    fn what_is_no_publication_sends_nothing() {
        let mut held = published("8080:80", "10.5.0.2/24");
        assert_eq!(sent(&Held { set: MASQ_ALL4, ..held.clone() }), None);
        assert_eq!(sent(&conditions(&held)), None);
        for len in [0, 7, 9, 11, 25] {
            held.element.key = vec![1; len];
            assert_eq!(sent(&held), None, "{len}");
        }
        let mut held = published("8080:80", "10.5.0.2/24");
        for value in [None, Some(Vec::new()), Some(vec![1; 4]), Some(vec![1; 12])] {
            held.element.value = value;
            assert_eq!(sent(&held), None, "{held:?}");
        }
    }
}
