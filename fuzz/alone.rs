//! A network namespace without a way out, so that nothing that a target connects to is anywhere.

use kernel::netlink::{Batch, Protocol, SetLink, Socket};

/// Moves this thread, and those that it starts, to one of their own with a loopback. Needs root.
pub fn alone() {
    kernel::namespace::unshare(rustix::thread::UnshareFlags::NEWNET)
        .expect("a network of its own needs root");
    let mut batch = Batch::new();
    batch.set_link(&SetLink::named("lo").up(true));
    Socket::open(Protocol::Route).and_then(|mut socket| socket.run(&batch)).expect("lo comes up");
}
