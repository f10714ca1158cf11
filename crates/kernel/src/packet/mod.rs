//! Packet sockets: what one link receives for who has no address there: a client of DHCP, or who answers for the addresses of others
//! (ARP, neighbour discovery).
//!
//! The kernel writes and reads the link-layer header; a socket sees what it was opened for alone, chosen by a filter that is in place
//! before the first packet can come.

pub mod datagram;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::netlink::Mac;
use crate::{Act, Result};

const ETH_P_IP: u16 = 0x0800;
const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;

/// Solicitations and advertisements of neighbours (RFC 4861, 4.3 and 4.4).
const SOLICITATION: u32 = 135;
const ADVERTISEMENT: u32 = 136;

/// A socket for some of the packets, without their link-layer header, that a link receives. It belongs to the network namespace it
/// was opened in. It never blocks, and does not see what this machine sends.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    link: u32,
    protocol: u16,
}

impl PacketSocket {
    /// Opens a socket on the link number `link` of the caller's network namespace, for UDP to `port` over IPv4, IP header included.
    pub fn open(link: u32, port: u16) -> Result<Self> {
        Self::open_for(link, ETH_P_IP, &mut udp_to(port))
    }

    /// Opens it inside another network namespace: a thread of its own goes there, opens it and ends.
    pub fn open_in(link: u32, port: u16, netns: impl AsFd + Sync) -> Result<Self> {
        crate::namespace::in_netns(netns, || Self::open(link, port))
    }

    /// Opens one for ARP (RFC 826), on the link number `link` of the caller's network namespace.
    pub fn arp(link: u32) -> Result<Self> {
        Self::all_of(link, ETH_P_ARP)
    }

    /// Opens one for all packets of an Ethernet type, on the link number `link` of the caller's network namespace.
    pub fn all_of(link: u32, protocol: u16) -> Result<Self> {
        Self::open_for(link, protocol, &mut [op(RETURN, 0, 0, u32::MAX)])
    }

    /// Opens one for solicitations and advertisements of neighbours over IPv6, IP header included. What is sent to a group comes
    /// only if somebody here has joined it.
    pub fn neighbours(link: u32) -> Result<Self> {
        Self::open_for(link, ETH_P_IPV6, &mut neighbour_discovery())
    }

    fn open_for(link: u32, protocol: u16, filter: &mut [libc::sock_filter]) -> Result<Self> {
        let say = || format!("a packet socket on link number {link}");
        // SAFETY: no pointer is passed. Protocol 0: nothing is received before bind(2) says what.
        let fd = unsafe {
            libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error()).act("open", say);
        }
        // SAFETY: a new descriptor that nobody else owns.
        let socket = Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, link, protocol };
        socket.filter(filter).act("filter", say)?;
        let address = socket.address(Mac([0; 6]));
        // SAFETY: `address` is a whole sockaddr_ll that lives across the call, passed with its size.
        let bound = unsafe {
            libc::bind(socket.fd.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as u32)
        };
        if bound < 0 { Err(io::Error::last_os_error()).act("bind", say) } else { Ok(socket) }
    }

    fn filter(&self, program: &mut [libc::sock_filter]) -> io::Result<()> {
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
            sll_protocol: self.protocol.to_be(),
            sll_ifindex: self.link.cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: bytes,
        }
    }

    /// Sends a packet, of the kind that the socket is for, to the neighbour `to`.
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

const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// An instruction of the classic BPF.
fn op(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// Lets through what is UDP, no later fragment, and for `port`.
fn udp_to(port: u16) -> [libc::sock_filter; 9] {
    [
        op(LOAD_BYTE, 0, 0, 9),
        op(IF_EQUAL, 0, 6, libc::IPPROTO_UDP as u32),
        op(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, 6),
        op(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 4, 0, 0x1fff),
        op(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0, 0, 0),
        op(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, 0, 0, 2),
        op(IF_EQUAL, 0, 1, u32::from(port)),
        op(RETURN, 0, 0, u32::MAX),
        op(RETURN, 0, 0, 0),
    ]
}

/// Lets through ICMPv6 of two types that comes right behind the IP header, as RFC 4861 has it (RFC 6980: it is not fragmented).
fn neighbour_discovery() -> [libc::sock_filter; 7] {
    [
        op(LOAD_BYTE, 0, 0, 6),
        op(IF_EQUAL, 0, 4, libc::IPPROTO_ICMPV6 as u32),
        op(LOAD_BYTE, 0, 0, 40),
        op(IF_EQUAL, 1, 0, SOLICITATION),
        op(IF_EQUAL, 0, 1, ADVERTISEMENT),
        op(RETURN, 0, 0, u32::MAX),
        op(RETURN, 0, 0, 0),
    ]
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
