//! Does a process of the host listen on a port that is about to lead elsewhere?

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with, sockopt};

use crate::contract::{Code, Error, PortMapping, Protocol};

/// Refuses a mapping whose port a process of the host listens on, and names the process. Who listens on IPv6 alone is not in
/// the way of what is published on IPv4 alone.
pub(super) fn refuse_if_listening(mapping: &PortMapping, ipv6: bool) -> Result<(), Error> {
    let at = |ip, only| is_taken(SocketAddr::new(ip, mapping.host_port), mapping.protocol, only);
    let any = Ipv6Addr::UNSPECIFIED.into();
    let taken = match mapping.host_ip {
        Some(ip) => at(ip, true).unwrap_or(false),
        // One socket asks for both families, where the kernel speaks both.
        None if !ipv6 => at(Ipv4Addr::UNSPECIFIED.into(), true).unwrap_or(false),
        None => at(any, false).or_else(|| at(Ipv4Addr::UNSPECIFIED.into(), true)).unwrap_or(false),
    };
    // Bound is not yet listening: an outgoing connection may have the port too.
    let Some(inode) = taken.then(|| listening_inode(mapping)).flatten() else { return Ok(()) };
    let who = process_of(inode).unwrap_or_else(|| "a process that cannot be seen from here".into());
    let port = format!("{}/{}", mapping.host_port, mapping.protocol.as_str());
    Err(Error::new(Code::Other(100), format!("cannot publish host port {port}: {who} listens on it"))
        .hint("choose another host port, or stop that program"))
}

/// Binding is refused; none if the kernel does not speak the family or protocol. An address that is not the host's can be
/// published all the same. Unless `only`, one of IPv6 is asked for together with that of IPv4.
fn is_taken(address: SocketAddr, protocol: Protocol, only: bool) -> Option<bool> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, Some(number)).ok()?;
    if protocol == Protocol::Sctp {
        // Connections of a server that has ended do not count. (Of TCP it is asked who listens.)
        let _ = sockopt::set_socket_reuseaddr(&socket, true);
    }
    if address.is_ipv6() {
        // net.ipv6.bindv6only may say either.
        let _ = sockopt::set_ipv6_v6only(&socket, only);
    }
    Some(bind(&socket, &address) == Err(Errno::ADDRINUSE))
}

/// The inode of the socket that listens where the mapping wants to publish, from /proc/net.
fn listening_inode(mapping: &PortMapping) -> Option<u64> {
    let (files, state) = match mapping.protocol {
        Protocol::Tcp => (["tcp", "tcp6"], "0A"),
        Protocol::Udp => (["udp", "udp6"], "07"),
        // What bind said must do: /proc/net/sctp has another form.
        Protocol::Sctp => return Some(0),
    };
    files.into_iter().find_map(|file| {
        // Of this thread's namespace, not of the process's first thread's.
        let text = fs::read_to_string(format!("/proc/thread-self/net/{file}")).ok()?;
        text.lines().skip(1).find_map(|line| inode_in(line, state, mapping))
    })
}

/// The inode in a line of /proc/net/{tcp,udp}*, if it is in `state` and in the way of the mapping.
fn inode_in(line: &str, state: &str, mapping: &PortMapping) -> Option<u64> {
    let mut fields = line.split_whitespace().skip(1);
    let (address, port) = fields.next()?.rsplit_once(':')?;
    let in_state = fields.nth(1)? == state;
    let inode = fields.nth(5)?.parse().ok()?;
    let address = address_in(address)?;
    let overlaps =
        mapping.host_ip.is_none_or(|ip| ip.is_unspecified() || address.is_unspecified() || ip == address);
    (in_state && overlaps && u16::from_str_radix(port, 16).ok()? == mapping.host_port).then_some(inode)
}

/// An address as /proc/net writes it: words in the machine's order, in hexadecimal.
fn address_in(text: &str) -> Option<IpAddr> {
    let word = |i: usize| u32::from_str_radix(text.get(i * 8..i * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    match text.len() {
        8 => word(0).map(IpAddr::from),
        32 => {
            let mut bytes = [0; 16];
            for (i, part) in bytes.chunks_mut(4).enumerate() {
                part.copy_from_slice(&word(i)?);
            }
            Some(Ipv6Addr::from(bytes).to_canonical())
        }
        _ => None,
    }
}

/// "nginx (pid 4242)": the process that has the socket open.
fn process_of(inode: u64) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let fds = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let mut links = fds.filter_map(|fd| fs::read_link(fd.path()).ok());
        if links.any(|link| link.to_str() == Some(&wanted)) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", name.trim()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_net() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0";
        let mapping = |text| PortMapping::parse(text).unwrap().remove(0);
        assert_eq!(inode_in(line, "0A", &mapping("8080:80")), Some(4711));
        assert_eq!(inode_in(line, "0A", &mapping("127.0.0.1:8080:80")), Some(4711));
        assert_eq!(inode_in(line, "0A", &mapping("10.0.0.1:8080:80")), None);
        assert_eq!(inode_in(line, "0A", &mapping("8081:80")), None);
        assert_eq!(inode_in(line, "01", &mapping("8080:80")), None);
        for broken in
            ["", "0: x", "0: 0100007F:1F90", "0: :: 0 0A 0 0 0 0 0 0", "0: é00007F:1F90 0 0A 0 0 0 0 0 0"]
        {
            assert_eq!(inode_in(broken, "0A", &mapping("8080:80")), None);
        }
    }
}
