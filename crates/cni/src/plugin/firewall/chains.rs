use kernel::nft::{
    Conntrack, Expression, Family, Field, Hook, Meta, Register, STATE_ESTABLISHED_OR_RELATED, Set, Verdict,
};

use crate::plugin::table::{Part, Rule, base, packet};

/// Addresses of containers: what they send, and answers to it, is let through.
pub(super) const ADMITTED4: &str = "firewall4";
pub(super) const ADMITTED6: &str = "firewall6";
/// Bridges that nothing gets to from another of these.
pub(super) const BRIDGES: &str = "firewall_bridges";
/// `bridge . bridge`: those of them whose own containers reach each other.
pub(super) const WITHIN: &str = "firewall_within";
/// In the table of family bridge: ports that nothing gets to or from through another port.
pub(super) const ISOLATED_PORTS: &str = "firewall_isolated";

const FORWARD: &str = "firewall_forward";
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;

/// What the plugin has in the tables of the families inet and bridge.
pub(super) fn parts() -> [Part; 2] {
    let set = |name, key| Set { name, key, target: None, interval: false };
    [
        Part {
            family: Family::Inet,
            sets: vec![
                set(ADMITTED4, &[Field::IPV4]),
                set(ADMITTED6, &[Field::IPV6]),
                set(BRIDGES, &[Field::IFNAME]),
                set(WITHIN, &[Field::IFNAME, Field::IFNAME]),
            ],
            chains: vec![base(FORWARD, "filter", Hook::Forward, 0)],
            rules: forward(),
        },
        Part {
            family: Family::Bridge,
            sets: vec![set(ISOLATED_PORTS, &[Field::IFNAME])],
            chains: vec![base(FORWARD, "filter", Hook::Forward, -200)],
            rules: between_ports(),
        },
    ]
}

fn lookup(set: &'static str, register: u8, invert: bool) -> Expression<'static> {
    Expression::Lookup { set, register: Register(register), to: None, invert }
}

fn forward() -> Vec<Rule> {
    let (from, to) = (Register(0), Register(4));
    let between = vec![
        Expression::Meta { key: Meta::InputName, to: from },
        lookup(BRIDGES, 0, false),
        Expression::Meta { key: Meta::OutputName, to },
        lookup(BRIDGES, 4, false),
        lookup(WITHIN, 0, true),
        Expression::Verdict(Verdict::Drop),
    ];
    let mut rules = vec![Rule::new(FORWARD, [between]).comment("ingressPolicy")];
    for (v4, set) in [(true, ADMITTED4), (false, ADMITTED6)] {
        let address_is_in = |source| {
            let mut rule = packet::family(v4);
            rule.extend([packet::address(v4, source, Register(0)), lookup(set, 0, false)]);
            rule
        };
        let accept = || vec![Expression::Verdict(Verdict::Accept)];
        rules.push(Rule::new(FORWARD, [established_or_related(), address_is_in(false), accept()]));
        rules.push(Rule::new(FORWARD, [address_is_in(true), accept()]));
    }
    rules
}

fn established_or_related() -> Vec<Expression<'static>> {
    let register = Register::FIRST;
    vec![
        Expression::Conntrack { key: Conntrack::State, to: register },
        Expression::Mask { register, mask: STATE_ESTABLISHED_OR_RELATED.to_ne_bytes().to_vec() },
        Expression::Compare { register, equal: false, value: vec![0; 4] },
    ]
}

/// Whether or not the host shows bridged packets to the chains above (br_netfilter), frames meet these. Only IP: without
/// ARP nobody would find the gateway.
fn between_ports() -> Vec<Rule> {
    let mut rules = Vec::new();
    for protocol in [ETH_P_IP, ETH_P_IPV6] {
        for key in [Meta::InputName, Meta::OutputName] {
            let register = Register::FIRST;
            let rule = vec![
                Expression::Meta { key: Meta::EtherType, to: register },
                Expression::Compare { register, equal: true, value: protocol.to_be_bytes().to_vec() },
                Expression::Meta { key, to: register },
                lookup(ISOLATED_PORTS, 0, false),
                Expression::Verdict(Verdict::Drop),
            ];
            rules.push(Rule::new(FORWARD, [rule]).comment("ingressPolicy isolated"));
        }
    }
    rules
}
