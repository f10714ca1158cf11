//! The inverses. Each treats "not there" as done and touches nothing but what the record names.

mod process;

use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use kernel::Act as _;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::{Effect, Error};

/// Numbers of routing protocols up to this one are those of the kernel, of people and of advertisements (`RTPROT_*`).
const RESERVED: u8 = 16;

impl Effect {
    /// Whether this can be undone without harming anything else: refused before it is written down.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let rule = match self {
            Self::Netns { path }
            | Self::Mount { path }
            | Self::File { path }
            | Self::Tree { path }
            | Self::NetnsTable { netns: path, .. }
            | Self::NetnsReturn { netns: path, .. }
            | Self::Lease { path, .. } => absolute(path),
            Self::NetnsSysctl { netns, name, .. } => absolute(netns).or_else(|| of_a_network(name)),
            Self::Cgroup { path } => below_root(path),
            Self::Link { name } if name.is_empty() || name.len() > 15 => {
                Some("a link name has 1 to 15 bytes")
            }
            Self::Address { net, .. } | Self::Route { net, .. }
                if net.parse::<kernel::netlink::IpNet>().is_err() =>
            {
                Some("its address is none with a prefix")
            }
            // The kernel's own, those of people, and of router advertisements: nobody's mark.
            Self::Routes { protocol } if *protocol <= RESERVED => {
                Some("a protocol of routes of ours is above those that rtnetlink(7) gives to all")
            }
            Self::LoopDevice { tag } if tag.is_empty() || tag.len() > 63 => Some("a tag has 1 to 63 bytes"),
            Self::Process { pid, .. } if *pid <= 1 => Some("not a process of ours"),
            _ => None,
        };
        match rule {
            Some(why) => Err(Error::RefuseEffect { effect: Box::new(self.clone()), why }),
            None => Ok(()),
        }
    }

    /// Brings about the inverse. A crash in the middle is cured by doing it again.
    pub(crate) fn undo(&self) -> Result<(), Error> {
        let undone = match self {
            Self::Netns { path } => kernel::namespace::unpin(path),
            Self::Mount { path } => kernel::mount::detach(path).and_then(|()| remove_mount_point(path)),
            Self::Link { name } => kernel::netlink::delete_link(name),
            Self::Address { link, net } => {
                // It has been checked before it was written down.
                net.parse().map_or(Ok(()), |net| kernel::netlink::delete_address(link, net))
            }
            Self::Route { link, net } => {
                net.parse().map_or(Ok(()), |net| kernel::netlink::delete_route(link, net))
            }
            Self::Routes { protocol } => kernel::netlink::Socket::open(kernel::netlink::Protocol::Route)
                .and_then(|mut socket| kernel::netlink::delete_routes_of(&mut socket, *protocol))
                .map(drop),
            Self::Cgroup { path } => kernel::cgroup::destroy(path),
            Self::NftElement { family, table, set, key, holder, sent } => {
                let sent = sent.map(|sent| sent.flows());
                kernel::nft::delete_element(family, table, set, key, holder, sent)
            }
            Self::NftTable { family, table } => kernel::nft::delete_table(family, table),
            Self::NetnsTable { netns, inode, family, table } => {
                kernel::nft::delete_table_in(netns, *inode, family, table)
            }
            Self::NetnsReturn { netns, inode, mark, table } => {
                kernel::netlink::Returning { mark: *mark, table: *table }.delete_in(netns, *inode)
            }
            Self::NetnsSysctl { netns, inode, name, value } => {
                kernel::netlink::sysctl::restore_in(netns, *inode, name, value)
            }
            Self::Lease { path, holder } => remove_lease(path, holder),
            Self::LoopDevice { tag } => kernel::loopdev::detach(tag),
            Self::File { path } => remove_file(path),
            Self::Tree { path } => kernel::tree::remove(path),
            Self::Process { pid, start_time } => process::end(*pid, *start_time),
            // Leaving needs the ledger: the owner does it.
            Self::Uses { .. } => Ok(()),
        };
        undone.map_err(|source| Error::Undo { effect: Box::new(self.clone()), source })
    }

    /// The part of the inverse that is left to do when the kernel that held the effect is gone: files.
    pub(crate) fn undo_history(&self) -> Result<(), Error> {
        let undone = match self {
            Self::Netns { path } | Self::File { path } => remove_file(path),
            Self::Mount { path } => remove_mount_point(path),
            Self::Lease { path, holder } => remove_lease(path, holder),
            Self::Tree { path } => kernel::tree::remove(path),
            Self::Link { .. }
            | Self::Address { .. }
            | Self::Route { .. }
            | Self::Routes { .. }
            | Self::Cgroup { .. }
            | Self::NftElement { .. }
            | Self::NftTable { .. }
            | Self::NetnsTable { .. }
            | Self::NetnsReturn { .. }
            | Self::NetnsSysctl { .. }
            | Self::LoopDevice { .. }
            | Self::Process { .. }
            | Self::Uses { .. } => Ok(()),
        };
        undone.map_err(|source| Error::Undo { effect: Box::new(self.clone()), source })
    }
}

fn absolute(path: &Path) -> Option<&'static str> {
    let mut parts = path.components();
    if parts.next() != Some(Component::RootDir) {
        Some("its path is not absolute")
    } else if path.components().count() < 2 {
        Some("its path is the root directory")
    } else if parts.any(|part| part == Component::ParentDir) {
        Some("its path has a '..' in it")
    } else if path.to_str().is_none() {
        Some("its path is not UTF-8")
    } else {
        None
    }
}

/// Values outside `net` are all namespaces', and none of them is given back in one.
fn of_a_network(name: &str) -> Option<&'static str> {
    let rest = name.strip_prefix("net/");
    let is_inside = rest.is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")));
    (!is_inside).then_some("its name is no value of a network (net/...)")
}

fn below_root(path: &Path) -> Option<&'static str> {
    let normal = |part| matches!(part, Component::Normal(_) | Component::RootDir);
    if path.components().filter(|part| matches!(part, Component::Normal(_))).count() == 0 {
        Some("its path is the root of the hierarchy")
    } else if !path.components().all(normal) {
        Some("its path has a '..' in it")
    } else {
        None
    }
}

fn remove_file(path: &Path) -> kernel::Result<()> {
    match rustix::fs::unlinkat(rustix::fs::CWD, path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        Err(e) => Err(e).act("remove", || path.display().to_string()),
    }
}

/// A mount point of ours is an empty directory or file; one with something in it was somebody's before.
fn remove_mount_point(path: &Path) -> kernel::Result<()> {
    match rustix::fs::unlinkat(rustix::fs::CWD, path, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
        Err(Errno::NOTDIR) => remove_empty_file(path),
        Err(e) => Err(e).act("remove", || format!("the mount point {}", path.display())),
    }
}

fn remove_empty_file(path: &Path) -> kernel::Result<()> {
    match rustix::fs::lstat(path) {
        Ok(stat) if stat.st_size == 0 => remove_file(path),
        Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        Err(e) => Err(e).act("stat", || path.display().to_string()),
    }
}

/// The lock of whoever gives and takes addresses in `dir`: what it knows of the directory stays true. None if nobody does.
fn lock_leases(dir: &Path) -> kernel::Result<Option<OwnedFd>> {
    let path = dir.join("lock");
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::open(&path, flags, Mode::empty()) else { return Ok(None) };
    rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))
        .act("lock", || path.display().to_string())?;
    Ok(Some(file))
}

/// A lease is ours only while its first line names our holder: the address may have gone to somebody else since.
fn remove_lease(path: &Path, holder: &str) -> kernel::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let _lock = path.parent().map(lock_leases).transpose()?;
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(e) => return Err(e).act("read", || path.display().to_string()),
    };
    let first = text.split(|&b| b == b'\n').next().unwrap_or_default();
    if first.trim_ascii() == holder.as_bytes() || text.is_empty() { remove_file(path) } else { Ok(()) }
}
