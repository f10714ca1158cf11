//! Ranges of addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use grpc::Failure;

/// A range of addresses, `10.64.1.0/24`, by its first address and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    first: IpAddr,
    length: u8,
}

impl Cidr {
    /// The range of this length that has an address in it; `None` where the length is more than an address has.
    #[must_use]
    pub fn around(address: IpAddr, length: u8) -> Option<Self> {
        let bits = bits_of(address);
        (length <= bits)
            .then(|| Self { first: from_number(number(address) & mask(bits, length), bits), length })
    }

    /// Its first address.
    #[must_use]
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// How many bits all its addresses have in common.
    #[must_use]
    pub fn length(&self) -> u8 {
        self.length
    }

    /// Whether it is of IPv6.
    #[must_use]
    pub fn is_v6(&self) -> bool {
        self.first.is_ipv6()
    }

    /// How many bits an address has.
    #[must_use]
    pub fn bits(&self) -> u8 {
        bits_of(self.first)
    }

    /// Whether an address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::around(address, self.length).is_some_and(|around| around == *self)
    }

    /// Whether all of another range is in it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.length >= self.length && self.contains(other.first)
    }

    /// Whether both have an address in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// The range of `length` with this number in it, counted from its first address; `None` where there is none.
    #[must_use]
    pub fn part(&self, length: u8, number_of: u128) -> Option<Self> {
        let bits = self.bits();
        if length < self.length || length > bits {
            return None;
        }
        let kinds = u32::from(length - self.length);
        if kinds < 128 && number_of >> kinds != 0 {
            return None;
        }
        let offset = number_of.checked_shl(u32::from(bits - length)).unwrap_or_default();
        Some(Self { first: from_number(number(self.first) | offset, bits), length })
    }

    /// Which part of `length` an address of it is in.
    #[must_use]
    pub fn part_of(&self, length: u8, address: IpAddr) -> Option<u128> {
        if !self.contains(address) || length < self.length || length > self.bits() {
            return None;
        }
        let within = number(address) & !mask(self.bits(), self.length);
        Some(within.checked_shr(u32::from(self.bits() - length)).unwrap_or_default())
    }

    /// Its last address.
    #[must_use]
    pub fn last(&self) -> IpAddr {
        let bits = self.bits();
        let all = if bits == 128 { u128::MAX } else { u128::from(u32::MAX) };
        from_number(number(self.first) | (all & !mask(bits, self.length)), bits)
    }
}

fn bits_of(address: IpAddr) -> u8 {
    if address.is_ipv6() { 128 } else { 32 }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

fn from_number(number: u128, bits: u8) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if bits == 32 => Ipv4Addr::from(number).into(),
        _ => Ipv6Addr::from(number).into(),
    }
}

fn mask(bits: u8, length: u8) -> u128 {
    let all = if bits == 128 { u128::MAX } else { u128::from(u32::MAX) };
    all & all.checked_shl(u32::from(bits - length)).unwrap_or_default()
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.length)
    }
}

impl FromStr for Cidr {
    type Err = Failure;

    /// Any address of the range will do for its first, as in Kubernetes.
    fn from_str(text: &str) -> Result<Self, Failure> {
        let wrong = || {
            Failure::invalid("cidr", format!("{text:?} is no range of addresses: write it as 10.64.0.0/16"))
        };
        if text.len() > 64 {
            return Err(Failure::invalid("cidr", "has more than 64 bytes, which no range of addresses has"));
        }
        let (address, length) = text.split_once('/').ok_or_else(wrong)?;
        if length.is_empty() || !length.bytes().all(|c| c.is_ascii_digit()) {
            return Err(wrong());
        }
        let (address, length) = (address.parse().map_err(|_| wrong())?, length.parse().map_err(|_| wrong())?);
        Self::around(address, length).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_are_read_and_written() {
        for (text, same) in [
            ("10.64.0.0/16", "10.64.0.0/16"),
            ("10.64.7.9/16", "10.64.0.0/16"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("10.0.0.1/32", "10.0.0.1/32"),
            ("fd00::1/64", "fd00::/64"),
            ("::/0", "::/0"),
            ("fd00::1/128", "fd00::1/128"),
        ] {
            assert_eq!(cidr(text).to_string(), same);
        }
        for text in
            ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "x/8", "fd00::/129", "10.0.0.0/8/8"]
        {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }

    #[test]
    fn parts_of_a_range() {
        let range = cidr("10.64.0.0/16");
        assert_eq!(range.part(24, 3), Some(cidr("10.64.3.0/24")));
        assert_eq!(range.part(24, 255), Some(cidr("10.64.255.0/24")));
        assert_eq!(range.part(24, 256), None);
        assert_eq!(range.part(8, 0), None);
        assert_eq!(range.part_of(24, "10.64.3.9".parse().unwrap()), Some(3));
        assert_eq!(range.part_of(24, "10.65.3.9".parse().unwrap()), None);
        assert_eq!(cidr("fd00::/48").part(64, 1), Some(cidr("fd00:0:0:1::/64")));
        assert_eq!(
            cidr("::/0").part(128, u128::MAX),
            Some(cidr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"))
        );
        assert!(range.covers(&cidr("10.64.3.0/24")) && !cidr("10.64.3.0/24").covers(&range));
        assert!(cidr("10.64.3.0/24").overlaps(&range) && !range.overlaps(&cidr("10.65.0.0/16")));
        assert!(!cidr("0.0.0.0/0").contains("::".parse().unwrap()));
        assert_eq!(range.last(), "10.64.255.255".parse::<IpAddr>().unwrap());
    }

    proptest! {
        #[test]
        fn a_part_is_where_it_is_said_to_be(address: u32, length in 0_u8..=32, more in 0_u8..=32, number: u32) {
            let range = Cidr::around(Ipv4Addr::from(address).into(), length).unwrap();
            if let Some(part) = range.part(length.saturating_add(more), number.into()) {
                prop_assert!(range.covers(&part));
                prop_assert_eq!(range.part_of(part.length(), part.last()), Some(number.into()));
            }
        }
    }
}
