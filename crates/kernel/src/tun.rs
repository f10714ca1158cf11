//! Taps: links whose far end is a program (a virtual machine) that opens `/dev/net/tun`.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use crate::{Act, Error, Result};

const DEVICE: &str = "/dev/net/tun";

const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNSETPERSIST: libc::c_ulong = 0x4004_54cb;
const TUNSETOWNER: libc::c_ulong = 0x4004_54cc;
const TUNSETGROUP: libc::c_ulong = 0x4004_54ce;

const IFF_TAP: libc::c_short = 0x0002;
const IFF_MULTI_QUEUE: libc::c_short = 0x0100;
const IFF_NO_PI: libc::c_short = 0x1000;
const IFF_VNET_HDR: libc::c_short = 0x4000;
/// A tap of that name is an error (EBUSY), not joined. The bit is the sign's.
const IFF_TUN_EXCL: libc::c_short = libc::c_short::MIN;

/// A tap to be made.
#[derive(Debug, Clone, Copy)]
pub struct Tap<'a> {
    /// Its name, at most 15 bytes.
    pub name: &'a str,
    /// Several programs' threads may each open a queue of it.
    pub multi_queue: bool,
    /// Frames begin with a `virtio_net_hdr`.
    pub vnet_header: bool,
    /// Who may open it without `CAP_NET_ADMIN`: a user's number.
    pub owner: Option<u32>,
    /// The same: a group's number.
    pub group: Option<u32>,
    /// The SELinux context that it is made under, which is who may open it.
    pub selinux_context: Option<&'a str>,
}

/// `struct ifreq` with flags.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    rest: [u8; 22],
}

/// Makes a tap in the network namespace `netns`. It is down, and stays when nobody has it open.
///
/// Where SELinux is not active a context is an error.
pub fn make(netns: impl AsFd + Sync, tap: &Tap<'_>) -> Result<()> {
    // The namespace is that of the thread that opens the device; so is the context.
    crate::namespace::in_netns(netns, || {
        if let Some(context) = tap.selinux_context {
            become_context(context)?;
        }
        make_here(tap)
    })
}

fn make_here(tap: &Tap<'_>) -> Result<()> {
    let say = || format!("tap link {}", tap.name);
    let mut request =
        Request { name: [0; libc::IFNAMSIZ], flags: IFF_TAP | IFF_NO_PI | IFF_TUN_EXCL, rest: [0; 22] };
    let room = request.name.len() - 1;
    let name = request.name.get_mut(..tap.name.len()).filter(|_| (1..=room).contains(&tap.name.len()));
    name.ok_or_else(|| Error::new("create", say(), rustix::io::Errno::INVAL))?
        .copy_from_slice(tap.name.as_bytes());
    if tap.multi_queue {
        request.flags |= IFF_MULTI_QUEUE;
    }
    if tap.vnet_header {
        request.flags |= IFF_VNET_HDR;
    }
    let file = File::options().read(true).write(true).open(DEVICE).act("open", || DEVICE)?;
    // SAFETY: TUNSETIFF reads and writes a `struct ifreq`, which `request` has the size and layout of; it outlives the call.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) };
    answered(made).act("create", say)?;
    // Not persistent until all is set: if this process is killed, or one of these fails, the tap goes with the file.
    let settings = [
        (TUNSETOWNER, tap.owner, "owner"),
        (TUNSETGROUP, tap.group, "group"),
        (TUNSETPERSIST, Some(1), "persistence"),
    ];
    for (request, value, what) in settings {
        let Some(value) = value else { continue };
        // SAFETY: these three take a number as their argument, and touch no memory of the caller's.
        let set = unsafe { libc::ioctl(file.as_raw_fd(), request, libc::c_ulong::from(value)) };
        answered(set).act("set", || format!("{what} of {} to {value}", say()))?;
    }
    Ok(())
}

fn answered(answer: libc::c_int) -> std::io::Result<()> {
    if answer < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// Puts the calling thread, which must end soon, into an SELinux context.
fn become_context(context: &str) -> Result<()> {
    let say = || format!("SELinux context {context:?}");
    // Without SELinux the file below is another security module's.
    if !Path::new("/sys/fs/selinux/enforce").exists() {
        let cause =
            std::io::Error::new(std::io::ErrorKind::Unsupported, "SELinux is not active on this host");
        return Err(Error::new("use", say(), cause));
    }
    std::fs::write("/proc/thread-self/attr/current", context).act("use", say)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::in_new_netns;
    use crate::netlink::{Protocol, Socket, delete_link, link_by_name};

    const PLAIN: Tap<'_> = Tap {
        name: "tap0",
        multi_queue: false,
        vnet_header: false,
        owner: None,
        group: None,
        selinux_context: None,
    };

    #[test]
    fn a_tap_stays_until_it_is_deleted() {
        in_new_netns(|| {
            let other = File::open("/proc/thread-self/ns/net").act("open", || "a namespace")?;
            make(&other, &Tap { multi_queue: true, owner: Some(7), group: Some(8), ..PLAIN })?;
            let mut socket = Socket::open(Protocol::Route)?;
            let tap = link_by_name(&mut socket, "tap0")?.unwrap();
            assert_eq!((tap.kind.as_str(), tap.is_up()), ("tun", false));
            // A second one is refused, whatever it is.
            let twice = make(&other, &PLAIN).unwrap_err().to_string();
            assert!(twice.starts_with("cannot create tap link tap0"), "{twice}");
            delete_link("tap0")?;
            assert!(link_by_name(&mut socket, "tap0")?.is_none());
            make(&other, &PLAIN)?;
            assert!(link_by_name(&mut socket, "tap0")?.is_some());
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn names_and_contexts_that_cannot_be() {
        in_new_netns(|| {
            let here = File::open("/proc/thread-self/ns/net").act("open", || "a namespace")?;
            for name in ["", "sixteen-letters-"] {
                assert!(make(&here, &Tap { name, ..PLAIN }).is_err(), "{name:?}");
            }
            if !Path::new("/sys/fs/selinux/enforce").exists() {
                let context = Some("system_u:system_r:container_t:s0");
                let error = make(&here, &Tap { selinux_context: context, ..PLAIN }).unwrap_err().to_string();
                assert!(error.contains("container_t") && error.contains("SELinux is not active"), "{error}");
            }
            Ok(())
        })
        .unwrap();
    }
}
