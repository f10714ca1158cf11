//! The nftables table: which maps there are, which rules ask them, and how a plan looks in them.
//!
//! Rules are the same whatever Services there are. A packet of a new connection asks one verdict map, by address, protocol and port; it
//! leads to a chain that is shared by all Services with as many targets. That throws a die and asks a second map, by the same key and
//! the number thrown.

mod chains;
mod elements;
mod kind;
mod rules;

use kernel::nft::{Base, Chain, Family, Field, Hook, Set, Target, Transaction};

pub(crate) use chains::Pick;
pub(crate) use elements::{Held, Value, node_networks, of_plan};
pub(crate) use kind::{Kind, destination};
pub(crate) use rules::{TCP, family};

/// Changed whenever the rules are: a table of another layout is made anew, in the transaction that fills it.
const LAYOUT: &str = "layout-3";

/// `address . address`: targets that reach themselves through a Service.
pub(crate) const HAIRPIN: [&str; 2] = ["hairpin4", "hairpin6"];
/// `link . first-last address`: networks behind a bridge, whose members would answer each other past this machine.
pub(crate) const NEIGHBOURS: [&str; 2] = ["neighbours4", "neighbours6"];
/// `protocols . first-last address`: where pods are.
pub(crate) const PODS: [&str; 2] = ["pods4", "pods6"];
/// `protocols . first-last address`: addresses of this machine at which node ports are.
pub(crate) const NODES: [&str; 2] = ["nodes4", "nodes6"];
/// `protocols . first-last address`: where Services are, and nothing else.
pub(crate) const SERVICES: [&str; 2] = ["services4", "services6"];
/// Targets on other nodes.
pub(crate) const REMOTE: [&str; 2] = ["remote4", "remote6"];
/// Addresses of load balancers that not everybody may use.
pub(crate) const GUARDED: [&str; 2] = ["guarded4", "guarded6"];
/// The same with who may: `address . protocol . port . first-last address`.
pub(crate) const ALLOWED: [&str; 2] = ["allowed4", "allowed6"];

/// Chains that end things.
pub(crate) const REJECT: &str = "reject";
pub(crate) const DROP: &str = "drop";

const PREROUTING: &str = "prerouting";
const OUTPUT: &str = "output";
const FORWARDED: &str = "forwarded";
const SENT: &str = "sent";
const POSTROUTING: &str = "postrouting";
const INSIDE: &str = "inside";
const OUTSIDE: &str = "outside";

/// Clients that a map remembers for session affinity.
const CLIENTS: u32 = 65_536;

/// The index of a family's set among the two.
pub(crate) fn of_family(sets: [&'static str; 2], ipv4: bool) -> &'static str {
    let [four, six] = sets;
    if ipv4 { four } else { six }
}

/// A key's field for an address of this family.
pub(crate) fn address_field(ipv4: bool) -> Field {
    if ipv4 { Field::IPV4 } else { Field::IPV6 }
}

/// The chain by which a table of this layout is known.
pub(crate) fn layout() -> &'static str {
    LAYOUT
}

/// The maps and sets whose elements are of plans.
pub(crate) fn planned_sets() -> Vec<(&'static str, bool)> {
    let mut sets: Vec<_> =
        Kind::ALL.iter().flat_map(|k| [(k.fronts(), true), (k.targets(), false)]).collect();
    let plain = [HAIRPIN, NEIGHBOURS, PODS, NODES, SERVICES, REMOTE, GUARDED, ALLOWED];
    sets.extend(plain.iter().flatten().map(|set| (*set, false)));
    sets
}

/// Makes the table with all in it but elements and the chains that throw dice.
pub(crate) fn make(change: &mut Transaction, table: &str) {
    let family = Family::Inet;
    change.add_table(family, table, true, Some("sextant services"));
    for ipv4 in [true, false] {
        let address = address_field(ipv4);
        let front = [address, Field::PROTOCOL, Field::SERVICE];
        let plain = |name, key, interval| Set { name, key, target: None, interval };
        for set in [
            plain(of_family(HAIRPIN, ipv4), &[address, address], false),
            plain(of_family(NEIGHBOURS, ipv4), &[Field::IFNAME, address], true),
            plain(of_family(PODS, ipv4), &[Field::PROTOCOL, address], true),
            plain(of_family(NODES, ipv4), &[Field::PROTOCOL, address], true),
            plain(of_family(SERVICES, ipv4), &[Field::PROTOCOL, address], true),
            plain(of_family(REMOTE, ipv4), &[address], false),
            plain(of_family(GUARDED, ipv4), &front, false),
            plain(of_family(ALLOWED, ipv4), &[address, Field::PROTOCOL, Field::SERVICE, address], true),
        ] {
            change.add_set(family, table, &set);
        }
    }
    for kind in Kind::ALL {
        let address = address_field(kind.ipv4);
        let key = kind.fields();
        let target = Some(Target::Fields(if kind.ipv4 { &TARGET4 } else { &TARGET6 }));
        let fronts = Set { name: kind.fronts(), key: &key, target: Some(Target::Verdict), interval: false };
        change.add_set(family, table, &fronts);
        let numbered = [key.as_slice(), &[Field::MARK]].concat();
        let targets = Set { name: kind.targets(), key: &numbered, target, interval: false };
        change.add_set(family, table, &targets);
        let by_client = [key.as_slice(), &[address]].concat();
        let affinity = Set { name: kind.affinity(), key: &by_client, target, interval: false };
        change.add_dynamic_set(family, table, &affinity, CLIENTS);
    }
    let base = |name, kind, hook, priority| {
        let base = Some(Base { kind, hook, priority, accept: true });
        Chain { name, base }
    };
    let plain = |name| Chain { name, base: None };
    for chain in [
        plain(LAYOUT),
        plain(REJECT),
        plain(DROP),
        plain(INSIDE),
        plain(OUTSIDE),
        base(PREROUTING, "nat", Hook::Prerouting, -100),
        base(OUTPUT, "nat", Hook::Output, -100),
        // Before what others masquerade, which would leave alone what goes back where it came from.
        base(POSTROUTING, "nat", Hook::Postrouting, 98),
        // Behind all that translates.
        base(FORWARDED, "filter", Hook::Forward, 0),
        base(SENT, "filter", Hook::Output, 0),
    ] {
        change.add_chain(family, table, &chain);
    }
    rules::add(change, table);
}

const TARGET4: [Field; 2] = [Field::IPV4, Field::SERVICE];
const TARGET6: [Field; 2] = [Field::IPV6, Field::SERVICE];
