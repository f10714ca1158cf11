use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Text that is no address, prefix or MAC.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {wanted}")]
pub struct ParseError {
    text: String,
    wanted: &'static str,
}

/// An address with the length of its network's prefix, as in `10.88.0.5/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpNet {
    address: IpAddr,
    prefix: u8,
}

impl IpNet {
    /// None if the prefix is longer than the address.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let width = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= width).then_some(Self { address, prefix })
    }

    /// The whole address as its own network: /32 or /128.
    pub fn host(address: IpAddr) -> Self {
        Self { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// The address, host bits included.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// The prefix length in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The first address of the network, with its prefix: host bits are zero.
    pub fn network(self) -> Self {
        Self { address: from_bits(self.bits() & self.mask(), self.is_ipv4()), prefix: self.prefix }
    }

    /// The last address of the network (IPv4: its broadcast address).
    pub fn last(self) -> IpAddr {
        let wide = if self.is_ipv4() { u128::from(u32::MAX) } else { u128::MAX };
        from_bits(self.bits() | (!self.mask() & wide), self.is_ipv4())
    }

    /// `address` lies in this network.
    pub fn contains(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_ipv4() && to_bits(address) & self.mask() == self.bits() & self.mask()
    }

    /// IPv4, not IPv6.
    pub fn is_ipv4(self) -> bool {
        self.address.is_ipv4()
    }

    fn bits(self) -> u128 {
        to_bits(self.address)
    }

    fn mask(self) -> u128 {
        let width: u32 = if self.is_ipv4() { 32 } else { 128 };
        let wide = if self.is_ipv4() { u128::from(u32::MAX) } else { u128::MAX };
        wide.checked_shl(width.saturating_sub(u32::from(self.prefix))).unwrap_or(0) & wide
    }
}

fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn from_bits(bits: u128, ipv4: bool) -> IpAddr {
    if ipv4 { Ipv4Addr::from_bits(bits as u32).into() } else { Ipv6Addr::from_bits(bits).into() }
}

impl fmt::Display for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for IpNet {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        text.split_once('/')
            .filter(|(_, prefix)| prefix.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|(address, prefix)| Self::new(address.parse().ok()?, prefix.parse().ok()?))
            .ok_or_else(|| ParseError {
                text: text.into(),
                wanted: "an address with a prefix, such as 10.88.0.1/16",
            })
    }
}

/// A link-layer address of six bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let refused = || ParseError { text: text.into(), wanted: "a MAC address, such as 02:00:00:00:00:01" };
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = part.and_then(|p| u8::from_str_radix(p, 16).ok()).ok_or_else(refused)?;
        }
        if parts.next().is_some() { Err(refused()) } else { Ok(Self(bytes)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        let net: IpNet = "10.88.3.5/16".parse().unwrap();
        assert_eq!(net.network().to_string(), "10.88.0.0/16");
        assert_eq!(net.last().to_string(), "10.88.255.255");
        assert!(net.contains("10.88.0.1".parse().unwrap()) && !net.contains("10.89.0.1".parse().unwrap()));
        let all: IpNet = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("1.2.3.4".parse().unwrap()) && !all.contains("::1".parse().unwrap()));
        let v6: IpNet = "fd00::5/64".parse().unwrap();
        assert_eq!(v6.network().to_string(), "fd00::/64");
        assert_eq!(
            "::/0".parse::<IpNet>().unwrap().last().to_string(),
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
        );
        assert_eq!("fd00::5/128".parse::<IpNet>().unwrap().network().address(), v6.address());
        for bad in ["10.0.0.1", "10.0.0.1/33", "10.0.0/8", "::/129", "/8", "10.0.0.1/+8", "10.0.0.1/", ""] {
            assert!(bad.parse::<IpNet>().is_err(), "{bad}");
        }
    }

    #[test]
    fn macs() {
        assert_eq!("02:AB:00:00:00:01".parse::<Mac>().unwrap().to_string(), "02:ab:00:00:00:01");
        for bad in
            ["", "02", "02:ab:00:00:00", "02:ab:00:00:00:01:02", "02:ab:00:00:00:+1", "g2:ab:00:00:00:01"]
        {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
