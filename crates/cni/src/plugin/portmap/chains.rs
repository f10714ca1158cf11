use kernel::nft::{
    Chain, Expression, Family, Field, Header, Hook, Meta, Nat, Register, Set, TYPE_LOCAL, Target, Verdict,
};

use crate::plugin::table::{Part, Rule, base, packet};

/// Published on any address of the host: `protocol . port : address . port`.
pub(super) const HOSTPORTS4: &str = "hostports4";
pub(super) const HOSTPORTS6: &str = "hostports6";
/// Published on one address: `address . protocol . port : address . port`.
pub(super) const HOSTPORTS4_ADDR: &str = "hostports4_addr";
pub(super) const HOSTPORTS6_ADDR: &str = "hostports6_addr";
/// Link and network behind it with published containers: `link . first-last address`.
pub(super) const HAIRPIN4: &str = "hairpin4";
pub(super) const HAIRPIN6: &str = "hairpin6";
/// For each of the maps above, by the same keys: the chain with the conditions that a packet must meet first.
const CONDITIONS: [(&str, &str); 4] = [
    (HOSTPORTS4, "hostports4_if"),
    (HOSTPORTS6, "hostports6_if"),
    (HOSTPORTS4_ADDR, "hostports4_addr_if"),
    (HOSTPORTS6_ADDR, "hostports6_addr_if"),
];
/// Containers whose published ports do not see who asks (`masqAll`): `address`.
pub(super) const MASQ_ALL4: &str = "hostports_masq4";
pub(super) const MASQ_ALL6: &str = "hostports_masq6";

/// The map with the conditions for what is published in `map`.
pub(super) fn conditions_of(map: &str) -> &'static str {
    CONDITIONS.iter().find(|(of, _)| *of == map).map_or("", |(_, conditions)| conditions)
}

const GUARD: &str = "hostports_guard";
const HOSTPORTS: &str = "hostports";
const PREROUTING: &str = "hostports_prerouting";
const OUTPUT: &str = "hostports_output";
const POSTROUTING: &str = "hostports_postrouting";

/// What published ports have in the table.
pub(super) fn part() -> Part {
    Part {
        family: Family::Inet,
        sets: sets(),
        chains: vec![
            base(GUARD, "filter", Hook::Prerouting, -300),
            Chain { name: HOSTPORTS, base: None },
            base(PREROUTING, "nat", Hook::Prerouting, -100),
            base(OUTPUT, "nat", Hook::Output, -100),
            // Before masquerade, which would leave alone what goes back where it came from.
            base(POSTROUTING, "nat", Hook::Postrouting, 99),
        ],
        rules: rules(),
    }
}

fn sets() -> Vec<Set<'static>> {
    let map = |name, key, value| Set { name, key, target: Some(Target::Fields(value)), interval: false };
    let networks = |name, key| Set { name, key, target: None, interval: true };
    let addresses = |name, key| Set { name, key, target: None, interval: false };
    let verdicts =
        |of, key| Set { name: conditions_of(of), key, target: Some(Target::Verdict), interval: false };
    vec![
        map(HOSTPORTS4, &[Field::PROTOCOL, Field::SERVICE], &[Field::IPV4, Field::SERVICE]),
        map(HOSTPORTS6, &[Field::PROTOCOL, Field::SERVICE], &[Field::IPV6, Field::SERVICE]),
        map(HOSTPORTS4_ADDR, &[Field::IPV4, Field::PROTOCOL, Field::SERVICE], &[Field::IPV4, Field::SERVICE]),
        map(HOSTPORTS6_ADDR, &[Field::IPV6, Field::PROTOCOL, Field::SERVICE], &[Field::IPV6, Field::SERVICE]),
        networks(HAIRPIN4, &[Field::IFNAME, Field::IPV4]),
        networks(HAIRPIN6, &[Field::IFNAME, Field::IPV6]),
        addresses(MASQ_ALL4, &[Field::IPV4]),
        addresses(MASQ_ALL6, &[Field::IPV6]),
        verdicts(HOSTPORTS4, &[Field::PROTOCOL, Field::SERVICE]),
        verdicts(HOSTPORTS6, &[Field::PROTOCOL, Field::SERVICE]),
        verdicts(HOSTPORTS4_ADDR, &[Field::IPV4, Field::PROTOCOL, Field::SERVICE]),
        verdicts(HOSTPORTS6_ADDR, &[Field::IPV6, Field::PROTOCOL, Field::SERVICE]),
    ]
}

fn rules() -> Vec<Rule> {
    let jump = || vec![Expression::Verdict(Verdict::Jump(HOSTPORTS))];
    // route_localnet, which publishing on loopback needs, must not open the host's 127.0.0.0/8 to containers.
    let from_outside = packet::link_is_not_lo(Meta::InputName);
    let to_loopback = packet::begins_with(true, false, [0xff, 127]);
    let mut rules = vec![
        Rule::new(GUARD, [from_outside, to_loopback, vec![Expression::Verdict(Verdict::Drop)]])
            .comment("127.0.0.0/8 never comes in from outside"),
        Rule::new(PREROUTING, [jump()]),
        Rule::new(OUTPUT, [jump()]),
    ];
    for one_address in [true, false] {
        for v4 in [true, false] {
            let (set, register, key) = published(v4, one_address);
            let conditions = Expression::VerdictMap { map: conditions_of(set), register };
            rules.push(Rule::new(HOSTPORTS, [key.clone(), vec![conditions]]));
            rules.push(Rule::new(HOSTPORTS, [key, to_container(v4, set)]));
        }
    }
    for v4 in [true, false] {
        // Not by the interface it came in: for packets that leave where they came in, Linux does not tell it here.
        let set = if v4 { HAIRPIN4 } else { HAIRPIN6 };
        let same_network = packet::link_and_address(v4, Meta::OutputName, true, set);
        rules.push(
            Rule::new(POSTROUTING, [same_network, packet::dnat(), vec![Expression::Masquerade]])
                .comment("back to the network it came from: answers must come through here"),
        );
    }
    for (v4, set) in [(true, MASQ_ALL4), (false, MASQ_ALL6)] {
        let lookup = Expression::Lookup { set, register: Register(0), to: None, invert: false };
        let to_those = [packet::family(v4), vec![packet::address(v4, false, Register(0)), lookup]].concat();
        rules.push(
            Rule::new(POSTROUTING, [to_those, packet::dnat(), vec![Expression::Masquerade]])
                .comment("masqAll"),
        );
    }
    let from_loopback = packet::begins_with(true, true, [0xff, 127]);
    let leaves = packet::link_is_not_lo(Meta::OutputName);
    rules.push(
        Rule::new(POSTROUTING, [from_loopback, leaves, packet::dnat(), vec![Expression::Masquerade]])
            .comment("published on loopback"),
    );
    rules
}

/// A map of published ports, and what loads its key from a packet.
fn published(v4: bool, one_address: bool) -> (&'static str, Register, Vec<Expression<'static>>) {
    let (set, addresses) = match (v4, one_address) {
        (true, true) => (HOSTPORTS4_ADDR, 1),
        (true, false) => (HOSTPORTS4, 0),
        (false, true) => (HOSTPORTS6_ADDR, 4),
        (false, false) => (HOSTPORTS6, 0),
    };
    let mut key = packet::family(v4);
    if one_address {
        key.push(packet::address(v4, false, Register(0)));
    } else {
        let register = Register::FIRST;
        key.push(Expression::AddressType { to: register });
        key.push(Expression::Compare { register, equal: true, value: TYPE_LOCAL.to_ne_bytes().to_vec() });
    }
    key.push(Expression::Meta { key: Meta::Protocol, to: Register(addresses) });
    key.push(Expression::Payload {
        header: Header::Transport,
        offset: 2,
        len: 2,
        to: Register(addresses + 1),
    });
    (set, Register(0), key)
}

/// Sends what has its key in `set` to its container.
fn to_container(v4: bool, set: &'static str) -> Vec<Expression<'static>> {
    let port = Some(Register(if v4 { 1 } else { 4 }));
    vec![
        Expression::Lookup { set, register: Register(0), to: Some(Register(0)), invert: false },
        Expression::Nat { kind: Nat::Destination, ipv4: v4, address: Register(0), port },
    ]
}
