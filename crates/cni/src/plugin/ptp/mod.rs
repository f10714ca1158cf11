//! `ptp`: a cable from the host into the container, and nothing between the two. The container reaches its own network
//! through the host as well, so that neighbours are routed and not switched.

mod conf;
mod routes;

use std::os::fd::{AsFd, BorrowedFd};

use kernel::netlink::{self, Batch, Forwarding, Kind, NewLink, Peer, Protocol, SetLink, Socket, sysctl};
use ledger::{Effect, Record};
use rustix::io::Errno;

use super::forwarding::{forward, hear_no_routers, link_has_ipv6};
use super::inside::{Inside, Manner};
use super::interface::{
    all, broken, collect_cables, describe, mac_of, made, readable, sandbox, unplug, vanished, veth_name,
};
use super::ipam::Ipam;
use super::table::Table;
use super::{masquerade, status};
use crate::contract::{AddResult, Error, Plugin, Request};
use conf::Conf;

/// The plugin `ptp`.
#[derive(Debug)]
pub(super) struct Ptp;

impl Plugin for Ptp {
    fn add(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<AddResult, Error> {
        let conf = Conf::of(request)?;
        let netns = Inside::file(request.attachment.netns()?)?;
        let mut result = conf.ipam.add(request, record)?;
        let ways = routes::ways(&result)?;
        let mut socket = request.route()?;
        forward(&result, Forwarding::default(), &mut socket)?;

        let ifname = &request.attachment.ifname;
        let veth = veth_name(&conf.table, request.attachment);
        record.record(Effect::Link { name: veth.clone() })?;
        cable(&conf, request, &result, &veth, netns.as_fd(), &mut socket)?;

        let mut inside = Inside::open(request.attachment.netns()?)?;
        let link = inside.link(ifname)?.ok_or_else(|| vanished(ifname))?;
        // The routes of IPAM go through the network that the address is in, before that is led through the host.
        inside.configure(&link, &result, Manner::QUIET)?;
        inside.run(&routes::inside(&ways, link.index))?;
        let near = netlink::link_by_name(&mut socket, &veth)?.ok_or_else(|| vanished(&veth))?;
        socket.run(&routes::outside(&ways, near.index))?;
        if conf.ip_masq {
            masquerade::join_hosts(&conf.table, &request.holder(), &result, record)?;
        }
        result.interfaces = vec![describe(&near, ""), describe(&link, &sandbox(request)?)];
        for ip in &mut result.ips {
            ip.interface = Some(1);
        }
        if let Some(dns) = conf.dns {
            result.dns = dns;
        }
        Ok(result)
    }

    fn del(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<(), Error> {
        let keys = request.keys();
        let (table, table_read) = readable(Table::of(&keys));
        let (ipam, ipam_read) = readable(Ipam::of(request));
        // The cable before the address: nobody else may get the address while this container still answers to it.
        let cable = unplug(&veth_name(&table, request.attachment), request, record);
        let masq = if keys.boolean("ipMasq").unwrap_or(true) {
            let ips = request.previous.map(|previous| previous.ips.as_slice());
            masquerade::leave_hosts(&table, &request.holder(), ips)
        } else {
            Ok(())
        };
        all([cable, masq, ipam.del(request, record), table_read, ipam_read])
    }

    fn check(&self, request: &Request<'_>) -> Result<(), Error> {
        let conf = Conf::of(request)?;
        conf.ipam.check(request)?;
        let previous = made(request)?;
        let veth = veth_name(&conf.table, request.attachment);
        let mut socket = Socket::open(Protocol::Route)?;
        let near = netlink::link_by_name(&mut socket, &veth)?
            .filter(|near| near.kind == "veth" && near.is_up())
            .ok_or_else(|| broken(format!("link {veth} is not there or down")))?;
        let mut inside = Inside::open(request.attachment.netns()?)?;
        let link = inside.far_end(&near, request)?;
        inside.check(&link, request)?;
        routes::check(&routes::ways(previous)?, &near, &mut socket)?;
        if conf.ip_masq {
            masquerade::check_hosts(&conf.table, &request.holder(), &previous.ips)?;
        }
        Ok(())
    }

    fn status(&self, request: &Request<'_>) -> Result<(), Error> {
        let conf = Conf::of(request)?;
        status::host_can(false)?;
        conf.ipam.status(request)?;
        // Each container has a link of its own: how their names begin is what a rule can name.
        status::forwards(&request.keys(), status::CABLES)
    }

    fn gc(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<(), Error> {
        let conf = Conf::of(request)?;
        let holders = request.valid_holders()?;
        let cables = collect_cables(&holders, |link| link.master.is_none());
        let masq = masquerade::collect_hosts(&conf.table, &holders);
        all([cables, masq, conf.ipam.gc(request, record)])
    }

    fn restore(&self, request: &Request<'_>) -> Result<(), Error> {
        let conf = Conf::of(request)?;
        match request.previous.filter(|_| conf.ip_masq) {
            Some(previous) => masquerade::restore_hosts(&conf.table, &request.holder(), &previous.ips),
            None => Ok(()),
        }
    }
}

/// Makes the cable. The host's end comes up at once, so that it can be asked for neighbours.
fn cable(
    conf: &Conf,
    request: &Request<'_>,
    result: &AddResult,
    veth: &str,
    netns: BorrowedFd<'_>,
    socket: &mut Socket,
) -> Result<(), Error> {
    let ifname = &request.attachment.ifname;
    let mac = result.ips.first().map(|ip| mac_of(ip.address.address()));
    let peer = Peer { name: ifname, mac, mtu: conf.mtu, netns: Some(netns) };
    let mut batch = Batch::new();
    batch.add_link(&NewLink { mtu: conf.mtu, ..NewLink::new(veth, Kind::Veth { peer }) });
    let alias = request.alias();
    let set = SetLink::named(veth).alias(&alias);
    let (speaks, ipv6) = (link_has_ipv6(conf.mtu), result.ips.iter().any(|ip| !ip.address.is_ipv4()));
    batch.set_link(&match (ipv6, speaks) {
        (true, _) => set,
        (false, true) => set.no_link_local(),
        (false, false) => set.up(true),
    });
    socket.run(&batch).map_err(|e| {
        let exists = e.errno() == Some(Errno::EXIST);
        let hint = format!("{veth} is there, or {ifname} is there inside: DEL comes before a second ADD");
        if exists { Error::from(e).hint(hint) } else { e.into() }
    })?;
    if !ipv6 && !speaks {
        return Ok(());
    }
    hear_no_routers(veth)?;
    if ipv6 {
        // While its link-local address is being probed, a link solicits no neighbour: the first second would be lost.
        sysctl::write(&format!("net/ipv6/conf/{veth}/accept_dad"), "0")?;
    }
    let mut batch = Batch::new();
    batch.set_link(&SetLink::named(veth).up(true));
    Ok(socket.run(&batch)?)
}
