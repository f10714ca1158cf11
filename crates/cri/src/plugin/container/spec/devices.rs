//! Device nodes of the host, and who may use which.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use oci_runtime::contract::{Device, DeviceCgroup, DeviceType, Spec};
use oci_runtime::default_spec;

use crate::contract::Error;
use crate::contract::v1;

/// Nodes, and rules in the order in which they count.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Devices {
    pub(crate) nodes: Vec<Node>,
    pub(crate) rules: Vec<DeviceCgroup>,
}

/// A node, and the host's that it is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) device: Device,
    pub(crate) host: PathBuf,
}

/// Directories of a host's /dev that are filesystems of each container's own, or links into procfs, or no devices.
const SKIPPED: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];

/// How deep directories of devices are looked into.
const DEEPEST: u32 = 32;

/// What is asked for; a privileged container has all nodes of `dev`, which is the host's `/dev`.
pub(super) fn devices(asked: &[v1::Device], privileged: bool, dev: &Path) -> Result<Devices, Error> {
    let mut devices = Devices { nodes: Vec::new(), rules: default_spec::device_rules() };
    if privileged {
        devices.rules = vec![DeviceCgroup { allow: true, access: "rwm".into(), ..DeviceCgroup::default() }];
        let found = walk(dev, Path::new("/dev"), DEEPEST, &SKIPPED);
        devices.nodes = found.map_err(|e| Error::internal(format!("cannot list {}: {e}", dev.display())))?;
        // A container's own terminal is there.
        devices.nodes.retain(|node| node.device.path != "/dev/console");
    }
    for (index, device) in asked.iter().enumerate() {
        let field = format!("config.devices[{index}]");
        let nodes = of_host(device, &field)?;
        for node in nodes {
            if !privileged {
                devices.rules.push(rule(&node.device, &device.permissions));
            }
            devices.add(node);
        }
    }
    Ok(devices)
}

impl Devices {
    /// Adds a node, in place of one on the same path.
    pub(crate) fn add(&mut self, node: Node) {
        self.nodes.retain(|old| old.device.path != node.device.path);
        self.nodes.push(node);
    }

    /// Puts nodes and rules into the configuration. A user namespace makes no nodes: the runtime binds the host's of the
    /// same path there, and one of another path is a mount.
    pub(crate) fn put(self, spec: &mut Spec, user_namespace: bool) {
        for node in self.nodes {
            if user_namespace
                && node.device.kind != DeviceType::Fifo
                && Path::new(&node.device.path) != node.host
            {
                let options = ["bind", "rprivate", "nosuid", "noexec"];
                let mount =
                    super::mounts::bound(&node.device.path, &node.host.display().to_string(), &options);
                spec.mounts.push(mount);
                continue;
            }
            spec.linux.get_or_insert_default().devices.push(node.device);
        }
        spec.linux.get_or_insert_default().resources.get_or_insert_default().devices = self.rules;
    }
}

/// Use of the node's device, as `permissions` say.
pub(crate) fn rule(node: &Device, permissions: &str) -> DeviceCgroup {
    DeviceCgroup {
        allow: true,
        kind: Some(node.kind),
        major: Some(node.major),
        minor: Some(node.minor),
        access: permissions.to_owned(),
    }
}

/// The node that `device` names, or all below the directory.
fn of_host(device: &v1::Device, field: &str) -> Result<Vec<Node>, Error> {
    let at = |name: &str| format!("{field}.{name}");
    let cannot = |e: std::io::Error| {
        Error::invalid(at("host_path"), format!("{}: {e}: name a device of this machine", device.host_path))
    };
    let host = fs::canonicalize(&device.host_path).map_err(cannot)?;
    let inside = Path::new(&device.container_path);
    if host.is_dir() {
        let found = walk(&host, inside, DEEPEST, &SKIPPED).map_err(cannot)?;
        if found.is_empty() {
            return Err(Error::invalid(at("host_path"), format!("no device is below {}", device.host_path)));
        }
        return Ok(found);
    }
    let stat = fs::metadata(&host).map_err(cannot)?;
    let found = node(&stat, inside).ok_or_else(|| {
        Error::invalid(at("host_path"), format!("{} is no device: mount it instead", device.host_path))
    })?;
    Ok(vec![Node { device: found, host }])
}

/// A node as the host's is.
pub(crate) fn node(stat: &fs::Metadata, path: &Path) -> Option<Device> {
    let kind = match stat.file_type() {
        kind if kind.is_char_device() => DeviceType::Char,
        kind if kind.is_block_device() => DeviceType::Block,
        _ => return None,
    };
    let (major, minor) = (rustix::fs::major(stat.rdev()), rustix::fs::minor(stat.rdev()));
    Some(Device {
        path: path.to_str()?.to_owned(),
        kind,
        major: major.into(),
        minor: minor.into(),
        file_mode: Some(stat.mode() & 0o7777),
        uid: Some(stat.uid()),
        gid: Some(stat.gid()),
    })
}

/// All nodes below `host`, called as if it were `inside`; links are not followed.
fn walk(host: &Path, inside: &Path, depth: u32, skipped: &[&str]) -> std::io::Result<Vec<Node>> {
    let mut nodes = Vec::new();
    let mut entries: Vec<(PathBuf, PathBuf)> = Vec::new();
    for entry in fs::read_dir(host)? {
        let entry = entry?;
        entries.push((entry.path(), inside.join(entry.file_name())));
    }
    entries.sort();
    for (host, inside) in entries {
        // Nodes come and go while this looks.
        let Ok(stat) = fs::symlink_metadata(&host) else { continue };
        if stat.is_dir() {
            let skip = host.file_name().is_some_and(|name| skipped.iter().any(|skipped| name == *skipped));
            if depth > 0 && !skip {
                nodes.extend(walk(&host, &inside, depth - 1, skipped)?);
            }
        } else {
            nodes.extend(node(&stat, &inside).map(|device| Node { device, host }));
        }
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(host: &str, inside: &str, permissions: &str) -> v1::Device {
        v1::Device { host_path: host.into(), container_path: inside.into(), permissions: permissions.into() }
    }

    fn of(device: v1::Device) -> Result<Devices, Error> {
        devices(&[device], false, Path::new("/dev"))
    }

    /// A directory with nodes 1:3 and 1:5, a link to one and a file. Needs root.
    fn some_nodes() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("sub")).unwrap();
        fs::create_dir_all(dir.path().join("pts")).unwrap();
        for (name, minor) in [("one", 3), ("sub/two", 5), ("pts/0", 8), ("console", 7)] {
            rustix::fs::mknodat(
                rustix::fs::CWD,
                dir.path().join(name),
                rustix::fs::FileType::CharacterDevice,
                rustix::fs::Mode::from_raw_mode(0o640),
                rustix::fs::makedev(1, minor),
            )
            .unwrap();
        }
        std::os::unix::fs::symlink("one", dir.path().join("link")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        dir
    }

    #[test]
    fn a_node_is_as_the_hosts_with_a_rule_of_its_own() {
        let dir = some_nodes();
        let link = dir.path().join("link");
        let devices = of(asked(link.to_str().unwrap(), "/dev/mine", "rw")).unwrap();
        let node = &devices.nodes[0].device;
        assert_eq!(
            (node.path.as_str(), node.major, node.minor, node.file_mode),
            ("/dev/mine", 1, 3, Some(0o640))
        );
        let last = devices.rules.last().unwrap();
        assert_eq!((last.allow, last.major, last.access.as_str()), (true, Some(1), "rw"));
        assert_eq!(devices.rules.len(), default_spec::device_rules().len() + 1);
    }

    #[test]
    fn a_directory_is_all_nodes_below() {
        let dir = some_nodes();
        let devices = of(asked(dir.path().to_str().unwrap(), "/dev/d", "r")).unwrap();
        let paths: Vec<_> = devices.nodes.iter().map(|node| node.device.path.as_str()).collect();
        assert_eq!(paths, ["/dev/d/console", "/dev/d/one", "/dev/d/sub/two"]);
    }

    #[test]
    fn privileged_has_every_node_and_no_limit() {
        let dir = some_nodes();
        let devices = devices(&[asked("/dev/null", "/dev/one", "r")], true, dir.path()).unwrap();
        let paths: Vec<_> =
            devices.nodes.iter().map(|node| (node.device.path.as_str(), node.device.minor)).collect();
        assert_eq!(paths, [("/dev/sub/two", 5), ("/dev/one", 3)]);
        assert_eq!(devices.rules.len(), 1);
        assert!(devices.rules[0].allow && devices.rules[0].kind.is_none());
    }

    #[test]
    fn a_user_namespace_binds_what_is_elsewhere_on_the_host() {
        let devices = || {
            let asked = [asked("/dev/null", "/dev/other", "rw"), asked("/dev/zero", "/dev/zero", "rw")];
            devices(&asked, false, Path::new("/dev")).unwrap()
        };
        for (user_namespace, nodes) in [(false, 2), (true, 1)] {
            let mut spec = Spec::default();
            devices().put(&mut spec, user_namespace);
            let linux = spec.linux.unwrap();
            assert_eq!(linux.devices.len(), nodes);
            assert!(linux.resources.unwrap().devices.len() > 2);
            let bound = spec.mounts.first().map(|m| (m.source.as_str(), m.destination.as_str()));
            assert_eq!(bound, user_namespace.then_some(("/dev/null", "/dev/other")));
        }
    }

    #[test]
    fn what_is_no_device_is_refused() {
        let dir = some_nodes();
        let file = dir.path().join("file");
        for device in
            [asked("/dev/there-is-none", "/dev/x", "r"), asked(file.to_str().unwrap(), "/dev/x", "r")]
        {
            assert_eq!(of(device).unwrap_err().field.as_deref(), Some("config.devices[0].host_path"));
        }
    }
}
