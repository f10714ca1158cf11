use kernel::nft::{
    Conntrack, Expression, Family, Meta, Register, STATUS_DNAT, TYPE_LOCAL, Transaction, Verdict,
};

use super::kind::{Kind, address_registers, destination, source};
use super::{
    ALLOWED, DROP, FORWARDED, GUARDED, HAIRPIN, INSIDE, NEIGHBOURS, NODES, OUTPUT, OUTSIDE, PODS,
    POSTROUTING, PREROUTING, REJECT, REMOTE, SENT, SERVICES, of_family,
};

const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
/// The protocol's number.
pub(crate) const TCP: u8 = 6;

type Rule = Vec<Expression<'static>>;

/// Adds the rules of all chains but those that throw dice.
pub(super) fn add(change: &mut Transaction, table: &str) {
    let mut add = |chain: &str, rule: Rule, comment: Option<&str>| {
        change.add_rule(Family::Inet, table, chain, &rule, comment);
    };
    add(REJECT, [is_tcp(), vec![Expression::Reject { reset: true }]].concat(), None);
    add(REJECT, vec![Expression::Reject { reset: false }], None);
    add(DROP, vec![Expression::Verdict(Verdict::Drop)], None);
    let jump = |chain| vec![Expression::Verdict(Verdict::Jump(chain))];
    for ipv4 in [true, false] {
        add(PREROUTING, not_allowed(ipv4), Some("not in loadBalancerSourceRanges"));
        let from_outside = [family(ipv4), protocol_and_source(ipv4, PODS, true)].concat();
        add(PREROUTING, [from_outside, jump(OUTSIDE)].concat(), None);
    }
    add(PREROUTING, jump(INSIDE), None);
    add(OUTPUT, jump(INSIDE), None);
    for kind in Kind::ALL {
        let chain = if kind.outside { OUTSIDE } else { INSIDE };
        let here = if kind.node { to_this_node(kind.ipv4) } else { Vec::new() };
        let ask = Expression::VerdictMap { map: kind.fronts(), register: Register(0) };
        add(chain, [family(kind.ipv4), here, kind.load(), vec![ask]].concat(), None);
    }
    for ipv4 in [true, false] {
        let masquerade = |ask: Rule| [family(ipv4), sent(), ask, vec![Expression::Masquerade]].concat();
        add(POSTROUTING, masquerade(to_itself(ipv4)), Some("to itself"));
        add(
            POSTROUTING,
            masquerade(to_a_neighbour(ipv4)),
            Some("back to the network it came from: answers must come through here"),
        );
        add(POSTROUTING, masquerade(to_another_node(ipv4)), Some("from outside to another node"));
        for chain in [FORWARDED, SENT] {
            let refuse = vec![Expression::Verdict(Verdict::Goto(REJECT))];
            add(chain, [family(ipv4), to_no_service(ipv4), refuse].concat(), Some("no Service has that"));
        }
    }
}

/// The packet is of this family.
pub(crate) fn family(ipv4: bool) -> Rule {
    let number = if ipv4 { NFPROTO_IPV4 } else { NFPROTO_IPV6 };
    is(Expression::Meta { key: Meta::Family, to: Register(0) }, vec![number])
}

fn is(load: Expression<'static>, value: Vec<u8>) -> Rule {
    vec![load, Expression::Compare { register: Register(0), equal: true, value }]
}

fn is_tcp() -> Rule {
    is(Expression::Meta { key: Meta::Protocol, to: Register(0) }, vec![TCP])
}

fn lookup(sets: [&'static str; 2], ipv4: bool, invert: bool) -> Expression<'static> {
    Expression::Lookup { set: of_family(sets, ipv4), register: Register(0), to: None, invert }
}

/// For an address that is guarded, from who is not allowed.
fn not_allowed(ipv4: bool) -> Rule {
    let key = Kind { ipv4, node: false, outside: false };
    let mut rule = family(ipv4);
    rule.extend(key.load());
    rule.push(lookup(GUARDED, ipv4, false));
    rule.push(source(ipv4, Register(key.registers())));
    rule.push(lookup(ALLOWED, ipv4, true));
    rule.push(Expression::Verdict(Verdict::Drop));
    rule
}

fn protocol_and_source(ipv4: bool, sets: [&'static str; 2], invert: bool) -> Rule {
    let protocol = Expression::Meta { key: Meta::Protocol, to: Register(0) };
    vec![protocol, source(ipv4, Register(1)), lookup(sets, ipv4, invert)]
}

/// For an address of this machine that has node ports.
fn to_this_node(ipv4: bool) -> Rule {
    let mut rule = is(Expression::AddressType { to: Register(0) }, TYPE_LOCAL.to_ne_bytes().to_vec());
    rule.push(Expression::Meta { key: Meta::Protocol, to: Register(0) });
    rule.push(destination(ipv4, Register(1)));
    rule.push(lookup(NODES, ipv4, false));
    rule
}

/// It is on its way to loopback, where only the route to Services has it go, and no rule has sent it elsewhere.
fn to_no_service(ipv4: bool) -> Rule {
    let mut loopback = b"lo".to_vec();
    loopback.resize(16, 0);
    let mut rule = is(Expression::Meta { key: Meta::OutputName, to: Register(0) }, loopback);
    rule.push(Expression::Meta { key: Meta::Protocol, to: Register(0) });
    rule.push(destination(ipv4, Register(1)));
    rule.push(lookup(SERVICES, ipv4, false));
    // Where names are answered.
    rule.push(Expression::AddressType { to: Register(0) });
    rule.push(Expression::Compare {
        register: Register(0),
        equal: false,
        value: TYPE_LOCAL.to_ne_bytes().to_vec(),
    });
    rule
}

/// A rule has sent it elsewhere.
fn sent() -> Rule {
    let register = Register(0);
    vec![
        Expression::Conntrack { key: Conntrack::Status, to: register },
        Expression::Mask { register, mask: STATUS_DNAT.to_ne_bytes().to_vec() },
        Expression::Compare { register, equal: false, value: vec![0; 4] },
    ]
}

fn to_itself(ipv4: bool) -> Rule {
    let second = Register(address_registers(ipv4));
    vec![source(ipv4, Register(0)), destination(ipv4, second), lookup(HAIRPIN, ipv4, false)]
}

/// It leaves by the link behind which its sender is. (By which link it came in, Linux does not tell here.)
fn to_a_neighbour(ipv4: bool) -> Rule {
    let link = Expression::Meta { key: Meta::OutputName, to: Register(0) };
    vec![link, source(ipv4, Register(4)), lookup(NEIGHBOURS, ipv4, false)]
}

fn to_another_node(ipv4: bool) -> Rule {
    let mut rule = vec![destination(ipv4, Register(0)), lookup(REMOTE, ipv4, false)];
    rule.extend(protocol_and_source(ipv4, PODS, true));
    rule
}
