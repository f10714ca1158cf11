use super::socket::Socket;
use super::uapi::{
    AF_INET, AF_INET6, NETCONFA_FORWARDING, NETCONFA_IFINDEX, NETCONFA_IFINDEX_ALL, RTM_GETNETCONF,
    RTM_NEWNETCONF,
};
use super::wire::{Attributes, Batch};
use crate::Result;

/// Whether the socket's namespace forwards packets of a family between its links: what the sysctls `net/ipv4/ip_forward` and
/// `net/ipv6/conf/all/forwarding` say.
pub fn forwards(socket: &mut Socket, ipv4: bool) -> Result<bool> {
    let (family, name) = if ipv4 { (AF_INET, "IPv4") } else { (AF_INET6, "IPv6") };
    let mut batch = Batch::new();
    batch
        .question(RTM_GETNETCONF, &[family], "read", format!("whether {name} is forwarded"))
        .u32(NETCONFA_IFINDEX, NETCONFA_IFINDEX_ALL.cast_unsigned());
    let mut forwards = false;
    socket.each(&batch, |message| {
        if message.kind == RTM_NEWNETCONF {
            let forwarding = Attributes::after(message.body, 1).find(NETCONFA_FORWARDING);
            forwards = forwarding.and_then(|a| a.u32()).is_some_and(|on| on != 0);
        }
    })?;
    Ok(forwards)
}
