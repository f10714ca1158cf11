//! What sockets can be asked for, beyond the standard library.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

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

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use rustix::net::{AddressFamily, SocketAddrV4, SocketAddrV6, SocketType, bind, socket};

    use super::*;

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
