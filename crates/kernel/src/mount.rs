//! The mount API of file descriptors: a mount is made detached, given its attributes, and attached last.
//!
//! A detached mount is in no mount table: it vanishes with its descriptor, whatever is killed.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::{Act, Error, Result};

/// The attributes of a mount (`MOUNT_ATTR_*`), as mount_setattr(2) takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes {
    /// Bits to set.
    pub set: u64,
    /// Bits to clear first. An access-time mode is a field: clearing [`ATIME`](Self::ATIME) must go with setting one.
    pub clear: u64,
    /// The propagation to give (one of `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`), or 0 to leave it.
    pub propagation: u64,
}

impl Attributes {
    /// Nothing can be written through the mount.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-id bits are ignored.
    pub const NOSUID: u64 = 0x2;
    /// Device nodes do not open.
    pub const NODEV: u64 = 0x4;
    /// Nothing executes.
    pub const NOEXEC: u64 = 0x8;
    /// The whole access-time field.
    pub const ATIME: u64 = 0x70;
    /// Access times are never written.
    pub const NOATIME: u64 = 0x10;
    /// Access times are written at each access.
    pub const STRICTATIME: u64 = 0x20;
    /// Access times of directories are not written.
    pub const NODIRATIME: u64 = 0x80;
    /// The mount maps ids through a user namespace.
    pub const IDMAP: u64 = 0x10_0000;
    /// Symlinks are not followed.
    pub const NOSYMFOLLOW: u64 = 0x20_0000;

    /// Whether applying these would change nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// mount_setattr(2) on the mount that `mount` is the root of; with `recursive` on all mounts below as well.
///
/// `idmap` is the user namespace of an [`Attributes::IDMAP`] mount. Allocates nothing when it succeeds.
pub fn set_attributes(
    mount: impl AsFd,
    attributes: Attributes,
    recursive: bool,
    idmap: Option<&OwnedFd>,
) -> rustix::io::Result<()> {
    let attr = MountAttr {
        set: attributes.set,
        clear: attributes.clear,
        propagation: attributes.propagation,
        userns_fd: idmap.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: an open descriptor, an empty C string, and a mount_attr of the size given that outlives the call.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if rc == 0 { Ok(()) } else { Err(crate::process::last_errno()) }
}

/// A new filesystem of type `kind` as a detached mount. `options` without a value are flags.
///
/// Allocates nothing when it succeeds.
pub fn filesystem<'a>(
    kind: &CStr,
    source: Option<&CStr>,
    options: impl IntoIterator<Item = (&'a CStr, Option<&'a CStr>)>,
    attributes: u64,
) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    if let Some(source) = source {
        fsconfig_set_string(context.as_fd(), c"source", source)?;
    }
    for (key, value) in options {
        match value {
            Some(value) => fsconfig_set_string(context.as_fd(), key, value)?,
            None => fsconfig_set_flag(context.as_fd(), key)?,
        }
    }
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Changes the options of the filesystem that is mounted at `mount` (an open descriptor of its root), for everybody who
/// has it mounted: what `mount -o remount` does. Allocates nothing when it succeeds.
pub fn reconfigure<'a>(
    mount: impl AsFd,
    options: impl IntoIterator<Item = (&'a CStr, Option<&'a CStr>)>,
) -> rustix::io::Result<()> {
    use rustix::mount::{FsPickFlags, fsconfig_reconfigure, fspick};
    let context = fspick(mount.as_fd(), c"", FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH)?;
    for (key, value) in options {
        match value {
            Some(value) => fsconfig_set_string(context.as_fd(), key, value)?,
            None => fsconfig_set_flag(context.as_fd(), key)?,
        }
    }
    fsconfig_reconfigure(context.as_fd())
}

/// The layers of an overlay root.
#[derive(Debug, Clone)]
pub struct Overlay<'a> {
    /// Read-only directories, the topmost first. At least one.
    pub lower: Vec<&'a std::path::Path>,
    /// Where changes go, and the work directory beside it. Without them the overlay is read-only.
    pub upper: Option<(&'a std::path::Path, &'a std::path::Path)>,
    /// Skip every sync (`volatile`): for a writable layer that need not survive a power cut.
    pub volatile: bool,
}

/// An overlay as a detached mount.
///
/// Layers are added one by one (`lowerdir+`, Linux 6.5), so their number is not bounded by one page of options and
/// their paths may hold any byte; an older kernel gets them as one string.
pub fn overlay(overlay: &Overlay<'_>) -> Result<OwnedFd> {
    overlay_with(overlay, &[])
}

/// The same with further options of the filesystem; those without a value are flags.
pub fn overlay_with(overlay: &Overlay<'_>, options: &[(&CStr, Option<&CStr>)]) -> Result<OwnedFd> {
    mount_overlay(overlay, options).act("mount", || {
        let top = overlay.lower.first().map_or_else(String::new, |p| p.display().to_string());
        format!("an overlay of {} layers (topmost {top})", overlay.lower.len())
    })
}

fn mount_overlay(overlay: &Overlay<'_>, options: &[(&CStr, Option<&CStr>)]) -> rustix::io::Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let context = context.as_fd();
    fsconfig_set_string(context, "source", "sextant")?;
    let mut one_by_one = true;
    for layer in &overlay.lower {
        match fsconfig_set_string(context, "lowerdir+", *layer) {
            Ok(()) => {}
            Err(Errno::INVAL) if layer == &overlay.lower[0] => {
                one_by_one = false;
                break;
            }
            Err(e) => return Err(e),
        }
    }
    if !one_by_one {
        let mut joined = Vec::new();
        for layer in &overlay.lower {
            if !joined.is_empty() {
                joined.push(b':');
            }
            for &byte in std::os::unix::ffi::OsStrExt::as_bytes(layer.as_os_str()) {
                if matches!(byte, b':' | b'\\') {
                    joined.push(b'\\');
                }
                joined.push(byte);
            }
        }
        fsconfig_set_string(context, "lowerdir", joined)?;
    }
    if let Some((upper, work)) = overlay.upper {
        fsconfig_set_string(context, "upperdir", upper)?;
        fsconfig_set_string(context, "workdir", work)?;
        if overlay.volatile {
            fsconfig_set_flag(context, "volatile")?;
        }
    }
    for (key, value) in options {
        match value {
            Some(value) => fsconfig_set_string(context, *key, *value)?,
            None => fsconfig_set_flag(context, *key)?,
        }
    }
    fsconfig_create(context)?;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// A detached copy of the mount at `path` (below `dir`), as a bind mount is; with `recursive` all mounts below too.
///
/// Allocates nothing when it succeeds.
pub fn clone_tree(dir: impl AsFd, path: &CStr, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if path.is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(dir.as_fd(), path, flags)
}

/// Attaches a detached mount on the file or directory that `target` is open at.
///
/// Allocates nothing when it succeeds.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount.as_fd(), c"", target.as_fd(), c"", flags)
}

/// A read-only, detached copy of the running program's file.
///
/// A process started from it can show its `/proc/PID/exe` to anybody: opening that for writing fails (EROFS), whatever
/// the opener may do to the file on disk. Costs no memory, unlike a copy in a memfd.
pub fn own_program() -> Result<OwnedFd> {
    read_only_program(c"/proc/self/exe")
}

/// The same for the program at `path`.
pub fn read_only_program(path: &CStr) -> Result<OwnedFd> {
    let say = || path.to_string_lossy().into_owned();
    let tree = clone_tree(rustix::fs::CWD, path, false).act("clone", say)?;
    let attributes = Attributes { set: Attributes::RDONLY, ..Attributes::default() };
    set_attributes(&tree, attributes, false, None).act("make read-only", say)?;
    Ok(tree)
}

/// Unmounts `path` in this process's mount namespace without waiting for its users; one not mounted counts as done.
pub fn detach(path: &std::path::Path) -> Result<()> {
    match rustix::mount::unmount(
        path,
        rustix::mount::UnmountFlags::DETACH.union(rustix::mount::UnmountFlags::NOFOLLOW),
    ) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(e) => Err(Error::new("unmount", path.display().to_string(), e)),
    }
}
