//! Masquerade, for the plugins that attach: what leaves the host gets the host's address.
//!
//! Behind a bridge it goes by link and network, an element for all containers. Where each container has a link of its own it
//! goes by the container's address: an element of a hash each, so that the thousandth costs what the first did.

use std::net::IpAddr;

use kernel::netlink::{IpNet, Mac, Protocol, Socket};
use kernel::nft::{Expression, Family, Field, Header, Hook, Meta, Register, Set, Value, Verdict};
use ledger::Record;

use super::interface::broken;
use super::table::{Held, Part, Rule, Table, base, behind, packet};
use crate::contract::{AddResult, Error, Holders, Ip, hash};

/// Link and network behind it whose traffic is masqueraded when it leaves by another link: `link . first-last address`.
const MASQ4: &str = "masq4";
const MASQ6: &str = "masq6";
/// Addresses whose traffic is masqueraded.
const MASQ_HOST4: &str = "masq_host4";
const MASQ_HOST6: &str = "masq_host6";
/// Networks whose hosts reach each other under their own address: `first-last source . first-last destination`. The kernel
/// takes no interval that meets another of its set, so a network within another is in the next set.
const MASQ_NEAR4: [&str; 4] = ["masq_near4", "masq_near4_in", "masq_near4_in_in", "masq_near4_in_in_in"];
const MASQ_NEAR6: [&str; 4] = ["masq_near6", "masq_near6_in", "masq_near6_in_in", "masq_near6_in_in_in"];
/// Bridges and the MACs of the host's own links in their VLANs: `bridge . MAC`.
const VLAN_GATEWAYS: &str = "vlan_gateways";

const CHAIN: &str = "masquerade";
const BRIDGED: &str = "masquerade_bridged";

/// The sets that an interval may be in if it is one of `set`, in the order in which they are tried.
pub(super) fn layers(set: &'static str) -> Vec<&'static str> {
    let layered = [MASQ_NEAR4, MASQ_NEAR6].into_iter().find(|layers| layers[0] == set);
    layered.map_or_else(|| vec![set], |layers| layers.into())
}

/// What masquerade has in the table.
pub(super) fn part() -> Part {
    let networks = |name, key| Set { name, key, target: None, interval: true };
    let hosts = |name, key| Set { name, key, target: None, interval: false };
    let mut sets = vec![
        networks(MASQ4, &[Field::IFNAME, Field::IPV4]),
        networks(MASQ6, &[Field::IFNAME, Field::IPV6]),
        hosts(MASQ_HOST4, &[Field::IPV4]),
        hosts(MASQ_HOST6, &[Field::IPV6]),
        hosts(VLAN_GATEWAYS, &[Field::IFNAME, Field::ETHER]),
    ];
    sets.extend(MASQ_NEAR4.map(|set| networks(set, &[Field::IPV4, Field::IPV4])));
    sets.extend(MASQ_NEAR6.map(|set| networks(set, &[Field::IPV6, Field::IPV6])));
    Part {
        family: Family::Inet,
        sets,
        chains: vec![
            base(BRIDGED, "filter", Hook::Prerouting, -300),
            base(CHAIN, "nat", Hook::Postrouting, 100),
        ],
        rules: bridged().into_iter().chain([true, false].into_iter().flat_map(rules)).collect(),
    }
}

/// With br_netfilter, what is bridged comes past the rules of what is routed: a flow that is first bridged to the host's link
/// in a VLAN would be known before it is routed, and masqueraded no more. On that way it is of no flow.
fn bridged() -> [Rule; 2] {
    [0, 6].map(|offset| {
        let register = Register(0);
        let between = vec![
            Expression::Meta { key: Meta::InputName, to: register },
            Expression::Payload { header: Header::Link, offset, len: 6, to: Register(4) },
            Expression::Lookup { set: VLAN_GATEWAYS, register, to: None, invert: false },
            Expression::NoTrack,
        ];
        Rule::new(BRIDGED, [between]).comment("bridged to and from the host's link in a VLAN")
    })
}

fn rules(v4: bool) -> [Rule; 4] {
    let multicast = packet::begins_with(v4, false, if v4 { [0xf0, 0xe0] } else { [0xff, 0xff] });
    let set = if v4 { MASQ4 } else { MASQ6 };
    let stays = packet::link_and_address(v4, Meta::OutputName, false, set);
    let leaves = packet::link_and_address(v4, Meta::InputName, true, set);
    let (hosts, near) = if v4 { (MASQ_HOST4, MASQ_NEAR4) } else { (MASQ_HOST6, MASQ_NEAR6) };
    let register = Register(0);
    let is_host = vec![
        packet::address(v4, true, register),
        Expression::Lookup { set: hosts, register, to: None, invert: false },
    ];
    let mut goes_far = vec![
        packet::address(v4, true, register),
        packet::address(v4, false, Register(if v4 { 1 } else { 4 })),
    ];
    goes_far.extend(near.map(|set| Expression::Lookup { set, register, to: None, invert: true }));
    [
        Rule::new(CHAIN, [multicast, vec![Expression::Verdict(Verdict::Return)]]),
        Rule::new(CHAIN, [stays, vec![Expression::Verdict(Verdict::Return)]]),
        Rule::new(CHAIN, [leaves, vec![Expression::Masquerade]]),
        Rule::new(CHAIN, [packet::family(v4), is_host, goes_far, vec![Expression::Masquerade]]),
    ]
}

/// The sets whose elements a container holds alone.
const HOSTS: [(Family, &str); 2] = [(Family::Inet, MASQ_HOST4), (Family::Inet, MASQ_HOST6)];

fn network_set(address: IpNet) -> &'static str {
    if address.is_ipv4() { MASQ4 } else { MASQ6 }
}

/// Masquerades what comes in by `link` from the networks of `result`: an element a network, whatever the number of its
/// containers.
pub(super) fn join_networks(
    table: &Table,
    link: &str,
    result: &AddResult,
    socket: &mut Socket,
    record: &mut dyn Record,
) -> Result<(), Error> {
    table.join_behind(link, Family::Inet, socket, record)?;
    let mut addresses = result.ips.iter().map(|ip| ip.address);
    addresses.try_for_each(|address| {
        table.join_network(network_set(address), link, address.network(), socket, record)
    })
}

/// Has what is masqueraded behind `link`, the host's in a VLAN of `bridge` with this MAC, be tracked only once it is routed.
pub(super) fn join_vlan(
    table: &Table,
    link: &str,
    bridge: &str,
    gateway: Mac,
    socket: &mut Socket,
    record: &mut dyn Record,
) -> Result<(), Error> {
    table.join_element(&behind(link), vlan(table, bridge, gateway), socket, record)
}

/// Puts that back.
pub(super) fn restore_vlan(table: &Table, bridge: &str, gateway: Mac) -> Result<(), Error> {
    table.restore(&[vlan(table, bridge, gateway)], &mut Socket::open(Protocol::Netfilter)?)
}

fn vlan(table: &Table, bridge: &str, gateway: Mac) -> Held {
    let key = Value::new().ifname(bridge).mac(gateway).into_bytes();
    let name = table.shared(&format!("{VLAN_GATEWAYS}-{}", hash(&[bridge, &gateway.to_string()])));
    Held::new(VLAN_GATEWAYS, key, &name)
}

/// CHECK: the networks of `ips` behind `link` are masqueraded still.
pub(super) fn check_networks(table: &Table, link: &str, ips: &[Ip]) -> Result<(), Error> {
    let elements = networks(table, link, ips);
    check(table, &elements)
}

/// Puts the networks of `ips` behind `link` back.
pub(super) fn restore_networks(table: &Table, link: &str, ips: &[Ip]) -> Result<(), Error> {
    table.restore(&networks(table, link, ips), &mut Socket::open(Protocol::Netfilter)?)
}

fn networks(table: &Table, link: &str, ips: &[Ip]) -> Vec<Held> {
    let addresses = ips.iter().map(|ip| ip.address);
    addresses.map(|address| table.network(network_set(address), link, address.network())).collect()
}

/// Masquerades the addresses of `result`, each an element that `holder` holds.
pub(super) fn join_hosts(
    table: &Table,
    holder: &str,
    result: &AddResult,
    record: &mut dyn Record,
) -> Result<(), Error> {
    let mut socket = Socket::open(Protocol::Netfilter)?;
    table.join(Family::Inet, &mut socket, record)?;
    for ip in &result.ips {
        let near = near(table, ip.address);
        let shared = near.element.comment.clone().unwrap_or_default();
        table.join_element(&shared, near, &mut socket, record)?;
    }
    let hosts: Vec<_> = result.ips.iter().map(|ip| host(ip.address, holder)).collect();
    table.add(&hosts, &mut socket, record)
}

/// Lets go of `holder`'s addresses. Where they are not known, they are looked for.
pub(super) fn leave_hosts(table: &Table, holder: &str, ips: Option<&[Ip]>) -> Result<(), Error> {
    let mut socket = Socket::open(Protocol::Netfilter)?;
    let held = match ips {
        Some(ips) => table.of_those(ips.iter().map(|ip| host(ip.address, holder)), &mut socket)?,
        None => table.held(&HOSTS, |element| element.is_held_by(holder), &mut socket)?,
    };
    table.delete(&held, &mut socket)
}

/// GC: lets go of the addresses of all whose holders are stale.
pub(super) fn collect_hosts(table: &Table, holders: &Holders) -> Result<(), Error> {
    let mut socket = Socket::open(Protocol::Netfilter)?;
    let held = table.stale(&HOSTS, holders, &mut socket)?;
    table.delete(&held, &mut socket)
}

/// CHECK: `holder`'s addresses are masqueraded still.
pub(super) fn check_hosts(table: &Table, holder: &str, ips: &[Ip]) -> Result<(), Error> {
    let hosts: Vec<_> = ips.iter().map(|ip| host(ip.address, holder)).collect();
    check(table, &hosts)
}

/// Puts `holder`'s addresses back.
pub(super) fn restore_hosts(table: &Table, holder: &str, ips: &[Ip]) -> Result<(), Error> {
    let elements = hosts(table, holder, ips);
    table.restore(&elements, &mut Socket::open(Protocol::Netfilter)?)
}

fn hosts(table: &Table, holder: &str, ips: &[Ip]) -> Vec<Held> {
    ips.iter().flat_map(|ip| [near(table, ip.address), host(ip.address, holder)]).collect()
}

fn check(table: &Table, elements: &[Held]) -> Result<(), Error> {
    let mut socket = Socket::open(Protocol::Netfilter)?;
    for one in elements {
        if table.find(one, &mut socket)?.as_ref() != Some(&one.element) {
            let place = format!("set {} of nftables table inet {}", one.set, table.name);
            return Err(broken(format!("masquerade is gone: an element of {place} is not there")));
        }
    }
    Ok(())
}

fn host(address: IpNet, holder: &str) -> Held {
    let set = if address.is_ipv4() { MASQ_HOST4 } else { MASQ_HOST6 };
    Held::new(set, Value::new().address(address.address()).into_bytes(), holder)
}

fn near(table: &Table, address: IpNet) -> Held {
    let [set, ..] = if address.is_ipv4() { MASQ_NEAR4 } else { MASQ_NEAR6 };
    let key = |end: IpAddr| Value::new().address(end).address(end).into_bytes();
    let network = address.network();
    let name = table.shared(&format!("{set}-{}", hash(&[&network.to_string()])));
    let mut held = Held::new(set, key(network.address()), &name);
    held.element.key_end = Some(key(network.last()));
    held
}
