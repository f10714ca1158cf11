//! What sockets can be asked for, beyond the standard library.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::{Act as _, Result, namespace};

/// Lets a socket of TCP or UDP that is not bound yet be bound to an address that the machine does not have (`IP_FREEBIND`, ip(7); it is for
/// IPv6, too). What comes for that address is received from when the machine has it.
///
/// # Errors
/// The kernel's: it is no such socket.
pub fn bind_ahead(socket: &impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is an int, which lives across the call, and its size is told.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_FREEBIND,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets a socket of TCP or UDP that is not bound yet be bound to an address of somebody else, and receive what comes for that
/// (`IP_TRANSPARENT`, ip(7), and its like for IPv6).
///
/// # Errors
/// The kernel's: the caller may not (CAP_NET_ADMIN).
pub fn be_transparent(socket: &impl AsFd) -> io::Result<()> {
    // linux/in6.h
    const IPV6_TRANSPARENT: libc::c_int = 75;
    let domain = rustix::net::sockopt::socket_domain(socket)?;
    if domain == AddressFamily::INET6 {
        turn_on(socket, libc::IPPROTO_IPV6, IPV6_TRANSPARENT)
    } else {
        turn_on(socket, libc::IPPROTO_IP, libc::IP_TRANSPARENT)
    }
}

fn turn_on(socket: &impl AsFd, level: libc::c_int, name: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is an int, which lives across the call, and its size is told.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has what a socket sends carry a mark, by which rules of its own network namespace know it (`SO_MARK`, socket(7)). No other namespace sees it.
///
/// # Errors
/// The kernel's: the caller may not (CAP_NET_ADMIN, CAP_NET_RAW since Linux 5.17).
pub fn set_mark(socket: &impl AsFd, mark: u32) -> io::Result<()> {
    // SAFETY: the option's value is an unsigned int, which lives across the call, and its size is told.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MARK,
            (&raw const mark).cast(),
            size_of_val(&mark) as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A socket of TCP in another network namespace: it does not block, what it sends carries `mark`, and it is not connected yet. The calling
/// thread goes there and comes back to `home`, which is where it is: two system calls.
///
/// # Errors
/// The kernel's: `netns` is no network namespace, or no descriptor is left.
pub fn tcp_in(netns: impl AsFd, home: impl AsFd, ipv4: bool, mark: u32) -> Result<OwnedFd> {
    let family = if ipv4 { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = namespace::visit(netns, home, || {
        socket_with(family, SocketType::STREAM, flags, None).act("open", || "a socket of TCP")
    })?;
    set_mark(&socket, mark).act("mark", || "a socket of TCP")?;
    Ok(socket)
}

/// [`tcp_in`], from an address of somebody else, at a port that the kernel chooses when it is connected: one that goes to another address or port may
/// have the same.
///
/// # Errors
/// As [`tcp_in`]; or no port of that address is left.
pub fn tcp_from(netns: impl AsFd, home: impl AsFd, from: IpAddr, mark: u32) -> Result<OwnedFd> {
    let say = || format!("a socket of TCP to {from}");
    let socket = tcp_in(netns, home, from.is_ipv4(), mark)?;
    be_transparent(&socket).act("let be bound", say)?;
    // It is for IPv6, too. A port that is chosen here would be no other connection's of this address, whoever it goes to.
    turn_on(&socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT).act("choose the port later of", say)?;
    rustix::net::bind(&socket, &SocketAddr::new(from, 0)).act("bind", say)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rustix::net::{SocketAddrV4, SocketAddrV6, bind, listen, socket};

    use super::*;
    use crate::namespace::in_new_netns;

    fn own_namespace() -> File {
        File::open("/proc/thread-self/ns/net").unwrap()
    }

    #[test]
    fn a_socket_elsewhere_is_elsewhere_and_marked() {
        in_new_netns(|| {
            let (home, there) = (own_namespace(), in_new_netns(|| Ok(own_namespace()))?);
            for ipv4 in [true, false] {
                let inside = tcp_in(&there, &home, ipv4, 0x5e87).unwrap();
                let (mut mark, mut length) = (0_u32, size_of::<u32>() as libc::socklen_t);
                // SAFETY: the kernel writes at most `length` bytes into `mark`.
                let asked = unsafe {
                    libc::getsockopt(
                        inside.as_raw_fd(),
                        libc::SOL_SOCKET,
                        libc::SO_MARK,
                        (&raw mut mark).cast(),
                        &raw mut length,
                    )
                };
                assert_eq!((asked, mark), (0, 0x5e87));
            }
            // Both have the same port of any address, which two sockets of one namespace cannot.
            let any = SocketAddrV4::new([0, 0, 0, 0].into(), 4711);
            let (inside, here) =
                (tcp_in(&there, &home, true, 1)?, socket(AddressFamily::INET, SocketType::STREAM, None));
            let here: OwnedFd = here.unwrap();
            for socket in [&inside, &here] {
                bind(socket, &any).unwrap();
                listen(socket, 1).unwrap();
            }
            assert!(bind(&tcp_in(&there, &home, true, 1)?, &any).is_err());
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn an_address_of_nobody_is_bound() {
        // Addresses for documentation: no machine has them.
        let v4 = SocketAddrV4::new([192, 0, 2, 1].into(), 0);
        let v6 = SocketAddrV6::new([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(), 0, 0, 0);
        let new = |family| -> OwnedFd { socket(family, SocketType::STREAM, None).unwrap() };
        let (four, six) = (new(AddressFamily::INET), new(AddressFamily::INET6));
        assert!(bind(&four, &v4).is_err() && bind(&six, &v6).is_err());
        bind_ahead(&four).unwrap();
        bind_ahead(&six).unwrap();
        bind(&four, &v4).unwrap();
        bind(&six, &v6).unwrap();
    }
}
