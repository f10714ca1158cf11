//! IP addresses and address ranges.
//!
//! Fields that are older than the strict rules take what Go's old parser took: leading zeros in IPv4 and IPv4 mapped into
//! IPv6. Those forms are refused in new values and told as warnings in kept ones.

use crate::contract::field::{FieldError, FieldErrors, Path};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of addresses: an address and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The address as it was written, IPv4 mapped into IPv6 unmapped.
    pub address: IpAddr,
    /// The length of the prefix in bits.
    pub prefix: u8,
}

impl Cidr {
    /// The first address of the range.
    #[must_use]
    pub fn network(self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                Ipv4Addr::from(u32::from(address) & mask).into()
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                Ipv6Addr::from(u128::from(address) & mask).into()
            }
        }
    }

    /// Whether `address` is in the range.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && Cidr { address, ..self }.network() == self.network()
    }

    /// The range as it is written: first address and prefix.
    #[must_use]
    pub fn canonical(self) -> String {
        format!("{}/{}", self.network(), self.prefix)
    }
}

/// The address in `text` as Go's old parser reads it, IPv4 mapped into IPv6 as IPv4.
#[must_use]
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        // A zone is no part of an address in a field, and dotted tails follow the strict rules.
        let address: Ipv6Addr = text.parse().ok()?;
        return Some(address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4));
    }
    let mut bytes = [0u8; 4];
    let mut parts = text.split('.');
    for byte in &mut bytes {
        let part = parts.next()?;
        if part.is_empty() || !part.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        *byte = part
            .trim_start_matches('0')
            .parse()
            .or_else(|error| if part.bytes().all(|digit| digit == b'0') { Ok(0) } else { Err(error) })
            .ok()?;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(bytes).into())
}

/// The range in `text` as Go's old parser reads it.
#[must_use]
pub fn parse_cidr(text: &str) -> Option<Cidr> {
    let (address, prefix) = text.split_once('/')?;
    if prefix.is_empty() || prefix.len() > 4 || !prefix.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let prefix: u16 = prefix.parse().ok()?;
    let mapped = address.contains(':');
    let address = parse_ip(address)?;
    let (most, unmapped) = match address {
        IpAddr::V4(_) if mapped => (128, prefix.checked_sub(96)),
        IpAddr::V4(_) => (32, Some(prefix)),
        IpAddr::V6(_) => (128, Some(prefix)),
    };
    if prefix > most {
        return None;
    }
    Some(Cidr { address, prefix: u8::try_from(unmapped?).ok()? })
}

fn is_mapped(text: &str) -> bool {
    text.parse::<Ipv6Addr>().is_ok_and(|address| address.to_ipv4_mapped().is_some())
}

/// What is wrong with an address in a field that takes old forms only where they are kept already (`old`).
#[must_use]
pub fn ip_of_old(path: &Path, text: &str, strict: bool, old: &[&str]) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if old.contains(&text) {
        return errors;
    }
    if parse_ip(text).is_none() {
        let rule = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        errors.push(FieldError::invalid(path, text, rule));
    } else if strict {
        if text.parse::<IpAddr>().is_err() {
            errors.push(FieldError::invalid(path, text, "must not have leading 0s"));
        }
        if is_mapped(text) {
            errors.push(FieldError::invalid(path, text, "must not be an IPv4-mapped IPv6 address"));
        }
    }
    errors
}

/// What is wrong with an address in a field that takes the canonical form only.
#[must_use]
pub fn ip(path: &Path, text: &str) -> FieldErrors {
    let mut errors = ip_of_old(path, text, true, &[]);
    if let (true, Some(address)) = (errors.is_empty(), parse_ip(text))
        && address.to_string() != text
    {
        errors.push(FieldError::invalid(path, text, format!("must be in canonical form (\"{address}\")")));
    }
    errors
}

/// What is wrong with a range; `strict`: whether old forms are refused.
#[must_use]
pub fn cidr(path: &Path, text: &str, strict: bool, old: &[&str]) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if old.contains(&text) {
        return errors;
    }
    let Some(range) = parse_cidr(text) else {
        let rule = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        errors.push(FieldError::invalid(path, text, rule));
        return errors;
    };
    if !strict {
        return errors;
    }
    let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
    let padded = address.parse::<IpAddr>().is_err() || (prefix.len() > 1 && prefix.starts_with('0'));
    if padded {
        errors.push(FieldError::invalid(path, text, "must not have leading 0s in IP or prefix length"));
    } else if is_mapped(address) {
        errors.push(FieldError::invalid(path, text, "must not have an IPv4-mapped IPv6 address"));
    } else if range.network() != range.address {
        errors.push(FieldError::invalid(path, text, "must not have bits set beyond the prefix length"));
    }
    errors
}

/// Warnings about an address that is taken although it is not in the form it should have.
#[must_use]
pub fn ip_warnings(path: &Path, text: &str) -> Vec<String> {
    let Some(address) = parse_ip(text) else { return Vec::new() };
    if text.parse::<IpAddr>().is_err() || is_mapped(text) {
        return vec![format!("{path}: non-standard IP address {text:?} is invalid: use \"{address}\"")];
    }
    if address.is_ipv6() && address.to_string() != text {
        return vec![format!(
            "{path}: IPv6 address {text:?} should be in RFC 5952 canonical format (\"{address}\")"
        )];
    }
    Vec::new()
}

/// Warnings about a range that is taken although it is not in the form it should have.
#[must_use]
pub fn cidr_warnings(path: &Path, text: &str) -> Vec<String> {
    let Some(range) = parse_cidr(text) else { return Vec::new() };
    let mut warnings = Vec::new();
    let canonical = range.canonical();
    if range.network() != range.address {
        let bits = if range.address.is_ipv4() { 32 } else { 128 };
        warnings.push(format!(
            "{path}: CIDR value {text:?} is ambiguous in this context (should be {canonical:?} or \"{}/{bits}\"?)",
            range.address
        ));
    }
    let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
    let padded = address.parse::<IpAddr>().is_err() || (prefix.len() > 1 && prefix.starts_with('0'));
    if padded || is_mapped(address) {
        warnings.push(format!("{path}: non-standard CIDR value {text:?} is invalid: use {canonical:?}"));
    }
    if warnings.is_empty() && range.address.is_ipv6() && canonical != text {
        let form = "should be in RFC 5952 canonical format";
        warnings.push(format!("{path}: IPv6 CIDR value {text:?} {form} ({canonical:?})"));
    }
    warnings
}
