//! `portmap`: the host's ports lead to a container's. An element of a map a port, so the cost does not grow.

mod chains;
mod conditions;
mod conf;
mod elements;
mod elsewhere;
mod listener;
mod publish;

use std::net::IpAddr;

use kernel::netlink::conntrack::{Flows, delete_flows_on};
use kernel::netlink::{Protocol as Netlink, Socket};
use kernel::nft::{self, Family};
use ledger::Record;

use super::interface::{all, broken, readable};
use super::table::{Held, Part, Table};
use crate::contract::{AddResult, Code, Error, Plugin, Request};
use chains::HOSTPORTS4;
pub(super) use conditions::CONDITIONS;
use conf::{Conf, container_addresses};
use elements::Publication;
pub(super) use elements::sent;
use publish::{Elements, admit, hairpin, publish};

/// What it has in the table.
pub(super) fn part() -> Part {
    chains::part()
}

/// The plugin `portmap`.
#[derive(Debug)]
pub(super) struct Portmap;

impl Plugin for Portmap {
    fn add(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<AddResult, Error> {
        let conf = Conf::of(request)?;
        let previous = request.previous.ok_or_else(|| {
            Error::new(
                Code::InvalidConfig,
                "cannot publish ports: portmap must come after a plugin that attaches (prevResult is missing)",
            )
        })?;
        if conf.mappings.is_empty() {
            return Ok(previous.clone());
        }
        let addresses = container_addresses(previous);
        let holder = request.holder();
        let publications = elements::publications(&conf.mappings, &addresses, &holder);
        if publications.is_empty() {
            return Err(Error::new(
                Code::InvalidConfig,
                "cannot publish ports: the container has no address of the family that they are published on",
            ));
        }
        let mut socket = request.netfilter()?;
        conf.table.join(Family::Inet, &mut socket, record)?;
        let _alone = elsewhere::lock(request)?;
        elsewhere::refuse_if_published(&conf.table, &publications, &mut socket)?;
        let ipv6 = addresses.iter().any(|address| !address.is_ipv4());
        conf.mappings.iter().try_for_each(|mapping| listener::refuse_if_listening(mapping, ipv6))?;
        if conf.snat {
            for address in &addresses {
                admit(&conf.table, *address, request, &mut socket, record)?;
            }
        }
        publish(&conf, &publications, &addresses, &holder, &mut socket, record)?;
        Ok(previous.clone())
    }

    fn del(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<(), Error> {
        let keys = request.keys();
        let (table, read) = readable(Table::of(&keys));
        let mut socket = request.netfilter()?;
        let holder = request.holder();
        // What was made is known, and a record knows of what was made under another configuration.
        if let (Ok(conf), Some(previous), true) = (Conf::of(request), request.previous, record.counts_users())
        {
            let addresses = container_addresses(previous);
            let publications = elements::publications(&conf.mappings, &addresses, &holder);
            let made = Elements::of(&conf, &publications, &addresses, &holder).all();
            let held = table.of_those(made.iter().cloned(), &mut socket)?;
            unpublish(&table, &held, &mut socket)?;
            if held.len() < made.len() {
                delete_lost(&publications, &held, &holder, &mut socket)?;
                return table.undone(&made, record);
            }
            return table.undone(&held, record);
        }
        // ADD refused what cannot be read here, unless it was told something else: then only looking at all helps.
        let mappings = conf::mappings(&keys).ok();
        // The result of ADD is known, and with it that no port was asked for.
        let known = request.previous.is_some() || keys.get("runtimeConfig").is_some();
        let mut held = match mappings.as_ref().filter(|mappings| known || !mappings.is_empty()) {
            Some(mappings) => table.of_those(elements::possible(mappings, &holder), &mut socket)?,
            None => table.held(&elements::held_sets(), |element| element.is_held_by(&holder), &mut socket)?,
        };
        let masquerades = targets(&held).into_iter().map(|address| elements::masq_all(address, &holder));
        held.extend(table.of_those(masquerades.collect::<Vec<_>>(), &mut socket)?);
        let freed = match request.previous.map(container_addresses) {
            Some(addresses) => {
                let mappings = mappings.as_deref().unwrap_or_default();
                let publications = elements::publications(mappings, &addresses, &holder);
                unpublish(&table, &held, &mut socket)
                    .and_then(|()| delete_lost(&publications, &held, &holder, &mut socket))
            }
            None => unpublish_unknown(&table, &held, &mut socket),
        };
        all([freed.and_then(|()| table.undone(&held, record)), read])
    }

    fn check(&self, request: &Request<'_>) -> Result<(), Error> {
        let conf = Conf::of(request)?;
        let Some(previous) = request.previous.filter(|_| !conf.mappings.is_empty()) else { return Ok(()) };
        let mut socket = Socket::open(Netlink::Netfilter)?;
        let addresses = container_addresses(previous);
        let holder = request.holder();
        let table = &conf.table;
        for publication in elements::publications(&conf.mappings, &addresses, &holder) {
            let gone = || {
                let what = format!("published port {}", publication.words());
                broken(format!("{what} is gone from nftables table {}", table.name))
            };
            let there = table.find(&publication.held, &mut socket)?;
            there.filter(|there| *there == publication.held.element).ok_or_else(gone)?;
            if conf.conditions(publication.is_ipv4()).is_some() {
                table.find(&publication.conditions(), &mut socket)?.ok_or_else(gone)?;
            }
        }
        let masquerades = addresses.iter().map(|address| address.address()).filter(|_| conf.masq_all);
        let mut wanted: Vec<Held> = masquerades.map(|address| elements::masq_all(address, &holder)).collect();
        if conf.snat {
            for address in &addresses {
                wanted.push(hairpin(table, *address)?);
            }
        }
        for one in wanted {
            table.find(&one, &mut socket)?.ok_or_else(|| {
                let what = format!("an element of set {} is gone", one.set);
                broken(format!("{what} from nftables table {}: some would get no answer", table.name))
            })?;
        }
        Ok(())
    }

    fn status(&self, request: &Request<'_>) -> Result<(), Error> {
        Conf::of(request).map(|_| ())
    }

    fn gc(&self, request: &Request<'_>, _record: &mut dyn Record) -> Result<(), Error> {
        let table = Table::of(&request.keys())?;
        let holders = request.valid_holders()?;
        let mut socket = Socket::open(Netlink::Netfilter)?;
        let stale = table.stale(&elements::held_sets(), &holders, &mut socket)?;
        unpublish_unknown(&table, &stale, &mut socket)?;
        // A DEL may have been killed before it came to that.
        conditions::sweep(&table.name, &mut socket)
    }

    fn restore(&self, request: &Request<'_>) -> Result<(), Error> {
        let conf = Conf::of(request)?;
        let Some(previous) = request.previous.filter(|_| !conf.mappings.is_empty()) else { return Ok(()) };
        let addresses = container_addresses(previous);
        let holder = request.holder();
        let publications = elements::publications(&conf.mappings, &addresses, &holder);
        let behind = addresses.iter().filter(|_| conf.snat).map(|address| hairpin(&conf.table, *address));
        let mut socket = Socket::open(Netlink::Netfilter)?;
        // The ports among them tell that the table is wanted, if nothing else does.
        let elements = Elements::of(&conf, &publications, &addresses, &holder);
        let mut held = behind.collect::<Result<Vec<_>, _>>()?;
        held.extend(elements.ports.iter().cloned());
        conf.table.restore(&held, &mut socket)?;
        Ok(elements.make(&conf, false, &mut socket)?)
    }
}

/// The addresses that ports are sent to.
fn targets(held: &[Held]) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = held.iter().filter_map(|one| elements::target(&one.element)).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

/// Deletes elements, and then all flows that they have sent somewhere, in one pass an address.
fn unpublish(table: &Table, held: &[Held], socket: &mut Socket) -> Result<(), Error> {
    table.delete(held, socket)?;
    if held.iter().any(|one| elements::is_conditions(one.set)) {
        conditions::sweep(&table.name, socket)?;
    }
    delete_flows(held, socket)
}

/// [`unpublish`] where no result tells of the elements once they are gone. A kill in between leaves no more than the
/// flows that have begun since they were about to go: those of before go first.
fn unpublish_unknown(table: &Table, held: &[Held], socket: &mut Socket) -> Result<(), Error> {
    delete_flows(held, socket)?;
    unpublish(table, held, socket)
}

/// Deletes all flows to where elements lead, in one pass an address.
fn delete_flows(held: &[Held], socket: &mut Socket) -> Result<(), Error> {
    targets(held)
        .into_iter()
        .try_for_each(|address| Ok(delete_flows_on(socket, &Flows::AnsweredFrom { address, port: None })?))
}

/// Deletes what publications have sent to addresses that none of `held`, which were there just now, leads to: a DEL was
/// killed between elements and flows, or somebody has flushed the ruleset.
///
/// Whether the container still has the address is not known here: the DEL before may have come as far as to give it back.
/// So only these very flows go, and not where an element of another leads there.
fn delete_lost(
    publications: &[Publication<'_>],
    held: &[Held],
    holder: &str,
    socket: &mut Socket,
) -> Result<(), Error> {
    let done = targets(held);
    let sent = publications.iter().filter_map(|one| sent(&one.held));
    let lost = sent.filter(|sent| !done.contains(&sent.answered_from.ip()));
    let flows: Vec<Flows> = lost.map(|sent| sent.flows()).collect();
    Ok(nft::delete_sent(socket, Family::Inet, HOSTPORTS4, holder, &flows)?)
}
