use std::net::IpAddr;

use super::net::IpNet;
use super::socket::Socket;
use super::uapi::{
    AF_INET, AF_INET6, AF_UNSPEC, IFA_ADDRESS, IFA_BROADCAST, IFA_F_DADFAILED, IFA_F_NODAD,
    IFA_F_NOPREFIXROUTE, IFA_F_PERMANENT, IFA_F_TENTATIVE, IFA_FLAGS, IFA_LOCAL, NLM_F_ACK, NLM_F_CREATE,
    NLM_F_DUMP, NLM_F_EXCL, RT_SCOPE_HOST, RT_SCOPE_UNIVERSE, RTM_DELADDR, RTM_GETADDR, RTM_NEWADDR,
};
use super::wire::{Attributes, Batch, Received, read_u32};
use crate::Result;

/// An address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// Index of the link.
    pub link: u32,
    /// The address and its prefix.
    pub net: IpNet,
    /// Without the route to its network.
    pub no_prefix_route: bool,
    /// Stays until somebody takes it away, and is good everywhere: nobody else gave it for a time or for this link alone.
    pub permanent_global: bool,
    /// IPv4: good on this machine alone, so that the kernel does not take it for the source of what goes elsewhere, whatever link that
    /// leaves by. It is reached from elsewhere as any other is.
    pub host_scope: bool,
    /// IPv6: usable at once, without duplicate address detection.
    pub no_dad: bool,
    /// IPv6: duplicate address detection goes on; only ever read.
    pub tentative: bool,
    /// IPv6: somebody else on the link has it; only ever read.
    pub duplicate: bool,
}

impl Address {
    /// An address that is usable at once, with the route to its network.
    pub fn new(link: u32, net: IpNet) -> Self {
        Self {
            link,
            net,
            no_prefix_route: false,
            permanent_global: true,
            host_scope: false,
            no_dad: true,
            tentative: false,
            duplicate: false,
        }
    }

    fn header(&self) -> [u8; 8] {
        let family = if self.net.is_ipv4() { AF_INET } else { AF_INET6 };
        let mut bytes = [0; 8];
        bytes[0] = family;
        bytes[1] = self.net.prefix();
        bytes[3] = if self.host_scope { RT_SCOPE_HOST } else { RT_SCOPE_UNIVERSE };
        bytes[4..].copy_from_slice(&self.link.to_ne_bytes());
        bytes
    }

    fn read(message: Received<'_>) -> Option<Self> {
        if message.kind != RTM_NEWADDR {
            return None;
        }
        let attributes = Attributes::after(message.body, 8);
        let address = attributes.find(IFA_LOCAL).or_else(|| attributes.find(IFA_ADDRESS))?.address()?;
        let flags = attributes.find(IFA_FLAGS).and_then(|a| a.u32()).unwrap_or(0);
        let (net, scope) = (IpNet::new(address, *message.body.get(1)?)?, *message.body.get(3)?);
        Some(Self {
            link: read_u32(message.body, 4)?,
            net,
            permanent_global: flags & IFA_F_PERMANENT != 0 && scope == RT_SCOPE_UNIVERSE,
            host_scope: net.is_ipv4() && scope == RT_SCOPE_HOST,
            no_prefix_route: flags & IFA_F_NOPREFIXROUTE != 0,
            no_dad: flags & IFA_F_NODAD != 0,
            tentative: flags & IFA_F_TENTATIVE != 0,
            duplicate: flags & IFA_F_DADFAILED != 0,
        })
    }
}

impl Batch {
    /// Gives a link an address; one that it has already is an error (EEXIST).
    pub fn add_address(&mut self, address: &Address) {
        let object = format!("address {} on link number {}", address.net, address.link);
        let mut m = self.message(
            RTM_NEWADDR,
            NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
            &address.header(),
            "add",
            object,
        );
        let mut flags = IFA_F_PERMANENT;
        flags |= if address.no_prefix_route { IFA_F_NOPREFIXROUTE } else { 0 };
        match address.net.address() {
            IpAddr::V4(v4) => {
                m.bytes(IFA_LOCAL, &v4.octets()).bytes(IFA_ADDRESS, &v4.octets());
                if let (IpAddr::V4(last), true) = (address.net.last(), address.net.prefix() < 31) {
                    m.bytes(IFA_BROADCAST, &last.octets());
                }
            }
            IpAddr::V6(v6) => {
                m.bytes(IFA_LOCAL, &v6.octets()).bytes(IFA_ADDRESS, &v6.octets());
                flags |= if address.no_dad { IFA_F_NODAD } else { 0 };
            }
        }
        m.u32(IFA_FLAGS, flags);
    }

    /// Takes an address from a link.
    pub fn delete_address(&mut self, address: &Address) {
        let object = format!("address {} of link number {}", address.net, address.link);
        let mut m = self.message(RTM_DELADDR, NLM_F_ACK, &address.header(), "delete", object);
        match address.net.address() {
            IpAddr::V4(v4) => m.bytes(IFA_LOCAL, &v4.octets()),
            IpAddr::V6(v6) => m.bytes(IFA_LOCAL, &v6.octets()),
        };
    }
}

/// All addresses in the socket's namespace, or those of one link.
pub fn addresses(socket: &mut Socket, link: Option<u32>) -> Result<Vec<Address>> {
    let mut batch = Batch::new();
    batch.message(RTM_GETADDR, NLM_F_DUMP, &[AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0], "list", "addresses");
    socket.dump(&batch, |m| Address::read(m).filter(|a| link.is_none_or(|wanted| a.link == wanted)))
}
