//! A mount namespace for the making of a container: its root is mounted there and nowhere else, and whatever is begun in it
//! takes it along. It is gone when the last process in it is.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use kernel::Act;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::super::super::connection::Refusal;

/// Does `work` where `tree` is mounted on `place`, which is made if need be.
pub(super) fn within<T>(
    tree: &OwnedFd,
    place: &Path,
    work: impl FnOnce() -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    let say = || place.display().to_string();
    fs::create_dir_all(place).act("create", say).map_err(Refusal::internal)?;
    let own = rustix::fs::open(c"/proc/self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .act("open", || "this process's mount namespace")
        .map_err(Refusal::internal)?;
    kernel::namespace::unshare(UnshareFlags::NEWNS)
        .act("create", || "a mount namespace")
        .map_err(Refusal::internal)?;
    let done = mount(tree, place).map_err(Refusal::internal).and_then(|()| work());
    // The roots of this process are those of the namespace again, too.
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Mount))
        .act("leave", || "a mount namespace")
        .map_err(Refusal::internal)?;
    done
}

fn mount(tree: &OwnedFd, place: &Path) -> kernel::Result<()> {
    let say = || place.display().to_string();
    keep_to_itself(place)?;
    let target = rustix::fs::open(place, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .act("open", say)?;
    kernel::mount::attach(tree, target).act("mount on", say)
}

/// Makes the mount that `place` is in private here: what is mounted in it is not to show elsewhere. All others go on
/// as they are, for what a container mounts in a volume that is shared both ways is to come out.
fn keep_to_itself(place: &Path) -> kernel::Result<()> {
    for path in place.ancestors() {
        match mount_change(path, MountPropagationFlags::PRIVATE) {
            // No root of a mount.
            Err(Errno::INVAL) => {}
            other => return other.act("make private", || format!("the mount {}", path.display())),
        }
    }
    Ok(())
}
