use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

use super::Family;
use super::uapi::{DELCHAIN, DELRULE, DELSETELEM, DELTABLE, NFNLGRP_NFTABLES, NFTA_TABLE_NAME};
use crate::netlink::{Attributes, Messages, Received};
use crate::{Act, Error, Result};

/// One transaction of many changes is told in datagrams of at most this many bytes.
const RECEIVE: usize = 64 * 1024;

/// Something went from a table, by whatever program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// The table itself, chains or rules of it, or elements if those are [listened for](Monitor::of_elements).
    Of {
        /// The table's family.
        family: Family,
        /// Its name.
        table: String,
    },
    /// There was more than the socket could hold: it may have been anything.
    Unknown,
}

/// Tells when something is deleted from the ruleset of a network namespace (`flush ruleset`, `delete table`, ...).
/// Elements of sets come and go all the time, and are told only to who [asks](Self::of_elements).
#[derive(Debug)]
pub struct Monitor {
    fd: OwnedFd,
    buffer: Vec<u8>,
    /// Tells of elements, but those that the socket of this port deletes.
    elements_but_of: Option<u32>,
}

impl Monitor {
    /// Listens in the caller's network namespace from now on.
    pub fn open() -> Result<Self> {
        let say = || "a socket that listens for changes of nftables";
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            flags,
            Some(netlink::NETFILTER),
        )
        .act("open", say)?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, 1 << (NFNLGRP_NFTABLES - 1))).act("bind", say)?;
        Ok(Self { fd, buffer: vec![0; RECEIVE], elements_but_of: None })
    }

    /// Tells of deleted elements, too, but not of those that the socket of this [port](crate::netlink::Socket::port) deletes. (Of
    /// those whose time is over the kernel tells nobody.)
    #[must_use]
    pub fn of_elements(self, but_of: u32) -> Self {
        Self { elements_but_of: Some(but_of), ..self }
    }

    /// What went since the last call, each table once. Does not wait: poll the descriptor for that.
    pub fn losses(&mut self) -> Result<Vec<Loss>> {
        let mut losses = Vec::new();
        let but_of = self.elements_but_of;
        let mut add = |loss: Loss| {
            if !losses.contains(&loss) {
                losses.push(loss);
            }
        };
        loop {
            match rustix::io::retry_on_intr(|| {
                rustix::net::recv(&self.fd, self.buffer.as_mut_slice(), RecvFlags::TRUNC)
            }) {
                Err(Errno::AGAIN) => return Ok(losses),
                Err(Errno::NOBUFS) => add(Loss::Unknown),
                Err(e) => return Err(Error::new("receive", "changes of nftables", e)),
                Ok((_, length)) => match self.buffer.get(..length) {
                    Some(datagram) => {
                        Messages::new(datagram).filter_map(|message| read(message, but_of)).for_each(&mut add)
                    }
                    None => add(Loss::Unknown),
                },
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The deletion that a message tells of.
fn read(message: Received<'_>, elements_but_of: Option<u32>) -> Option<Loss> {
    let is_told = match message.kind {
        DELTABLE | DELCHAIN | DELRULE => true,
        DELSETELEM => elements_but_of.is_some_and(|port| port != message.port),
        _ => false,
    };
    if !is_told {
        return None;
    }
    // The table's name has the same number in all of them.
    let table = Attributes::after(message.body, 4).find(NFTA_TABLE_NAME)?.text();
    Some(Loss::Of { family: Family::of_number(*message.body.first()?)?, table })
}
