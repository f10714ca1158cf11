//! Mounts: from the options of fstab to what the new mount API takes.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use kernel::mount::Attributes;
use kernel::{Act, process::cstring};
use rustix::mount::MountPropagationFlags;

use super::idmap::{self, Idmap};
use super::options::{AccessTimes, Bits, Meaning, meaning};
use crate::contract::{Linux, Mount, NamespaceType};
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
    /// Bits that its source may have and nobody asked for: cleared where the kernel lets this process.
    pub(crate) unasked: u64,
    /// It is made in a user namespace: what the attributes of a mount of the host protect stays protected.
    pub(crate) locked: bool,
    /// Its ids are mapped as the container's new user namespace maps them, once that is made; true: with all below.
    pub(crate) waits_for_ids: Option<bool>,
    /// A tmpfs that starts with what the directory under it holds.
    pub(crate) copy_up: bool,
    /// A tmpfs that gets the permissions of the directory under it.
    pub(crate) copy_mode: bool,
    /// The label of its root directory.
    pub(crate) label: Option<CString>,
    /// As the configuration has it, for messages.
    pub(crate) shown: String,
}

#[derive(Debug)]
pub(crate) enum Source {
    /// A filesystem made inside the container's namespaces.
    Filesystem { kind: CString, source: Option<CString>, options: Vec<(CString, Option<CString>)> },
    /// A tree cloned by the parent, which may reach what the container's user may not.
    Tree { tree: OwnedFd, is_dir: bool },
    /// A tree that the child clones, which may do all its parent may: since Linux 6.8 a mount table is in the order in
    /// which mounts were made, and programs take the last that fits for the one on top.
    Path { path: CString, recursive: bool, is_dir: bool },
    /// A tree of the container's own, with what was mounted in it before: cloned by the child when its turn comes, and
    /// handed to the parent if its ids are mapped.
    Inside { path: CString, recursive: bool, idmap: Option<Idmap> },
    /// What is mounted there already; options are for the whole filesystem.
    Remount { options: Vec<(CString, Option<CString>)> },
    /// The view of the container's own cgroups: v2, or a tmpfs with a directory a v1 hierarchy.
    Cgroup(CgroupView),
}

impl Source {
    /// A tmpfs whose permissions nobody has said.
    fn takes_mode(&self) -> bool {
        matches!(self, Self::Filesystem { kind, options, .. }
            if kind.as_c_str() == c"tmpfs" && !options.iter().any(|(key, _)| key.as_c_str() == c"mode"))
    }
}

#[derive(Debug)]
pub(crate) enum CgroupView {
    V2,
    /// Name of the directory, and the options that select the hierarchy. `own` shows each from the container's own cgroup
    /// on, where no cgroup namespace does.
    V1 {
        hierarchies: Vec<(CString, Vec<CString>)>,
        own: bool,
    },
}

/// What mounts are planned in.
pub(crate) struct Surroundings<'a> {
    /// What relative sources are relative to.
    pub(crate) bundle: &'a Path,
    /// Where the host has the container's root.
    pub(crate) root: &'a Path,
    pub(crate) linux: &'a Linux,
    /// The SELinux context of the container's filesystems.
    pub(crate) label: Option<&'a CStr>,
}

impl Surroundings<'_> {
    /// A path of the host as one inside the container's root, if it leads there by its words.
    fn inside<'p>(&self, path: &'p Path) -> Option<&'p Path> {
        let below = path.strip_prefix(self.root).ok().filter(|_| self.root != Path::new("/"));
        below.filter(|below| below.components().all(|part| matches!(part, Component::Normal(_))))
    }

    /// Before it changes its root the child sees what this process sees, with the same rights.
    fn sees_host(&self) -> bool {
        let new = |kind| self.linux.namespace(kind).is_none_or(|n| n.path.is_empty());
        self.linux.namespace(NamespaceType::User).is_none() && new(NamespaceType::Mount)
    }
}

/// Plans one mount. What has no effect is told as a warning.
pub(crate) fn plan(
    mount: &Mount,
    surroundings: &Surroundings<'_>,
    warnings: &mut Vec<String>,
) -> Result<MountPlan> {
    let Options {
        mut own,
        says_attributes,
        mut recursive,
        propagation,
        mut filesystem,
        remount,
        copy_up,
        idmap,
    } = read_options(mount, warnings)?;
    let bind = mount.is_bind();
    let shown = if bind { mount.source.clone() } else { mount.kind.clone() };
    let (kind, all) = propagation.unwrap_or((MountPropagationFlags::PRIVATE, true));
    if !bind && !remount {
        // Nothing is below a filesystem that is new.
        own.set(recursive.0.set);
        recursive = Bits::default();
    }
    let spread = if all { &mut recursive } else { &mut own };
    spread.0.propagation = u64::from(kind.bits() & !MountPropagationFlags::REC.bits());
    let unasked =
        if bind && !remount && says_attributes { unasked(own.0.set, surroundings.linux) } else { 0 };
    let idmap = idmap::plan(mount, idmap, surroundings.linux)?;
    let mut waits_for_ids = None;
    let mut label = None;
    let source = if remount {
        for (bits, name) in [(own.0.set, c"ro"), (own.0.clear, c"rw")] {
            if bits & Attributes::RDONLY != 0 && !bind {
                filesystem.push((name.into(), None));
            }
        }
        if propagation.is_none() {
            recursive.0.propagation = 0;
        }
        Source::Remount { options: filesystem }
    } else if bind {
        let path = surroundings.bundle.join(&mount.source);
        let recursive = !mount.has("bind") || mount.has("rbind");
        if let Some(inside) = surroundings.inside(&path) {
            Source::Inside { path: cstring(inside.as_os_str().as_encoded_bytes())?, recursive, idmap }
        } else {
            let tree = bind_source(mount, &path, recursive, surroundings, idmap.is_some())?;
            waits_for_ids = idmap::apply(idmap, &tree, mount)?;
            tree
        }
    } else if mount.kind == "cgroup" || mount.kind == "cgroup2" {
        Source::Cgroup(cgroup_view(surroundings.linux.namespace(NamespaceType::Cgroup).is_none())?)
    } else {
        let source = match mount.source.as_str() {
            "" | "none" => None,
            source => Some(cstring(source.as_bytes())?),
        };
        match (mount.kind.as_str(), surroundings.label) {
            // These have labels of their own, by what is in them.
            ("proc" | "sysfs", _) | (_, None) => {}
            ("mqueue", Some(context)) => label = Some(context.to_owned()),
            (_, Some(context)) => filesystem.push((c"context".into(), Some(context.to_owned()))),
        }
        Source::Filesystem { kind: cstring(mount.kind.as_bytes())?, source, options: filesystem }
    };
    let read_only_last = !bind && !remount && own.0.set & Attributes::RDONLY != 0;
    if read_only_last {
        own.0.set &= !Attributes::RDONLY;
    }
    // Some name the place as the host sees it.
    let destination = surroundings.inside(Path::new(&mount.destination)).and_then(Path::to_str);
    let target = destination.unwrap_or(&mount.destination).trim_start_matches('/');
    let target = cstring(if target.is_empty() { b"." } else { target.as_bytes() })?;
    Ok(MountPlan {
        target,
        copy_mode: source.takes_mode(),
        source,
        read_only_last,
        attributes: own.0,
        recursive_attributes: recursive.0,
        unasked,
        locked: surroundings.linux.namespace(NamespaceType::User).is_some(),
        waits_for_ids,
        copy_up,
        label,
        shown,
    })
}

/// A bind mount that is given attributes has those and no others: what else its source has (`nosuid`, say) is taken away,
/// as the usual runtimes do. Without any it is as its source. In a user namespace the kernel keeps attributes that protect
/// the host, so they stay there.
fn unasked(asked: u64, linux: &Linux) -> u64 {
    const LOCKED: u64 = Attributes::RDONLY | Attributes::NOSUID | Attributes::NODEV | Attributes::NOEXEC;
    let all = match linux.namespace(NamespaceType::User) {
        Some(_) => Attributes::NOSYMFOLLOW,
        None => LOCKED | Attributes::NOSYMFOLLOW,
    };
    all & !asked
}

/// The options of one mount, sorted.
#[derive(Default)]
struct Options {
    own: Bits,
    /// An attribute of the mount itself was named, if only to take it back.
    says_attributes: bool,
    recursive: Bits,
    propagation: Option<(MountPropagationFlags, bool)>,
    filesystem: Vec<(CString, Option<CString>)>,
    remount: bool,
    copy_up: bool,
    /// Asked for; with all below.
    idmap: Option<bool>,
}

fn read_options(mount: &Mount, warnings: &mut Vec<String>) -> Result<Options> {
    let mut options = Options::default();
    let mut access_times = AccessTimes::default();
    let bind = mount.is_bind();
    for option in &mount.options {
        let meaning = meaning(option);
        options.says_attributes |= matches!(
            meaning,
            Some(Meaning::Set(_) | Meaning::Clear(_) | Meaning::AccessTime(_) | Meaning::NoAccessTime(_))
        );
        match meaning {
            Some(Meaning::Set(bits)) => options.own.set(bits),
            Some(Meaning::Clear(bits)) => options.own.clear(bits),
            Some(Meaning::SetRecursive(bits)) => options.recursive.set(bits),
            Some(Meaning::ClearRecursive(bits)) => options.recursive.clear(bits),
            Some(Meaning::AccessTime(option)) => access_times.ask(option),
            Some(Meaning::NoAccessTime(option)) => access_times.take_back(option),
            Some(Meaning::AtimeRecursive(mode)) => options.recursive.atime(mode),
            Some(Meaning::Propagation(kind, all)) => options.propagation = Some((kind, all)),
            Some(Meaning::Remount) => options.remount = true,
            Some(Meaning::Idmap(all)) => options.idmap = Some(all),
            Some(Meaning::Bind | Meaning::Nothing) => {}
            Some(Meaning::CopyUp) if mount.kind == "tmpfs" && !bind => options.copy_up = true,
            Some(Meaning::CopyUp) => {
                return Err(Error::Unsupported {
                    field: format!("mounts[{}].options", mount.destination),
                    value: option.clone(),
                    hint: "only into a tmpfs is anything copied; give the type tmpfs or leave it out",
                });
            }
            Some(Meaning::Superblock) | None if bind => warnings.push(format!(
                "mounts[{}].options: {option:?} has no effect: a bind mount has the options of what it binds",
                mount.destination
            )),
            Some(Meaning::Superblock) | None => options.filesystem.push(match option.split_once('=') {
                Some((key, value)) => (cstring(key.as_bytes())?, Some(cstring(value.as_bytes())?)),
                None => (cstring(option.as_bytes())?, None),
            }),
        }
    }
    access_times.apply(&mut options.own);
    Ok(options)
}

fn bind_source(
    mount: &Mount,
    path: &Path,
    recursive: bool,
    surroundings: &Surroundings<'_>,
    mapped: bool,
) -> Result<Source> {
    let c_path = cstring(path.as_os_str().as_encoded_bytes())?;
    let say = || format!("{} to bind it on {}", path.display(), mount.destination);
    let is_dir = |stat: rustix::fs::Stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
    if !mapped && surroundings.sees_host() {
        let is_dir = is_dir(rustix::fs::stat(&c_path).act("open", say)?);
        return Ok(Source::Path { path: c_path, recursive, is_dir });
    }
    let tree = kernel::mount::clone_tree(rustix::fs::CWD, &c_path, recursive).act("open", say)?;
    let is_dir = is_dir(rustix::fs::fstat(&tree).act("read", say)?);
    Ok(Source::Tree { tree, is_dir })
}

fn cgroup_view(own: bool) -> Result<CgroupView> {
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
    Ok(CgroupView::V1 { hierarchies, own })
}

impl MountPlan {
    /// The tree the parent cloned.
    pub(crate) fn tree(&self) -> Option<&OwnedFd> {
        match &self.source {
            Source::Tree { tree, .. } => Some(tree),
            _ => None,
        }
    }

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

    fn plan(mount: &Mount, bundle: &Path) -> Result<MountPlan> {
        let mut warnings = Vec::new();
        let linux = Linux::default();
        let planned = super::plan(
            mount,
            &Surroundings { bundle, root: Path::new("/b/rootfs"), linux: &linux, label: None },
            &mut warnings,
        );
        assert!(warnings.is_empty(), "{warnings:?}");
        planned
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
    fn the_last_of_opposites_wins() {
        let plan = plan(&mount("bind", &["bind", "ro", "rw", "rprivate"]), Path::new("/")).unwrap();
        assert_eq!(plan.attributes.set, 0);
        assert_eq!(plan.attributes.clear, Attributes::RDONLY);
        assert!(!plan.read_only_last);
    }

    #[test]
    fn a_bind_mount_with_attributes_has_no_others() {
        let of = |options: &[&str]| plan(&mount("bind", options), Path::new("/")).unwrap().unasked;
        let locked = Attributes::RDONLY | Attributes::NOSUID | Attributes::NODEV | Attributes::NOEXEC;
        assert_eq!(of(&["bind", "rprivate", "rro"]), 0);
        assert_eq!(of(&["rbind", "ro"]), (locked | Attributes::NOSYMFOLLOW) & !Attributes::RDONLY);
        assert_eq!(of(&["rbind", "rw"]), locked | Attributes::NOSYMFOLLOW);
        assert_eq!(plan(&mount("tmpfs", &["ro"]), Path::new("/")).unwrap().unasked, 0);
    }

    #[test]
    fn access_times_change_only_when_one_is_asked_for() {
        use Attributes as A;
        let of = |options: &[&str]| {
            let plan = plan(&mount("bind", options), Path::new("/")).unwrap();
            (plan.attributes.set, plan.attributes.clear & (A::ATIME | A::NODIRATIME), plan.unasked != 0)
        };
        for back in ["atime", "norelatime", "nostrictatime", "diratime"] {
            assert_eq!(of(&["bind", back]), (0, 0, true), "{back}");
        }
        assert_eq!(of(&["bind", "noatime", "atime"]), (0, 0, true));
        let all = A::ATIME | A::NODIRATIME;
        assert_eq!(of(&["bind", "relatime"]), (0, all, true));
        assert_eq!(of(&["bind", "nodiratime", "norelatime"]), (A::NODIRATIME, A::ATIME, true));
        assert_eq!(of(&["bind", "noatime", "strictatime"]), (A::STRICTATIME, all, true));
        assert_eq!(of(&["bind", "noatime", "relatime"]), (A::NOATIME, all, true));
    }

    #[test]
    fn what_lies_in_the_root_is_found_there() {
        let of = |source: &str| {
            let bind = Mount { source: source.into(), ..mount("bind", &["bind"]) };
            match plan(&bind, Path::new("/b")) {
                Ok(MountPlan { source: Source::Inside { path, .. }, .. }) => Some(path),
                _ => None,
            }
        };
        assert_eq!(of("rootfs/x/y"), Some(c"x/y".into()));
        assert_eq!(of("/b/rootfs"), Some(c"".into()));
        for outside in ["/b/rootfs/../x", "/b/rootfsx", "/tmp", "/b"] {
            assert_eq!(of(outside), None, "{outside}");
        }
        let target = |at: &str| {
            let mount = Mount { destination: at.into(), ..mount("tmpfs", &[]) };
            plan(&mount, Path::new("/b")).unwrap().target
        };
        assert_eq!(target("/b/rootfs/mnt").as_c_str(), c"mnt");
        assert_eq!(target("/mnt/../b/rootfs").as_c_str(), c"mnt/../b/rootfs");
    }

    #[test]
    fn only_a_tmpfs_is_copied_into() {
        assert!(plan(&mount("tmpfs", &["tmpcopyup"]), Path::new("/")).unwrap().copy_up);
        let error = plan(&mount("proc", &["tmpcopyup"]), Path::new("/")).unwrap_err();
        assert!(error.to_string().contains("mounts[/x].options: \"tmpcopyup\""), "{error}");
    }

    #[test]
    fn what_a_bind_mount_cannot_have_is_a_warning() {
        let linux = Linux::default();
        let surroundings =
            Surroundings { bundle: Path::new("/"), root: Path::new("/b/rootfs"), linux: &linux, label: None };
        let mut warnings = Vec::new();
        super::plan(&mount("bind", &["bind", "mode=755", "sync", "ro"]), &surroundings, &mut warnings)
            .unwrap();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("\"mode=755\" has no effect"), "{warnings:?}");
    }

    #[test]
    fn labels_go_where_labels_can_go() {
        let linux = Linux::default();
        let surroundings = Surroundings {
            bundle: Path::new("/"),
            root: Path::new("/b/rootfs"),
            linux: &linux,
            label: Some(c"u:object_r:t:s0"),
        };
        let of = |kind: &str| super::plan(&mount(kind, &[]), &surroundings, &mut Vec::new()).unwrap();
        let options = |plan: &MountPlan| match &plan.source {
            Source::Filesystem { options, .. } => options.clone(),
            other => panic!("{other:?}"),
        };
        let context = (c"context".into(), Some(c"u:object_r:t:s0".into()));
        assert_eq!(options(&of("tmpfs")), [context]);
        assert!(options(&of("proc")).is_empty() && of("proc").label.is_none());
        assert!(options(&of("mqueue")).is_empty() && of("mqueue").label.is_some());
    }

    #[test]
    fn a_remount_makes_nothing() {
        let plan = plan(&mount("", &["remount", "ro", "size=1m"]), Path::new("/")).unwrap();
        let Source::Remount { options } = &plan.source else { panic!("{:?}", plan.source) };
        assert_eq!(options, &[(c"size".into(), Some(c"1m".into())), (c"ro".into(), None)]);
        assert!(!plan.read_only_last && plan.recursive_attributes.is_empty());
    }

    #[test]
    fn a_missing_source_is_named_with_its_target() {
        let mut missing = mount("bind", &["bind"]);
        missing.source = "/no/such/thing".into();
        let error = plan(&missing, Path::new("/")).unwrap_err().to_string();
        assert!(error.contains("/no/such/thing") && error.contains("/x"), "{error}");
    }
}
