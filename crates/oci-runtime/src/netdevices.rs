//! Network devices of the host on their way into a container's network namespace, and back if it never starts.
//!
//! Nothing here takes part in a device's life afterwards: with the namespace it goes as the kernel has it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kernel::Act;
use kernel::netlink::{Address, Batch, Protocol, SetLink, Socket, addresses, link_by_name, links};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Result;

/// A device to move: its name here, and there.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) inside: String,
}

/// What was moved, for the way back.
#[derive(Debug)]
pub(crate) struct Moved {
    namespace: OwnedFd,
    /// The name there, and the name here.
    names: Vec<(String, String)>,
}

/// Moves the devices into `namespace`, with their permanent global addresses, and sets them up. All or none.
pub(crate) fn enter(devices: &[Device], namespace: OwnedFd) -> Result<Option<Moved>> {
    if devices.is_empty() {
        return Ok(None);
    }
    let mut moved = Moved { namespace, names: Vec::new() };
    let mut here = Socket::open(Protocol::Route)?;
    let mut there = socket_in(moved.namespace.as_fd())?;
    for device in devices {
        match shift(&mut here, &mut there, moved.namespace.as_fd(), &device.name, &device.inside) {
            Ok(name) => moved.names.push((name, device.name.clone())),
            Err(e) => {
                moved.back();
                return Err(e.into());
            }
        }
    }
    Ok(Some(moved))
}

impl Moved {
    /// Moves them back, as far as that goes: the error that led here is the one to tell.
    pub(crate) fn back(self) {
        let Ok(own) = own_namespace() else { return };
        let (Ok(mut here), Ok(mut there)) =
            (Socket::open(Protocol::Route), socket_in(self.namespace.as_fd()))
        else {
            return;
        };
        for (inside, outside) in self.names.iter().rev() {
            drop(shift(&mut there, &mut here, own.as_fd(), inside, outside));
        }
    }
}

/// Moves one device from the namespace of one socket to that of another; returns its name there.
fn shift(
    from: &mut Socket,
    to: &mut Socket,
    namespace: BorrowedFd<'_>,
    name: &str,
    wanted: &str,
) -> kernel::Result<String> {
    let object = || format!("network device {name} to {wanted} in the container");
    let link = link_by_name(from, name)?
        .ok_or_else(|| kernel::Error::new("move", format!("{} (there is none)", object()), Errno::NODEV))?;
    let template = wanted.contains("%d");
    if !template && link_by_name(to, wanted)?.is_some() {
        let object = format!("{} (there is one of that name; give it another)", object());
        return Err(kernel::Error::new("move", object, Errno::EXIST));
    }
    let kept: Vec<Address> =
        addresses(from, Some(link.index))?.into_iter().filter(|a| a.permanent_global).collect();
    let before: Vec<u32> = if template { links(to)?.iter().map(|l| l.index).collect() } else { Vec::new() };
    let mut batch = Batch::new();
    batch.set_link(&SetLink::index(link.index).up(false));
    from.run(&batch)?;
    let mut batch = Batch::new();
    batch.set_link(&SetLink::index(link.index).rename(wanted).netns(namespace));
    if let Err(e) = from.run(&batch) {
        // It stays, and as it was.
        let mut batch = Batch::new();
        batch.set_link(&SetLink::index(link.index).up(link.is_up()));
        kept.iter().for_each(|address| batch.add_address(address));
        drop(from.run(&batch));
        return Err(e);
    }
    let arrived = if template {
        links(to)?.into_iter().find(|l| !before.contains(&l.index))
    } else {
        link_by_name(to, wanted)?
    };
    let arrived = arrived
        .ok_or_else(|| kernel::Error::new("find", format!("network device {wanted}"), Errno::NODEV))?;
    let mut batch = Batch::new();
    batch.set_link(&SetLink::index(arrived.index).up(true));
    to.run(&batch)?;
    for address in kept {
        let mut batch = Batch::new();
        batch.add_address(&Address { link: arrived.index, ..address });
        match to.run(&batch) {
            Err(e) if e.errno() == Some(Errno::EXIST) => {}
            other => other?,
        }
    }
    Ok(arrived.name)
}

fn own_namespace() -> kernel::Result<OwnedFd> {
    rustix::fs::open(c"/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .act("open", || "this process's network namespace")
}

/// A socket of another namespace. A runtime has one thread, which goes there, opens it and comes back.
fn socket_in(namespace: BorrowedFd<'_>) -> kernel::Result<Socket> {
    let own = own_namespace()?;
    let network = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(namespace, network).act("enter", || "the container's network namespace")?;
    let socket = Socket::open(Protocol::Route);
    move_into_link_name_space(own.as_fd(), network).act("leave", || "the container's network namespace")?;
    socket
}
