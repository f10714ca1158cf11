//! The root, its mounts and what is in `/dev`.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kernel::mount::{Attributes, attach, clone_tree, filesystem, set_attributes};
use kernel::path::{Dangling, make_dirs_c, make_file_c, open_below_c, open_c, open_plain_c};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, mknodat};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};

use super::report::{At, Failure, Message, Step, receive, send};
use crate::plan::{CgroupView, DevicePlan, MountPlan, Plan, Source};

const TARGET: OFlags = OFlags::PATH;
const STAGE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Makes the detached mounts while the host's filesystems are still in reach, and attaches the root.
pub(super) fn attach_root(plan: &Plan, slots: &mut [Option<OwnedFd>]) -> Result<(), Failure> {
    let cut_off = || match plan.root.shared {
        true => Ok(()),
        false => mount_change(c"/", plan.root.host_propagation).at(Step::Propagation, 0),
    };
    if !plan.root.shares_volumes {
        cut_off()?;
    }
    for (index, (mount, slot)) in plan.mounts.iter().zip(slots).enumerate() {
        // A user namespace may mount procfs and sysfs only while it sees a whole one: before the pivot.
        *slot = make(mount).at(Step::MakeMount, index)?;
        if let Source::Tree { tree, .. } = &mount.source {
            let narrowed = if mount.locked { narrow_locked(tree, mount) } else { narrow(tree, mount) };
            narrowed.at(Step::MountAttributes, index)?;
        }
    }
    if plan.root.shares_volumes {
        cut_off()?;
    }
    let stage = match rustix::fs::open(plan.root.stage.as_c_str(), STAGE, Mode::empty()) {
        // A mount namespace that is joined need not have it, nor may a user namespace's root reach what is the machine's
        // root's alone: then this namespace's own root will do, unless it is the host's.
        Err(Errno::NOENT | Errno::ACCESS) if !plan.root.shared => {
            rustix::fs::open(c"/", STAGE, Mode::empty())
        }
        other => other,
    }
    .at(Step::AttachRoot, 0)?;
    let root = plan.root.tree.as_fd();
    let below = Attributes { propagation: u64::from(plan.root.below.bits()), ..Attributes::default() };
    set_attributes(root, below, true, None).at(Step::AttachRoot, 0)?;
    attach(root, &stage).at(Step::AttachRoot, 0)
}

/// Makes the container's root this process's root and lets go of the host's. Returns the root.
pub(super) fn pivot(plan: &Plan) -> Result<OwnedFd, Failure> {
    if plan.root.shared {
        // The host goes on using its own root.
        super::change_root(plan.root.tree.as_fd()).at(Step::PivotRoot, 0)?;
        return super::open_root();
    }
    let old = rustix::fs::open(c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .at(Step::PivotRoot, 0)?;
    rustix::process::fchdir(plan.root.tree.as_fd()).at(Step::PivotRoot, 0)?;
    // Old and new root on one spot: no directory inside the container is needed for the old one.
    rustix::process::pivot_root(c".", c".").at(Step::PivotRoot, 0)?;
    rustix::process::fchdir(&old).at(Step::PivotRoot, 0)?;
    unmount(c".", UnmountFlags::DETACH).at(Step::PivotRoot, 0)?;
    rustix::process::chdir(c"/").at(Step::PivotRoot, 0)?;
    super::open_root()
}

/// The mount, detached; `None` for one that is made in place.
fn make(mount: &MountPlan) -> rustix::io::Result<Option<OwnedFd>> {
    match &mount.source {
        // It takes its mode from where it goes.
        Source::Filesystem { .. } if mount.copy_mode => Ok(None),
        Source::Filesystem { kind, source, options } => {
            filesystem(kind, source.as_deref(), MountPlan::options(options), mount.attributes.set).map(Some)
        }
        Source::Path { path, recursive, .. } => {
            let tree = clone_tree(rustix::fs::CWD, path, *recursive)?;
            narrow(&tree, mount)?;
            Ok(Some(tree))
        }
        Source::Cgroup(CgroupView::V2) => filesystem(c"cgroup2", None, [], mount.attributes.set).map(Some),
        Source::Cgroup(CgroupView::V1 { .. }) => {
            filesystem(c"tmpfs", Some(c"cgroup"), [(c"mode", Some(c"755"))], mount.attributes.set).map(Some)
        }
        Source::Tree { .. } | Source::Inside { .. } | Source::Remount { .. } => Ok(None),
    }
}

/// The mount of what is inside the root by now, and whether that is no directory.
fn make_inside(
    mount: &MountPlan,
    index: usize,
    root: BorrowedFd<'_>,
    channel: BorrowedFd<'_>,
) -> rustix::io::Result<Option<(OwnedFd, bool)>> {
    let Source::Inside { path, recursive, idmap } = &mount.source else { return Ok(None) };
    let path = if path.is_empty() { c"." } else { path.as_c_str() };
    let source = open_c(root, path, TARGET)?;
    let is_dir = FileType::from_raw_mode(rustix::fs::fstat(&source)?.st_mode).is_dir();
    let mut tree = clone_tree(&source, c"", *recursive)?;
    if idmap.is_some() {
        // That takes rights over the filesystem, which whoever is in a user namespace does not have.
        let message = Message::Tree(tree, index as u16);
        send(channel, &message)?;
        let Message::Tree(back, _) = message else { return Err(Errno::BADMSG) };
        tree = back;
        if !matches!(receive(channel)?, Some(Message::Mapped)) {
            return Err(Errno::PIPE);
        }
    }
    narrow(&tree, mount)?;
    Ok(Some((tree, !is_dir)))
}

fn narrow(tree: &OwnedFd, mount: &MountPlan) -> rustix::io::Result<()> {
    let own = Attributes { clear: mount.attributes.clear | mount.unasked, ..mount.attributes };
    if !own.is_empty() {
        match set_attributes(tree, own, false, None) {
            // In somebody's user namespace: the source's own stay, what was asked for holds.
            Err(Errno::PERM) if mount.unasked != 0 => set_attributes(tree, mount.attributes, false, None)?,
            other => other?,
        }
    }
    if !mount.recursive_attributes.is_empty() {
        set_attributes(tree, mount.recursive_attributes, true, None)?;
    }
    Ok(())
}

/// The same for a tree of the host's in somebody's user namespace. Were it of this process's mount namespace, the kernel
/// would hold its attributes; the parent cloned it, so this does. What the whole filesystem is (`ro`) is not lost with the
/// mount's own, and is let be.
fn narrow_locked(tree: &OwnedFd, mount: &MountPlan) -> rustix::io::Result<()> {
    use rustix::fs::StatVfsMountFlags as F;
    const KEPT: F = F::RDONLY.union(F::NOSUID).union(F::NODEV).union(F::NOEXEC);
    const ACCESS_TIMES: F = F::NOATIME.union(F::NODIRATIME).union(F::RELATIME);
    if (mount.attributes.clear | mount.recursive_attributes.clear) == 0 {
        return narrow(tree, mount);
    }
    let before = rustix::fs::fstatvfs(tree)?.f_flag;
    narrow(tree, mount)?;
    let after = rustix::fs::fstatvfs(tree)?.f_flag;
    let lost = before.difference(after).intersects(KEPT);
    if lost || before.symmetric_difference(after).intersects(ACCESS_TIMES) {
        return Err(Errno::PERM);
    }
    Ok(())
}

fn fd<'a>(mount: &'a MountPlan, slot: &'a Option<OwnedFd>) -> Result<BorrowedFd<'a>, Errno> {
    match (&mount.source, slot) {
        (_, Some(fd)) => Ok(fd.as_fd()),
        (Source::Tree { tree, .. }, None) => Ok(tree.as_fd()),
        _ => Err(Errno::BADF),
    }
}

/// Attaches the mounts, and fills `/dev`.
pub(super) fn furnish(
    plan: &Plan,
    slots: &mut [Option<OwnedFd>],
    root: BorrowedFd<'_>,
    channel: BorrowedFd<'_>,
) -> Result<(), Failure> {
    // Modes below are meant as they stand.
    rustix::process::umask(Mode::empty());
    for (index, (mount, slot)) in plan.mounts.iter().zip(slots).enumerate() {
        match &mount.source {
            Source::Remount { options } => remount(root, mount, options).at(Step::Remount, index)?,
            _ => put(mount, index, slot, root, channel)?,
        }
    }
    for (index, device) in plan.devices.iter().enumerate() {
        make_device(root, device).at(Step::DeviceNode, index)?;
    }
    if !plan.foreign_dev {
        let dev = make_dirs_c(root, c"dev", Dangling::Refused).at(Step::DeviceLink, 0)?;
        for (index, (link, points_at)) in LINKS.into_iter().enumerate() {
            make_link(&dev, link, points_at).at(Step::DeviceLink, index)?;
        }
    }
    for (index, (path, value)) in plan.sysctls.iter().enumerate() {
        set_sysctl(root, path, value).at(Step::Sysctl, index)?;
    }
    Ok(())
}

/// Attaches one mount, made before or now, where it goes.
fn put(
    mount: &MountPlan,
    index: usize,
    slot: &mut Option<OwnedFd>,
    root: BorrowedFd<'_>,
    channel: BorrowedFd<'_>,
) -> Result<(), Failure> {
    let (target, was_there) = if is_kernels(mount) {
        plain_target(root, &mount.target).at(Step::MountTarget, index)?
    } else {
        let mut file =
            matches!(mount.source, Source::Tree { is_dir: false, .. } | Source::Path { is_dir: false, .. });
        if let Some((tree, is_file)) = make_inside(mount, index, root, channel).at(Step::MakeMount, index)? {
            (*slot, file) = (Some(tree), is_file);
        }
        // What this runtime makes itself lies in /dev, which no image leads elsewhere.
        let is_dev = mount.target.as_c_str() == c"dev";
        let dangling = if is_dev { Dangling::Refused } else { Dangling::Followed };
        target(root, &mount.target, file, dangling).at(Step::MountTarget, index)?
    };
    if mount.copy_mode {
        *slot = Some(tmpfs(mount, was_there.then_some(&target)).at(Step::MakeMount, index)?);
    }
    let made = fd(mount, slot).at(Step::AttachMount, index)?;
    if was_there && mount.copy_up {
        super::copyup::copy(target.as_fd(), made).at(Step::CopyUp, index)?;
    }
    attach(made, &target).at(Step::AttachMount, index)?;
    if let Some(label) = &mount.label {
        let top = open_c(root, &mount.target, OFlags::RDONLY | OFlags::DIRECTORY);
        top.and_then(|top| set_label(&top, label)).at(Step::MountLabel, index)?;
    }
    if let Source::Cgroup(CgroupView::V1 { hierarchies, own }) = &mount.source {
        super::hierarchies::attach(root, mount, hierarchies, *own).at(Step::AttachMount, index)?;
    }
    Ok(())
}

/// procfs and sysfs.
fn is_kernels(mount: &MountPlan) -> bool {
    matches!(&mount.source, Source::Filesystem { kind, .. } if matches!(kind.to_bytes(), b"proc" | b"sysfs"))
}

/// The kernel's own filesystems lie where nobody can move them: behind a link into a volume, another container could
/// put something else before what is masked and made read-only there (CVE-2019-19921, CVE-2023-27561). What is opened
/// is what is mounted on: between a look and a use there would be time for a link.
fn plain_target(root: BorrowedFd<'_>, path: &CStr) -> rustix::io::Result<(OwnedFd, bool)> {
    let open = || open_plain_c(root, path, TARGET | OFlags::DIRECTORY);
    match open() {
        Err(Errno::NOENT) => {}
        other => return Ok((other?, true)),
    }
    make_dirs_c(root, path, Dangling::Refused)?;
    Ok((open()?, false))
}

/// Writes a kernel parameter: to procfs, and to nothing that is in its place or mounted in it, another file of procfs
/// least of all (CVE-2019-16884, CVE-2025-52881).
fn set_sysctl(root: BorrowedFd<'_>, path: &CStr, value: &[u8]) -> rustix::io::Result<()> {
    const TOP: &CStr = c"proc/sys";
    /// Of a procfs the root alone has it.
    const PROC_ROOT_INO: u64 = 1;
    let proc = open_plain_c(root, c"proc", TARGET | OFlags::DIRECTORY)?;
    let procfs = rustix::fs::fstatfs(&proc)?.f_type == rustix::fs::PROC_SUPER_MAGIC;
    if !procfs || rustix::fs::fstat(&proc)?.st_ino != PROC_ROOT_INO {
        return Err(Errno::NXIO);
    }
    let top = open_below_c(&proc, c"sys", TARGET | OFlags::DIRECTORY)?;
    let below = path.to_bytes_with_nul().get(TOP.count_bytes() + 1..).ok_or(Errno::INVAL)?;
    let below = CStr::from_bytes_with_nul(below).map_err(|_| Errno::INVAL)?;
    rustix::io::write(open_below_c(&top, below, OFlags::WRONLY)?, value).map(drop)
}

/// The directory or file to mount on, made if it is not there; and whether it was.
fn target(
    root: BorrowedFd<'_>,
    path: &CStr,
    file: bool,
    dangling: Dangling,
) -> rustix::io::Result<(OwnedFd, bool)> {
    match open_c(root, path, TARGET) {
        Err(Errno::NOENT) => {}
        other => return Ok((other?, true)),
    }
    if !file {
        return Ok((make_dirs_c(root, path, dangling)?, false));
    }
    Ok((make_file_c(root, path, Mode::from_raw_mode(0o755), dangling)?, false))
}

fn set_label(top: &OwnedFd, label: &CStr) -> rustix::io::Result<()> {
    rustix::fs::fsetxattr(
        top,
        c"security.selinux",
        label.to_bytes_with_nul(),
        rustix::fs::XattrFlags::empty(),
    )
}

/// A tmpfs with the permissions of the directory it goes on, as its option says then. What is no directory takes none.
fn tmpfs(mount: &MountPlan, target: Option<&OwnedFd>) -> rustix::io::Result<OwnedFd> {
    let Source::Filesystem { kind, source, options } = &mount.source else { return Err(Errno::INVAL) };
    let stat = target.map(rustix::fs::fstat).transpose()?;
    let directory = stat.filter(|stat| FileType::from_raw_mode(stat.st_mode).is_dir());
    let octal = directory.map(|stat| octal(stat.st_mode & 0o7777));
    let mode = octal.as_ref().and_then(|digits| CStr::from_bytes_with_nul(digits).ok());
    let mode = mode.map(|mode| (c"mode", Some(mode)));
    filesystem(kind, source.as_deref(), MountPlan::options(options).chain(mode), mount.attributes.set)
}

/// The permissions in four octal digits, with the zero that ends a string.
fn octal(mode: u32) -> [u8; 5] {
    let digit = |shift: u32| b'0' + (mode >> shift & 7) as u8;
    [digit(9), digit(6), digit(3), digit(0), 0]
}

/// Changes what is mounted on a path already.
fn remount(
    root: BorrowedFd<'_>,
    mount: &MountPlan,
    options: &[(std::ffi::CString, Option<std::ffi::CString>)],
) -> rustix::io::Result<()> {
    let target = open_c(root, &mount.target, TARGET)?;
    if !options.is_empty() {
        kernel::mount::reconfigure(&target, MountPlan::options(options))?;
    }
    if !mount.attributes.is_empty() {
        set_attributes(&target, mount.attributes, false, None)?;
    }
    if !mount.recursive_attributes.is_empty() {
        set_attributes(&target, mount.recursive_attributes, true, None)?;
    }
    Ok(())
}

/// An empty file, unless something is there. Made without being opened: what is there may be a pipe that nobody reads.
pub(super) fn make_file(parent: &OwnedFd, name: &[u8], mode: u32) -> rustix::io::Result<()> {
    match mknodat(parent, name, FileType::RegularFile, Mode::from_raw_mode(mode), 0) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Makes the directories above `path` and splits off its last name.
fn make_parent<'a>(root: BorrowedFd<'_>, path: &'a CStr) -> rustix::io::Result<(OwnedFd, &'a [u8])> {
    let bytes = path.to_bytes();
    let (parent, name) = match bytes.iter().rposition(|&b| b == b'/') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (&b"."[..], bytes),
    };
    if matches!(name, b"" | b"." | b"..") {
        return Err(Errno::INVAL);
    }
    let mut buffer = [0_u8; libc::PATH_MAX as usize];
    buffer.get_mut(..parent.len()).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(parent);
    let parent = CStr::from_bytes_until_nul(&buffer).map_err(|_| Errno::NAMETOOLONG)?;
    Ok((make_dirs_c(root, parent, Dangling::Refused)?, name))
}

fn make_device(root: BorrowedFd<'_>, device: &DevicePlan) -> rustix::io::Result<()> {
    if let Some(host) = &device.host {
        return attach(host, target(root, &device.path, true, Dangling::Refused)?.0);
    }
    let (parent, name) = make_parent(root, &device.path)?;
    match mknodat(&parent, name, device.kind, device.mode, device.number) {
        // In somebody's user namespace: the host's node serves, which can still be reached.
        Err(Errno::PERM) => {
            let host = rustix::fs::open(c"/", TARGET | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            return attach(
                clone_tree(&host, &device.path, false)?,
                target(root, &device.path, true, Dangling::Refused)?.0,
            );
        }
        // The image brought one: it must be the same device.
        Err(Errno::EXIST) => {
            let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) != device.kind || stat.st_rdev != device.number {
                return Err(Errno::EXIST);
            }
            // And its owner is not changed: behind a bind mount it may be the host's.
            return Ok(());
        }
        other => other?,
    }
    if (device.uid, device.gid) != (0, 0) {
        let (uid, gid) = (rustix::fs::Uid::from_raw(device.uid), rustix::fs::Gid::from_raw(device.gid));
        rustix::fs::chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

/// The links of `/dev` that the specification promises.
const LINKS: [(&CStr, &CStr); 5] = [
    (c"fd", c"/proc/self/fd"),
    (c"stdin", c"/proc/self/fd/0"),
    (c"stdout", c"/proc/self/fd/1"),
    (c"stderr", c"/proc/self/fd/2"),
    (c"ptmx", c"pts/ptmx"),
];

fn make_link(dev: &OwnedFd, name: &CStr, points_at: &CStr) -> rustix::io::Result<()> {
    match rustix::fs::symlinkat(points_at, dev, name) {
        // Of an image, of a bind mount, or read-only: what is there serves.
        Err(Errno::EXIST | Errno::ROFS | Errno::PERM) => Ok(()),
        other => other,
    }
}

/// Masks, makes read-only, and closes what had to stay writable until now.
pub(super) fn seal(plan: &Plan, slots: &[Option<OwnedFd>], root: BorrowedFd<'_>) -> Result<(), Failure> {
    for (index, path) in plan.read_only.iter().enumerate() {
        make_read_only(root, path).at(Step::ReadOnlyPath, index)?;
    }
    let mut empty = None;
    for (index, path) in plan.masked.iter().enumerate() {
        mask(root, path, &mut empty, plan.label.as_deref()).at(Step::MaskPath, index)?;
    }
    let read_only = Attributes { set: Attributes::RDONLY, ..Attributes::default() };
    for (index, (mount, slot)) in plan.mounts.iter().zip(slots).enumerate() {
        if matches!(mount.source, Source::Remount { .. }) {
            continue;
        }
        if mount.read_only_last {
            set_attributes(fd(mount, slot).at(Step::MountAttributes, index)?, read_only, false, None)
                .at(Step::MountAttributes, index)?;
        }
        // A filesystem is private when made; only another wish needs a word.
        let wish = mount.recursive_attributes.propagation | mount.attributes.propagation;
        if wish & u64::from(MountPropagationFlags::PRIVATE.bits()) == 0 && wish != 0 {
            let attributes = Attributes { propagation: wish, ..Attributes::default() };
            set_attributes(fd(mount, slot).at(Step::MountAttributes, index)?, attributes, true, None)
                .at(Step::MountAttributes, index)?;
        }
    }
    if plan.root.propagation != MountPropagationFlags::PRIVATE {
        mount_change(c"/", plan.root.propagation).at(Step::Propagation, 1)?;
    }
    if plan.root.read_only {
        set_attributes(root, read_only, false, None).at(Step::ReadOnlyRoot, 0)?;
    }
    Ok(())
}

/// Mounts the path on itself, read-only, with all below. Not there counts as done.
fn make_read_only(root: BorrowedFd<'_>, path: &CStr) -> rustix::io::Result<()> {
    let target = match open_c(root, path, TARGET) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other?,
    };
    let tree = clone_tree(&target, c"", true)?;
    let attributes = Attributes { set: Attributes::RDONLY, ..Attributes::default() };
    set_attributes(&tree, attributes, true, None)?;
    attach(&tree, &target)
}

/// Puts `/dev/null` over a file, and an empty read-only directory over a directory. Not there counts as done.
fn mask(
    root: BorrowedFd<'_>,
    path: &CStr,
    empty: &mut Option<OwnedFd>,
    label: Option<&CStr>,
) -> rustix::io::Result<()> {
    let target = match open_c(root, path, TARGET) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other?,
    };
    let stat = rustix::fs::fstat(&target)?;
    if !FileType::from_raw_mode(stat.st_mode).is_dir() {
        let null = open_c(root, c"dev/null", TARGET | OFlags::NOFOLLOW)?;
        // An image or another process may have put something else there (CVE-2025-31133): the descriptor tells.
        let stat = rustix::fs::fstat(&null)?;
        if !FileType::from_raw_mode(stat.st_mode).is_char_device()
            || stat.st_rdev != rustix::fs::makedev(1, 3)
        {
            return Err(Errno::NXIO);
        }
        return attach(clone_tree(&null, c"", false)?, &target);
    }
    if let Some(attached) = empty {
        return attach(clone_tree(&*attached, c"", false)?, &target);
    }
    let options = [(c"nr_blocks", Some(c"1")), (c"nr_inodes", Some(c"1")), (c"mode", Some(c"555"))];
    let flags = Attributes::RDONLY | Attributes::NOSUID | Attributes::NODEV | Attributes::NOEXEC;
    // Attached before it is cloned: kernels before 6.15 clone only mounts of the caller's own namespace.
    let options = options.into_iter().chain(label.map(|label| (c"context", Some(label))));
    let first = filesystem(c"tmpfs", Some(c"tmpfs"), options, flags)?;
    attach(&first, &target)?;
    *empty = Some(first);
    Ok(())
}
