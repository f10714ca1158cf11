use kernel::netlink::{Batch, Protocol, SetLink, Socket};
use rustix::mount::MountPropagationFlags;
use rustix::thread::UnshareFlags;

/// The calling thread's network (with its loopback up) and mounts are its own from here on: nobody else's are touched or seen.
///
/// # Panics
/// The kernel refuses: tests that need it cannot go on.
#[expect(clippy::unwrap_used, reason = "a test that cannot run fails")]
pub fn own_namespaces() {
    kernel::namespace::unshare(UnshareFlags::NEWNET | UnshareFlags::NEWNS).unwrap();
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).unwrap();
    let mut batch = Batch::new();
    batch.set_link(&SetLink::named("lo").up(true));
    Socket::open(Protocol::Route).unwrap().run(&batch).unwrap();
}
