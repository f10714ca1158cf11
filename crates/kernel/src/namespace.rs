//! Namespaces: pinned network namespaces, and work done inside another namespace on a thread that ends afterwards.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::{Act, Error, Result};

/// Makes a network namespace and pins it by a bind mount on `path` (a file this makes). Its loopback is down.
///
/// The caller records the path before: with [`unpin`] it is undone, even if this stopped half-way.
pub fn pin_new_netns(path: &Path) -> Result<()> {
    let say = || format!("network namespace {}", path.display());
    rustix::fs::open(
        path,
        rustix::fs::OFlags::CREATE | rustix::fs::OFlags::EXCL | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .act("create", say)?;
    on_own_thread(|| {
        unshare(UnshareFlags::NEWNET).act("create", say)?;
        // Not /proc/self: that is the thread group's leader, which stays where it is.
        rustix::mount::mount_bind("/proc/thread-self/ns/net", path).act("pin", say)
    })
}

/// Pins the namespace at `namespace` (a file of `/proc`) by a bind mount on `path` (a file this makes).
///
/// As with [`pin_new_netns`] the caller records the path before.
pub fn pin(namespace: &Path, path: &Path) -> Result<()> {
    rustix::fs::open(
        path,
        rustix::fs::OFlags::CREATE | rustix::fs::OFlags::EXCL | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .act("create", || path.display().to_string())?;
    rustix::mount::mount_bind(namespace, path)
        .act("pin", || format!("namespace {} to {}", namespace.display(), path.display()))
}

/// Unpins a namespace: unmounts and unlinks `path`. Not there counts as done.
pub fn unpin(path: &Path) -> Result<()> {
    crate::mount::detach(path)?;
    match rustix::fs::unlink(path) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(e) => Err(Error::new("remove", path.display().to_string(), e)),
    }
}

/// Opens the namespace that is pinned at `path`, if that still is the one whose file has this inode. None where it is gone, or another's.
///
/// # Errors
/// The kernel's.
pub fn open_pinned(path: &Path, inode: u64) -> Result<Option<File>> {
    let say = || path.display().to_string();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => return Err(e).act("open", say),
    };
    Ok((file.metadata().act("look at", say)?.ino() == inode).then_some(file))
}

/// Runs `work` on a thread of its own inside the network namespace `netns`; the thread ends afterwards, so no other
/// work ever finds itself in the wrong namespace.
pub fn in_netns<T: Send>(netns: impl AsFd + Sync, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    on_own_thread(|| {
        move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
            .act("enter", || "a network namespace")?;
        work()
    })
}

/// Runs `work` on the calling thread inside the network namespace `netns`, and brings the thread back to `home`, where it
/// comes from. `work` must not panic, nor start threads.
///
/// A thread that cannot come back would go on in the wrong namespace, so the process ends instead; nothing is known that
/// keeps it there but a kernel without a few bytes of memory.
pub(crate) fn visit<T>(netns: impl AsFd, home: impl AsFd, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let enter =
        |namespace: BorrowedFd<'_>| move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network));
    enter(netns.as_fd()).act("enter", || "a network namespace")?;
    let outcome = work();
    if let Err(e) = enter(home.as_fd()) {
        eprintln!("cannot come back from a network namespace: {e}");
        std::process::abort();
    }
    outcome
}

/// Runs `work` on a thread inside a new network namespace that vanishes with it: for tests and probes.
pub fn in_new_netns<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    on_own_thread(|| {
        unshare(UnshareFlags::NEWNET).act("create", || "a network namespace")?;
        work()
    })
}

/// A new user namespace with these maps (lines of `/proc/PID/uid_map`), for mapping the ids of mounts. It lives as long
/// as its descriptor.
///
/// The calling process must have one thread: a copy of it is made, and gone when this returns.
pub fn user(uid_map: &str, gid_map: &str) -> Result<OwnedFd> {
    use crate::process::{Cloned, NewNamespaces, clone, exit_now};
    let (theirs, ours) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).act("make", || "a pipe")?;
    let child = match clone(NewNamespaces::USER, None)? {
        Cloned::Parent(child) => child,
        Cloned::Child => {
            // Its end is the parent's word, or the parent's own end.
            drop(ours);
            let _ = rustix::io::read(&theirs, &mut [0_u8; 1]);
            exit_now(0)
        }
    };
    let write = |file: &str, text: &str| {
        let path = format!("/proc/{}/{file}", child.pid);
        std::fs::write(&path, text).act("write", || format!("{text:?} to {path}"))
    };
    let namespace = write("uid_map", uid_map).and_then(|()| write("gid_map", gid_map)).and_then(|()| {
        let path = format!("/proc/{}/ns/user", child.pid);
        rustix::fs::open(&path, rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty()).act("open", || path)
    });
    drop(ours);
    child.wait()?;
    namespace
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, work)
            .act("start", || "a thread for a namespace")?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// unshare(2) without `CLONE_FILES`, the one flag that could pull descriptors from under another thread.
///
/// Allocates nothing when it succeeds.
pub fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    if flags.contains(UnshareFlags::FILES) {
        return Err(rustix::io::Errno::INVAL);
    }
    // SAFETY: the descriptor table stays shared (checked above), so no other thread's or owner's descriptor changes
    // meaning; the other flags change this thread's view of names only.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Enters the namespaces of `kinds` that the process behind `pidfd` is in, in one step.
pub fn enter(pidfd: &OwnedFd, kinds: ThreadNameSpaceType) -> rustix::io::Result<()> {
    rustix::thread::move_into_thread_name_spaces(pidfd.as_fd(), kinds)
}
