//! Whether a link carries frames, or is as it was seen before, in a few calls of `ioctl` (netdevice(7), ethtool's
//! `ETHTOOL_GLINK`): a fraction of what the kernel needs to describe a link whole.

use std::os::fd::AsRawFd;

use rustix::io::Errno;

use super::link_state::Link;
use super::net::Mac;
use super::socket::Socket;
use super::uapi::IFF_RUNNING;
use super::wire::{read_u16, read_u32};
use crate::{Act, Error, Result};

const SIOCGIFFLAGS: libc::c_ulong = 0x8913;
const SIOCGIFMTU: libc::c_ulong = 0x8921;
const SIOCGIFHWADDR: libc::c_ulong = 0x8927;
const SIOCGIFINDEX: libc::c_ulong = 0x8933;
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
    value: *mut Value,
    bytes: [u8; 24],
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
        let name = name(link)?;
        let mut carrier = Value { command: ETHTOOL_GLINK, data: 0 };
        let mut request = Request { name, of: Argument { value: &raw mut carrier } };
        self.ask(SIOCETHTOOL, &mut request).act("look at", say)?;
        if carrier.data == 0 {
            return Ok(false);
        }
        let answer = self.question(SIOCGIFFLAGS, name).act("look at", say)?;
        Ok(read_u16(&answer, 0).is_some_and(|flags| u32::from(flags) & IFF_RUNNING != 0))
    }

    /// Whether the link called as `known` is, in the socket's network namespace, is that very link: it has the number, the MAC,
    /// the MTU and the flags (up, running, promiscuous and so on) that `known` has. What else is said there may have changed.
    ///
    /// # Errors
    /// The kernel does not say. That there is no such link is no error.
    pub fn is_still(&self, known: &Link) -> Result<bool> {
        let name = name(&known.name)?;
        let same = || -> std::io::Result<bool> {
            let index = read_u32(&self.question(SIOCGIFINDEX, name)?, 0);
            let flags = read_u16(&self.question(SIOCGIFFLAGS, name)?, 0);
            let mtu = read_u32(&self.question(SIOCGIFMTU, name)?, 0);
            // After its family.
            let mac =
                self.question(SIOCGIFHWADDR, name)?.get(2..8).and_then(|mac| mac.try_into().ok()).map(Mac);
            Ok(index == Some(known.index)
                && flags == Some(known.flags as u16)
                && mtu == Some(known.mtu)
                && mac == known.mac)
        };
        match same() {
            Err(e) if e.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => Ok(false),
            outcome => outcome.act("look at", || format!("link {}", known.name)),
        }
    }

    /// The answer to a request that has nothing but a name.
    fn question(&self, what: libc::c_ulong, name: [u8; libc::IFNAMSIZ]) -> std::io::Result<[u8; 24]> {
        let mut request = Request { name, of: Argument { bytes: [0; 24] } };
        self.ask(what, &mut request)?;
        // SAFETY: all of them were written above, whatever of them the kernel has filled in; and any bytes are bytes.
        Ok(unsafe { request.of.bytes })
    }

    fn ask(&self, what: libc::c_ulong, request: &mut Request) -> std::io::Result<()> {
        // SAFETY: all requests read and write a `struct ifreq`, which `Request` has the size and layout of; what it points to, if
        // it does, is a `struct ethtool_value` of the caller's. Both outlive the call.
        let answer = unsafe { libc::ioctl(self.fd.as_raw_fd(), what, std::ptr::from_mut(request)) };
        if answer < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// A link's name as requests have it.
fn name(link: &str) -> Result<[u8; libc::IFNAMSIZ]> {
    let mut name = [0; libc::IFNAMSIZ];
    let room = name.len() - 1;
    let place = name.get_mut(..link.len()).filter(|_| (1..=room).contains(&link.len()));
    let none = || Error::new("look at", format!("link {link}"), Errno::NODEV);
    place.ok_or_else(none)?.copy_from_slice(link.as_bytes());
    Ok(name)
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

    #[test]
    fn a_link_is_still_what_it_was_until_something_of_it_changes() {
        in_new_netns(|| {
            let mut socket = Socket::open(Protocol::Route)?;
            let make = |socket: &mut Socket| {
                let mut batch = Batch::new();
                let kind = Kind::Bridge { mcast_snooping: None, vlan_filtering: None };
                batch.add_link(&NewLink { up: true, ..NewLink::new("br", kind) });
                socket.run(&batch)?;
                Ok::<_, Error>(crate::netlink::link_by_name(socket, "br")?.unwrap())
            };
            let mut known = make(&mut socket)?;
            let changes = [
                SetLink::named("br").up(false),
                SetLink::named("br").mtu(1300),
                SetLink::named("br").mac(Mac([2, 1, 2, 3, 4, 5])),
                SetLink::named("br").promisc(true),
            ];
            for change in changes {
                assert!(socket.is_still(&known)?, "{known:?}");
                let mut batch = Batch::new();
                batch.set_link(&change);
                socket.run(&batch)?;
                assert!(!socket.is_still(&known)?, "{known:?}");
                known = crate::netlink::link_by_name(&mut socket, "br")?.unwrap();
            }
            crate::netlink::delete_link_on(&mut socket, "br")?;
            assert!(!socket.is_still(&known)?);
            let anew = Link { index: known.index, ..make(&mut socket)? };
            assert!(!socket.is_still(&anew)?);
            Ok(())
        })
        .unwrap();
    }
}
