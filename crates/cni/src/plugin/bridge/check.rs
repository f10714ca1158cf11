use kernel::netlink::{self, Protocol, Socket};

use super::conf::Conf;
use super::{spoof, vlan};
use crate::contract::{Error, Request};
use crate::plugin::inside::Inside;
use crate::plugin::interface::{broken, mac_in, made, veth_name};
use crate::plugin::masquerade;

/// Everything is as ADD left it, on the host and inside.
pub(super) fn check(conf: &Conf, request: &Request<'_>) -> Result<(), Error> {
    conf.ipam.check(request)?;
    let previous = made(request)?;
    let mut socket = Socket::open(Protocol::Route)?;
    let bridge = netlink::link_by_name(&mut socket, &conf.bridge)?
        .filter(|bridge| bridge.kind == "bridge" && bridge.is_up())
        .ok_or_else(|| broken(format!("bridge {} is not there or down", conf.bridge)))?;
    let mac = mac_in(Some(previous), &conf.bridge, "");
    if let (Some(wanted), Some(mac)) = (mac, bridge.mac.filter(|there| Some(*there) != mac)) {
        return Err(broken(format!("bridge {} has the MAC {mac}, not {wanted}", conf.bridge)));
    }
    if conf.promisc && !bridge.is_promisc() {
        return Err(broken(format!("bridge {} is not promiscuous", conf.bridge)));
    }
    let gateway = netlink::link_by_name(&mut socket, &conf.gateway_name())?;
    for ip in previous.ips.iter().filter(|_| conf.is_gateway) {
        let there = netlink::addresses(&mut socket, gateway.as_ref().map(|link| link.index))?;
        if !there.iter().any(|address| ip.gateway == Some(address.net.address())) || gateway.is_none() {
            let wanted = ip.gateway.map(|gateway| gateway.to_string()).unwrap_or_default();
            return Err(broken(format!("{} has lost its address {wanted}", conf.gateway_name())));
        }
    }

    let veth = veth_name(&conf.table, request.attachment);
    let near = netlink::link_by_name(&mut socket, &veth)?
        .filter(|near| near.kind == "veth" && near.master == Some(bridge.index) && near.is_up())
        .ok_or_else(|| broken(format!("link {veth} is not there, down, or no port of {}", conf.bridge)))?;
    if (near.hairpin, near.isolated) != (conf.hairpin, conf.isolated) {
        return Err(broken(format!("port {veth} has another hairpin mode or isolation than it was given")));
    }
    vlan::check(conf, &near, &mut socket)?;

    let mut inside = Inside::open(request.attachment.netns()?)?;
    let link = inside.far_end(&near, request)?;
    inside.check(&link, request)?;
    if conf.ip_masq {
        masquerade::check_networks(&conf.table, &conf.gateway_name(), &previous.ips)?;
    }
    match link.mac.filter(|_| conf.spoof_check) {
        Some(mac) => spoof::check(&conf.table, &veth, mac, &request.holder()),
        None => Ok(()),
    }
}
