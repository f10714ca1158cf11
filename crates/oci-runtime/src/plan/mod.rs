//! Everything a container needs, prepared by the parent: strings, descriptors, programs. What is left for the time
//! between clone and exec is system calls in a row, which allocate nothing.

pub(crate) mod hooks;
mod idmap;
mod ids;
mod label;
pub(crate) mod limits;
pub(crate) mod mounts;
pub(crate) mod options;
pub(crate) mod process;
mod schedule;

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::path::Path;

use kernel::Act;
use kernel::process::{NewNamespaces, cstring};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::mount::MountPropagationFlags;
use rustix::thread::LinkNameSpaceType;

use crate::contract::{
    DeviceType, IdMapping, Linux, NamespaceType, NetDevice, RootfsPropagation, Spec, TimeOffset,
};
use crate::{Error, Result, netdevices};
pub(crate) use hooks::{HookPlan, HookPlans};
pub(crate) use idmap::{Idmap, describe as describe_idmap, map as map_tree};
pub(crate) use label::Labels;
pub(crate) use mounts::{CgroupView, MountPlan, Source};
pub(crate) use process::ProcessPlan;
pub(crate) use schedule::Schedule;

/// A container, ready to be cloned.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) namespaces: Namespaces,
    pub(crate) root: RootPlan,
    pub(crate) mounts: Vec<MountPlan>,
    pub(crate) devices: Vec<DevicePlan>,
    /// `/dev` is bound from elsewhere: nothing is made in it.
    pub(crate) foreign_dev: bool,
    pub(crate) sysctls: Vec<(CString, Vec<u8>)>,
    pub(crate) masked: Vec<CString>,
    pub(crate) read_only: Vec<CString>,
    pub(crate) hostname: Option<Vec<u8>>,
    pub(crate) domainname: Option<Vec<u8>>,
    pub(crate) process: ProcessPlan,
    pub(crate) hooks: Option<HookPlans>,
    /// Moved in by the parent.
    pub(crate) net_devices: Vec<netdevices::Device>,
    /// Those that are in.
    pub(crate) moved: Option<netdevices::Moved>,
    /// The SELinux context of what the runtime mounts itself.
    pub(crate) label: Option<CString>,
    /// What has no effect, as sentences for the operator.
    pub(crate) warnings: Vec<String>,
}

/// The namespaces made at the clone, those unshared afterwards, and those joined.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    pub(crate) new: NewNamespaces,
    /// Made by the child once it is in its cgroup, which becomes the root it sees.
    pub(crate) new_cgroup: bool,
    pub(crate) joined: Vec<(LinkNameSpaceType, OwnedFd)>,
    /// Joined by the parent around the clone: only children enter a PID namespace.
    pub(crate) joined_pid: Option<OwnedFd>,
    pub(crate) uid_mappings: Vec<IdMapping>,
    pub(crate) gid_mappings: Vec<IdMapping>,
    /// What a new time namespace gets before the first process is in it: the text of `timens_offsets`.
    pub(crate) clocks: Option<String>,
}

impl Plan {
    /// There is something that only the parent can do, and the child waits for it.
    pub(crate) fn awaits_parent(&self) -> bool {
        self.namespaces.new_user() || !self.net_devices.is_empty()
    }
}

impl Namespaces {
    pub(crate) fn new_user(&self) -> bool {
        self.new.contains(NewNamespaces::USER)
    }

    pub(crate) fn joins(&self, kind: LinkNameSpaceType) -> bool {
        self.joined.iter().any(|(joined, _)| *joined == kind)
    }

    /// The container has a user namespace that is not this process's.
    pub(crate) fn has_user(&self) -> bool {
        self.new_user() || self.joins(LinkNameSpaceType::User)
    }

    /// A process in between joins and makes namespaces: see [`birth`](crate::birth).
    pub(crate) fn through_another(&self) -> bool {
        self.has_user() && !self.joined.is_empty()
    }
}

/// The container's root.
#[derive(Debug)]
pub(crate) struct RootPlan {
    /// A detached mount.
    pub(crate) tree: OwnedFd,
    /// The container has no mount namespace: what it mounts, the host has mounted below `stage`.
    pub(crate) shared: bool,
    /// A directory of the host that the root is attached on, in the container's own mount namespace, just to pivot.
    pub(crate) stage: CString,
    pub(crate) read_only: bool,
    /// What the container's mount namespace gets of the host's later mounts.
    pub(crate) host_propagation: MountPropagationFlags,
    /// What the container's root gets of later mounts below `root.path`.
    pub(crate) below: MountPropagationFlags,
    /// The host's trees are cloned before they are cut off from the host's later mounts: what is shared stays shared with
    /// the host.
    pub(crate) shares_volumes: bool,
    /// The propagation of the container's own root.
    pub(crate) propagation: MountPropagationFlags,
}

/// A device node.
#[derive(Debug)]
pub(crate) struct DevicePlan {
    /// Below the root, without a leading slash.
    pub(crate) path: CString,
    pub(crate) kind: FileType,
    pub(crate) mode: Mode,
    pub(crate) number: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The host's node, to bind where a user namespace may not make one.
    pub(crate) host: Option<OwnedFd>,
}

/// The nodes every container has: null, zero, full, random, urandom and tty.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Plans the container of `spec`. `root` is its root as a detached mount, `stage` a directory of the host.
pub(crate) fn plan(spec: &Spec, bundle: &Path, root: OwnedFd, stage: &Path) -> Result<Plan> {
    let none = Linux::default();
    let linux = spec.linux.as_ref().unwrap_or(&none);
    let namespaces = namespaces(linux)?;
    let process = spec.process.as_ref().ok_or_else(|| Error::Unsupported {
        field: "process".into(),
        value: String::new(),
        hint: "a container without a process cannot be started; add one",
    })?;
    let mut warnings = Vec::new();
    let modules = || label::Modules::of(Path::new("/sys"));
    let label = label::of_mounts(&linux.mount_label, modules, &mut warnings)?;
    let root_path = bundle.join(spec.root.as_ref().map_or("", |root| root.path.as_str()));
    let surroundings = mounts::Surroundings { bundle, root: &root_path, linux, label: label.as_deref() };
    let text = |s: &str| (!s.is_empty()).then(|| s.as_bytes().to_vec());
    let below_root = |paths: &[String]| paths.iter().map(|p| relative(p)).collect::<Result<Vec<_>>>();
    Ok(Plan {
        root: RootPlan {
            tree: root,
            shared: linux.namespace(NamespaceType::Mount).is_none(),
            stage: cstring(stage.as_os_str().as_encoded_bytes())?,
            read_only: spec.root.as_ref().is_some_and(|r| r.readonly),
            host_propagation: host_propagation(linux.rootfs_propagation),
            below: match linux.rootfs_propagation {
                Some(RootfsPropagation::Slave | RootfsPropagation::Rslave) => {
                    MountPropagationFlags::DOWNSTREAM
                }
                _ => MountPropagationFlags::PRIVATE,
            },
            shares_volumes: own_propagation(linux.rootfs_propagation) == MountPropagationFlags::SHARED,
            propagation: own_propagation(linux.rootfs_propagation),
        },
        mounts: spec
            .mounts
            .iter()
            .map(|m| mounts::plan(m, &surroundings, &mut warnings))
            .collect::<Result<_>>()?,
        devices: devices(spec, linux, namespaces.has_user())?,
        foreign_dev: foreign_dev(spec),
        sysctls: sysctls(linux)?,
        masked: once(below_root(&linux.masked_paths)?),
        read_only: below_root(&linux.readonly_paths)?,
        hostname: text(&spec.hostname),
        domainname: text(&spec.domainname),
        hooks: hooks::plan(spec.hooks.as_ref())?,
        process: process::plan(process, linux, None, false)?,
        net_devices: net_devices(linux),
        moved: None,
        label,
        warnings,
        namespaces,
    })
}

/// Each path once, in the order of their first: what is masked twice is two mounts on each other.
fn once(paths: Vec<CString>) -> Vec<CString> {
    let mut seen = std::collections::HashSet::new();
    paths.into_iter().filter(|path| seen.insert(normal(path))).collect()
}

/// A path without the slashes and dots that change nothing.
fn normal(path: &CStr) -> Vec<u8> {
    let names = path.to_bytes().split(|&b| b == b'/').filter(|name| !matches!(*name, b"" | b"."));
    names.collect::<Vec<_>>().join(&b'/')
}

fn relative(path: &str) -> Result<CString> {
    Ok(cstring(path.trim_start_matches('/').as_bytes())?)
}

fn namespaces(linux: &Linux) -> Result<Namespaces> {
    let mut plan = Namespaces {
        uid_mappings: linux.uid_mappings.clone(),
        gid_mappings: linux.gid_mappings.clone(),
        ..Namespaces::default()
    };
    for namespace in &linux.namespaces {
        if namespace.path.is_empty() {
            match namespace.kind {
                NamespaceType::Cgroup => plan.new_cgroup = true,
                NamespaceType::Time if !linux.time_offsets.is_empty() => {
                    let line = |(clock, offset): (&String, &TimeOffset)| {
                        format!("{clock} {} {}\n", offset.secs, offset.nanosecs)
                    };
                    plan.clocks = Some(linux.time_offsets.iter().map(line).collect());
                }
                kind => plan.new = plan.new.with(new_flag(kind)),
            }
            continue;
        }
        let file = rustix::fs::open(&namespace.path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .act("open", || format!("{} namespace {}", namespace.kind.as_str(), namespace.path))?;
        match namespace.kind {
            NamespaceType::Pid => plan.joined_pid = Some(file),
            NamespaceType::Mount => {
                refuse_own_mounts(&file, &namespace.path)?;
                plan.joined.push((LinkNameSpaceType::Mount, file));
            }
            kind => plan.joined.push((link_type(kind), file)),
        }
    }
    Ok(plan)
}

/// The container's root becomes that of every process in its mount namespace: this one must not be among them.
fn refuse_own_mounts(file: &OwnedFd, path: &str) -> Result<()> {
    let stat = rustix::fs::fstat(file).act("read", || path)?;
    let own = rustix::fs::stat(c"/proc/self/ns/mnt").act("read", || "/proc/self/ns/mnt")?;
    if (stat.st_dev, stat.st_ino) != (own.st_dev, own.st_ino) {
        return Ok(());
    }
    Err(Error::Unsupported {
        field: "linux.namespaces (mount)".into(),
        value: path.into(),
        hint: "it is the runtime's own, whose root would be replaced; name another or leave the path out",
    })
}

fn net_devices(linux: &Linux) -> Vec<netdevices::Device> {
    let device = |(name, device): (&String, &NetDevice)| netdevices::Device {
        name: name.clone(),
        inside: if device.name.is_empty() { name.clone() } else { device.name.clone() },
    };
    linux.net_devices.iter().map(device).collect()
}

fn new_flag(kind: NamespaceType) -> NewNamespaces {
    match kind {
        NamespaceType::Pid => NewNamespaces::PID,
        NamespaceType::Network => NewNamespaces::NET,
        NamespaceType::Mount => NewNamespaces::MOUNT,
        NamespaceType::Ipc => NewNamespaces::IPC,
        NamespaceType::Uts => NewNamespaces::UTS,
        NamespaceType::User => NewNamespaces::USER,
        NamespaceType::Cgroup => NewNamespaces::CGROUP,
        NamespaceType::Time => NewNamespaces::TIME,
    }
}

fn link_type(kind: NamespaceType) -> LinkNameSpaceType {
    match kind {
        NamespaceType::Pid => LinkNameSpaceType::ProcessID,
        NamespaceType::Network => LinkNameSpaceType::Network,
        NamespaceType::Mount => LinkNameSpaceType::Mount,
        NamespaceType::Ipc => LinkNameSpaceType::InterProcessCommunication,
        NamespaceType::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
        NamespaceType::User => LinkNameSpaceType::User,
        NamespaceType::Cgroup => LinkNameSpaceType::ControlGroup,
        NamespaceType::Time => LinkNameSpaceType::Time,
    }
}

/// A container that shares its mounts with the host gets the host's; every other gets unmounts at least, so that it
/// never keeps a filesystem of the host busy.
fn host_propagation(root: Option<RootfsPropagation>) -> MountPropagationFlags {
    use MountPropagationFlags as P;
    match root {
        Some(RootfsPropagation::Private | RootfsPropagation::Rprivate) => P::PRIVATE | P::REC,
        _ => P::DOWNSTREAM | P::REC,
    }
}

fn own_propagation(root: Option<RootfsPropagation>) -> MountPropagationFlags {
    use MountPropagationFlags as P;
    match root {
        Some(RootfsPropagation::Shared | RootfsPropagation::Rshared) => P::SHARED,
        Some(RootfsPropagation::Unbindable | RootfsPropagation::Runbindable) => P::UNBINDABLE,
        _ => P::PRIVATE,
    }
}

fn devices(spec: &Spec, linux: &Linux, user_namespace: bool) -> Result<Vec<DevicePlan>> {
    let mut plans = Vec::new();
    let foreign = foreign_dev(spec);
    if !foreign {
        for (name, major, minor) in DEVICES {
            let (kind, mode) = (FileType::CharacterDevice, Mode::from_raw_mode(0o666));
            plans.push(device(&format!("/dev/{name}"), kind, mode, (major, minor), (0, 0), user_namespace)?);
        }
    }
    let below_dev = |path: &str| Path::new(path).starts_with("/dev");
    for given in linux.devices.iter().filter(|given| !foreign || !below_dev(&given.path)) {
        let kind = match given.kind {
            DeviceType::Block => FileType::BlockDevice,
            DeviceType::Fifo => FileType::Fifo,
            _ => FileType::CharacterDevice,
        };
        let mode = Mode::from_raw_mode(given.file_mode.unwrap_or(0o666) & 0o7777);
        let number = (given.major.max(0) as u32, given.minor.max(0) as u32);
        let owner = (given.uid.unwrap_or(0), given.gid.unwrap_or(0));
        let plan = device(&given.path, kind, mode, number, owner, user_namespace)?;
        plans.retain(|p| p.path != plan.path);
        plans.push(plan);
    }
    Ok(plans)
}

/// Somebody's own /dev, most likely the host's, which is left as it is.
fn foreign_dev(spec: &Spec) -> bool {
    spec.mounts.iter().any(|m| m.destination.trim_matches('/') == "dev" && m.is_bind())
}

fn device(
    path: &str,
    kind: FileType,
    mode: Mode,
    (major, minor): (u32, u32),
    (uid, gid): (u32, u32),
    user_namespace: bool,
) -> Result<DevicePlan> {
    let host = if user_namespace {
        let say = || format!("{path} of the host, to bind it into a user namespace");
        Some(kernel::mount::clone_tree(rustix::fs::CWD, &cstring(path.as_bytes())?, false).act("open", say)?)
    } else {
        None
    };
    let number = rustix::fs::makedev(major, minor);
    Ok(DevicePlan { path: relative(path)?, kind, mode, number, uid, gid, host })
}

fn sysctls(linux: &Linux) -> Result<Vec<(CString, Vec<u8>)>> {
    linux
        .sysctl
        .iter()
        .map(|(name, value)| {
            // The very path whose namespace was judged.
            let path = crate::contract::sysctl_path(name);
            Ok((cstring(format!("proc/sys/{path}").as_bytes())?, value.clone().into_bytes()))
        })
        .collect()
}
