//! Without root: this process makes the container's user namespace for itself, and is root there for all the rest.

use std::os::fd::OwnedFd;

use kernel::namespace::unshare;
use rustix::thread::{ThreadNameSpaceType, UnshareFlags};

use super::failure::Failure;
use super::is_root;
use crate::contract::{IdMapping, NamespaceType, Spec};

/// Enters the user namespace that `spec` asks for, and takes it out of `spec`: what is cloned from here on is in it.
/// Does nothing for root.
pub(super) fn enter(spec: &mut Spec) -> Result<(), Failure> {
    if is_root() {
        return Ok(());
    }
    let new = |kind: NamespaceType, path: &str| kind == NamespaceType::User && path.is_empty();
    let linux = spec.linux.as_mut().filter(|l| l.namespaces.iter().any(|n| new(n.kind, &n.path)));
    let Some(linux) = linux else {
        return Err(Failure::new(
            "cannot make a container without root: it needs a user namespace (add {\"type\": \"user\"} to \
             linux.namespaces, with uidMappings and gidMappings; see spec --rootless)",
        ));
    };
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let uids = own("linux.uidMappings", &linux.uid_mappings, uid)?;
    let gids = own("linux.gidMappings", &linux.gid_mappings, gid)?;
    // The mount namespace with it: trees may be cloned only of one that the user namespace owns.
    unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS).map_err(|e| {
        Failure::new(format!(
            "cannot create a user namespace: {e} (see /proc/sys/user/max_user_namespaces, and whether this machine \
             lets users have any)"
        ))
    })?;
    // Groups that forbid something must not be dropped: the kernel wants that settled before a gid is mapped.
    for (file, text) in [("setgroups", "deny"), ("uid_map", &uids), ("gid_map", &gids)] {
        let path = format!("/proc/self/{file}");
        std::fs::write(&path, text)
            .map_err(|e| Failure::new(format!("cannot write {text:?} to {path}: {e}")))?;
    }
    linux.namespaces.retain(|n| !new(n.kind, &n.path));
    linux.uid_mappings.clear();
    linux.gid_mappings.clear();
    Ok(())
}

/// Enters the user namespace of a container's process, and takes it out of `spec`: its PID namespace opens only from
/// there. Does nothing for root.
pub(super) fn join(spec: &mut Spec, process: &OwnedFd) -> Result<(), Failure> {
    if is_root() {
        return Ok(());
    }
    kernel::namespace::enter(process, ThreadNameSpaceType::USER)
        .map_err(|e| Failure::new(format!("cannot join the container's user namespace: {e}")))?;
    if let Some(linux) = &mut spec.linux {
        linux.namespaces.retain(|n| n.kind != NamespaceType::User);
    }
    Ok(())
}

/// The map's text. Without root the kernel takes one line, for one's own id alone.
fn own(field: &str, mappings: &[IdMapping], id: u32) -> Result<String, Failure> {
    match mappings {
        [one] if one.host_id == id && one.size == 1 => Ok(format!("{} {id} 1", one.container_id)),
        other => Err(Failure::new(format!(
            "cannot map {field} {other:?} without root: give one entry with hostID {id} and size 1 (more takes \
             root; newuidmap is not run)"
        ))),
    }
}

/// Whether this process is in a user namespace where it is not root of the machine.
pub(super) fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// Whether the systemd to ask is the user's own: for who is not root, or root only in a user namespace. Where that is
/// a whole machine's (a system container), its first process is root's there, too.
pub(super) fn own_systemd() -> bool {
    use std::os::unix::fs::MetadataExt;
    !is_root() || (in_user_namespace() && std::fs::metadata("/proc/1").map_or(true, |init| init.uid() != 0))
}
