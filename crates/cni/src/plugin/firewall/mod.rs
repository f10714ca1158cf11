//! `firewall`: what a container sends and the answers to it are let through, and an ingress policy keeps others from it.
//! An element a container and a bridge, so the cost does not grow.
//!
//! What is accepted here may still be dropped elsewhere: in nftables, unlike within one iptables chain, every program's
//! chain has its say.

mod chains;
mod conf;

use kernel::netlink::{self, Protocol, Socket};
use kernel::nft::{Family, Value};
use ledger::Record;

use super::interface::{all, broken, readable};
use super::status;
use super::table::{Held, Part, Table, behind};
use crate::contract::{AddResult, Code, Error, Plugin, Request};
use chains::{ADMITTED4, ADMITTED6, BRIDGES, ISOLATED_PORTS, WITHIN};
use conf::{Conf, Policy};

/// What it has in the tables.
pub(super) fn parts() -> [Part; 2] {
    chains::parts()
}

/// The sets whose elements a container holds alone.
const HELD: [(Family, &str); 3] =
    [(Family::Inet, ADMITTED4), (Family::Inet, ADMITTED6), (Family::Bridge, ISOLATED_PORTS)];

/// The plugin `firewall`.
#[derive(Debug)]
pub(super) struct Firewall;

impl Plugin for Firewall {
    fn add(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<AddResult, Error> {
        let conf = Conf::of(request)?;
        let previous = previous(request)?;
        let bridge = conf.bridge(previous)?;
        let held = elements(&conf, request, previous, bridge)?;
        let mut socket = request.netfilter()?;
        conf.table.join(Family::Inet, &mut socket, record)?;
        if held.iter().any(|one| one.family == Family::Bridge) {
            conf.table.join(Family::Bridge, &mut socket, record)?;
        }
        if let Some(bridge) = bridge {
            for one in of_bridge(&conf, bridge) {
                conf.table.join_element(&behind(bridge), one, &mut socket, record)?;
            }
        }
        conf.table.record(&held, record)?;
        for family in [Family::Inet, Family::Bridge] {
            let of_family: Vec<Held> = held.iter().filter(|one| one.family == family).cloned().collect();
            if !of_family.is_empty() {
                conf.table.take_over(family, &of_family, &mut socket)?;
            }
        }
        Ok(previous.clone())
    }

    fn del(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<(), Error> {
        let (table, read) = readable(Table::of(&request.keys()));
        let holder = request.holder();
        let mut socket = request.netfilter()?;
        let open = Conf::of(request).is_ok_and(|conf| conf.policy == Policy::Open);
        let held = match request.previous {
            // A record knows of all that was made under another policy.
            Some(previous) if open && record.counts_users() => {
                table.of_those(addresses(previous, &holder), &mut socket)?
            }
            Some(previous) => table.of_those(possible(previous, &holder), &mut socket)?,
            None => table.held(&HELD, |element| element.is_held_by(&holder), &mut socket)?,
        };
        let freed = table.delete(&held, &mut socket).and_then(|()| table.undone(&held, record));
        all([freed, read])
    }

    fn check(&self, request: &Request<'_>) -> Result<(), Error> {
        let conf = Conf::of(request)?;
        let previous = previous(request)?;
        let bridge = conf.bridge(previous)?;
        let mut socket = Socket::open(Protocol::Netfilter)?;
        for one in elements(&conf, request, previous, bridge)? {
            if conf.table.find(&one, &mut socket)?.as_ref() != Some(&one.element) {
                return Err(missing(&conf.table, &one));
            }
        }
        for one in bridge.iter().flat_map(|bridge| of_bridge(&conf, bridge)) {
            conf.table.find(&one, &mut socket)?.ok_or_else(|| missing(&conf.table, &one))?;
        }
        Ok(())
    }

    fn status(&self, request: &Request<'_>) -> Result<(), Error> {
        Conf::of(request)?;
        status::forwards_attached(request)
    }

    fn gc(&self, request: &Request<'_>, _record: &mut dyn Record) -> Result<(), Error> {
        let table = Table::of(&request.keys())?;
        let holders = request.valid_holders()?;
        let mut socket = Socket::open(Protocol::Netfilter)?;
        let stale = table.stale(&HELD, &holders, &mut socket)?;
        table.delete(&stale, &mut socket)
    }

    fn restore(&self, request: &Request<'_>) -> Result<(), Error> {
        let conf = Conf::of(request)?;
        let Some(previous) = request.previous else { return Ok(()) };
        let bridge = conf.bridge(previous)?;
        let mut held = elements(&conf, request, previous, bridge)?;
        held.extend(bridge.iter().flat_map(|bridge| of_bridge(&conf, bridge)));
        conf.table.restore(&held, &mut Socket::open(Protocol::Netfilter)?)
    }
}

fn previous<'a>(request: &Request<'a>) -> Result<&'a AddResult, Error> {
    request.previous.ok_or_else(|| {
        let text =
            "cannot guard the container: firewall must come after a plugin that attaches (prevResult is missing)";
        Error::new(Code::InvalidConfig, text)
    })
}

/// What the containers of a bridge hold together.
fn of_bridge(conf: &Conf, bridge: &str) -> Vec<Held> {
    let link = || Value::new().ifname(bridge);
    let mut held = vec![conf.table.link(BRIDGES, bridge, link().into_bytes())];
    if conf.policy == Policy::SameBridge {
        held.push(conf.table.link(WITHIN, bridge, link().ifname(bridge).into_bytes()));
    }
    held
}

fn missing(table: &Table, one: &Held) -> Error {
    let Held { family, set, .. } = one;
    broken(format!(
        "an element of set {set} is gone from nftables table {family} {}, or another's",
        table.name
    ))
}

fn port(name: &str, holder: &str) -> Held {
    Held::new(ISOLATED_PORTS, Value::new().ifname(name).into_bytes(), holder).in_family(Family::Bridge)
}

/// An element for each address of the container.
fn addresses<'a>(previous: &'a AddResult, holder: &'a str) -> impl Iterator<Item = Held> + 'a {
    previous.ips.iter().map(move |ip| {
        let set = if ip.address.is_ipv4() { ADMITTED4 } else { ADMITTED6 };
        Held::new(set, Value::new().address(ip.address.address()).into_bytes(), holder)
    })
}

/// What the container is to hold.
fn elements(
    conf: &Conf,
    request: &Request<'_>,
    previous: &AddResult,
    bridge: Option<&str>,
) -> Result<Vec<Held>, Error> {
    let holder = request.holder();
    let mut held: Vec<Held> = addresses(previous, &holder).collect();
    let Some(bridge) = bridge.filter(|_| conf.policy == Policy::Isolated) else { return Ok(held) };
    let mut socket = Socket::open(Protocol::Route)?;
    let index = netlink::link_by_name(&mut socket, bridge)?.map(|link| link.index);
    let index = index.ok_or_else(|| broken(format!("bridge {bridge} is not there")))?;
    for link in previous.interfaces.iter().filter(|link| link.sandbox.is_empty()) {
        let there = netlink::link_by_name(&mut socket, &link.name)?;
        if there.is_some_and(|there| there.master == Some(index)) {
            held.push(port(&link.name, &holder));
        }
    }
    Ok(held)
}

/// What the container may hold, whatever the policy was and whether or not its links are still there.
fn possible(previous: &AddResult, holder: &str) -> Vec<Held> {
    let ports = previous.interfaces.iter().filter(|link| link.sandbox.is_empty());
    addresses(previous, holder).chain(ports.map(|link| port(&link.name, holder))).collect()
}
