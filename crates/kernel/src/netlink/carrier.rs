//! Whether a link carries frames, in two calls of `ioctl` (netdevice(7), ethtool's `ETHTOOL_GLINK`): a twentieth of what the kernel
//! needs to describe a link whole.

use std::os::fd::AsRawFd;

use rustix::io::Errno;

use super::socket::Socket;
use super::uapi::IFF_RUNNING;
use crate::{Act, Error, Result};

const SIOCGIFFLAGS: libc::c_ulong = 0x8913;
const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_GLINK: u32 = 0xa;

/// `struct ifreq`: a name, and a union of flags, a pointer and more.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    of: Argument,
}

#[repr(C)]
union Argument {
    flags: libc::c_short,
    value: *mut Value,
    room: [u64; 3],
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

impl Socket {
    /// Whether frames pass through a link of the socket's network namespace: it is up, and has a carrier that all parts of the
    /// kernel know of. One that it has noticed, and not yet acted upon, it acts upon before it answers (Linux 6.8; an older
    /// one does so a moment later, and says no until then). What a bridge makes of its port, whose spanning tree may still
    /// learn, is not asked.
    ///
    /// # Errors
    /// There is no such link (`ENODEV`), or its driver does not know (`EOPNOTSUPP`).
    pub fn passes_frames(&self, link: &str) -> Result<bool> {
        let say = || format!("link {link}");
        let mut name = [0; libc::IFNAMSIZ];
        let room = name.len() - 1;
        let place = name.get_mut(..link.len()).filter(|_| (1..=room).contains(&link.len()));
        place.ok_or_else(|| Error::new("look at", say(), Errno::NODEV))?.copy_from_slice(link.as_bytes());

        let mut carrier = Value { command: ETHTOOL_GLINK, data: 0 };
        let mut request = Request { name, of: Argument { value: &raw mut carrier } };
        self.ask(SIOCETHTOOL, &mut request).act("look at", say)?;
        if carrier.data == 0 {
            return Ok(false);
        }
        let mut request = Request { name, of: Argument { room: [0; 3] } };
        self.ask(SIOCGIFFLAGS, &mut request).act("look at", say)?;
        // SAFETY: the request has been answered, which fills in the flags; and any bytes are a number.
        let flags = unsafe { request.of.flags };
        Ok(u32::from(flags.cast_unsigned()) & IFF_RUNNING != 0)
    }

    fn ask(&self, what: libc::c_ulong, request: &mut Request) -> std::io::Result<()> {
        // SAFETY: both requests read and write a `struct ifreq`, which `Request` has the size and layout of; what it points to, if
        // it does, is a `struct ethtool_value` of the caller's. Both outlive the call.
        let answer = unsafe { libc::ioctl(self.fd.as_raw_fd(), what, std::ptr::from_mut(request)) };
        if answer < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::in_new_netns;
    use crate::netlink::{Batch, Kind, NewLink, Peer, Protocol, SetLink};

    #[test]
    fn a_cable_passes_frames_once_both_ends_are_up() {
        in_new_netns(|| {
            let mut socket = Socket::open(Protocol::Route)?;
            let peer = Peer { name: "far", mac: None, mtu: None, netns: None };
            let mut batch = Batch::new();
            batch.add_link(&NewLink { up: true, ..NewLink::new("near", Kind::Veth { peer }) });
            socket.run(&batch)?;
            assert!(!socket.passes_frames("near")?);
            let mut batch = Batch::new();
            batch.set_link(&SetLink::named("far").up(true));
            socket.run(&batch)?;
            // At once: the kernel would have got to it some time later.
            assert!(socket.passes_frames("near")? && socket.passes_frames("far")?);
            let there = crate::netlink::link_by_name(&mut socket, "near")?.unwrap();
            assert!(there.is_connected(), "{there:?}");
            let mut batch = Batch::new();
            batch.set_link(&SetLink::named("near").up(false));
            socket.run(&batch)?;
            assert!(!socket.passes_frames("near")? && !socket.passes_frames("far")?);
            for none in ["none", "", "a-name-beyond-all"] {
                let error = socket.passes_frames(none).unwrap_err();
                assert_eq!(error.errno(), Some(Errno::NODEV), "{error}");
                assert!(error.to_string().starts_with(&format!("cannot look at link {none}: ")), "{error}");
            }
            Ok(())
        })
        .unwrap();
    }
}
