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

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.subnet.contains(address) && (bits(self.first)..=bits(self.last)).contains(&bits(address))
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.subnet.is_ipv4() == other.subnet.is_ipv4()
            && bits(self.first) <= bits(other.last)
            && bits(other.first) <= bits(self.last)
    }
}

/// The addresses of `ranges` in the order in which they are tried: after `last_given`, then from the beginning.
pub(super) fn candidates(
    ranges: &[Range],
    last_given: Option<IpAddr>,
) -> impl Iterator<Item = (IpAddr, &Range)> {
    let after = last_given.and_then(|last| ranges.iter().position(|r| r.contains(last)).map(|at| (at, last)));
    let (start, from) = match after {
        Some((at, last)) => (at, Some(last)),
        None => (0, None),
    };
    let rest = ranges.iter().skip(start).enumerate().flat_map(move |(i, range)| {
        let first = if i == 0 {
            from.map_or(bits(range.first), |last| bits(last).saturating_add(1))
        } else {
            bits(range.first)
        };
        // Beyond the highest address there is none.
        let exhausted = i == 0 && from.is_some_and(|last| bits(last) >= bits(range.last));
        addresses(range, first, bits(range.last), exhausted)
    });
    let begin = ranges.iter().take(start + 1).enumerate().flat_map(move |(i, range)| {
        let last = if i == start { from.map_or(0, bits) } else { bits(range.last) };
        addresses(range, bits(range.first), last, from.is_none())
    });
    rest.chain(begin)
}

fn addresses(range: &Range, first: u128, last: u128, none: bool) -> impl Iterator<Item = (IpAddr, &Range)> {
    let v4 = range.subnet.is_ipv4();
    let all = (!none).then_some(first..=last).into_iter().flatten();
    all.map(move |bits| from_bits(bits, v4)).filter(|ip| *ip != range.gateway).map(move |ip| (ip, range))
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

    #[test]
    fn defaults_leave_network_gateway_and_broadcast() {
        let four = range(json!({"subnet": "10.0.0.0/29"})).unwrap();
        let all: Vec<_> =
            candidates(std::slice::from_ref(&four), None).map(|(ip, _)| ip.to_string()).collect();
        assert_eq!(all, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
        let six = range(json!({"subnet": "fd00::/126"})).unwrap();
        let all: Vec<_> =
            candidates(std::slice::from_ref(&six), None).map(|(ip, _)| ip.to_string()).collect();
        assert_eq!(all, ["fd00::2", "fd00::3"]);
        let top = range(json!({"subnet": "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126"})).unwrap();
        assert_eq!(candidates(std::slice::from_ref(&top), Some(top.last)).count(), 2);
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
            let all: Vec<_> = candidates(&ranges, None).map(|(ip, _)| ip).collect();
            let last = all[at % all.len()];
            let mut from: Vec<_> = candidates(&ranges, Some(last)).map(|(ip, _)| ip).collect();
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
