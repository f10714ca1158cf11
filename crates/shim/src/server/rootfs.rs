//! The container's root, as a detached mount.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use kernel::Act;
use kernel::mount::{Attributes, Overlay, set_attributes};
use kernel::process::cstring;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::connection::Refusal;
use crate::protocol::{Code, IdMapping, Rootfs};

/// `stage` is a directory of the host that is mounted on in a mount namespace that nobody else ever sees.
pub(super) fn root(rootfs: &Rootfs, stage: &Path) -> Result<OwnedFd, Refusal> {
    let mapped = !rootfs.uid_mappings.is_empty() || !rootfs.gid_mappings.is_empty();
    if !rootfs.directory.is_empty() {
        let tree = clone(Path::new(&rootfs.directory), true)?;
        if mapped {
            map(&tree, &user(rootfs)?, Path::new(&rootfs.directory))?;
        }
        return Ok(tree);
    }
    if rootfs.lower.is_empty() {
        return Err(Refusal::new(Code::InvalidArgument, "rootfs has neither layers nor a directory"));
    }
    if !rootfs.work.is_empty() {
        remove_note(Path::new(&rootfs.work))?;
    }
    if mapped {
        return Trees::of(rootfs)?.overlay(stage).map_err(Refusal::internal);
    }
    let upper = (!rootfs.upper.is_empty()).then(|| (Path::new(&rootfs.upper), Path::new(&rootfs.work)));
    overlay(rootfs.lower.iter().map(Path::new), upper).map_err(Refusal::internal)
}

fn overlay<'a>(
    lower: impl Iterator<Item = &'a Path>,
    upper: Option<(&'a Path, &'a Path)>,
) -> kernel::Result<OwnedFd> {
    // Nobody waits for a sync when it is unmounted; what a container wrote is not promised past a power cut.
    kernel::mount::overlay(&Overlay { lower: lower.collect(), upper, volatile: true })
}

/// The kernel's note that an earlier volatile mount was never synced. It was the same container's: go on.
fn remove_note(work: &Path) -> Result<(), Refusal> {
    let note = work.join("work/incompat");
    match fs::remove_dir_all(&note) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Refusal::internal(format!("cannot remove {}: {e}", note.display())))
        }
        _ => Ok(()),
    }
}

fn clone(path: &Path, recursive: bool) -> Result<OwnedFd, Refusal> {
    let name = cstring(path.as_os_str().as_encoded_bytes()).map_err(Refusal::internal)?;
    kernel::mount::clone_tree(rustix::fs::CWD, &name, recursive)
        .map_err(|e| Refusal::internal(format!("cannot open the root {}: {e}", path.display())))
}

/// A user namespace with the root's mappings.
fn user(rootfs: &Rootfs) -> Result<OwnedFd, Refusal> {
    kernel::namespace::user(&map_text(&rootfs.uid_mappings), &map_text(&rootfs.gid_mappings))
        .map_err(Refusal::internal)
}

/// The id outside of root inside.
pub(super) fn root_of(mappings: &[IdMapping]) -> u32 {
    let root = mappings.iter().find(|m| m.container_id == 0 && m.size > 0);
    root.or(mappings.first()).map_or(0, |m| m.host_id)
}

/// The text of `/proc/PID/uid_map`.
pub(super) fn map_text(mappings: &[IdMapping]) -> String {
    mappings.iter().map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size)).collect()
}

fn map(tree: &OwnedFd, user: &OwnedFd, path: &Path) -> Result<(), Refusal> {
    let attributes = Attributes { set: Attributes::IDMAP, ..Attributes::default() };
    set_attributes(tree, attributes, false, Some(user)).map_err(|e| {
        let path = path.display();
        Refusal::internal(format!(
            "cannot map the ids of {path}: {e} (its filesystem must be one that allows it, and not be mapped already)"
        ))
    })
}

/// The layers of an overlay whose ids are mapped, as mounts that are attached nowhere.
struct Trees {
    lower: Vec<OwnedFd>,
    /// That of the directory which has both, and their names in it.
    upper: Option<(OwnedFd, PathBuf, PathBuf)>,
    /// The ids of root inside, which whiteouts and the like belong to: the host's root is nobody in these mounts.
    root: (u32, u32),
}

impl Trees {
    fn of(rootfs: &Rootfs) -> Result<Self, Refusal> {
        let user = user(rootfs)?;
        let mapped = |path: &Path| {
            let tree = clone(path, false)?;
            map(&tree, &user, path)?;
            Ok::<_, Refusal>(tree)
        };
        let lower = rootfs.lower.iter().map(|path| mapped(Path::new(path))).collect::<Result<_, _>>()?;
        let upper = match (Path::new(&rootfs.upper), Path::new(&rootfs.work)) {
            (upper, _) if upper.as_os_str().is_empty() => None,
            (upper, work) => match (upper.parent(), upper.file_name(), work.file_name()) {
                (Some(parent), Some(up), Some(down)) if work.parent() == Some(parent) => {
                    Some((mapped(parent)?, up.into(), down.into()))
                }
                _ => {
                    let message = format!(
                        "rootfs.work {} must be beside rootfs.upper {} for ids to be mapped",
                        work.display(),
                        upper.display()
                    );
                    return Err(Refusal::new(Code::InvalidArgument, message));
                }
            },
        };
        Ok(Self { lower, upper, root: (root_of(&rootfs.uid_mappings), root_of(&rootfs.gid_mappings)) })
    }

    fn overlay(&self, stage: &Path) -> kernel::Result<OwnedFd> {
        // Linux 6.15 takes layers that are attached nowhere.
        match self.overlay_at(|_, tree| PathBuf::from(format!("/proc/self/fd/{}", tree.as_raw_fd()))) {
            Err(e) if e.errno() == Some(Errno::INVAL) => self.overlay_in_namespace(stage),
            other => other,
        }
    }

    /// The overlay of the trees, which `path` tells the places of (0 is that of `upper`).
    fn overlay_at(&self, path: impl Fn(usize, &OwnedFd) -> PathBuf) -> kernel::Result<OwnedFd> {
        let lower: Vec<PathBuf> = self.lower.iter().enumerate().map(|(n, tree)| path(n + 1, tree)).collect();
        let upper = self.upper.as_ref().map(|(tree, upper, work)| {
            let place = path(0, tree);
            (place.join(upper), place.join(work))
        });
        let upper = upper.as_ref().map(|(upper, work)| (upper.as_path(), work.as_path()));
        let (uid, gid) = self.root;
        kernel::capability::as_user(uid, gid, || overlay(lower.iter().map(PathBuf::as_path), upper))?
    }

    /// An older kernel wants layers attached: in a mount namespace that is gone when this returns.
    fn overlay_in_namespace(&self, stage: &Path) -> kernel::Result<OwnedFd> {
        let own = rustix::fs::open(c"/proc/self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .act("open", || "this process's mount namespace")?;
        kernel::namespace::unshare(UnshareFlags::NEWNS).act("create", || "a mount namespace")?;
        let made = self.attach(stage).and_then(|()| self.overlay_at(|n, _| stage.join(n.to_string())));
        // The roots of this process are those of the namespace again, too.
        move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Mount))
            .act("leave", || "a mount namespace")?;
        made
    }

    fn attach(&self, stage: &Path) -> kernel::Result<()> {
        let say = || stage.display().to_string();
        let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", flags).act("make private", || "the mounts of a namespace")?;
        let tmpfs = kernel::mount::filesystem(c"tmpfs", None, [], 0).act("mount", || "a tmpfs")?;
        let open = |path: &Path| {
            rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .act("open", || path.display().to_string())
        };
        kernel::mount::attach(&tmpfs, open(stage)?).act("mount on", say)?;
        let trees = self.upper.iter().map(|(tree, ..)| (0, tree)).chain((1..).zip(&self.lower));
        for (n, tree) in trees {
            let place = stage.join(n.to_string());
            fs::create_dir(&place).act("create", || place.display().to_string())?;
            kernel::mount::attach(tree, open(&place)?).act("mount on", || place.display().to_string())?;
        }
        Ok(())
    }
}
