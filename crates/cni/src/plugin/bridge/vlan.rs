//! VLANs of a bridge: of its ports, and the link through which the host is in one.

use kernel::netlink::{self, Batch, Kind, Link, NewLink, Peer, SetLink, Socket};
use ledger::{Effect, Record};
use rustix::io::Errno;

use super::conf::Conf;
use super::host::LINK;
use crate::contract::{Code, Error, hash};
use crate::plugin::forwarding::{hear_no_routers, link_has_ipv6};
use crate::plugin::interface::{broken, vanished};
use crate::plugin::table::behind;

/// The VLAN that Linux puts every new port into.
const DEFAULT: u16 = 1;

/// The error of a kernel whose bridges know no VLANs.
pub(super) fn without_vlans(conf: &Conf, error: kernel::Error) -> Error {
    if !conf.has_vlans() || error.errno() != Some(Errno::OPNOTSUPP) {
        return error.into();
    }
    let key = if conf.vlan.is_some() { "vlan" } else { "vlanTrunk" };
    Error::new(Code::UnsupportedField, format!("cannot use \"{key}\" on bridge {}: {error}", conf.bridge))
        .hint("this kernel has no VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING, CONFIG_VLAN_8021Q)")
}

/// Puts the container's port into its VLANs.
pub(super) fn join(conf: &Conf, port: &Link, socket: &mut Socket) -> Result<(), Error> {
    let mut batch = leave_default(conf, port, socket)?;
    match conf.vlan {
        Some(vlan) => batch.set_bridge_pvid(port.index, vlan),
        // Frames without a tag go somewhere too.
        None => batch.set_bridge_pvid(port.index, DEFAULT),
    }
    conf.trunk.iter().for_each(|vids| batch.add_bridge_vlans(port.index, vids.clone()));
    socket.run(&batch).map_err(|e| without_vlans(conf, e))
}

/// Leaves the VLANs that the bridge gave to the port, unless they are to stay.
fn leave_default(conf: &Conf, port: &Link, socket: &mut Socket) -> Result<Batch, Error> {
    let mut batch = Batch::new();
    if !conf.preserve_default_vlan {
        let there = netlink::bridge_vlans(socket)?.into_iter().filter(|vlan| vlan.link == port.index);
        there.for_each(|vlan| batch.delete_bridge_vlans(port.index, vlan.vid..=vlan.vid));
    }
    Ok(batch)
}

/// CHECK: the port is in its VLANs.
pub(super) fn check(conf: &Conf, port: &Link, socket: &mut Socket) -> Result<(), Error> {
    if !conf.has_vlans() {
        return Ok(());
    }
    let mut there = netlink::bridge_vlans(socket)?;
    there.retain(|vlan| vlan.link == port.index);
    let untagged = conf.vlan.unwrap_or(DEFAULT);
    let tagged = conf.trunk.iter().cloned().flatten().find(|vid| !there.iter().any(|vlan| vlan.vid == *vid));
    let lost =
        if there.iter().any(|vlan| vlan.vid == untagged && vlan.pvid) { tagged } else { Some(untagged) };
    lost.map_or(Ok(()), |vid| Err(broken(format!("port {} is not in VLAN {vid}", port.name))))
}

/// The host's own link in the VLAN, `BRIDGE.VLAN`, made with the first container: it has the gateways' addresses, for those of
/// the bridge are in no VLAN.
pub(super) fn gateway(
    conf: &Conf,
    vlan: u16,
    bridge: &Link,
    socket: &mut Socket,
    record: &mut dyn Record,
) -> Result<Link, Error> {
    let name = format!("{}.{vlan}", conf.bridge);
    if name.len() > 15 {
        let error = format!(
            "cannot use \"bridge\" {:?} with \"vlan\" {vlan}: the gateway's link would be called {name}, and a link's \
             name has 15 bytes at most",
            conf.bridge
        );
        return Err(Error::new(Code::InvalidConfig, error));
    }
    record.share_part(&behind(&name), LINK, &mut |record| {
        if netlink::link_by_name(socket, &name)?.is_none() {
            record.record(Effect::Link { name: name.clone() })?;
            make_gateway(conf, vlan, &name, bridge, socket)?;
        }
        Ok(())
    })?;
    if let Some(link) = netlink::link_by_name(socket, &name)? {
        return Ok(link);
    }
    // Somebody deleted it under our containers.
    make_gateway(conf, vlan, &name, bridge, socket)?;
    netlink::link_by_name(socket, &name)?.ok_or_else(|| vanished(&name))
}

fn make_gateway(conf: &Conf, vlan: u16, name: &str, bridge: &Link, socket: &mut Socket) -> Result<(), Error> {
    let hash = hash(&["vlan", &conf.table.name, name]);
    let end = format!("veth{}", hash.get(..11).unwrap_or_default());
    let mtu = Some(bridge.mtu);
    let peer = Peer { name: &end, mac: None, mtu, netns: None };
    let mut batch = Batch::new();
    batch.add_link(&NewLink { mtu, ..NewLink::new(name, Kind::Veth { peer }) });
    batch.set_link(&SetLink::named(&end).master(bridge.index));
    match socket.run(&batch) {
        // Another ADD was quicker.
        Err(e) if e.errno() == Some(Errno::EXIST) => return Ok(()),
        outcome => outcome?,
    }
    let port = netlink::link_by_name(socket, &end)?.ok_or_else(|| vanished(&end))?;
    let mut batch = leave_default(conf, &port, socket)?;
    batch.set_bridge_pvid(port.index, vlan);
    let mut set = SetLink::index(port.index).up(true);
    if link_has_ipv6(mtu) {
        set = set.no_link_local();
        hear_no_routers(name)?;
    }
    batch.set_link(&set);
    batch.set_link(&SetLink::named(name).up(true));
    socket.run(&batch).map_err(|e| without_vlans(conf, e))
}
