//! User namespaces (`hostUsers: false`): a pod has ids of the machine that no other pod has, and is nobody beside.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use cri::contract::v1::{IdMapping, Mount, NamespaceMode, UserNamespace};
use k8s_openapi::api::core::v1::Pod;

use crate::agent::Agent;
use crate::names::Key;
use crate::volumes;

/// So many ids has a pod.
const LENGTH: u32 = 65_536;
/// Where a pod's first one is kept, in its folder: it has to know its files again.
const FILE: &str = "userns";

/// The first id of a pod that has ids of its own.
pub(crate) fn of(agent: &Agent, pod: &Pod) -> Result<Option<u32>, String> {
    if pod.spec.as_ref().and_then(|spec| spec.host_users) != Some(false) {
        return Ok(None);
    }
    let uid = Key::of(pod).uid;
    first(agent, &uid).map(Some).map_err(|error| format!("cannot give pod {uid} ids of its own: {error}"))
}

fn first(agent: &Agent, uid: &str) -> io::Result<u32> {
    let root = &agent.setup.folder;
    let read =
        |uid: &str| fs::read_to_string(volumes::folder(root, uid).join(FILE)).ok()?.trim().parse().ok();
    if let Some(first) = read(uid) {
        return Ok(first);
    }
    let taken: BTreeSet<u32> = volumes::uids(root).iter().filter_map(|uid| read(uid)).collect();
    let first = free(&taken).ok_or_else(|| io::Error::other("all ranges of ids are taken"))?;
    let folder = volumes::folder(root, uid);
    fs::create_dir_all(&folder)?;
    let half = folder.join(format!(".{FILE}"));
    fs::write(&half, first.to_string())?;
    fs::rename(half, folder.join(FILE))?;
    Ok(first)
}

/// The lowest range that nobody has; the first ids are the machine's own.
fn free(taken: &BTreeSet<u32>) -> Option<u32> {
    (1..u32::MAX / LENGTH).map(|range| range * LENGTH).find(|first| !taken.contains(first))
}

fn mapping(first: u32) -> Vec<IdMapping> {
    vec![IdMapping { host_id: first, container_id: 0, length: LENGTH }]
}

/// The namespace, as runtimes are asked for it.
pub(crate) fn namespace(first: u32) -> UserNamespace {
    UserNamespace { mode: NamespaceMode::Pod.into(), uids: mapping(first), gids: mapping(first) }
}

/// Has the files of mounts belong to whom they belong inside, too.
pub(crate) fn map(mounts: &mut [Mount], first: u32) {
    for mount in mounts.iter_mut().filter(|mount| mount.image.is_none()) {
        (mount.uid_mappings, mount.gid_mappings) = (mapping(first), mapping(first));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_had_once_and_never_the_machines() {
        assert_eq!(free(&BTreeSet::new()), Some(65_536));
        assert_eq!(free(&BTreeSet::from([65_536, 196_608])), Some(131_072));
    }
}
