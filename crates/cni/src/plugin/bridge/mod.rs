//! `bridge`: a virtual switch on the host, and a cable from it into the container.

mod check;
mod conf;
mod host;
mod known;
mod spoof;
mod vlan;

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use kernel::netlink::{self, Batch, IpNet, Kind, Link, Mac, NewLink, Peer, SetLink, Socket};
use ledger::{Effect, Record};

use super::forwarding::link_has_ipv6;
use super::inside::{Duplicates, Inside, Manner};
use super::interface::{
    all, collect_cables, describe, mac_in, mac_of, readable, sandbox, unplug, vanished, veth_name,
};
use super::ipam::Ipam;
use super::table::{Part, Table};
use super::{masquerade, status};
use crate::contract::{AddResult, Error, Plugin, Request, Route};
use conf::Conf;
use host::Host;
use known::Known;

/// How long a port may take until it forwards, in sleeps that grow (milliseconds).
const PORT_MS: [u64; 6] = [1, 5, 50, 500, 1000, 1000];

/// What the plugin has in the instance's tables.
pub(super) fn part() -> Part {
    spoof::part()
}

/// The plugin `bridge`.
#[derive(Debug, Default)]
pub(super) struct Bridge {
    known: Known,
}

impl Plugin for Bridge {
    fn add(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<AddResult, Error> {
        let conf = Conf::of(request)?;
        let netns = Inside::file(request.attachment.netns()?)?;
        let late = conf.ipam.needs_link();
        let mut result = if late { AddResult::default() } else { conf.ipam.add(request, record)? };
        complete(&conf, &mut result);

        let mut socket = request.route()?;
        let mut host = host::ensure(&conf, &self.known, request, &result, &mut socket, record)?;
        let veth = veth_name(&conf.table, request.attachment);
        record.record(Effect::Link { name: veth.clone() })?;
        let made = cable(&conf, request, &result, &host.bridge, &veth, netns.as_fd(), &mut socket)?;

        let mut inside = Inside::of(request, netns)?;
        let ifname = &request.attachment.ifname;
        let link = match made.far {
            Some(link) => link,
            None => inside.link(ifname)?.ok_or_else(|| vanished(ifname))?,
        };
        if late {
            result = conf.ipam.add(request, record)?;
            complete(&conf, &mut result);
            host = host::ensure(&conf, &self.known, request, &result, &mut socket, record)?;
        }
        if let Some(mac) = link.mac.filter(|_| conf.spoof_check) {
            spoof::guard(&conf.table, &veth, mac, &request.holder(), record)?;
        }
        if conf.ipam.is_asked() {
            // A MAC made from the address is what neighbours have in their caches anyway.
            let announce = conf.mac.is_some();
            let duplicates = if conf.dad { Duplicates::Awaited } else { Duplicates::Ignored };
            inside.configure(&link, &result, Manner { announce, announce_ipv6: false, duplicates })?;
        } else if !conf.disabled {
            inside.up(&link)?;
        }
        host.route(&conf, &result, &mut socket)?;
        let near = port(&conf, &veth, made.near, &mut socket)?;
        if !conf.disabled {
            open(&host, &mut socket)?;
        }
        report(&mut result, host, &near, &link, &sandbox(request)?);
        if let Some(dns) = conf.dns {
            result.dns = dns;
        }
        Ok(result)
    }

    fn del(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<(), Error> {
        let keys = request.keys();
        let (table, table_read) = readable(Table::of(&keys));
        let (ipam, ipam_read) = readable(Ipam::of(request));
        let veth = veth_name(&table, request.attachment);
        let cable = ipam.del_with(request, record, |record| unplug(&veth, request, record));
        let guard = if keys.boolean("macspoofchk").unwrap_or(true) {
            let sandbox = request.attachment.netns.as_ref().map(|path| path.display().to_string());
            let mac = mac_in(request.previous, &request.attachment.ifname, &sandbox.unwrap_or_default());
            spoof::release(&table, &veth, mac, &request.holder())
        } else {
            Ok(())
        };
        all([cable, guard, table_read, ipam_read])
    }

    fn check(&self, request: &Request<'_>) -> Result<(), Error> {
        check::check(&Conf::of(request)?, request)
    }

    fn status(&self, request: &Request<'_>) -> Result<(), Error> {
        let conf = Conf::of(request)?;
        status::host_can(conf.has_vlans())?;
        conf.ipam.status(request)?;
        if conf.is_gateway { status::forwards(&request.keys(), &conf.gateway_name()) } else { Ok(()) }
    }

    fn gc(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<(), Error> {
        let conf = Conf::of(request)?;
        let holders = request.valid_holders()?;
        let mut socket = request.route()?;
        let bridge = netlink::link_by_name(&mut socket, &conf.bridge)?.map(|bridge| bridge.index);
        // One that lost its bridge is no other's.
        let of_bridge = |link: &Link| link.master.is_none() || link.master == bridge;
        let cables = collect_cables(&holders, of_bridge);
        let guards = spoof::collect(&conf.table, &holders);
        all([cables, guards, conf.ipam.gc(request, record)])
    }

    fn restore(&self, request: &Request<'_>) -> Result<(), Error> {
        let conf = Conf::of(request)?;
        let Some(previous) = request.previous else { return Ok(()) };
        let masq = if conf.ip_masq {
            masquerade::restore_networks(&conf.table, &conf.gateway_name(), &previous.ips)
        } else {
            Ok(())
        };
        let gateway =
            mac_in(Some(previous), &conf.gateway_name(), "").filter(|_| conf.ip_masq && conf.vlan.is_some());
        let vlan = gateway.map_or(Ok(()), |mac| masquerade::restore_vlan(&conf.table, &conf.bridge, mac));
        let inside = previous
            .interfaces
            .iter()
            .find(|link| link.name == request.attachment.ifname && !link.sandbox.is_empty());
        let mac = inside.and_then(|link| link.mac.parse().ok()).filter(|_| conf.spoof_check);
        let veth = veth_name(&conf.table, request.attachment);
        let guard = mac.map_or(Ok(()), |mac| spoof::restore(&conf.table, &veth, mac, &request.holder()));
        all([masq, vlan, guard])
    }
}

/// Fills in the gateways and default routes that the configuration asks for.
fn complete(conf: &Conf, result: &mut AddResult) {
    if !conf.is_gateway {
        return;
    }
    for ip in &mut result.ips {
        let gateway = *ip.gateway.get_or_insert_with(|| first_host(ip.address.network().address()));
        let any: IpAddr = if ip.address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let Some(dst) = IpNet::new(any, 0).filter(|_| conf.is_default_gateway) else { continue };
        // Another's default route without a next hop is none through this network.
        if !result.routes.iter().any(|route| route.dst == dst && route.gw.is_some()) {
            result.routes.push(Route::to(dst, Some(gateway)));
        }
    }
}

fn first_host(network: IpAddr) -> IpAddr {
    match network {
        IpAddr::V4(v4) => std::net::Ipv4Addr::from_bits(v4.to_bits().saturating_add(1)).into(),
        IpAddr::V6(v6) => std::net::Ipv6Addr::from_bits(v6.to_bits().saturating_add(1)).into(),
    }
}

/// What the kernel said of a cable's two ends when it was made. Each has been there since, whatever may have become of its state.
struct Cable {
    near: Option<Link>,
    far: Option<Link>,
}

/// Makes the cable, and plugs it in on the host's side.
fn cable(
    conf: &Conf,
    request: &Request<'_>,
    result: &AddResult,
    bridge: &Link,
    veth: &str,
    netns: BorrowedFd<'_>,
    socket: &mut Socket,
) -> Result<Cable, Error> {
    let mac = conf.mac.or_else(|| result.ips.first().map(|ip| mac_of(ip.address.address())));
    let mtu = conf.mtu.or(Some(bridge.mtu));
    let peer = Peer { name: &request.attachment.ifname, mac, mtu, netns: Some(netns) };
    let mut batch = Batch::new();
    let kind = Kind::Veth { peer };
    // A port of a VLAN is plugged in by its number, which it has after this. Any other is up before it is a port: the kernel
    // tells of both at once. Nothing passes before the other end is up, too.
    let up = !conf.has_vlans();
    batch.add_link(&NewLink { mtu, master: Some(bridge.index), up, told: true, ..NewLink::new(veth, kind) });
    let alias = request.alias();
    let mut port = SetLink::named(veth).alias(&alias);
    if link_has_ipv6(mtu) {
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
    let mut near = None;
    let made = socket.each(&batch, |message| near = Link::read(message).or(near.take()));
    made.map_err(|e| {
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
    })?;
    let far = near.clone().and_then(|near| far_end(near, &request.attachment.ifname, mac));
    if !conf.has_vlans() {
        return Ok(Cable { near, far });
    }
    let port = netlink::link_by_name(socket, veth)?.ok_or_else(|| vanished(veth))?;
    vlan::join(conf, &port, socket)?;
    let mut batch = Batch::new();
    batch.set_link(&SetLink::index(port.index).up(true));
    socket.run(&batch)?;
    Ok(Cable { near, far })
}

/// The other end of a cable that has just been made with this MAC: what was not said of one end is the same for both.
fn far_end(near: Link, name: &str, mac: Option<Mac>) -> Option<Link> {
    let (index, mac) = (near.peer?, Some(mac?));
    let (peer, name) = (Some(near.index), name.to_owned());
    Some(Link { index, name, mac, peer, peer_netns: None, master: None, ..near })
}

/// The host's end of the cable, as it was when it was `made`, once frames pass; at once, where the container's end stays down.
fn port(conf: &Conf, veth: &str, made: Option<Link>, socket: &mut Socket) -> Result<Link, Error> {
    let near = match made {
        Some(near) => near,
        None => netlink::link_by_name(socket, veth)?.ok_or_else(|| vanished(veth))?,
    };
    let mut sleeps = PORT_MS.into_iter().map(Duration::from_millis);
    while !conf.disabled && !socket.passes_frames(veth)? {
        let Some(sleep) = sleeps.next() else {
            let error = format!("cannot attach: port {veth} of bridge {} does not come up", conf.bridge);
            return Err(Error::new(crate::contract::FAILED, error));
        };
        std::thread::sleep(sleep);
    }
    Ok(near)
}

/// Waits for the host's own way onto the bridge. One that had no port drops what the host sends until the kernel, in the
/// background, has taken notice of the first; a question about it has that done. A bridge that waits for its spanning tree
/// is left to it.
fn open(host: &Host, socket: &mut Socket) -> Result<(), Error> {
    let links = [Some(&host.bridge), host.gateway.as_ref()].into_iter().flatten();
    for link in links.filter(|link| !host.addresses.is_empty() && !link.is_connected()) {
        for sleep in PORT_MS.into_iter().map(Duration::from_millis) {
            if netlink::link_by_index(socket, link.index)?.is_none_or(|now| now.is_connected()) {
                break;
            }
            std::thread::sleep(sleep);
        }
    }
    Ok(())
}

/// Says what was made.
fn report(result: &mut AddResult, host: Host, near: &Link, inside: &Link, sandbox: &str) {
    let gateway = host.gateway.as_ref().map(|link| describe(link, ""));
    result.interfaces = vec![describe(&host.bridge, ""), describe(near, ""), describe(inside, sandbox)];
    result.interfaces.extend(gateway);
    result.seen.add(host.gateway.unwrap_or(host.bridge), host.addresses);
    for ip in &mut result.ips {
        ip.interface = Some(2);
    }
}
