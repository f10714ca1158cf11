//! IP addresses and ranges.

use crate::cel::eval::{Failure, Outcome};
use crate::cel::value::Value;
use crate::contract::field::quoted;
use crate::contract::names::Cidr;
use std::net::IpAddr;

/// A function of this library.
pub(crate) fn call<'a>(function: &str, args: &[Value<'a>]) -> Option<Outcome<'a>> {
    Some(match (function, args) {
        ("ip", [Value::String(text)]) => address(text).map(Value::Ip).map_err(Failure::Error),
        ("isIP", [Value::String(text)]) => Ok(Value::Bool(address(text).is_ok())),
        ("ip.isCanonical", [Value::String(text)]) => {
            address(text).map(|address| Value::Bool(address.to_string() == **text)).map_err(Failure::Error)
        }
        ("cidr", [Value::String(text)]) => range(text).map(Value::Cidr).map_err(Failure::Error),
        ("isCIDR", [Value::String(text)]) => Ok(Value::Bool(range(text).is_ok())),
        (_, [Value::Ip(address)]) => return on_address(function, *address),
        (_, [Value::Cidr(range), rest @ ..]) => return on_range(function, *range, rest),
        _ => return None,
    })
}

fn on_address<'a>(function: &str, address: IpAddr) -> Option<Outcome<'a>> {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    };
    let link_local_multicast = match address {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    };
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    let answer = match function {
        "family" => return Some(Ok(Value::Int(if address.is_ipv4() { 4 } else { 6 }))),
        "isUnspecified" => address.is_unspecified(),
        "isLoopback" => address.is_loopback(),
        "isLinkLocalMulticast" => link_local_multicast,
        "isLinkLocalUnicast" => link_local,
        "isGlobalUnicast" => {
            !(address.is_unspecified()
                || address.is_loopback()
                || address.is_multicast()
                || link_local
                || broadcast)
        }
        _ => return None,
    };
    Some(Ok(Value::Bool(answer)))
}

fn on_range<'a>(function: &str, range_: Cidr, rest: &[Value<'a>]) -> Option<Outcome<'a>> {
    let inside = |other: Cidr| Value::Bool(range_.contains(other.network()) && other.prefix >= range_.prefix);
    Some(match (function, rest) {
        ("ip", []) => Ok(Value::Ip(range_.address)),
        ("prefixLength", []) => Ok(Value::Int(i64::from(range_.prefix))),
        ("masked", []) => Ok(Value::Cidr(Cidr { address: range_.network(), prefix: range_.prefix })),
        ("containsIP", [Value::Ip(address)]) => Ok(Value::Bool(range_.contains(*address))),
        // What is no address is no argument.
        ("containsIP", [Value::String(text)]) => match address(text) {
            Ok(address) => Ok(Value::Bool(range_.contains(address))),
            Err(_) => Err(Failure::new("no such overload")),
        },
        ("containsCIDR", [Value::Cidr(other)]) => Ok(inside(*other)),
        ("containsCIDR", [Value::String(text)]) => range(text).map(inside).map_err(Failure::Error),
        _ => return None,
    })
}

/// An address in strict form, not IPv4 mapped into IPv6.
fn address(text: &str) -> Result<IpAddr, String> {
    let shown = quoted(text);
    if text.contains('%') {
        return Err(format!("IP address {shown} with zone value is not allowed"));
    }
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            Err(format!("IPv4-mapped IPv6 address {shown} is not allowed"))
        }
        Ok(address) => Ok(address),
        Err(_) => Err(format!(
            "IP Address {shown} parse error during conversion from string: ParseAddr({shown}): unable to parse IP"
        )),
    }
}

fn range(text: &str) -> Result<Cidr, String> {
    const WHAT: &str = "network address parse error during conversion from string";
    let shown = quoted(text);
    let wrong = |cause: &str| format!("{WHAT}: {WHAT}: netip.ParsePrefix({shown}): {cause}");
    // Behind the last slash, as Go looks for it.
    let (before, prefix) = text.rsplit_once('/').ok_or_else(|| wrong("no '/'"))?;
    let address = match before.parse::<IpAddr>() {
        _ if before.contains('%') => return Err(wrong("IPv6 zones cannot be present in a prefix")),
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            return Err(format!("{WHAT}: IPv4-mapped IPv6 address {shown} is not allowed"));
        }
        Ok(address) => address,
        Err(_) => return Err(wrong(&format!("ParseAddr({}): unable to parse IP", quoted(before)))),
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    let digits = prefix.bytes().all(|digit| digit.is_ascii_digit());
    if prefix.is_empty() || !digits || (prefix.len() > 1 && prefix.starts_with('0')) {
        return Err(wrong(&format!("bad bits after slash: {}", quoted(prefix))));
    }
    match prefix.parse::<u8>() {
        Ok(prefix) if prefix <= most => Ok(Cidr { address, prefix }),
        _ => Err(wrong("prefix length out of range")),
    }
}
