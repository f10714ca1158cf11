//! `bandwidth`: token buckets on the host's end of a container's cable, one for each direction. What the container
//! sends comes in there, where nothing can wait: it is redirected to a link that only queues (an IFB).

mod conf;
mod ifb;

use kernel::netlink::{self, Batch, Link, Protocol, Socket};
use kernel::tc::{self, TokenBucket};
use ledger::Record;

use super::inside::Inside;
use super::interface::broken;
use crate::contract::{AddResult, Code, Error, Interface, Plugin, Request};
use conf::Conf;

/// The plugin `bandwidth`.
#[derive(Debug)]
pub(super) struct Bandwidth;

impl Plugin for Bandwidth {
    fn add(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<AddResult, Error> {
        let conf = Conf::of(request)?;
        let mut result = previous(request)?.clone();
        if conf.is_open() {
            return Ok(result);
        }
        let mut socket = Socket::open(Protocol::Route)?;
        let host = host_end(request, &result, &mut socket)?;
        let ifb = conf.egress.map(|_| ifb::make(request, host.mtu, &mut socket, record)).transpose()?;
        // No record: they go with the link, which is whoever's made it.
        let mut batch = Batch::new();
        if let Some(ingress) = conf.ingress {
            batch.add_token_bucket(host.index, ingress);
        }
        if let (Some(egress), Some(ifb)) = (conf.egress, &ifb) {
            batch.add_token_bucket(ifb.index, egress);
            batch.add_ingress(host.index);
            batch.redirect_ingress(host.index, ifb.index);
        }
        socket.run(&batch)?;
        result.interfaces.extend(ifb.map(|ifb| Interface {
            name: ifb.name,
            mac: ifb.mac.map(|mac| mac.to_string()).unwrap_or_default(),
            ..Interface::default()
        }));
        Ok(result)
    }

    fn del(&self, request: &Request<'_>, _record: &mut dyn Record) -> Result<(), Error> {
        // By name alone: neither the configuration nor the cable need be there any more.
        ifb::delete(request, &mut Socket::open(Protocol::Route)?)
    }

    fn check(&self, request: &Request<'_>) -> Result<(), Error> {
        let conf = Conf::of(request)?;
        let previous = previous(request)?;
        if conf.is_open() {
            return Ok(());
        }
        let mut socket = Socket::open(Protocol::Route)?;
        let host = host_end(request, previous, &mut socket)?;
        if let Some(ingress) = conf.ingress {
            check_bucket(&host, ingress, "ingress", &mut socket)?;
        }
        let Some(egress) = conf.egress else { return Ok(()) };
        let ifb = ifb::find(request, &mut socket)?.filter(Link::is_up);
        let ifb = ifb.ok_or_else(|| broken("the IFB that limits egress is not there or down"))?;
        check_bucket(&ifb, egress, "egress", &mut socket)?;
        if tc::redirections(&mut socket, host.index)?.contains(&ifb.index) {
            return Ok(());
        }
        Err(broken(format!("what comes in by {} is not redirected to {}", host.name, ifb.name)))
    }

    fn status(&self, request: &Request<'_>) -> Result<(), Error> {
        Conf::of(request).map(|_| ())
    }

    fn gc(&self, request: &Request<'_>, _record: &mut dyn Record) -> Result<(), Error> {
        let holders = request.valid_holders()?;
        let mut socket = Socket::open(Protocol::Route)?;
        let stale = |link: &Link| {
            link.kind == "ifb" && link.alias.as_ref().is_some_and(|alias| holders.is_stale_alias(alias))
        };
        let mut outcome = Ok(());
        for link in netlink::links(&mut socket)?.iter().filter(|link| stale(link)) {
            outcome = outcome.and(netlink::delete_link_on(&mut socket, &link.name));
        }
        Ok(outcome?)
    }
}

fn previous<'a>(request: &Request<'a>) -> Result<&'a AddResult, Error> {
    request.previous.ok_or_else(|| {
        let text = "cannot limit bandwidth: bandwidth must come after a plugin that attaches (prevResult is missing)";
        Error::new(Code::InvalidConfig, text)
    })
}

/// The host's end of the container's cable: the peer of its interface, if the plugins before made it.
fn host_end(request: &Request<'_>, previous: &AddResult, socket: &mut Socket) -> Result<Link, Error> {
    let ifname = &request.attachment.ifname;
    let cannot = |why: String| {
        Error::new(Code::InvalidConfig, format!("cannot limit bandwidth of {ifname}: {why}"))
            .hint("bandwidth limits the host's end of a veth, as bridge and ptp make it")
    };
    let inside = Inside::open(request.attachment.netns()?)?.link(ifname)?;
    let inside = inside.ok_or_else(|| cannot("it is not in the container".into()))?;
    let peer = inside.peer.filter(|_| inside.kind == "veth");
    let peer = peer.ok_or_else(|| cannot(format!("it is no veth but {:?}", inside.kind)))?;
    let host = netlink::link_by_index(socket, peer)?
        .filter(|host| host.kind == "veth" && host.peer == Some(inside.index))
        .ok_or_else(|| cannot(format!("its peer, link number {peer}, is not in the host's namespace")))?;
    if previous.interfaces.iter().any(|link| link.sandbox.is_empty() && link.name == host.name) {
        return Ok(host);
    }
    Err(cannot(format!("its peer {} is not among the \"interfaces\" of prevResult", host.name)))
}

fn check_bucket(link: &Link, wanted: TokenBucket, direction: &str, socket: &mut Socket) -> Result<(), Error> {
    let there = tc::qdiscs(socket, link.index)?.into_iter().find_map(|qdisc| qdisc.bucket);
    match there {
        Some(there) if wanted.fits(there) => Ok(()),
        Some(there) => Err(broken(format!(
            "{direction} is limited on {} by {there:?}, not {wanted:?} (bytes, bytes a second)",
            link.name
        ))),
        None => Err(broken(format!("{direction} is not limited: {} has no token bucket", link.name))),
    }
}
