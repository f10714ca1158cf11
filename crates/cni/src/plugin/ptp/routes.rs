use std::net::IpAddr;

use kernel::netlink::{self, Address, Batch, IpNet, Link, Route, Socket};
use rustix::io::Errno;

use crate::contract::{AddResult, Code, Error};
use crate::plugin::interface::broken;

/// `RT_SCOPE_HOST`, which the reference plugin gives to the host's route.
const HOST: u8 = 254;
/// `RT_SCOPE_LINK`.
const LINK: u8 = 253;

/// An address inside, and the host's address that leads out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    address: IpNet,
    gateway: IpAddr,
}

/// The ways of a result: each address needs a gateway of its own.
pub(super) fn ways(result: &AddResult) -> Result<Vec<Way>, Error> {
    let way = |ip: &crate::contract::Ip| {
        let without = || {
            let error = format!(
                "cannot attach: the IPAM plugin gave no gateway for {}, and ptp routes through it",
                ip.address
            );
            Error::new(Code::InvalidConfig, error)
        };
        let gateway = ip.gateway.ok_or_else(without)?;
        Ok(Way { address: ip.address, gateway })
    };
    result.ips.iter().map(way).collect()
}

/// Leads the container's network through the host: the gateway alone is on the link.
pub(super) fn inside(ways: &[Way], link: u32) -> Batch {
    let mut batch = Batch::new();
    for Way { address, gateway } in ways {
        let source = Some(address.address());
        let base = |to| Route { link: Some(link), source, ..Route::to(to) };
        // An address that is its own network has no route to it.
        let network = Some(address.network()).filter(|network| network.prefix() < width(*gateway));
        if let Some(network) = network {
            batch.delete_route(&Route { link: Some(link), ..Route::to(network) });
        }
        batch.add_route(&Route { scope: Some(LINK), ..base(IpNet::host(*gateway)) });
        if let Some(network) = network {
            batch.add_route(&Route { gateway: Some(*gateway), ..base(network) });
        }
    }
    batch
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The host's side: the gateway's address, and the route to the container.
pub(super) fn outside(ways: &[Way], link: u32) -> Batch {
    let mut batch = Batch::new();
    for Way { address, gateway } in ways {
        batch.add_address(&Address::new(link, IpNet::host(*gateway)));
        let scope = Some(HOST).filter(|_| address.is_ipv4());
        // Where another link has the address still, this one is meant from now on.
        batch.replace_route(&Route { link: Some(link), scope, ..Route::to(IpNet::host(address.address())) });
    }
    batch
}

/// CHECK: the host has the gateways' addresses and leads to the container.
pub(super) fn check(ways: &[Way], near: &Link, socket: &mut Socket) -> Result<(), Error> {
    let addresses = netlink::addresses(socket, Some(near.index))?;
    for Way { address, gateway } in ways {
        if !addresses.iter().any(|there| there.net.address() == *gateway) {
            return Err(broken(format!("link {} has lost its address {gateway}", near.name)));
        }
        let route = match netlink::route_to(socket, address.address()) {
            Err(e) if matches!(e.errno(), Some(Errno::NETUNREACH | Errno::HOSTUNREACH)) => None,
            route => route?,
        };
        if route.and_then(|route| route.link) != Some(near.index) {
            let address = address.address();
            return Err(broken(format!("the host's way to {address} is not through {}", near.name)));
        }
    }
    Ok(())
}
