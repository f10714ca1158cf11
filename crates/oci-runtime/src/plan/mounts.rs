//! Mounts: from the options of fstab to what the new mount API takes.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::path::Path;

use kernel::mount::Attributes;
use kernel::{Act, process::cstring};
use rustix::mount::MountPropagationFlags;

use crate::contract::{IdMapping, Mount};
use crate::{Error, Result};

/// One mount, ready to be made between clone and exec.
#[derive(Debug)]
pub(crate) struct MountPlan {
    /// Where, relative to the container's root.
    pub(crate) target: CString,
    pub(crate) source: Source,
    /// Given to the mount once it is attached and everything below it is: `ro` of a filesystem that still has to take
    /// mount points and device nodes.
    pub(crate) read_only_last: bool,
    /// Given to the detached mount.
    pub(crate) attributes: Attributes,
    pub(crate) recursive_attributes: Attributes,
    /// As the configuration has it, for messages.
    pub(crate) shown: String,
}

#[derive(Debug)]
pub(crate) enum Source {
    /// A filesystem made inside the container's namespaces.
    Filesystem { kind: CString, source: Option<CString>, options: Vec<(CString, Option<CString>)> },
    /// A tree cloned by the parent, which may reach what the container's user may not.
    Tree { tree: OwnedFd, is_dir: bool },
    /// The view of the container's own cgroups: v2, or a tmpfs with a directory a v1 hierarchy.
    Cgroup(CgroupView),
}

#[derive(Debug)]
pub(crate) enum CgroupView {
    V2,
    /// Name of the directory, and the options that select the hierarchy.
    V1(Vec<(CString, Vec<CString>)>),
}

/// What an option does, when it is not the filesystem's own.
enum Meaning {
    Set(u64),
    Clear(u64),
    SetRecursive(u64),
    ClearRecursive(u64),
    /// An access-time mode: the field is cleared and this is set.
    Atime(u64),
    Propagation(MountPropagationFlags, bool),
    /// A flag of the superblock that fsconfig knows by this name.
    Filesystem,
    Nothing,
}

/// Plans one mount. `bundle` is what relative sources are relative to.
pub(crate) fn plan(mount: &Mount, bundle: &Path) -> Result<MountPlan> {
    let mut attributes = Attributes::default();
    let mut recursive = Attributes::default();
    let mut propagation = None;
    let mut options: Vec<(CString, Option<CString>)> = Vec::new();
    let bind = mount.is_bind();
    for option in &mount.options {
        match meaning(option) {
            Meaning::Set(bits) => {
                attributes.set |= bits;
                attributes.clear &= !bits;
            }
            Meaning::Clear(bits) => {
                attributes.clear |= bits;
                attributes.set &= !bits;
            }
            Meaning::SetRecursive(bits) => recursive.set |= bits,
            Meaning::ClearRecursive(bits) => recursive.clear |= bits,
            Meaning::Atime(mode) => {
                attributes.clear |= Attributes::ATIME;
                attributes.set = attributes.set & !Attributes::ATIME | mode;
            }
            Meaning::Propagation(kind, all) => propagation = Some((kind, all)),
            Meaning::Nothing => {}
            Meaning::Filesystem => match option.as_str() {
                "tmpcopyup" | "idmap" | "ridmap" => {
                    return Err(Error::Unsupported {
                        field: format!("mounts[{}].options", mount.destination),
                        value: option.clone(),
                        hint: "it comes with the completion of the OCI runtime; leave it out",
                    });
                }
                _ if bind => {} // A bind mount has the options of what it binds.
                _ => options.push(match option.split_once('=') {
                    Some((key, value)) => (cstring(key.as_bytes())?, Some(cstring(value.as_bytes())?)),
                    None => (cstring(option.as_bytes())?, None),
                }),
            },
        }
    }
    refuse_mappings(mount, &mount.uid_mappings, "uidMappings")?;
    refuse_mappings(mount, &mount.gid_mappings, "gidMappings")?;
    let shown = if bind { mount.source.clone() } else { mount.kind.clone() };
    let (kind, all) = propagation.unwrap_or((MountPropagationFlags::PRIVATE, true));
    let spread = if all { &mut recursive } else { &mut attributes };
    spread.propagation = u64::from(kind.bits() & !MountPropagationFlags::REC.bits());
    let source = if bind {
        bind_source(mount, bundle)?
    } else if mount.kind == "cgroup" || mount.kind == "cgroup2" {
        Source::Cgroup(cgroup_view()?)
    } else {
        let source = match mount.source.as_str() {
            "" | "none" => None,
            source => Some(cstring(source.as_bytes())?),
        };
        Source::Filesystem { kind: cstring(mount.kind.as_bytes())?, source, options }
    };
    let read_only_last = !bind && attributes.set & Attributes::RDONLY != 0;
    if read_only_last {
        attributes.set &= !Attributes::RDONLY;
    }
    let target = mount.destination.trim_start_matches('/');
    let target = cstring(if target.is_empty() { b"." } else { target.as_bytes() })?;
    Ok(MountPlan { target, source, read_only_last, attributes, recursive_attributes: recursive, shown })
}

fn refuse_mappings(mount: &Mount, mappings: &[IdMapping], field: &str) -> Result<()> {
    match mappings {
        [] => Ok(()),
        [first, ..] => Err(Error::Unsupported {
            field: format!("mounts[{}].{field}", mount.destination),
            value: format!("{first:?}"),
            hint: "idmapped mounts come with the completion of the OCI runtime; leave the mappings out",
        }),
    }
}

fn bind_source(mount: &Mount, bundle: &Path) -> Result<Source> {
    let path = bundle.join(&mount.source);
    let c_path = cstring(path.as_os_str().as_encoded_bytes())?;
    let recursive = !mount.has("bind") || mount.has("rbind");
    let say = || format!("{} to bind it on {}", path.display(), mount.destination);
    let tree = kernel::mount::clone_tree(rustix::fs::CWD, &c_path, recursive).act("open", say)?;
    let stat = rustix::fs::fstat(&tree).act("read", say)?;
    let is_dir = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
    Ok(Source::Tree { tree, is_dir })
}

fn cgroup_view() -> Result<CgroupView> {
    if kernel::cgroup::layout()? == kernel::cgroup::Layout::Unified {
        return Ok(CgroupView::V2);
    }
    let table = "/proc/self/cgroup";
    let lines = std::fs::read_to_string(table).act("read", || table)?;
    let mut hierarchies = Vec::new();
    for controllers in lines.lines().filter_map(|l| l.split(':').nth(1)).filter(|c| !c.is_empty()) {
        let name = controllers.strip_prefix("name=").unwrap_or(controllers);
        let selected = if controllers.starts_with("name=") {
            vec![cstring(b"none")?, cstring(controllers.as_bytes())?]
        } else {
            controllers.split(',').map(|c| cstring(c.as_bytes())).collect::<kernel::Result<_>>()?
        };
        hierarchies.push((cstring(name.as_bytes())?, selected));
    }
    Ok(CgroupView::V1(hierarchies))
}

/// The options that mean the same for every mount: for the features document.
pub(crate) const OPTIONS: [&str; 37] = [
    "defaults",
    "bind",
    "rbind",
    "rw",
    "ro",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "symfollow",
    "nosymfollow",
    "diratime",
    "nodiratime",
    "relatime",
    "atime",
    "nostrictatime",
    "noatime",
    "strictatime",
    "norelatime",
    "rro",
    "rrw",
    "rnosuid",
    "rsuid",
    "rnodev",
    "rdev",
    "rnoexec",
    "rexec",
    "private",
    "rprivate",
    "slave",
    "rslave",
    "shared",
    "rshared",
    "unbindable",
    "runbindable",
];

/// Options of mount(8) by name. What is not here is the filesystem's own.
fn meaning(option: &str) -> Meaning {
    use Meaning::{Atime, Clear, ClearRecursive, Filesystem, Nothing, Propagation, Set, SetRecursive};
    use MountPropagationFlags as P;
    match option {
        "defaults" | "bind" | "rbind" => Nothing,
        "rw" => Clear(Attributes::RDONLY),
        "ro" => Set(Attributes::RDONLY),
        "suid" => Clear(Attributes::NOSUID),
        "nosuid" => Set(Attributes::NOSUID),
        "dev" => Clear(Attributes::NODEV),
        "nodev" => Set(Attributes::NODEV),
        "exec" => Clear(Attributes::NOEXEC),
        "noexec" => Set(Attributes::NOEXEC),
        "symfollow" => Clear(Attributes::NOSYMFOLLOW),
        "nosymfollow" => Set(Attributes::NOSYMFOLLOW),
        "diratime" => Clear(Attributes::NODIRATIME),
        "nodiratime" => Set(Attributes::NODIRATIME),
        "relatime" | "atime" | "nostrictatime" => Atime(0),
        "noatime" => Atime(Attributes::NOATIME),
        "strictatime" | "norelatime" => Atime(Attributes::STRICTATIME),
        "rro" => SetRecursive(Attributes::RDONLY),
        "rrw" => ClearRecursive(Attributes::RDONLY),
        "rnosuid" => SetRecursive(Attributes::NOSUID),
        "rsuid" => ClearRecursive(Attributes::NOSUID),
        "rnodev" => SetRecursive(Attributes::NODEV),
        "rdev" => ClearRecursive(Attributes::NODEV),
        "rnoexec" => SetRecursive(Attributes::NOEXEC),
        "rexec" => ClearRecursive(Attributes::NOEXEC),
        "private" => Propagation(P::PRIVATE, false),
        "rprivate" => Propagation(P::PRIVATE, true),
        "slave" => Propagation(P::DOWNSTREAM, false),
        "rslave" => Propagation(P::DOWNSTREAM, true),
        "shared" => Propagation(P::SHARED, false),
        "rshared" => Propagation(P::SHARED, true),
        "unbindable" => Propagation(P::UNBINDABLE, false),
        "runbindable" => Propagation(P::UNBINDABLE, true),
        _ => Filesystem,
    }
}

impl MountPlan {
    /// The filesystem's options, as `kernel::mount::filesystem` takes them.
    pub(crate) fn options(
        options: &[(CString, Option<CString>)],
    ) -> impl Iterator<Item = (&CStr, Option<&CStr>)> {
        options.iter().map(|(key, value)| (key.as_c_str(), value.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, options: &[&str]) -> Mount {
        Mount {
            destination: "/x".into(),
            kind: kind.into(),
            source: "/tmp".into(),
            options: options.iter().map(ToString::to_string).collect(),
            ..Mount::default()
        }
    }

    #[test]
    fn options_go_where_they_belong() {
        let plan = plan(
            &mount("tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k", "ro"]),
            Path::new("/"),
        )
        .unwrap();
        assert_eq!(plan.attributes.set, Attributes::NOSUID | Attributes::STRICTATIME);
        assert!(plan.read_only_last);
        let Source::Filesystem { options, .. } = &plan.source else { panic!("{:?}", plan.source) };
        assert_eq!(options.len(), 2);
        assert_eq!(options[0], (c"mode".into(), Some(c"755".into())));
    }

    #[test]
    fn what_is_announced_is_known() {
        assert!(OPTIONS.iter().all(|option| !matches!(meaning(option), Meaning::Filesystem)));
    }

    #[test]
    fn the_last_of_opposites_wins() {
        let plan = plan(&mount("bind", &["bind", "ro", "rw", "rprivate"]), Path::new("/")).unwrap();
        assert_eq!(plan.attributes.set, 0);
        assert_eq!(plan.attributes.clear, Attributes::RDONLY);
        assert!(!plan.read_only_last);
    }

    #[test]
    fn what_is_not_done_yet_is_named() {
        let error = plan(&mount("tmpfs", &["tmpcopyup"]), Path::new("/")).unwrap_err();
        assert!(error.to_string().contains("mounts[/x].options"), "{error}");
    }

    #[test]
    fn a_missing_source_is_named_with_its_target() {
        let mut missing = mount("bind", &["bind"]);
        missing.source = "/no/such/thing".into();
        let error = plan(&missing, Path::new("/")).unwrap_err().to_string();
        assert!(error.contains("/no/such/thing") && error.contains("/x"), "{error}");
    }
}
