//! What the rules of the plugins ask of a packet.

use kernel::nft::{Conntrack, Expression, Header, Meta, Register, STATUS_DNAT};

const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;

/// The packet is of this family.
pub(in crate::plugin) fn family(v4: bool) -> Vec<Expression<'static>> {
    let register = Register::FIRST;
    let number = if v4 { NFPROTO_IPV4 } else { NFPROTO_IPV6 };
    vec![
        Expression::Meta { key: Meta::Family, to: register },
        Expression::Compare { register, equal: true, value: vec![number] },
    ]
}

/// Loads the packet's source or destination address.
pub(in crate::plugin) fn address(v4: bool, source: bool, to: Register) -> Expression<'static> {
    let (offset, len) = match (v4, source) {
        (true, true) => (12, 4),
        (true, false) => (16, 4),
        (false, true) => (8, 16),
        (false, false) => (24, 16),
    };
    Expression::Payload { header: Header::Network, offset, len, to }
}

/// The first byte of the packet's address, masked by the first of the two, is the second.
pub(in crate::plugin) fn begins_with(
    v4: bool,
    source: bool,
    [mask, byte]: [u8; 2],
) -> Vec<Expression<'static>> {
    let register = Register::FIRST;
    let first_byte = match address(v4, source, register) {
        Expression::Payload { header, offset, to, .. } => Expression::Payload { header, offset, len: 1, to },
        other => other,
    };
    let mut rule = family(v4);
    rule.push(first_byte);
    if mask != 0xff {
        rule.push(Expression::Mask { register, mask: vec![mask] });
    }
    rule.push(Expression::Compare { register, equal: true, value: vec![byte] });
    rule
}

pub(in crate::plugin) fn link_is_not_lo(key: Meta) -> Vec<Expression<'static>> {
    let register = Register::FIRST;
    let mut name = vec![0; 16];
    name[..2].copy_from_slice(b"lo");
    vec![Expression::Meta { key, to: register }, Expression::Compare { register, equal: false, value: name }]
}

/// The flow was sent elsewhere by a rule.
pub(in crate::plugin) fn dnat() -> Vec<Expression<'static>> {
    let register = Register::FIRST;
    vec![
        Expression::Conntrack { key: Conntrack::Status, to: register },
        Expression::Mask { register, mask: STATUS_DNAT.to_ne_bytes().to_vec() },
        Expression::Compare { register, equal: false, value: vec![0; 4] },
    ]
}

/// The link and the packet's source or destination are in `set`.
pub(in crate::plugin) fn link_and_address(
    v4: bool,
    link: Meta,
    source: bool,
    set: &'static str,
) -> Vec<Expression<'static>> {
    let mut rule = family(v4);
    rule.push(Expression::Meta { key: link, to: Register(0) });
    rule.push(address(v4, source, Register(4)));
    rule.push(Expression::Lookup { set, register: Register(0), to: None, invert: false });
    rule
}
