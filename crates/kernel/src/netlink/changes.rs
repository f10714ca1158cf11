use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

use crate::{Act, Error, Result};

/// `RTNLGRP_LINK`, `RTNLGRP_IPV4_IFADDR`, `RTNLGRP_IPV4_ROUTE`, `RTNLGRP_IPV6_IFADDR` and `RTNLGRP_IPV6_ROUTE`.
const GROUPS: [u32; 5] = [1, 5, 7, 9, 11];

/// Tells when a link, an address or a route of a network namespace changes, but not which: who wants to know looks.
#[derive(Debug)]
pub struct Changes {
    fd: OwnedFd,
}

impl Changes {
    /// Listens in the caller's network namespace from now on.
    pub fn listen() -> Result<Self> {
        Ok(Self { fd: socket()? })
    }

    /// Whether something has changed since the last call. Does not wait: poll the descriptor for that.
    pub fn any(&mut self) -> Result<bool> {
        let mut any = false;
        // What a datagram says is cut off: that it came is all that counts.
        let mut byte = [0; 1];
        loop {
            match rustix::io::retry_on_intr(|| rustix::net::recv(&self.fd, &mut byte, RecvFlags::TRUNC)) {
                Err(Errno::AGAIN) => return Ok(any),
                // There was more than it could hold.
                Ok(_) | Err(Errno::NOBUFS) => any = true,
                Err(e) => return Err(Error::new("receive", "changes of links", e)),
            }
        }
    }
}

/// A socket of the caller's network namespace that is told of such changes and does not wait for them.
pub(super) fn socket() -> Result<OwnedFd> {
    let say = || "a socket that listens for changes of links";
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd =
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None).act("open", say)?;
    let groups = GROUPS.iter().fold(0, |groups, group| groups | 1 << (group - 1));
    rustix::net::bind(&fd, &SocketAddrNetlink::new(0, groups)).act("bind", say)?;
    Ok(fd)
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{Batch, Kind, NewLink, Protocol, Route, SetLink, Socket};

    #[test]
    fn changes_of_links_and_routes_are_told_and_those_of_others_are_not() {
        crate::namespace::in_new_netns(|| {
            let mut socket = Socket::open(Protocol::Route)?;
            let mut changes = Changes::listen()?;
            assert!(!changes.any()?);
            crate::namespace::in_new_netns(|| {
                let mut batch = Batch::new();
                batch.set_link(&SetLink::named("lo").up(true));
                Socket::open(Protocol::Route)?.run(&batch)
            })?;
            assert!(!changes.any()?);
            let mut batch = Batch::new();
            let kind = Kind::Bridge { mcast_snooping: None, vlan_filtering: None };
            batch.add_link(&NewLink { up: true, ..NewLink::new("br0", kind) });
            socket.run(&batch)?;
            assert!(changes.any()? && !changes.any()?);
            let link = crate::netlink::link_by_name(&mut socket, "br0")?.map(|link| link.index);
            let mut batch = Batch::new();
            batch.add_route(&Route { link, ..Route::to("192.0.2.0/24".parse().unwrap()) });
            socket.run(&batch)?;
            assert!(changes.any()? && !changes.any()?);
            Ok(())
        })
        .unwrap();
    }
}
