//! Bridges as they were seen last. To describe one whole takes the kernel as long as to tell four times that it is as it was.

use std::sync::{Mutex, PoisonError};

use kernel::netlink::sysctl::{self, Opened};
use kernel::netlink::{Link, Socket};

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
}

impl Known {
    /// The bridge called `name`, if it is as it was. Asking no more than that does not have the kernel notice a carrier, so one
    /// that had none is not kept.
    pub(super) fn still(&self, name: &str, socket: &Socket) -> Option<Link> {
        let netns = socket.netns_cookie()?;
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = known.iter().find(|seen| seen.netns == netns && seen.link.name == name)?;
        let same = socket.is_still(&seen.link).is_ok_and(|same| same);
        same.then(|| Link { route_localnet: seen.route_localnet.is(1), ..seen.link.clone() })
    }

    /// Keeps what was seen just now, by a thread in the socket's namespace.
    pub(super) fn keep(&self, link: &Link, socket: &Socket) {
        let Some(netns) = socket.netns_cookie().filter(|_| link.is_connected()) else { return };
        let key = format!("net/ipv4/conf/{}/route_localnet", link.name);
        let Ok(route_localnet) = sysctl::open(&key) else { return };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|seen| seen.netns != netns || seen.link.name != link.name);
        if known.len() >= KEPT {
            known.remove(0);
        }
        known.push(Seen { netns, link: link.clone(), route_localnet });
    }
}
