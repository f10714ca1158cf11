//! A host that forwards between its containers and the outside.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use kernel::netlink::{self, Forwarding, Link, Socket, sysctl};

use crate::contract::{AddResult, Error};

/// The kernel speaks IPv6 (it may be built or booted without). What does so once does so until it ends.
fn has_ipv6() -> bool {
    static SEEN: AtomicBool = AtomicBool::new(false);
    if !SEEN.load(Ordering::Relaxed) {
        SEEN.store(Path::new("/proc/sys/net/ipv6").exists(), Ordering::Relaxed);
    }
    SEEN.load(Ordering::Relaxed)
}

/// The least MTU with which the kernel speaks IPv6 on a link (RFC 8200, section 5).
const LEAST_MTU: u32 = 1280;

/// A link of this MTU (none: the kernel's choice) speaks IPv6, so that the kernel takes what is said of it there.
pub(super) fn link_has_ipv6(mtu: Option<u32>) -> bool {
    mtu.is_none_or(|mtu| mtu >= LEAST_MTU) && has_ipv6()
}

/// Lets the host forward, of which something may be `known` already. It stays on afterwards: docs/adr/0004-ip-forward.md says why.
pub(super) fn forward(result: &AddResult, known: Forwarding, socket: &mut Socket) -> Result<(), Error> {
    if result.ips.iter().any(|ip| ip.address.is_ipv4()) && !known.of(true, socket)? {
        sysctl::write("net/ipv4/ip_forward", "1")?;
    }
    if result.ips.iter().any(|ip| !ip.address.is_ipv4()) && !known.of(false, socket)? {
        keep_router_advertisements(socket)?;
        sysctl::write("net/ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// A host that forwards IPv6 forgets the default route that it learnt, unless accept_ra is 2. Only where a router can be: what
/// leads to containers, of whatever runtime, is to stay deaf, and so is what is made later.
fn keep_router_advertisements(socket: &mut Socket) -> Result<(), Error> {
    let learnt = netlink::advertised_defaults(socket)?;
    let leads_out = |link: &Link| {
        let to_containers = link.name == "lo" || matches!(link.kind.as_str(), "bridge" | "veth");
        !to_containers || learnt.contains(&link.index)
    };
    for link in netlink::links(socket)?.into_iter().filter(leads_out) {
        let key = format!("net/ipv6/conf/{}/accept_ra", link.name);
        if sysctl::read(&key).is_ok_and(|value| value == "1") {
            // The host's own connectivity is worth a try, and no reason to refuse the container.
            let _ = sysctl::write(&key, "2");
        }
    }
    Ok(())
}

/// Has the host take no router's word on `link`, which leads to containers: one of them would become its router. Before it
/// comes up.
pub(super) fn hear_no_routers(link: &str) -> Result<(), Error> {
    Ok(sysctl::write(&format!("net/ipv6/conf/{link}/accept_ra"), "0")?)
}
