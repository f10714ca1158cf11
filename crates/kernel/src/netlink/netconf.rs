use super::socket::Socket;
use super::uapi::{
    AF_INET, AF_INET6, NETCONFA_FORWARDING, NETCONFA_IFINDEX, NETCONFA_IFINDEX_ALL, RTM_GETNETCONF,
    RTM_NEWNETCONF,
};
use super::wire::{Attributes, Batch, Received};
use crate::Result;

/// Whether a namespace forwards packets between its links, as far as it was asked: what the sysctls `net/ipv4/ip_forward` and
/// `net/ipv6/conf/all/forwarding` say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forwarding {
    ipv4: Option<bool>,
    ipv6: Option<bool>,
}

impl Forwarding {
    /// Reads an `RTM_NEWNETCONF` message of all links; any other changes nothing.
    pub fn read(&mut self, message: Received<'_>) {
        let forwarding = Attributes::after(message.body, 1).find(NETCONFA_FORWARDING);
        let on = forwarding.and_then(|a| a.u32()).map(|on| on != 0);
        match message.body.first() {
            _ if message.kind != RTM_NEWNETCONF => {}
            Some(&AF_INET) => self.ipv4 = on,
            Some(&AF_INET6) => self.ipv6 = on,
            _ => {}
        }
    }

    /// What is known of a family; what is not is asked in the socket's namespace.
    pub fn of(self, ipv4: bool, socket: &mut Socket) -> Result<bool> {
        let known = if ipv4 { self.ipv4 } else { self.ipv6 };
        known.map_or_else(|| forwards(socket, ipv4), Ok)
    }
}

impl Batch {
    /// Asks whether a family is forwarded, which [`Forwarding::read`] reads from the answer.
    pub fn ask_forwarding(&mut self, ipv4: bool) {
        let (family, name) = if ipv4 { (AF_INET, "IPv4") } else { (AF_INET6, "IPv6") };
        self.question(RTM_GETNETCONF, &[family], "read", format!("whether {name} is forwarded"))
            .u32(NETCONFA_IFINDEX, NETCONFA_IFINDEX_ALL.cast_unsigned());
    }
}

/// Whether the socket's namespace forwards packets of a family between its links.
pub fn forwards(socket: &mut Socket, ipv4: bool) -> Result<bool> {
    let mut batch = Batch::new();
    batch.ask_forwarding(ipv4);
    let mut found = Forwarding::default();
    socket.each(&batch, |message| found.read(message))?;
    Ok(if ipv4 { found.ipv4 } else { found.ipv6 }.unwrap_or(false))
}
