//! Masquerade, for the plugins that attach: what leaves the host gets the host's address.
//!
//! Behind a bridge it goes by link and network, an element for all containers. Where each container has a link of its own it
//! goes by the container's address: an element of a hash each, so that the thousandth costs what the first did.

use std::net::IpAddr;

use kernel::netlink::{IpNet, Protocol, Socket};
use kernel::nft::{Expression, Family, Field, Hook, Meta, Register, Set, Value, Verdict};
use ledger::Record;

use super::interface::broken;
use super::table::{Held, Part, Rule, Table, base, packet};
use crate::contract::{AddResult, Error, Holders, Ip, hash};

/// Link and network behind it whose traffic is masqueraded when it leaves by another link: `link . first-last address`.
const MASQ4: &str = "masq4";
const MASQ6: &str = "masq6";
/// Addresses whose traffic is masqueraded.
const MASQ_HOST4: &str = "masq_host4";
const MASQ_HOST6: &str = "masq_host6";
/// Networks whose hosts reach each other under their own address: `first-last source . first-last destination`.
const MASQ_NEAR4: &str = "masq_near4";
const MASQ_NEAR6: &str = "masq_near6";

const CHAIN: &str = "masquerade";

/// What masquerade has in the table.
pub(super) fn part() -> Part {
    let networks = |name, key| Set { name, key, target: None, interval: true };
    let hosts = |name, key| Set { name, key, target: None, interval: false };
    Part {
        family: Family::Inet,
        sets: vec![
            networks(MASQ4, &[Field::IFNAME, Field::IPV4]),
            networks(MASQ6, &[Field::IFNAME, Field::IPV6]),
            hosts(MASQ_HOST4, &[Field::IPV4]),
            hosts(MASQ_HOST6, &[Field::IPV6]),
            networks(MASQ_NEAR4, &[Field::IPV4, Field::IPV4]),
            networks(MASQ_NEAR6, &[Field::IPV6, Field::IPV6]),
        ],
        chains: vec![base(CHAIN, "nat", Hook::Postrouting, 100)],
        rules: [true, false].into_iter().flat_map(rules).collect(),
    }
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
    let goes_far = vec![
        packet::address(v4, true, register),
        packet::address(v4, false, Register(if v4 { 1 } else { 4 })),
        Expression::Lookup { set: near, register, to: None, invert: true },
    ];
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
    let set = if address.is_ipv4() { MASQ_NEAR4 } else { MASQ_NEAR6 };
    let key = |end: IpAddr| Value::new().address(end).address(end).into_bytes();
    let network = address.network();
    let name = table.shared(&format!("{set}-{}", hash(&[&network.to_string()])));
    let mut held = Held::new(set, key(network.address()), &name);
    held.element.key_end = Some(key(network.last()));
    held
}
