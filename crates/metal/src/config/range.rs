//! Ranges of addresses, which are never written out one by one: a /64 is one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use cpi::contract::Cidr;

/// How it is written.
const FORM: &str = "write 10.0.0.240-10.0.0.250, 10.0.0.0/28 or an address";
/// The longest text that can be a range: two addresses of IPv6 with room between.
const LONGEST: usize = 100;

/// Addresses that no load balancer can have, and what they are.
const FORBIDDEN: [(IpAddr, IpAddr, &str); 9] = [
    (v4(0), v4(0x00ff_ffff), "addresses of no host"),
    (v4(0x7f00_0000), v4(0x7fff_ffff), "loopback addresses"),
    (v4(0xe000_0000), v4(0xefff_ffff), "multicast addresses"),
    (v4(0xffff_ffff), v4(0xffff_ffff), "the broadcast address"),
    (v6(0), v6(0), "the unspecified address"),
    (v6(1), v6(1), "the loopback address"),
    (v6(0xffff_0000_0000), v6(0xffff_ffff_ffff), "addresses of IPv4, which are to be written as such"),
    (v6(0xfe80 << 112), v6((0xfec0 << 112) - 1), "addresses of one link"),
    (v6(0xff00 << 112), v6(u128::MAX), "multicast addresses"),
];

const fn v4(bits: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(bits))
}

const fn v6(bits: u128) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits(bits))
}

/// Addresses from a first to a last one, both of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    first: IpAddr,
    last: IpAddr,
}

impl Range {
    fn new(first: IpAddr, last: IpAddr) -> Result<Self, String> {
        if first.is_ipv4() != last.is_ipv4() {
            return Err("begins in one family and ends in another; write one range of each".into());
        }
        if first > last {
            return Err(format!("goes backwards; write {last}-{first}"));
        }
        let range = Self { first, last };
        match FORBIDDEN.iter().find(|(first, last, _)| range.overlaps(&Self { first: *first, last: *last })) {
            Some((.., what)) => Err(format!("has {what} in it, which no load balancer can have")),
            None => Ok(range),
        }
    }

    /// Its first address.
    #[must_use]
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// Its last address.
    #[must_use]
    pub fn last(&self) -> IpAddr {
        self.last
    }

    /// Whether it is of IPv6.
    #[must_use]
    pub fn is_v6(&self) -> bool {
        self.first.is_ipv6()
    }

    /// Whether an address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        // Addresses of IPv4 come before all of IPv6.
        (self.first..=self.last).contains(&address)
    }

    /// Whether both have an address in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// How many addresses it has.
    #[must_use]
    pub fn size(&self) -> u128 {
        // Never all of IPv6: some may not be in it.
        (bits(self.last) - bits(self.first)).saturating_add(1)
    }

    /// The same addresses in as few networks as they fit: for who knows only those.
    #[must_use]
    pub fn networks(&self) -> Vec<Cidr> {
        let width: u32 = if self.is_v6() { 128 } else { 32 };
        let (mut at, last) = (bits(self.first), bits(self.last));
        let mut all = Vec::new();
        loop {
            let left = last - at;
            // As many low bits as are nothing yet, and as fit into what is left.
            let fits = if left == u128::MAX { 128 } else { (left + 1).ilog2() };
            let free = at.trailing_zeros().min(width).min(fits);
            let length = u8::try_from(width - free).unwrap_or(u8::MAX);
            all.extend(Cidr::around(self.address(at), length));
            let size = 1u128.checked_shl(free).unwrap_or_default();
            match at.checked_add(size).filter(|next| size > 0 && *next <= last) {
                Some(next) => at = next,
                None => return all,
            }
        }
    }

    /// The address behind this one, if it is in the range still.
    #[must_use]
    pub fn after(&self, address: IpAddr) -> Option<IpAddr> {
        (address < self.last).then(|| self.address(bits(address) + 1))
    }

    fn address(&self, bits: u128) -> IpAddr {
        match self.first {
            IpAddr::V4(_) => v4(u32::try_from(bits).unwrap_or(u32::MAX)),
            IpAddr::V6(_) => v6(bits),
        }
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return write!(f, "{}", self.first);
        }
        match self.networks().as_slice() {
            [one] => write!(f, "{one}"),
            _ => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl FromStr for Range {
    type Err = String;

    /// `10.0.0.240-10.0.0.250`, `10.0.0.0/28`, or one address.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("is no range of addresses: it has {} bytes; {FORM}", text.len()));
        }
        let address = |text: &str| {
            text.trim().parse::<IpAddr>().map_err(|_| format!("is no range of addresses; {FORM}"))
        };
        if let Some((first, last)) = text.split_once('-') {
            return Self::new(address(first)?, address(last)?);
        }
        let Some((first, _)) = text.split_once('/') else {
            return address(text).and_then(|one| Self::new(one, one));
        };
        let first = address(first)?;
        let network: Cidr = text.trim().parse().map_err(|_| format!("is no range of addresses; {FORM}"))?;
        if network.first() != first {
            return Err(format!(
                "begins in the middle of its network; write {network}, or {first}-{}",
                network.last()
            ));
        }
        Self::new(network.first(), network.last())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(text: &str) -> Range {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_are_read_and_written() {
        for (text, same, size) in [
            ("10.0.0.240-10.0.0.250", "10.0.0.240-10.0.0.250", 11),
            ("10.0.0.0/28", "10.0.0.0/28", 16),
            ("10.0.0.0-10.0.0.15", "10.0.0.0/28", 16),
            ("10.0.0.7", "10.0.0.7", 1),
            ("10.0.0.7/32", "10.0.0.7", 1),
            (" fd00::1 - fd00::9 ", "fd00::1-fd00::9", 9),
            ("fd00::/64", "fd00::/64", 1 << 64),
            ("2000::/3", "2000::/3", 1 << 125),
        ] {
            assert_eq!((range(text).to_string().as_str(), range(text).size()), (same, size), "{text}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused_with_what_to_do() {
        for (text, words) in [
            ("", "write 10.0.0.240-10.0.0.250"),
            ("10.0.0.1-", "write 10.0.0.240-10.0.0.250"),
            ("10.0.0.0/33", "write 10.0.0.240-10.0.0.250"),
            ("10.0.0.9-10.0.0.1", "goes backwards; write 10.0.0.1-10.0.0.9"),
            ("10.0.0.1-fd00::1", "in another"),
            ("10.0.0.5/28", "write 10.0.0.0/28, or 10.0.0.5-10.0.0.15"),
            ("127.0.0.1", "loopback"),
            ("126.0.0.0-128.0.0.0", "loopback"),
            ("224.0.0.0/24", "multicast"),
            ("0.0.0.0/0", "of no host"),
            ("255.255.255.255", "broadcast"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::ffff:10.0.0.1", "IPv4"),
            ("fe80::1", "one link"),
            ("ff02::1", "multicast"),
            ("::/0", "unspecified"),
        ] {
            let error = text.parse::<Range>().unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn networks_are_the_range(first in 0x0100_0000u32..0x7effffff, more in 0u32..5000) {
            let last = first.saturating_add(more).min(0x7eff_ffff);
            let range = Range::new(v4(first), v4(last)).unwrap();
            let networks = range.networks();
            prop_assert!(networks.len() <= 62);
            let mut next = Some(range.first());
            for network in &networks {
                prop_assert_eq!(Some(network.first()), next);
                next = range.after(network.last());
            }
            prop_assert_eq!((next, networks.last().unwrap().last()), (None, range.last()));
            prop_assert_eq!(range.to_string().parse::<Range>(), Ok(range));
        }

        #[test]
        fn any_text_is_a_range_or_none(text in ".{0,60}") {
            let _ = text.parse::<Range>();
        }
    }
}
