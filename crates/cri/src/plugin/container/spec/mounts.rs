//! The mounts of a container: the kernel's filesystems, the pod's files, and what was asked for.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use oci_runtime::contract::{Mount, RootfsPropagation};
use oci_runtime::default_spec;

use super::namespaces::mapping;
use super::propagation;
use crate::contract::Error;
use crate::contract::v1::{self, IdMapping, MountPropagation};

/// What of the pod the mounts depend on.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    /// Where the pod's `hosts`, `hostname`, `resolv.conf` and `shm` are.
    pub(super) pod: PathBuf,
    /// `/dev/shm` is the pod's, not the host's.
    pub(super) own_shm: bool,
    /// The pod is on the host's network.
    pub(super) host_network: bool,
    /// The pod's user namespace, if it has one.
    pub(super) user: Option<PathBuf>,
    /// Its ids; empty without one.
    pub(super) uids: Vec<IdMapping>,
    pub(super) gids: Vec<IdMapping>,
    pub(super) privileged: bool,
    pub(super) readonly_rootfs: bool,
}

/// A mount, and the index of the request's that it is of.
type Asked = (usize, Mount);

/// All mounts in the order in which they are made, and what the root's propagation has to be for them. A directory of the
/// host that is not there is made.
pub(super) fn mounts(
    asked: &[v1::Mount],
    further: Vec<Mount>,
    around: &Surroundings,
) -> Result<(Vec<Mount>, Option<RootfsPropagation>), Error> {
    let mut root = None;
    let mut own = Vec::with_capacity(asked.len());
    for (index, mount) in asked.iter().enumerate().filter(|(_, mount)| mount.image.is_none()) {
        let (mount, needs) = bind(mount, &format!("config.mounts[{index}]"), around)?;
        root = stronger(root, needs);
        own.push((index, mount));
    }
    let taken: Vec<PathBuf> = asked.iter().map(|mount| place(&mount.container_path)).collect();
    let dev = taken.iter().any(|place| place == Path::new("dev"));
    let mut mounts = kernels(around);
    mounts.extend(pods(around));
    mounts.retain(|mount| {
        let place = place(&mount.destination);
        // Whoever brings a /dev brings all of it.
        !(taken.contains(&place) || dev && place.starts_with("dev"))
    });
    mounts.extend(own.into_iter().map(|(_, mount): Asked| mount));
    mounts.extend(further);
    // Stable: what is equally deep stays in the order it was asked for.
    mounts.sort_by_key(|mount| place(&mount.destination).components().count());
    Ok((mounts, root))
}

/// A path in the container as names from the root.
pub(super) fn place(path: &str) -> PathBuf {
    let mut place = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => place.push(name),
            Component::ParentDir => {
                place.pop();
            }
            _ => {}
        }
    }
    place
}

/// The kernel's filesystems.
fn kernels(around: &Surroundings) -> Vec<Mount> {
    let mut mounts = default_spec::mounts();
    mounts.retain(|mount| mount.destination != "/dev/shm");
    for mount in &mut mounts {
        if around.privileged && matches!(mount.kind.as_str(), "sysfs" | "cgroup") {
            mount.options.retain(|option| option != "ro");
        }
        if mount.kind == "devpts" && !around.gids.is_empty() && !maps(&around.gids, 5) {
            mount.options.retain(|option| option != "gid=5");
        }
        // Only who owns the network namespace mounts a sysfs.
        if mount.kind == "sysfs" && !around.uids.is_empty() && around.host_network {
            let options: &[&str] = &["rbind", "rslave", "nosuid", "noexec", "nodev", "rro"];
            *mount = bound("/sys", "/sys", options);
        }
    }
    mounts
}

fn maps(ids: &[IdMapping], id: u32) -> bool {
    ids.iter().any(|map| (map.container_id..map.container_id.saturating_add(map.length)).contains(&id))
}

/// The pod's files about names, and the memory its containers share.
fn pods(around: &Surroundings) -> Vec<Mount> {
    let file = |name: &str| {
        let source = around.pod.join(name).display().to_string();
        let mut options = vec!["bind", "rprivate", if around.readonly_rootfs { "ro" } else { "rw" }];
        if !around.uids.is_empty() {
            options.push("idmap");
        }
        bound(&format!("/etc/{name}"), &source, &options)
    };
    let mut mounts = ["hosts", "hostname", "resolv.conf"].map(file).to_vec();
    let shm = around.pod.join("shm").display().to_string();
    let source = if around.own_shm { &shm } else { "/dev/shm" };
    mounts.push(bound("/dev/shm", source, &["rbind", "rprivate", "nosuid", "noexec", "nodev", "rw"]));
    mounts
}

pub(super) fn bound(destination: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.to_owned(),
        kind: "bind".into(),
        source: source.to_owned(),
        options: options.iter().map(ToString::to_string).collect(),
        ..Mount::default()
    }
}

/// A mount of the host's that was asked for, and what it needs of the root.
fn bind(
    asked: &v1::Mount,
    field: &str,
    around: &Surroundings,
) -> Result<(Mount, Option<RootfsPropagation>), Error> {
    let at = |name: &str| format!("{field}.{name}");
    check_place(asked, field)?;
    let source = source(&asked.host_path, &at("host_path"))?;
    let (propagation, root) = match asked.propagation() {
        MountPropagation::PropagationPrivate => ("rprivate", None),
        MountPropagation::PropagationHostToContainer => {
            propagation::must_be(&source, &at("propagation"), propagation::Needed::SharedOrSlave)?;
            ("rslave", Some(RootfsPropagation::Rslave))
        }
        MountPropagation::PropagationBidirectional => {
            propagation::must_be(&source, &at("propagation"), propagation::Needed::Shared)?;
            ("rshared", Some(RootfsPropagation::Rshared))
        }
    };
    let mut options = vec!["rbind", propagation];
    options.push(if asked.readonly { "ro" } else { "rw" });
    if asked.recursive_read_only {
        options.push("rro");
    }
    let text = source
        .to_str()
        .ok_or_else(|| Error::invalid(at("host_path"), "leads to a path that is not UTF-8"))?;
    let mut mount = bound(&format!("/{}", place(&asked.container_path).display()), text, &options);
    idmap(&mut mount, asked, around);
    Ok((mount, root))
}

/// The place of a mount is a path below the root.
pub(super) fn check_place(asked: &v1::Mount, field: &str) -> Result<(), Error> {
    let path = &asked.container_path;
    if place(path).as_os_str().is_empty() {
        let hint = "give a path below the container's root";
        return Err(Error::invalid(
            format!("{field}.container_path"),
            format!("{path:?} is no place: {hint}"),
        ));
    }
    Ok(())
}

/// The ids of a mount: as the pod's user namespace maps them, or by a mapping of its own.
fn idmap(mount: &mut Mount, asked: &v1::Mount, around: &Surroundings) {
    let (uids, gids) = (&asked.uid_mappings, &asked.gid_mappings);
    if !uids.is_empty() && (uids, gids) == (&around.uids, &around.gids) {
        mount.options.push("idmap".into());
    } else {
        mount.uid_mappings = uids.iter().map(mapping).collect();
        mount.gid_mappings = gids.iter().map(mapping).collect();
    }
}

/// The directory or file of the host, without links on the way. One that is not there is made, a directory.
fn source(path: &str, field: &str) -> Result<PathBuf, Error> {
    let cannot = |what: &str, e: std::io::Error| {
        let error = Error::internal(format!("cannot {what} {path}: {e}"));
        Error { field: Some(field.to_owned()), ..error }
    };
    match fs::canonicalize(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
            made.map_err(|e| cannot("create", e))?;
            fs::canonicalize(path).map_err(|e| cannot("open", e))
        }
        other => other.map_err(|e| cannot("open", e)),
    }
}

/// Gives the label of the container's files to those mounts that say so; without SELinux there is none.
pub(super) fn relabel(asked: &[v1::Mount], label: &str) -> Result<(), Error> {
    if label.is_empty() {
        return Ok(());
    }
    for (index, mount) in asked.iter().enumerate().filter(|(_, m)| m.selinux_relabel && m.image.is_none()) {
        let source = source(&mount.host_path, &format!("config.mounts[{index}].host_path"))?;
        super::selinux::relabel(&source, label, &format!("config.mounts[{index}].selinux_relabel"))?;
    }
    Ok(())
}

fn stronger(a: Option<RootfsPropagation>, b: Option<RootfsPropagation>) -> Option<RootfsPropagation> {
    match (a, b) {
        (Some(RootfsPropagation::Rshared), _) | (_, Some(RootfsPropagation::Rshared)) => {
            Some(RootfsPropagation::Rshared)
        }
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::container::spec::tests::around;

    fn mount(container_path: &str, host_path: &str) -> v1::Mount {
        v1::Mount {
            container_path: container_path.into(),
            host_path: host_path.into(),
            ..v1::Mount::default()
        }
    }

    fn of(asked: &[v1::Mount], around: &Surroundings) -> Result<Vec<Mount>, Error> {
        mounts(asked, Vec::new(), around).map(|(mounts, _)| mounts)
    }

    fn at<'m>(mounts: &'m [Mount], destination: &str) -> Option<&'m Mount> {
        mounts.iter().find(|mount| mount.destination == destination)
    }

    #[test]
    fn parents_come_before_what_is_below_them() {
        let dir = tempfile::tempdir().unwrap();
        let host = dir.path().to_str().unwrap();
        let asked = [mount("/a/b/c", host), mount("a", host), mount("/a/b/", host), mount("/z", host)];
        let mounts = of(&asked, &around()).unwrap();
        let depth = |m: &Mount| place(&m.destination).components().count();
        assert!(mounts.is_sorted_by_key(depth), "{mounts:?}");
        assert_eq!(at(&mounts, "/a/b").unwrap().options, ["rbind", "rprivate", "rw"]);
        assert!(at(&mounts, "/a").is_some() && at(&mounts, "/etc/resolv.conf").is_some());
        let first = |d| mounts.iter().position(|m| m.destination == d).unwrap();
        assert!(first("/dev") < first("/dev/shm") && first("/sys") < first("/sys/fs/cgroup"));
    }

    #[test]
    fn what_is_asked_for_replaces_what_is_usual() {
        let dir = tempfile::tempdir().unwrap();
        let host = dir.path().to_str().unwrap();
        let mounts = of(&[mount("/etc//hosts", host), mount("/dev", host)], &around()).unwrap();
        let below_dev: Vec<_> = mounts.iter().filter(|m| m.destination.starts_with("/dev")).collect();
        assert_eq!(below_dev.len(), 1);
        assert_eq!(
            at(&mounts, "/etc/hosts").unwrap().source,
            fs::canonicalize(host).unwrap().to_str().unwrap()
        );
    }

    #[test]
    fn what_is_not_there_is_made_and_links_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("x/y");
        of(&[mount("/a", missing.to_str().unwrap())], &around()).unwrap();
        assert!(missing.is_dir());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&missing, &link).unwrap();
        let mounts = of(&[mount("/a", link.to_str().unwrap())], &around()).unwrap();
        assert_eq!(Path::new(&at(&mounts, "/a").unwrap().source), fs::canonicalize(&missing).unwrap());
    }

    #[test]
    fn recursive_read_only_is_the_kernels_rro() {
        let dir = tempfile::tempdir().unwrap();
        let base = v1::Mount { recursive_read_only: true, ..mount("/a", dir.path().to_str().unwrap()) };
        let mounts = of(&[v1::Mount { readonly: true, ..base }], &around()).unwrap();
        assert_eq!(at(&mounts, "/a").unwrap().options, ["rbind", "rprivate", "ro", "rro"]);
    }

    #[test]
    fn places_are_below_the_root() {
        for wrong in ["/", "/..", "//."] {
            let error = of(&[mount(wrong, "/tmp")], &around()).unwrap_err();
            assert_eq!(error.field.as_deref(), Some("config.mounts[0].container_path"), "{wrong:?}");
        }
        assert_eq!(place("/a/../b/./c//"), Path::new("b/c"));
    }

    #[test]
    fn privileged_may_write_to_sys() {
        let options = |privileged| {
            let mounts = of(&[], &Surroundings { privileged, ..around() }).unwrap();
            let ro = |d| at(&mounts, d).unwrap().has("ro");
            (ro("/sys"), ro("/sys/fs/cgroup"))
        };
        assert_eq!((options(false), options(true)), ((true, true), (false, false)));
    }

    #[test]
    fn a_user_namespace_maps_the_pods_files_and_what_says_so() {
        let ids = vec![IdMapping { host_id: 100_000, container_id: 0, length: 65536 }];
        let around = Surroundings { uids: ids.clone(), gids: ids.clone(), ..around() };
        let dir = tempfile::tempdir().unwrap();
        let host = dir.path().to_str().unwrap();
        let mapped =
            v1::Mount { uid_mappings: ids.clone(), gid_mappings: ids.clone(), ..mount("/mapped", host) };
        let other = vec![IdMapping { host_id: 5, container_id: 0, length: 1 }];
        let own = v1::Mount { uid_mappings: other.clone(), gid_mappings: other, ..mount("/own", host) };
        let mounts = of(&[mapped, mount("/not", host), own], &around).unwrap();
        let idmapped = |d| at(&mounts, d).unwrap().has("idmap");
        assert!(idmapped("/etc/hosts") && idmapped("/mapped") && !idmapped("/not") && !idmapped("/dev/shm"));
        assert_eq!(at(&mounts, "/own").unwrap().uid_mappings[0].host_id, 5);
        // The host's network with users of one's own: its sysfs cannot be mounted, only bound.
        let mounts = of(&[], &Surroundings { host_network: true, ..around }).unwrap();
        assert_eq!(at(&mounts, "/sys").unwrap().kind, "bind");
    }
}
