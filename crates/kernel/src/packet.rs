//! Packet sockets: IPv4 packets of one link, for a client that has no address yet (DHCP).
//!
//! The kernel writes and reads the link-layer header; a socket sees UDP datagrams for one port alone, chosen by a filter
//! that is in place before the first packet can come.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::netlink::Mac;
use crate::{Act, Result};

const ETH_P_IP: u16 = 0x0800;

/// A socket for the UDP datagrams (IP header included) that a link receives for one port. It belongs to the network
/// namespace it was opened in. It never blocks.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    link: u32,
}

impl PacketSocket {
    /// Opens a socket on the link number `link` of the caller's network namespace, for UDP to `port`.
    pub fn open(link: u32, port: u16) -> Result<Self> {
        let say = || format!("a packet socket on link number {link}");
        // SAFETY: no pointer is passed. Protocol 0: nothing is received before bind(2) says what.
        let fd = unsafe {
            libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error()).act("open", say);
        }
        // SAFETY: a new descriptor that nobody else owns.
        let socket = Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, link };
        socket.filter(port).act("filter", say)?;
        let address = socket.address(Mac([0; 6]));
        // SAFETY: `address` is a whole sockaddr_ll that lives across the call, passed with its size.
        let bound = unsafe {
            libc::bind(socket.fd.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as u32)
        };
        if bound < 0 { Err(io::Error::last_os_error()).act("bind", say) } else { Ok(socket) }
    }

    /// Opens it inside another network namespace: a thread of its own goes there, opens it and ends.
    pub fn open_in(link: u32, port: u16, netns: impl AsFd + Sync) -> Result<Self> {
        crate::namespace::in_netns(netns, || Self::open(link, port))
    }

    /// Lets through what is UDP, no later fragment, and for `port`.
    fn filter(&self, port: u16) -> io::Result<()> {
        let op = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
        let mut program = [
            op(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 9),
            op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 6, libc::IPPROTO_UDP as u32),
            op(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, 6),
            op(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 4, 0, 0x1fff),
            op(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0, 0, 0),
            op(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, 0, 0, 2),
            op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, u32::from(port)),
            op(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
            op(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        ];
        let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // SAFETY: the program and the array it points at live across the call, the kernel copies both; the size is the
        // structure's.
        let attached = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                size_of_val(&program) as u32,
            )
        };
        if attached < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn address(&self, to: Mac) -> libc::sockaddr_ll {
        let mut bytes = [0; 8];
        bytes[..6].copy_from_slice(&to.0);
        libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: ETH_P_IP.to_be(),
            sll_ifindex: self.link.cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: bytes,
        }
    }

    /// Sends an IPv4 packet to the neighbour `to`.
    pub fn send(&self, packet: &[u8], to: Mac) -> Result<()> {
        let address = self.address(to);
        // SAFETY: the packet and a whole sockaddr_ll live across the call, each passed with its size.
        let sent = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                libc::MSG_NOSIGNAL,
                (&raw const address).cast(),
                size_of_val(&address) as u32,
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error())
                .act("send", || format!("a packet by link number {}", self.link));
        }
        Ok(())
    }

    /// The next packet that has come, and the neighbour it came from; none if there is none. What does not fit into
    /// `buffer` is cut.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> Result<Option<(&'b [u8], Mac)>> {
        let mut address = self.address(Mac([0; 6]));
        let mut size = size_of_val(&address) as u32;
        // SAFETY: the buffer and the sockaddr_ll are writable across the call, each passed with its size.
        let length = unsafe {
            libc::recvfrom(
                self.fd.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                0,
                (&raw mut address).cast(),
                &raw mut size,
            )
        };
        let Ok(length) = usize::try_from(length) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error).act("receive", || format!("packets of link number {}", self.link)),
            };
        };
        let [a, b, c, d, e, f, ..] = address.sll_addr;
        Ok(buffer.get(..length).map(|packet| (packet, Mac([a, b, c, d, e, f]))))
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{Batch, Kind, NewLink, Peer, Protocol, SetLink, Socket, link_by_name};

    /// An IPv4 packet with a UDP header for `port`.
    fn packet(port: u16, fragment: u8) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 28, 0, 0, 0, fragment, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        bytes.extend([0, 67]);
        bytes.extend(port.to_be_bytes());
        bytes.extend([0, 8, 0, 0]);
        bytes
    }

    #[test]
    fn packets_for_one_port_pass_a_cable() {
        crate::namespace::in_new_netns(|| {
            let mut netlink = Socket::open(Protocol::Route)?;
            let mut batch = Batch::new();
            let peer = Peer { name: "b", mac: Some(Mac([2, 0, 0, 0, 0, 2])), mtu: None, netns: None };
            let near = NewLink {
                mac: Some(Mac([2, 0, 0, 0, 0, 1])),
                up: true,
                ..NewLink::new("a", Kind::Veth { peer })
            };
            batch.add_link(&near);
            batch.set_link(&SetLink::named("b").up(true));
            netlink.run(&batch)?;
            let index = |netlink: &mut Socket, name| link_by_name(netlink, name).unwrap().unwrap().index;
            let a = PacketSocket::open(index(&mut netlink, "a"), 67)?;
            let b = PacketSocket::open(index(&mut netlink, "b"), 68)?;
            let mut buffer = [0; 1500];
            assert!(b.receive(&mut buffer)?.is_none());
            for bytes in [packet(69, 0), packet(68, 1), vec![0x45], packet(68, 0)] {
                a.send(&bytes, Mac([0xff; 6]))?;
            }
            let (bytes, from) = b.receive(&mut buffer)?.unwrap();
            assert_eq!((bytes, from), (&packet(68, 0)[..], Mac([2, 0, 0, 0, 0, 1])));
            assert!(b.receive(&mut buffer)?.is_none());
            assert!(PacketSocket::open(99, 68).is_err());
            Ok(())
        })
        .unwrap();
    }
}
