//! Bridges as they were seen last. To describe one whole takes the kernel as long as to tell four times that it is as it was.

use std::sync::{Mutex, PoisonError};

use kernel::netlink::sysctl::{self, Opened};
use kernel::netlink::{FirstAddresses, Forwarding, IpNet, Link, Socket};

/// So many are kept: more bridges than most hosts have.
const KEPT: usize = 8;

/// Bridges that are up and have a carrier.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Vec<Seen>>);

#[derive(Debug)]
struct Seen {
    netns: u64,
    link: Link,
    /// What [`Socket::is_still`] does not look at, and others than bridge look for.
    route_localnet: Opened,
    /// Of its namespace.
    ip_forward: Opened,
    addresses: FirstAddresses,
}

impl Seen {
    fn is(&self, netns: u64, name: &str) -> bool {
        self.netns == netns && self.link.name == name
    }
}

impl Known {
    /// The bridge called `name`, if it is as it was. Asking no more than that does not have the kernel notice a carrier, so one
    /// that had none is not kept.
    pub(super) fn still(&self, name: &str, socket: &Socket) -> Option<Link> {
        let netns = socket.netns_cookie()?;
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = known.iter().find(|seen| seen.is(netns, name))?;
        let same = socket.is_still(&seen.link).is_ok_and(|same| same);
        same.then(|| Link { route_localnet: seen.route_localnet.is(1), ..seen.link.clone() })
    }

    /// The link called `name` has this address, and the host forwards what is of its family, which is noted. Else nothing is.
    pub(super) fn has_gateway(
        &self,
        name: &str,
        gateway: IpNet,
        told: &mut Forwarding,
        socket: &Socket,
    ) -> bool {
        let Some(netns) = socket.netns_cookie().filter(|_| gateway.is_ipv4()) else { return false };
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = known.iter().find(|seen| seen.is(netns, name));
        let has = seen.is_some_and(|seen| seen.addresses.is(name, gateway) && seen.ip_forward.is(1));
        if has {
            told.note_ipv4();
        }
        has
    }

    /// Keeps what was seen just now, by a thread in the socket's namespace.
    pub(super) fn keep(&self, link: &Link, socket: &Socket) {
        let Some(netns) = socket.netns_cookie().filter(|_| link.is_connected()) else { return };
        let key = format!("net/ipv4/conf/{}/route_localnet", link.name);
        let (Ok(route_localnet), Ok(ip_forward)) = (sysctl::open(&key), sysctl::open("net/ipv4/ip_forward"))
        else {
            return;
        };
        let Ok(addresses) = FirstAddresses::open() else { return };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|seen| !seen.is(netns, &link.name));
        if known.len() >= KEPT {
            known.remove(0);
        }
        known.push(Seen { netns, link: link.clone(), route_localnet, ip_forward, addresses });
    }
}
