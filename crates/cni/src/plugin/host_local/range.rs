use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kernel::netlink::IpNet;

use crate::contract::{Error, Keys};

/// Addresses of one subnet that may be given out: `first` to `last`, without the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) subnet: IpNet,
    pub(super) first: IpAddr,
    pub(super) last: IpAddr,
    pub(super) gateway: IpAddr,
}

impl Range {
    /// Reads `subnet`, `rangeStart`, `rangeEnd` and `gateway` with the reference plugin's rules and defaults.
    pub(super) fn of(keys: &Keys<'_>) -> Result<Self, Error> {
        let subnet: IpNet =
            keys.parse("subnet")?.ok_or_else(|| keys.refuse("subnet", "an address with a prefix"))?;
        let width = if subnet.is_ipv4() { 32 } else { 128 };
        if subnet.prefix() > width - 2 {
            return Err(keys.refuse("subnet", "a network with two addresses or more to give out"));
        }
        if subnet.network() != subnet {
            return Err(keys.refuse(
                "subnet",
                format!("a network: its host bits are set; {} is meant", subnet.network()),
            ));
        }
        let inside = |key: &str| -> Result<Option<IpAddr>, Error> {
            let address: Option<IpAddr> = keys.parse(key)?;
            match address {
                Some(address) if !subnet.contains(address) => {
                    Err(keys.refuse(key, format!("an address of {subnet}")))
                }
                address => Ok(address),
            }
        };
        let lowest = offset(subnet.address(), 1);
        // The last address of an IPv4 network is its broadcast address.
        let highest = if subnet.is_ipv4() { before(subnet.last()) } else { subnet.last() };
        let range = Self {
            subnet,
            first: inside("rangeStart")?.unwrap_or(lowest),
            last: inside("rangeEnd")?.unwrap_or(highest),
            gateway: keys.parse("gateway")?.unwrap_or(lowest),
        };
        if bits(range.first) > bits(range.last) {
            return Err(keys.refuse("rangeEnd", format!("an address after \"rangeStart\" ({})", range.first)));
        }
        Ok(range)
    }

    /// All of it.
    fn whole(&self) -> Part<'_> {
        (self.first, self.last, self)
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.subnet.contains(address) && (bits(self.first)..=bits(self.last)).contains(&bits(address))
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.subnet.is_ipv4() == other.subnet.is_ipv4()
            && bits(self.first) <= bits(other.last)
            && bits(other.first) <= bits(self.last)
    }
}

/// A part of a range, both ends included.
pub(super) type Part<'a> = (IpAddr, IpAddr, &'a Range);

/// The parts of `ranges` in the order in which their addresses are tried: after `last_given`, then from the beginning.
pub(super) fn parts(ranges: &[Range], last_given: Option<IpAddr>) -> Vec<Part<'_>> {
    let after = last_given.and_then(|last| ranges.iter().position(|r| r.contains(last)).map(|at| (at, last)));
    let Some((at, last)) = after else { return ranges.iter().map(Range::whole).collect() };
    let (before, rest) = ranges.split_at(at);
    let (range, behind) = rest.split_first().map_or((None, rest), |(range, behind)| (Some(range), behind));
    let tail = range.filter(|range| last != range.last).map(|range| (offset(last, 1), range.last, range));
    let head = range.map(|range| (range.first, last, range));
    tail.into_iter()
        .chain(behind.iter().map(Range::whole))
        .chain(before.iter().map(Range::whole))
        .chain(head)
        .collect()
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn from_bits(bits: u128, v4: bool) -> IpAddr {
    if v4 { Ipv4Addr::from_bits(bits as u32).into() } else { Ipv6Addr::from_bits(bits).into() }
}

fn offset(address: IpAddr, by: u128) -> IpAddr {
    from_bits(bits(address).saturating_add(by), address.is_ipv4())
}

fn before(address: IpAddr) -> IpAddr {
    from_bits(bits(address).saturating_sub(1), address.is_ipv4())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn range(value: serde_json::Value) -> Result<Range, Error> {
        Range::of(&Keys::new(value.as_object().unwrap(), "a range"))
    }

    #[test]
    fn bad_ranges_name_the_key() {
        for (value, key) in [
            (json!({}), "subnet"),
            (json!({"subnet": "10.0.0.0"}), "subnet"),
            (json!({"subnet": "10.0.0.0/31"}), "subnet"),
            (json!({"subnet": "fd00::/127"}), "subnet"),
            (json!({"subnet": "10.0.0.1/24"}), "subnet"),
            (json!({"subnet": 7}), "subnet"),
            (json!({"subnet": "10.0.0.0/24", "rangeStart": "10.0.1.1"}), "rangeStart"),
            (json!({"subnet": "10.0.0.0/24", "rangeStart": "x"}), "rangeStart"),
            (json!({"subnet": "10.0.0.0/24", "rangeEnd": "fd00::1"}), "rangeEnd"),
            (json!({"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.3"}), "rangeEnd"),
            (json!({"subnet": "10.0.0.0/24", "gateway": "y"}), "gateway"),
        ] {
            let error = range(value.clone()).unwrap_err().to_string();
            assert!(error.contains(&format!("{key:?}")), "{value}: {error}");
        }
    }

    /// The addresses of all parts, in order, gateways left out.
    fn order(ranges: &[Range], last_given: Option<IpAddr>) -> Vec<IpAddr> {
        let all = |(from, to, range): Part<'_>| {
            let (v4, gateway) = (range.subnet.is_ipv4(), range.gateway);
            (bits(from)..=bits(to)).map(move |n| from_bits(n, v4)).filter(move |ip| *ip != gateway)
        };
        parts(ranges, last_given).into_iter().flat_map(all).collect()
    }

    #[test]
    fn defaults_leave_network_gateway_and_broadcast() {
        let texts = |range: &Range| -> Vec<String> {
            order(std::slice::from_ref(range), None).iter().map(ToString::to_string).collect()
        };
        let four = range(json!({"subnet": "10.0.0.0/29"})).unwrap();
        assert_eq!(texts(&four), ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
        let six = range(json!({"subnet": "fd00::/126"})).unwrap();
        assert_eq!(texts(&six), ["fd00::2", "fd00::3"]);
        let top = range(json!({"subnet": "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126"})).unwrap();
        assert_eq!(order(std::slice::from_ref(&top), Some(top.last)).len(), 2);
    }

    proptest! {
        #[test]
        fn every_address_is_tried_once_from_wherever(
            prefix in 20u8..=30, sizes in proptest::collection::vec(1u32..20, 1..4), at in 0usize..64,
        ) {
            let ranges: Vec<_> = sizes.iter().enumerate().map(|(i, size)| {
                let subnet = format!("10.{i}.0.0/{prefix}");
                let hosts = (1u32 << (32 - prefix)) - 2;
                let end = format!("10.{i}.0.{}", (*size).clamp(2, hosts));
                range(json!({"subnet": subnet, "rangeStart": format!("10.{i}.0.1"), "rangeEnd": end})).unwrap()
            }).collect();
            let all = order(&ranges, None);
            let last = all[at % all.len()];
            let mut from = order(&ranges, Some(last));
            prop_assert_eq!(from.last().copied(), Some(last));
            from.sort();
            let mut sorted = all.clone();
            sorted.sort();
            sorted.dedup();
            prop_assert_eq!(sorted.len(), all.len());
            prop_assert_eq!(from, sorted);
            prop_assert!(all.iter().all(|ip| ranges.iter().any(|r| r.contains(*ip) && r.gateway != *ip)));
        }
    }
}
