use std::net::IpAddr;

use kernel::netlink::{
    self, Address, Batch, Forwarding, IpNet, Kind, Link, Mac, NewLink, SetLink, Socket, sysctl,
};
use ledger::{Effect, Record};
use rustix::io::Errno;

use super::conf::Conf;
use super::known::Known;
use super::vlan;
use crate::contract::{AddResult, Code, Error, Ip, Request, hash};
use crate::plugin::forwarding::{forward, hear_no_routers, link_has_ipv6};
use crate::plugin::interface::vanished;
use crate::plugin::masquerade;
use crate::plugin::table::behind;

/// The part of what those behind a link share that is the link itself.
pub(super) const LINK: &str = "link";

/// What all containers of the bridge share.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) bridge: Link,
    /// The host's link in the containers' VLAN.
    pub(super) gateway: Option<Link>,
    /// The host's addresses on the one or the other.
    pub(super) addresses: Vec<IpNet>,
}

/// Brings about what all containers of the bridge share, but for what [`Host::route`] does: the bridge, masquerade.
pub(super) fn ensure(
    conf: &Conf,
    known: &Known,
    request: &Request<'_>,
    result: &AddResult,
    socket: &mut Socket,
    record: &mut dyn Record,
) -> Result<Host, Error> {
    let gateway = |ip: &Ip| ip.gateway.and_then(|gateway| IpNet::new(gateway, ip.address.prefix()));
    let addresses: Vec<_> = result.ips.iter().filter(|_| conf.is_gateway).filter_map(gateway).collect();
    let bridge = bridge(conf, known, &addresses, socket, record)?;
    let mut host = Host { bridge, gateway: None, addresses };
    if let Some(vlan) = conf.vlan.filter(|_| conf.is_gateway && !result.ips.is_empty()) {
        host.gateway = Some(vlan::gateway(conf, vlan, &host.bridge, socket, record)?);
    }
    if conf.ip_masq {
        let mut netfilter = request.netfilter()?;
        let link = conf.gateway_name();
        masquerade::join_networks(&conf.table, &link, result, &mut netfilter, record)?;
        if let Some(mac) = host.gateway.as_ref().and_then(|gateway| gateway.mac) {
            masquerade::join_vlan(&conf.table, &link, &conf.bridge, mac, &mut netfilter, record)?;
        }
    }
    Ok(host)
}

impl Host {
    /// Gives the host its addresses, and lets it forward.
    pub(super) fn route(&self, conf: &Conf, result: &AddResult, socket: &mut Socket) -> Result<(), Error> {
        if !conf.is_gateway || result.ips.is_empty() {
            return Ok(());
        }
        let link = self.gateway.as_ref().unwrap_or(&self.bridge);
        let mut told = Forwarding::default();
        for gateway in &self.addresses {
            give_address(conf, link, *gateway, &mut told, socket)?;
        }
        forward(result, told, socket)
    }
}

/// The bridge, made if it is not there. One that is there is used as it is. It is to have `addresses`.
fn bridge(
    conf: &Conf,
    known: &Known,
    addresses: &[IpNet],
    socket: &mut Socket,
    record: &mut dyn Record,
) -> Result<Link, Error> {
    record.share_part(&behind(&conf.bridge), LINK, &mut |record| {
        match netlink::link_by_name(socket, &conf.bridge)? {
            // A bridge that is there is somebody else's: it is used, but never deleted.
            Some(bridge) if bridge.kind == "bridge" && conf.vlan.is_none() && !addresses.is_empty() => {
                let there = netlink::addresses(socket, Some(bridge.index))?;
                if addresses.iter().any(|new| there.iter().all(|address| address.net != *new)) {
                    // Before there is a cable, which would change it, and before a second ADD looks at it.
                    choose_mac(&bridge, socket)?;
                }
            }
            Some(_) => {}
            None => {
                record.record(Effect::Link { name: conf.bridge.clone() })?;
                make(conf, socket)?;
            }
        }
        Ok(())
    })?;
    let still = known.still(&conf.bridge, socket);
    if let Some(bridge) = still.filter(|bridge| bridge.is_promisc() || !conf.promisc) {
        return Ok(bridge);
    }
    let bridge = match netlink::link_by_name(socket, &conf.bridge)? {
        Some(bridge) => bridge,
        // Somebody deleted it under our containers. Its record still stands.
        None => {
            make(conf, socket)?;
            netlink::link_by_name(socket, &conf.bridge)?.ok_or_else(|| vanished(&conf.bridge))?
        }
    };
    if bridge.kind != "bridge" {
        return Err(Error::new(
            Code::InvalidConfig,
            format!("cannot use link {} as a bridge: it is a {} link", conf.bridge, bridge.kind),
        ));
    }
    if !bridge.is_up() || conf.promisc && !bridge.is_promisc() {
        let set = SetLink::index(bridge.index).up(true);
        let mut batch = Batch::new();
        batch.set_link(&if conf.promisc { set.promisc(true) } else { set });
        socket.run(&batch)?;
    }
    known.keep(&bridge, socket);
    Ok(bridge)
}

/// A bridge whose MAC nobody chose takes that of its lowest port, whose neighbours then look for the gateway elsewhere: the one
/// that it has is chosen.
fn choose_mac(link: &Link, socket: &mut Socket) -> Result<(), Error> {
    let Some(mac) = link.mac else { return Ok(()) };
    let mut batch = Batch::new();
    batch.set_link(&SetLink::index(link.index).mac(mac));
    Ok(socket.run(&batch)?)
}

fn make(conf: &Conf, socket: &mut Socket) -> Result<(), Error> {
    // A bridge without an address of its own takes its ports' lowest: it would change with every container.
    let seed = hash(&["mac", &conf.table.name, &conf.bridge]);
    let mut mac = [0x02, 0, 0, 0, 0, 0];
    for (byte, pair) in mac.iter_mut().skip(1).zip(seed.as_bytes().chunks(2)) {
        *byte = pair.iter().fold(0, |byte: u8, c| byte.wrapping_mul(32).wrapping_add(c % 32));
    }
    let vlan_filtering = conf.has_vlans().then_some(true);
    let kind = Kind::Bridge { mcast_snooping: None, vlan_filtering };
    let mut batch = Batch::new();
    batch.add_link(&NewLink { mtu: conf.mtu, mac: Some(Mac(mac)), ..NewLink::new(&conf.bridge, kind) });
    match socket.run(&batch) {
        // Another ADD was quicker.
        Err(e) if e.errno() == Some(Errno::EXIST) => return Ok(()),
        outcome => outcome.map_err(|e| vlan::without_vlans(conf, e))?,
    }
    if link_has_ipv6(conf.mtu) {
        // While its link-local address is being probed, a bridge solicits no neighbour: the first container's first
        // second would be lost. Nobody else has this address.
        sysctl::write(&format!("net/ipv6/conf/{}/accept_dad", conf.bridge), "0")?;
        hear_no_routers(&conf.bridge)?;
    }
    let mut set = SetLink::named(&conf.bridge).up(true);
    if conf.promisc {
        set = set.promisc(true);
    }
    let mut batch = Batch::new();
    batch.set_link(&set);
    Ok(socket.run(&batch)?)
}

/// Gives the bridge, or its link in a VLAN, a gateway's address, and asks whether its family is forwarded. An address that is
/// there costs one refused message.
fn give_address(
    conf: &Conf,
    link: &Link,
    gateway: IpNet,
    told: &mut Forwarding,
    socket: &mut Socket,
) -> Result<(), Error> {
    let address = Address::new(link.index, gateway);
    let mut batch = Batch::new();
    batch.add_address(&address);
    batch.ask_forwarding(gateway.is_ipv4());
    match socket.each(&batch, |message| told.read(message)) {
        Err(e) if e.errno() == Some(Errno::EXIST) => return Ok(()),
        outcome => outcome?,
    }
    // It is new. Nobody may have chosen the MAC yet: until now the bridge may have had networks without a gateway alone.
    choose_mac(link, socket)?;
    // Does the link have another address that says something else?
    let in_the_way = |other: &Address| {
        other.net != gateway
            && other.net.is_ipv4() == gateway.is_ipv4()
            && !is_link_local(other.net.address())
            && (gateway.is_ipv4()
                || other.net.contains(gateway.address())
                || gateway.contains(other.net.address()))
    };
    let others = netlink::addresses(socket, Some(link.index))?;
    let others: Vec<_> = others.into_iter().filter(in_the_way).collect();
    let Some(first) = others.first() else { return Ok(()) };
    let mut batch = Batch::new();
    if conf.force_address {
        // With the first address of a subnet the kernel takes away those that came after it: ours, too.
        batch.delete_address(&address);
        others.iter().rev().for_each(|other| batch.delete_address(other));
        batch.add_address(&address);
        return Ok(socket.run(&batch)?);
    }
    batch.delete_address(&address);
    socket.run(&batch)?;
    Err(Error::new(
        Code::InvalidConfig,
        format!("cannot give {} the address {gateway}: it has {} already", link.name, first.net),
    )
    .hint("another network uses this bridge; choose another \"bridge\", or set \"forceAddress\""))
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}
