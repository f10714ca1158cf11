//! File systems on devices of volumes: made, mended and enlarged, and as mounts that are attached nowhere, with the kernel's own
//! words where it refuses.

pub(super) mod kind;
pub(super) mod program;
pub(super) mod root;
pub(super) mod size;
pub(super) mod superblock;
#[cfg(test)]
pub(super) mod tests;

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use grpc::{Code, Failure};
use kernel::freeze::Frozen;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};
use rustix::thread::UnshareFlags;

use self::kind::Kind;
use self::size::BLOCK;
use super::{Mounting, Usage, failed};
use crate::plugin::pool::record::Volume;

/// Any bytes as what a volume begins with.
pub(in crate::plugin) fn exercise(bytes: &[u8]) {
    superblock::exercise(bytes);
}

/// Mounts the file system on `device`.
///
/// # Errors
/// `InvalidArgument` that names the option where one is refused, with what the kernel says of it.
pub(super) fn mount(
    kind: Kind,
    device: &Path,
    read_only: bool,
    options: &[(String, Option<String>)],
) -> Result<OwnedFd, Failure> {
    let failed = |e: Errno, said: &str| {
        let hint = match e {
            Errno::NODEV => " (the kernel has no such file system)",
            // One and its copies have the same identity.
            Errno::EXIST if kind == Kind::Btrfs => {
                " (its origin or a copy of it is mounted, and kernels before 6.7 do not mount two)"
            }
            _ => "",
        };
        Failure::internal(format!("cannot mount {}: {e}{hint}{said}", kind.name()))
    };
    let context = fsopen(kind.name(), FsOpenFlags::FSOPEN_CLOEXEC).map_err(|e| failed(e, ""))?;
    let context = context.as_fd();
    fsconfig_set_string(context, "source", device).map_err(|e| failed(e, &said(context)))?;
    if kind == Kind::Xfs {
        // Its clones have the same identity.
        fsconfig_set_flag(context, "nouuid").map_err(|e| failed(e, &said(context)))?;
    }
    for option in options {
        let done = match option {
            (name, Some(value)) => fsconfig_set_string(context, name.as_str(), value.as_str()),
            (name, None) => fsconfig_set_flag(context, name.as_str()),
        };
        done.map_err(|e| refused(kind, &written(option), e, &said(context)))?;
    }
    if read_only {
        fsconfig_set_flag(context, "ro").map_err(|e| failed(e, &said(context)))?;
    }
    fsconfig_create(context).map_err(|e| {
        let said = said(context);
        // Some options are looked at last, together, and not always by name.
        let named: Vec<String> =
            options.iter().filter(|(name, _)| said.contains(name.as_str())).map(written).collect();
        let suspects = if named.is_empty() { options.iter().map(written).collect() } else { named };
        match (e, suspects.as_slice()) {
            (Errno::INVAL, [_, ..]) => refused(kind, &suspects.join(","), e, &said),
            _ => failed(e, &said),
        }
    })?;
    let attributes = if read_only { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(|e| failed(e, &said(context)))
}

/// Has the mounted file system that `root` is an open directory of fill `bytes` of its device.
pub(super) fn grow(kind: Kind, root: &OwnedFd, bytes: u64) -> Result<(), kernel::Error> {
    match kind {
        Kind::Block => Ok(()),
        Kind::Ext4 => kernel::grow::ext4(root, bytes),
        Kind::Xfs => kernel::grow::xfs(root, bytes),
        Kind::Btrfs => kernel::grow::btrfs(root, bytes),
    }
}

/// Why the file system of a volume in use did not grow, and what to do.
pub(super) fn not_grown(volume: &Volume, e: kernel::Error) -> Failure {
    match e.errno() {
        Some(Errno::PERM) => Failure::precondition(format!(
            "cannot grow volume {} while it is mounted: ext4 wants CAP_SYS_RESOURCE for that; give it to the driver, or \
             unpublish the volume: it grows when it is mounted next",
            volume.id
        )),
        Some(Errno::ROFS) => Failure::precondition(format!(
            "volume {} is mounted read-only: it grows when it is mounted for writing next",
            volume.id
        )),
        Some(Errno::INPROGRESS) => {
            let message = format!("volume {} is balanced, or resized by somebody else; try again", volume.id);
            Failure::new(Code::Aborted, message)
        }
        _ => e.into(),
    }
}

/// Freezes the mounted file system that `root` is an open directory of; none where nothing can be written anyway.
///
/// # Errors
/// `Aborted` where somebody else has frozen it.
pub(super) fn freeze(volume: &Volume, root: OwnedFd) -> Result<Option<Frozen>, Failure> {
    match kernel::freeze::freeze(root) {
        Ok(frozen) => Ok(Some(frozen)),
        Err(e) if e.errno() == Some(Errno::ROFS) => Ok(None),
        Err(e) if e.errno() == Some(Errno::BUSY) => {
            let message = format!("volume {} is frozen by somebody else; try again", volume.id);
            Err(Failure::new(Code::Aborted, message))
        }
        Err(e) => Err(Failure::internal(format!("cannot freeze volume {}: {e}", volume.id))),
    }
}

/// Mounts the file system on a device of so many bytes, mended where it has to be, and has it fill the device.
///
/// # Errors
/// As [`mount`], and what keeps it from growing.
pub(super) fn mount_whole(
    volume: &Volume,
    kind: Kind,
    device: &Path,
    bytes: u64,
    how: &Mounting<'_>,
) -> Result<OwnedFd, Failure> {
    let open = File::open(device).map_err(|e| failed("open", device, &e))?;
    let told = superblock::read(&open, kind).map_err(|e| failed("read", device, &e))?;
    drop(open);
    let Some(told) = told else {
        return Err(Failure::internal(format!("volume {} has no {} in it", volume.id, kind.name())));
    };
    if told.damaged && !how.read_only {
        program::check_ext4(device)?;
    }
    let mounted = || mount(kind, device, how.read_only, how.options);
    let mount = mounted()?;
    // Less than a block, or than xfs begins a group for, stays as it is.
    if told.size + BLOCK <= bytes && !how.read_only {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(&mount, ".", flags, Mode::empty())
            .map_err(|e| failed("open the file system on", device, &e))?;
        match grow(kind, &root, bytes) {
            Err(e) if kind == Kind::Ext4 && e.errno() == Some(Errno::PERM) => {
                // It has a journal that is replayed now, so its own program may work on it.
                drop((root, mount));
                program::resize_ext4(device)?;
                return mounted();
            }
            // A balance that was interrupted goes on with the mount. The next mount tries again, or whoever expands it.
            Err(e) if e.errno() == Some(Errno::INPROGRESS) => {
                eprintln!("sextant csi: volume {} stays smaller than its device: {e}", volume.id);
            }
            grown => grown.map_err(|e| not_grown(volume, e))?,
        }
    }
    Ok(mount)
}

/// How full a volume is that is mounted at `root`.
pub(super) fn usage(volume: &Volume, root: &Path) -> Result<Usage, Failure> {
    let told = rustix::fs::statvfs(root).map_err(|e| failed("ask how full", root, &e))?;
    // Of what was promised. File systems count what they keep for themselves as used, which nobody has written.
    let available = (told.f_bavail * told.f_frsize).min(volume.capacity);
    Ok(Usage {
        total: volume.capacity,
        used: volume.capacity - available,
        available,
        inodes: told.f_files,
        inodes_used: told.f_files.saturating_sub(told.f_ffree),
    })
}

/// What is wrong with the file system that is mounted at `root`, as far as it says so itself.
pub(super) fn ailment(root: &Path) -> Option<String> {
    let told = rustix::fs::open(root, OFlags::RDONLY, Mode::empty()).and_then(rustix::fs::fstatvfs);
    told.err().map(|e| format!("its file system does not answer: {e}"))
}

/// An option as it is written.
fn written((name, value): &(String, Option<String>)) -> String {
    value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}={value}"))
}

fn refused(kind: Kind, options: &str, e: Errno, said: &str) -> Failure {
    let message = format!("{} refuses {options:?}: {e}{said}", kind.name());
    Failure::invalid("volume_capability.mount.mount_flags", message)
}

/// What the kernel has to say of a mount that failed, each line after "; ".
fn said(context: impl AsFd) -> String {
    let mut text = String::new();
    let mut line = [0; 1024];
    // It answers ENODATA when there is no more.
    while let Ok(length) = rustix::io::read(&context, &mut line)
        && length > 0
        && text.len() < 4096
    {
        text.push_str("; ");
        let line = String::from_utf8_lossy(&line[..length]);
        // An error, a warning or information begins with its letter.
        text.push_str(line.get(2..).unwrap_or_default().trim_end());
    }
    text
}

/// A detached mount of the directory `name` in one that is detached itself, and may be used up by this.
pub(super) fn below(mount: &OwnedFd, name: &CStr) -> Result<OwnedFd, kernel::Error> {
    match kernel::mount::clone_tree(mount, name, false) {
        // Before Linux 6.15 only what is attached in one's own namespace is cloned.
        Err(Errno::INVAL) => below_attached(mount, name),
        done => done.map_err(|e| kernel::Error::new("mount", format!("the directory {name:?}"), e)),
    }
}

/// The same through a mount namespace that vanishes with its thread.
pub(super) fn below_attached(mount: &OwnedFd, name: &CStr) -> Result<OwnedFd, kernel::Error> {
    let work = || -> rustix::io::Result<OwnedFd> {
        kernel::namespace::unshare(UnshareFlags::NEWNS | UnshareFlags::FS)?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private)?;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        // Any directory serves: nobody else sees what is attached on it.
        let target = rustix::fs::openat(CWD, "/", flags, Mode::empty())?;
        kernel::mount::attach(mount, &target)?;
        let root = rustix::fs::openat(mount, ".", flags, Mode::empty())?;
        kernel::mount::clone_tree(&root, name, false)
    };
    let done = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("csi-mount".into()).spawn_scoped(scope, work);
        match thread.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(done)) => done,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(e) => Err(Errno::from_io_error(&e).unwrap_or(Errno::AGAIN)),
        }
    });
    done.map_err(|e| kernel::Error::new("mount", format!("the directory {name:?}"), e))
}
