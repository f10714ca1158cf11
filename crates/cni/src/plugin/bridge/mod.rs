//! `bridge`: a virtual switch on the host, and a cable from it into the container.

mod conf;
mod host;

use std::net::IpAddr;
use std::os::fd::AsFd;

use kernel::netlink::{self, Batch, Kind, Link, NewLink, Peer, Protocol, SetLink, Socket};
use ledger::{Effect, Record};

use super::inside::{Duplicates, Inside, Manner};
use super::interface::{broken, describe, mac_of, sandbox, vanished};
use crate::contract::{AddResult, Attachment, Error, Plugin, Request, Route, hash};
use conf::Conf;

/// The plugin `bridge`.
#[derive(Debug)]
pub(super) struct Bridge;

impl Plugin for Bridge {
    fn add(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<AddResult, Error> {
        let conf = Conf::of(request)?;
        let netns = Inside::file(request.attachment.netns()?)?;
        let late = conf.ipam.needs_link();
        let mut result = if late { AddResult::default() } else { conf.ipam.add(request, record)? };
        complete(&conf, &mut result);

        let mut socket = Socket::open(Protocol::Route)?;
        let bridge = host::ensure(&conf, &result, &mut socket, record)?;
        let veth = host_name(&conf, request.attachment);
        record.record(Effect::Link { name: veth.clone() })?;
        cable(&conf, request, &result, &bridge, &veth, netns.as_fd(), &mut socket)?;

        let mut inside = Inside::open(request.attachment.netns()?)?;
        let link =
            inside.link(&request.attachment.ifname)?.ok_or_else(|| vanished(&request.attachment.ifname))?;
        if late {
            result = conf.ipam.add(request, record)?;
            complete(&conf, &mut result);
            host::ensure(&conf, &result, &mut socket, record)?;
        }
        // A MAC made from the address is what neighbours have in their caches anyway.
        let announce = conf.mac.is_some();
        let manner = Manner { announce, announce_ipv6: false, duplicates: Duplicates::Ignored };
        inside.configure(&link, &result, manner)?;
        let near = netlink::link_by_name(&mut socket, &veth)?.ok_or_else(|| vanished(&veth))?;
        result.interfaces =
            vec![describe(&bridge, ""), describe(&near, ""), describe(&link, &sandbox(request)?)];
        for ip in &mut result.ips {
            ip.interface = Some(2);
        }
        Ok(result)
    }

    fn del(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<(), Error> {
        let conf = Conf::of(request)?;
        let cable = || netlink::delete_link(&host_name(&conf, request.attachment)).map_err(Error::from);
        conf.ipam.del_with(request, record, cable)
    }

    fn check(&self, request: &Request<'_>) -> Result<(), Error> {
        let conf = Conf::of(request)?;
        conf.ipam.check(request)?;
        let mut socket = Socket::open(Protocol::Route)?;
        let bridge = netlink::link_by_name(&mut socket, &conf.bridge)?
            .filter(|bridge| bridge.kind == "bridge" && bridge.is_up())
            .ok_or_else(|| broken(format!("bridge {} is not there or down", conf.bridge)))?;
        let veth = host_name(&conf, request.attachment);
        netlink::link_by_name(&mut socket, &veth)?
            .filter(|veth| veth.master == Some(bridge.index) && veth.is_up())
            .ok_or_else(|| {
                broken(format!("link {veth} is not there, down, or no port of {}", conf.bridge))
            })?;
        let mut inside = Inside::open(request.attachment.netns()?)?;
        let ifname = &request.attachment.ifname;
        let link = inside.link(ifname)?.ok_or_else(|| broken(format!("link {ifname} is not there")))?;
        inside.check(&link, request)
    }

    fn status(&self, request: &Request<'_>) -> Result<(), Error> {
        Conf::of(request)?.ipam.status(request)
    }

    fn gc(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<(), Error> {
        Conf::of(request)?.ipam.gc(request, record)
    }
}

/// Fills in the gateways and default routes that the configuration asks for.
fn complete(conf: &Conf, result: &mut AddResult) {
    if !conf.is_gateway {
        return;
    }
    let mut defaults = Vec::new();
    for ip in &mut result.ips {
        let gateway = *ip.gateway.get_or_insert_with(|| first_host(ip.address.network().address()));
        let any: IpAddr = if ip.address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        defaults.extend(netlink::IpNet::new(any, 0).map(|dst| Route::to(dst, Some(gateway))));
    }
    if conf.is_default_gateway {
        for route in defaults {
            if !result.routes.iter().any(|r| r.dst == route.dst) {
                result.routes.push(route);
            }
        }
    }
}

fn first_host(network: IpAddr) -> IpAddr {
    match network {
        IpAddr::V4(v4) => std::net::Ipv4Addr::from_bits(v4.to_bits().saturating_add(1)).into(),
        IpAddr::V6(v6) => std::net::Ipv6Addr::from_bits(v6.to_bits().saturating_add(1)).into(),
    }
}

/// The host's end of the cable: named for its owner, so that undoing by name never hits another's link.
fn host_name(conf: &Conf, attachment: &Attachment) -> String {
    let hash = hash(&["veth", &conf.table.name, &attachment.container_id, &attachment.ifname]);
    format!("veth{}", hash.get(..11).unwrap_or_default())
}

/// Makes the cable, and plugs it in on the host's side.
fn cable(
    conf: &Conf,
    request: &Request<'_>,
    result: &AddResult,
    bridge: &Link,
    veth: &str,
    netns: std::os::fd::BorrowedFd<'_>,
    socket: &mut Socket,
) -> Result<(), Error> {
    let mac = conf.mac.or_else(|| result.ips.first().map(|ip| mac_of(ip.address.address())));
    let mtu = conf.mtu.or(Some(bridge.mtu));
    let peer = Peer { name: &request.attachment.ifname, mac, mtu, netns: Some(netns) };
    let mut batch = Batch::new();
    batch.add_link(&NewLink { mtu, master: Some(bridge.index), ..NewLink::new(veth, Kind::Veth { peer }) });
    let alias = request.alias();
    let mut port = SetLink::named(veth).up(true).alias(&alias);
    if host::has_ipv6() {
        // A port is nobody's address: without one the kernel has less to do when it comes up.
        port = port.no_link_local();
    }
    if conf.hairpin {
        port = port.hairpin(true);
    }
    if conf.isolated {
        port = port.isolated(true);
    }
    batch.set_link(&port);
    socket.run(&batch).map_err(|e| {
        let exists = e.errno() == Some(rustix::io::Errno::EXIST);
        let error = Error::from(e);
        if exists {
            error.hint(format!(
                "{veth} is there, or {} is there inside: DEL comes before a second ADD",
                request.attachment.ifname
            ))
        } else {
            error
        }
    })
}
