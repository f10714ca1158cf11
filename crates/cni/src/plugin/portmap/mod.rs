//! `portmap`: the host's ports lead to a container's. An element of a map a port, so the cost does not grow.

mod chains;
mod conf;
mod elements;
mod elsewhere;
mod listener;

use std::net::IpAddr;

use kernel::netlink::conntrack::{Flows, delete_flows_on};
use kernel::netlink::{self, Batch, IpNet, Link, Protocol as Netlink, SetLink, Socket};
use kernel::nft::Family;
use ledger::Record;

use super::table::{Held, Part, Table};
use crate::contract::{AddResult, Code, Error, Plugin, Protocol, Request};
use chains::{HAIRPIN4, HAIRPIN6};
use conf::{Conf, container_addresses};
use elements::Publication;

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
                "cannot publish ports: portmap must come after a plugin that attaches",
            )
        })?;
        if conf.mappings.is_empty() {
            return Ok(previous.clone());
        }
        let addresses = container_addresses(previous);
        let publications = elements::publications(&conf.mappings, &addresses, &request.holder());
        if publications.is_empty() {
            return Err(Error::new(
                Code::InvalidConfig,
                "cannot publish ports: the container has no address of the family that they are published on",
            ));
        }
        conf.table.join(Family::Inet, record)?;
        let mut socket = Socket::open(Netlink::Netfilter)?;
        let _alone = elsewhere::lock()?;
        elsewhere::refuse_if_published(&conf.table, &publications, &mut socket)?;
        for publication in &publications {
            refuse_if_taken(&conf.table, publication, &mut socket)?;
            listener::refuse_if_listening(publication.mapping)?;
        }
        for address in &addresses {
            admit_link(&conf.table, *address, record)?;
        }
        publish(&conf.table, &publications, &mut socket, record)?;
        Ok(previous.clone())
    }

    fn del(&self, request: &Request<'_>, _record: &mut dyn Record) -> Result<(), Error> {
        let conf = Conf::of(request)?;
        let mut socket = Socket::open(Netlink::Netfilter)?;
        let holder = request.holder();
        let held = if conf.mappings.is_empty()
            && request.keys().get("runtimeConfig").is_none()
            && !is_known(request)
        {
            elements::held_by(&conf.table, |of| of == holder, &mut socket)?
        } else {
            elements::held_of(&conf.table, &conf.mappings, &holder, &mut socket)?
        };
        conf.table.delete(Family::Inet, &held, &mut socket)?;
        // All that was sent to the container, in one pass an address.
        let mut addresses: Vec<IpAddr> =
            held.iter().filter_map(|(_, element)| elements::target(element)).collect();
        addresses.sort();
        addresses.dedup();
        addresses.into_iter().try_for_each(|address| {
            Ok(delete_flows_on(&mut socket, &Flows::AnsweredFrom { address, port: None })?)
        })
    }

    fn check(&self, request: &Request<'_>) -> Result<(), Error> {
        let conf = Conf::of(request)?;
        let Some(previous) = request.previous.filter(|_| !conf.mappings.is_empty()) else { return Ok(()) };
        let mut socket = Socket::open(Netlink::Netfilter)?;
        for publication in
            elements::publications(&conf.mappings, &container_addresses(previous), &request.holder())
        {
            let there =
                conf.table.find(Family::Inet, publication.set, &publication.element.key, &mut socket)?;
            if there.as_ref() != Some(&publication.element) {
                return Err(Error::new(
                    Code::Other(100),
                    format!(
                        "published port {} is gone from nftables table {}",
                        publication.words(),
                        conf.table.name
                    ),
                ));
            }
        }
        Ok(())
    }

    fn restore(&self, request: &Request<'_>) -> Result<(), Error> {
        let conf = Conf::of(request)?;
        let Some(previous) = request.previous.filter(|_| !conf.mappings.is_empty()) else { return Ok(()) };
        let addresses = container_addresses(previous);
        let publications = elements::publications(&conf.mappings, &addresses, &request.holder());
        let mut held: Vec<Held> = publications.into_iter().map(|p| (p.set, p.element)).collect();
        let mut socket = Socket::open(Netlink::Route)?;
        for address in &addresses {
            let (set, link) = behind(*address, &mut socket)?;
            held.push((set, conf.table.network(set, &link.name, address.network())));
        }
        conf.table.restore(Family::Inet, &held, &mut Socket::open(Netlink::Netfilter)?)
    }
}

/// The result of ADD is known, and with it that no port was asked for.
fn is_known(request: &Request<'_>) -> bool {
    request.previous.is_some()
}

fn refuse_if_taken(table: &Table, publication: &Publication<'_>, socket: &mut Socket) -> Result<(), Error> {
    let Some(there) = table.find(Family::Inet, publication.set, &publication.element.key, socket)? else {
        return Ok(());
    };
    let holder = there.comment.unwrap_or_default();
    // network/container/interface: the container is what its owner knows it by.
    let by = holder.split_once('/').map_or("somebody unknown", |(_, by)| by);
    Err(Error::new(
        Code::Other(100),
        format!("cannot publish host port {}: container {by} has published it already", publication.words()),
    )
    .hint("choose another host port, or stop that container"))
}

/// The link that leads to the container, and the set of those with published ports behind it.
fn behind(container: IpNet, socket: &mut Socket) -> Result<(&'static str, Link), Error> {
    let address = container.address();
    let index = netlink::route_to(socket, address)?.and_then(|route| route.link);
    let link = index.map(|index| netlink::link_by_index(socket, index)).transpose()?.flatten();
    let link = link.filter(|link| link.name != "lo").ok_or_else(|| {
        Error::new(
            Code::Other(100),
            format!("cannot publish ports: the host has no route to the container at {address}"),
        )
    })?;
    Ok((if address.is_ipv4() { HAIRPIN4 } else { HAIRPIN6 }, link))
}

/// Joins those that are published behind the link that leads to the container.
fn admit_link(table: &Table, container: IpNet, record: &mut dyn Record) -> Result<(), Error> {
    let mut socket = Socket::open(Netlink::Route)?;
    let (set, link) = behind(container, &mut socket)?;
    table.join_network(set, &link.name, container.network(), record)?;
    if container.is_ipv4() {
        // Packets from 127.0.0.1 may leave by this link. The table's guard keeps its other side out.
        let mut batch = Batch::new();
        batch.set_link(&SetLink::index(link.index).route_localnet(true));
        socket.run(&batch)?;
    }
    Ok(())
}

fn publish(
    table: &Table,
    publications: &[Publication<'_>],
    socket: &mut Socket,
    record: &mut dyn Record,
) -> Result<(), Error> {
    let elements: Vec<_> = publications.iter().map(|p| (p.set, p.element.clone())).collect();
    table.add(Family::Inet, &elements, socket, record)?;
    // A client that has sent to the port before has an entry that passes the map by.
    for publication in publications.iter().filter(|p| p.mapping.protocol == Protocol::Udp) {
        delete_flows_on(socket, &publication.flows())?;
    }
    Ok(())
}
