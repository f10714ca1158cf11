//! What the parent does for a container's process that waits: the kernel lets only somebody outside do it.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use kernel::Act;
use kernel::process::Cloned;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::contract::{self, IdMapping};
use crate::plan::{Idmap, MountPlan, Plan, Source, describe_idmap, map_tree};
use crate::{Result, netdevices};

/// Does it all for the process `pid`. Should the container not come to be, [`give_back`] follows.
pub(crate) fn complete(plan: &mut Plan, pid: i32) -> Result<()> {
    if plan.namespaces.new_user() {
        map_ids(pid, &plan.namespaces.uid_mappings, &plan.namespaces.gid_mappings)?;
        map_mounts(plan, pid)?;
    }
    if !plan.net_devices.is_empty() {
        plan.moved = netdevices::enter(&plan.net_devices, network(plan, pid)?)?;
    }
    Ok(())
}

/// Mappings beside a user namespace that is joined must be its own.
pub(crate) fn check(plan: &Plan, pid: i32) -> Result<()> {
    let namespaces = &plan.namespaces;
    if namespaces.new_user() {
        return Ok(());
    }
    for (file, field, wanted) in [
        ("uid_map", "linux.uidMappings", &namespaces.uid_mappings),
        ("gid_map", "linux.gidMappings", &namespaces.gid_mappings),
    ] {
        if wanted.is_empty() {
            continue;
        }
        let path = format!("/proc/{pid}/{file}");
        let text = fs::read_to_string(&path).act("read", || path)?;
        let numbers = |text: &str| {
            let mut lines: Vec<Vec<String>> =
                text.lines().map(|l| l.split_whitespace().map(str::to_owned).collect()).collect();
            lines.sort();
            lines
        };
        if numbers(&text) != numbers(&map_text(wanted)) {
            return Err(crate::Error::Config(contract::Error::Invalid {
                field: field.into(),
                value: format!("{wanted:?}"),
                rule: format!(
                    "differs from the user namespace that is joined, which has {:?}; remove it",
                    text.trim()
                ),
            }));
        }
    }
    Ok(())
}

/// Takes back what the container no longer needs.
pub(crate) fn give_back(plan: &mut Plan) {
    if let Some(moved) = plan.moved.take() {
        moved.back();
    }
}

/// The container's network namespace.
fn network(plan: &Plan, pid: i32) -> Result<OwnedFd> {
    let joined = plan.namespaces.joined.iter().find(|(kind, _)| *kind == LinkNameSpaceType::Network);
    if let Some((_, file)) = joined {
        return Ok(file.try_clone().act("duplicate", || "a network namespace")?);
    }
    let path = format!("/proc/{pid}/ns/net");
    let file = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    Ok(file.act("open", || path)?)
}

/// Runs `clone` so that its child is born in a new time namespace with these clocks (`/proc/PID/timens_offsets`), which
/// can only be set while nobody is in it. This process stays in its own.
pub(crate) fn with_clocks(clocks: Option<&str>, clone: impl FnOnce() -> Result<Cloned>) -> Result<Cloned> {
    let Some(clocks) = clocks else { return clone() };
    let own = rustix::fs::open(c"/proc/self/ns/time", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .act("open", || "this process's time namespace")?;
    kernel::namespace::unshare(UnshareFlags::NEWTIME).act("create", || "a time namespace")?;
    let cloned = fs::write("/proc/self/timens_offsets", clocks)
        .act("write", || format!("{clocks:?} of linux.timeOffsets to /proc/self/timens_offsets"))
        .map_err(crate::Error::from)
        .and_then(|()| clone());
    if !matches!(cloned, Ok(Cloned::Child)) {
        move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Time))
            .act("leave", || "a time namespace")?;
    }
    cloned
}

/// The text of `/proc/PID/uid_map`.
pub(crate) fn map_text(mappings: &[IdMapping]) -> String {
    mappings.iter().map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size)).collect()
}

fn map_ids(pid: i32, uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    let write = |file: &str, text: &str| {
        let path = format!("/proc/{pid}/{file}");
        fs::write(&path, text).act("write", || format!("{text:?} to {path}"))
    };
    write("uid_map", &map_text(uids))?;
    match write("gid_map", &map_text(gids)) {
        // Without rights over groups one may map only one's own, and only where none can be dropped any more.
        Err(e) if e.errno() == Some(Errno::PERM) => {
            write("setgroups", "deny")?;
            write("gid_map", &map_text(gids))?;
        }
        other => other?,
    }
    Ok(())
}

/// The mounts that are mapped as the container is.
fn map_mounts(plan: &Plan, pid: i32) -> Result<()> {
    let mut user: Option<OwnedFd> = None;
    for mount in &plan.mounts {
        let (Some(all), Some(tree)) = (mount.waits_for_ids, mount.tree()) else { continue };
        if user.is_none() {
            user = Some(user_namespace(pid)?);
        }
        if let Some(user) = &user {
            map(mount, tree, user, all)?;
        }
    }
    Ok(())
}

fn user_namespace(pid: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/user");
    let file = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    Ok(file.act("open", || path)?)
}

fn map(mount: &MountPlan, tree: &OwnedFd, user: &OwnedFd, all: bool) -> Result<()> {
    let say = || describe_idmap(&mount.shown, &format!("/{}", mount.target.to_string_lossy()));
    Ok(map_tree(tree, user, all).act("map the ids of", say)?)
}

/// Maps the ids of a tree that the process `pid` took from inside its root, for the mount with this index.
pub(crate) fn map_inside(plan: &Plan, index: usize, tree: &OwnedFd, pid: i32) -> Result<()> {
    let Some(mount) = plan.mounts.get(index) else { return Ok(()) };
    match &mount.source {
        Source::Inside { idmap: Some(Idmap::By(user, all)), .. } => map(mount, tree, user, *all),
        Source::Inside { idmap: Some(Idmap::Container(all)), .. } => {
            map(mount, tree, &user_namespace(pid)?, *all)
        }
        _ => Ok(()),
    }
}
