//! The groups in which solicitations for addresses come.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::os::fd::OwnedFd;

use kernel::Act as _;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::wire::neighbour;

/// As many groups are joined by one socket: memory that the kernel gives to the options of one (`net.core.optmem_max`) ends at a few
/// hundred.
const PER_SOCKET: usize = 128;

/// Joined as long as this lives. Its sockets are bound to nothing, so nothing comes by them.
#[derive(Debug)]
pub(super) struct Groups {
    link: u32,
    sockets: Vec<(OwnedFd, usize)>,
    joined: BTreeMap<Ipv6Addr, Joined>,
}

#[derive(Debug)]
struct Joined {
    /// By which socket.
    socket: usize,
    /// For which addresses: two may have the same.
    addresses: BTreeSet<Ipv6Addr>,
}

impl Groups {
    /// Those of a link; none yet.
    pub(super) fn new(link: u32) -> Self {
        Self { link, sockets: Vec::new(), joined: BTreeMap::new() }
    }

    /// Hears who asks for the address.
    pub(super) fn join(&mut self, address: Ipv6Addr) -> kernel::Result<()> {
        let group = neighbour::solicited(address);
        if let Some(joined) = self.joined.get_mut(&group) {
            joined.addresses.insert(address);
            return Ok(());
        }
        let at = match self.sockets.iter().position(|(_, count)| *count < PER_SOCKET) {
            Some(at) => at,
            None => {
                self.sockets.push((socket()?, 0));
                self.sockets.len() - 1
            }
        };
        if let Some((socket, count)) = self.sockets.get_mut(at) {
            let say = || format!("the group {group}, in which {address} is asked for");
            sockopt::set_ipv6_add_membership(&*socket, &group, self.link).act("join", say)?;
            *count += 1;
        }
        self.joined.insert(group, Joined { socket: at, addresses: [address].into() });
        Ok(())
    }

    /// Hears no more who asks for it.
    pub(super) fn leave(&mut self, address: Ipv6Addr) {
        let group = neighbour::solicited(address);
        let Some(joined) = self.joined.get_mut(&group) else { return };
        joined.addresses.remove(&address);
        if !joined.addresses.is_empty() {
            return;
        }
        let at = joined.socket;
        self.joined.remove(&group);
        if let Some((socket, count)) = self.sockets.get_mut(at) {
            // One that stays is heard, and nothing is said to it.
            let _ = sockopt::set_ipv6_drop_membership(&*socket, &group, self.link);
            *count -= 1;
        }
    }
}

fn socket() -> kernel::Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::INET6, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .act("open", || "a socket that joins groups")
}
