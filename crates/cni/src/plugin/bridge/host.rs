use std::net::IpAddr;
use std::path::Path;

use kernel::netlink::{
    self, Address, Batch, IpNet, Kind, Link, Mac, NewLink, Protocol, SetLink, Socket, sysctl,
};
use ledger::{Effect, Record};
use rustix::io::Errno;

use super::conf::Conf;
use crate::contract::{AddResult, Code, Error, hash};
use crate::plugin::interface::vanished;
use crate::plugin::masquerade;

/// Brings about what all containers of the bridge share: the bridge, its addresses, forwarding, masquerade.
pub(super) fn ensure(
    conf: &Conf,
    result: &AddResult,
    socket: &mut Socket,
    record: &mut dyn Record,
) -> Result<Link, Error> {
    record.share(&format!("cni-bridge-{}", hash(&["bridge", &conf.bridge])), &mut |record| {
        let mut socket = Socket::open(Protocol::Route)?;
        // A bridge that is there is somebody else's: it is used, but never deleted.
        if netlink::link_by_name(&mut socket, &conf.bridge)?.is_none() {
            record.record(Effect::Link { name: conf.bridge.clone() })?;
            make(conf, &mut socket)?;
        }
        Ok(())
    })?;
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
    if conf.is_gateway {
        for ip in &result.ips {
            let gateway = ip.gateway.and_then(|gateway| IpNet::new(gateway, ip.address.prefix()));
            gateway.map_or(Ok(()), |gateway| give_address(conf, &bridge, gateway, socket))?;
        }
        forward(result)?;
    }
    if conf.ip_masq {
        masquerade::join_networks(&conf.table, &conf.bridge, result, record)?;
    }
    Ok(bridge)
}

fn make(conf: &Conf, socket: &mut Socket) -> Result<(), Error> {
    // A bridge without an address of its own takes its ports' lowest: it would change with every container.
    let seed = hash(&["mac", &conf.table.name, &conf.bridge]);
    let mut mac = [0x02, 0, 0, 0, 0, 0];
    for (byte, pair) in mac.iter_mut().skip(1).zip(seed.as_bytes().chunks(2)) {
        *byte = pair.iter().fold(0, |byte: u8, c| byte.wrapping_mul(32).wrapping_add(c % 32));
    }
    let kind = Kind::Bridge { mcast_snooping: None, vlan_filtering: None };
    let mut batch = Batch::new();
    batch.add_link(&NewLink { mtu: conf.mtu, mac: Some(Mac(mac)), ..NewLink::new(&conf.bridge, kind) });
    match socket.run(&batch) {
        // Another ADD was quicker.
        Err(e) if e.errno() == Some(Errno::EXIST) => return Ok(()),
        outcome => outcome?,
    }
    if has_ipv6() {
        // While its link-local address is being probed, a bridge solicits no neighbour: the first container's first
        // second would be lost. Nobody else has this address.
        sysctl::write(&format!("net/ipv6/conf/{}/accept_dad", conf.bridge), "0")?;
    }
    let mut set = SetLink::named(&conf.bridge).up(true);
    if conf.promisc {
        set = set.promisc(true);
    }
    let mut batch = Batch::new();
    batch.set_link(&set);
    Ok(socket.run(&batch)?)
}

/// The kernel speaks IPv6 (it may be built or booted without).
pub(super) fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// Gives the bridge a gateway's address. One that is there costs one refused message.
fn give_address(conf: &Conf, bridge: &Link, gateway: IpNet, socket: &mut Socket) -> Result<(), Error> {
    let address = Address::new(bridge.index, gateway);
    let mut batch = Batch::new();
    batch.add_address(&address);
    match socket.run(&batch) {
        Err(e) if e.errno() == Some(Errno::EXIST) => return Ok(()),
        outcome => outcome?,
    }
    // It is new: does the bridge have another that says something else?
    let in_the_way = |other: &Address| {
        other.net != gateway
            && other.net.is_ipv4() == gateway.is_ipv4()
            && !is_link_local(other.net.address())
            && (gateway.is_ipv4()
                || other.net.contains(gateway.address())
                || gateway.contains(other.net.address()))
    };
    let others = netlink::addresses(socket, Some(bridge.index))?;
    let others: Vec<_> = others.into_iter().filter(in_the_way).collect();
    let Some(first) = others.first() else { return Ok(()) };
    let mut batch = Batch::new();
    if conf.force_address {
        others.iter().for_each(|other| batch.delete_address(other));
        return Ok(socket.run(&batch)?);
    }
    batch.delete_address(&address);
    socket.run(&batch)?;
    Err(Error::new(
        Code::InvalidConfig,
        format!("cannot give bridge {} the address {gateway}: it has {} already", conf.bridge, first.net),
    )
    .hint("another network uses this bridge; choose another \"bridge\", or set \"forceAddress\""))
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// Lets the host forward. It stays on afterwards: docs/adr/0004-ip-forward.md says why.
fn forward(result: &AddResult) -> Result<(), Error> {
    const V4: &str = "net/ipv4/ip_forward";
    const V6: &str = "net/ipv6/conf/all/forwarding";
    if result.ips.iter().any(|ip| ip.address.is_ipv4()) && sysctl::read(V4)? == "0" {
        sysctl::write(V4, "1")?;
    }
    if result.ips.iter().any(|ip| !ip.address.is_ipv4()) && sysctl::read(V6)? == "0" {
        keep_router_advertisements();
        sysctl::write(V6, "1")?;
    }
    Ok(())
}

/// A host that forwards IPv6 forgets the default route that it learnt, unless accept_ra is 2.
fn keep_router_advertisements() {
    for entry in std::fs::read_dir(Path::new("/proc/sys/net/ipv6/conf")).into_iter().flatten().flatten() {
        let key = format!("net/ipv6/conf/{}/accept_ra", entry.file_name().to_string_lossy());
        if sysctl::read(&key).is_ok_and(|value| value == "1") {
            // The host's own connectivity is worth a try, and no reason to refuse the container.
            let _ = sysctl::write(&key, "2");
        }
    }
}
