use std::borrow::Cow;

use kernel::netlink::conntrack::delete_flows_on;
use kernel::netlink::{self, Batch, IpNet, Link, Protocol as Netlink, Route, SetLink, Socket};
use kernel::nft::{Family, Verdict};
use ledger::Record;
use rustix::io::Errno;

use super::chains::{HAIRPIN4, HAIRPIN6};
use super::conditions::Conditions;
use super::conf::Conf;
use super::elements::{self, Publication};
use crate::contract::{Code, Error, Protocol, Request};
use crate::plugin::table::{Held, Table};

/// Refuses a port that a container of this instance has, and names the container.
fn refuse_if_taken(table: &Table, publication: &Publication<'_>, socket: &mut Socket) -> Result<(), Error> {
    let Some(there) = table.find(&publication.held, socket)? else { return Ok(()) };
    let holder = there.comment.unwrap_or_default();
    // network/container/interface: the container is what its owner knows it by.
    let by = holder.split_once('/').map_or("somebody unknown", |(_, by)| by);
    Err(Error::new(
        Code::Other(100),
        format!("cannot publish host port {}: container {by} has published it already", publication.words()),
    )
    .hint("choose another host port, or stop that container"))
}

/// Joins those that are published behind the link that leads to the container.
pub(super) fn admit(
    table: &Table,
    container: IpNet,
    request: &Request<'_>,
    netfilter: &mut Socket,
    record: &mut dyn Record,
) -> Result<(), Error> {
    let mut socket = request.route()?;
    let seen = request.previous.and_then(|previous| previous.seen.link_to(container.address()));
    let link = match seen {
        Some(link) => Cow::Borrowed(link),
        None => {
            let near = request.previous.and_then(|previous| previous.interfaces.first());
            Cow::Owned(link_to(container, near.map(|link| link.name.as_str()), &mut socket)?)
        }
    };
    table.join_network(hairpin_set(container), &link.name, container.network(), netfilter, record)?;
    if container.is_ipv4() && !link.route_localnet {
        // Packets from 127.0.0.1 may leave by this link. The table's guard keeps its other side out.
        let mut batch = Batch::new();
        batch.set_link(&SetLink::index(link.index).route_localnet(true));
        socket.run(&batch)?;
    }
    Ok(())
}

/// The element that [`admit`] has joined; nobody holds it alone.
pub(super) fn hairpin(table: &Table, container: IpNet) -> Result<Held, Error> {
    let link = link_to(container, None, &mut Socket::open(Netlink::Route)?)?;
    Ok(table.network(hairpin_set(container), &link.name, container.network()))
}

fn hairpin_set(container: IpNet) -> &'static str {
    if container.is_ipv4() { HAIRPIN4 } else { HAIRPIN6 }
}

/// The host's link that leads to a container. It is asked for together with the route if it is called `probably`.
fn link_to(container: IpNet, probably: Option<&str>, socket: &mut Socket) -> Result<Link, Error> {
    let address = container.address();
    let (mut route, mut link) = (None, None);
    let mut batch = Batch::new();
    batch.ask_route(address);
    probably.into_iter().for_each(|name| batch.ask_link(name));
    let asked = socket.each(&batch, |message| {
        route = Route::read(message).or(route.take());
        link = Link::read(message).or(link.take());
    });
    // A guess that is wrong is none.
    asked.or_else(|e| if route.is_some() { Ok(()) } else { Err(e) })?;
    let index = route.and_then(|route| route.link);
    let link = match (link, index) {
        (Some(link), Some(index)) if link.index == index => Some(link),
        (_, Some(index)) => netlink::link_by_index(socket, index)?,
        (_, None) => None,
    };
    link.filter(|link| link.name != "lo").ok_or_else(|| {
        Error::new(
            Code::Other(100),
            format!("cannot publish ports: the host has no route to the container at {address}"),
        )
    })
}

/// All elements of a container, and the conditions that some of them stand for.
pub(super) struct Elements<'a> {
    pub(super) ports: Vec<Held>,
    masquerades: Vec<Held>,
    conditional: Vec<(Held, &'a Conditions)>,
}

impl<'a> Elements<'a> {
    pub(super) fn of(
        conf: &'a Conf,
        publications: &[Publication<'_>],
        addresses: &[IpNet],
        holder: &str,
    ) -> Self {
        let masquerades = addresses.iter().filter(|_| conf.masq_all);
        Self {
            ports: publications.iter().map(|one| one.held.clone()).collect(),
            masquerades: masquerades.map(|one| elements::masq_all(one.address(), holder)).collect(),
            conditional: publications
                .iter()
                .filter_map(|one| conf.conditions(one.is_ipv4()).map(|c| (one.conditions(), c)))
                .collect(),
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Held> {
        self.ports.iter().cloned().chain(self.beside()).collect()
    }

    /// All but the ports themselves.
    fn beside(&self) -> Vec<Held> {
        self.conditional.iter().map(|(held, _)| held).chain(&self.masquerades).cloned().collect()
    }

    /// Makes the elements, with their conditions, at once; with `new`, a port that is there is an error.
    pub(super) fn make(&self, conf: &Conf, new: bool, socket: &mut Socket) -> kernel::Result<()> {
        let table = &conf.table;
        table.change(Family::Inet, socket, |change| {
            for conditions in conf.conditions.iter().flatten() {
                conditions.make(&table.name, change);
            }
            for (held, conditions) in &self.conditional {
                let Held { set, element, .. } = held;
                let chain = conditions.chain();
                let element = std::slice::from_ref(element);
                change.add_verdicts(Family::Inet, &table.name, set, element, Verdict::Jump(&chain));
            }
            for Held { set, element, .. } in &self.masquerades {
                change.add_elements(Family::Inet, &table.name, set, std::slice::from_ref(element), false);
            }
            for Held { set, element, .. } in &self.ports {
                change.add_elements(Family::Inet, &table.name, set, std::slice::from_ref(element), new);
            }
        })
    }
}

/// Makes the elements, with their conditions, at once.
pub(super) fn publish(
    conf: &Conf,
    publications: &[Publication<'_>],
    addresses: &[IpNet],
    holder: &str,
    socket: &mut Socket,
    record: &mut dyn Record,
) -> Result<(), Error> {
    let table = &conf.table;
    let elements = Elements::of(conf, publications, addresses, holder);
    table.record(&elements.ports, record)?;
    table.record(&elements.beside(), record)?;
    let of_others = table.of_others(&elements.beside(), socket)?;
    table.delete(&of_others, socket)?;
    match elements.make(conf, true, socket) {
        Err(e) if e.errno() == Some(Errno::EXIST) => {
            publications.iter().try_for_each(|publication| refuse_if_taken(table, publication, socket))?;
            return Err(e.into());
        }
        outcome => outcome?,
    }
    // A client that has sent to the port before has an entry that passes the map by.
    for publication in publications.iter().filter(|p| p.mapping.protocol == Protocol::Udp) {
        delete_flows_on(socket, &publication.flows())?;
    }
    Ok(())
}
