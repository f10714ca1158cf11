//! What the parent does for a container's process that waits: the kernel lets only somebody outside do it.

use std::fs;
use std::os::fd::OwnedFd;

use kernel::Act;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::Result;
use crate::contract::IdMapping;
use crate::plan::{Plan, describe_idmap, map_tree};

/// Does it all for the process `pid`.
pub(crate) fn complete(plan: &Plan, pid: i32) -> Result<()> {
    if plan.namespaces.new_user() {
        map_ids(pid, &plan.namespaces.uid_mappings, &plan.namespaces.gid_mappings)?;
        map_mounts(plan, pid)?;
    }
    Ok(())
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
            let path = format!("/proc/{pid}/ns/user");
            let file = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            user = Some(file.act("open", || path)?);
        }
        if let Some(user) = &user {
            map_tree(tree, user, all).act("map the ids of", || {
                describe_idmap(&mount.shown, &format!("/{}", mount.target.to_string_lossy()))
            })?;
        }
    }
    Ok(())
}
