//! Hosts of a test's own: network namespaces, and links between them.
#![allow(clippy::unwrap_used, reason = "a test's tool: what fails here fails the test")]

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use kernel::namespace::{in_netns, in_new_netns};
use kernel::netlink::{Address, Batch, Kind, Mac, NewLink, Peer, Protocol, SetLink, Socket, link_by_name};

/// A network namespace that lives as long as this, with its loopback up.
#[derive(Debug)]
pub struct Netns(File);

impl Netns {
    /// A new one.
    ///
    /// # Panics
    /// The kernel refuses, as to who is not root.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "what the kernel may refuse is no default")]
    pub fn new() -> Self {
        let made = in_new_netns(|| {
            change(|batch| batch.set_link(&SetLink::named("lo").up(true)));
            Ok(File::open("/proc/thread-self/ns/net").unwrap())
        });
        Self(made.unwrap())
    }

    /// Runs `work` inside, on a thread of its own.
    ///
    /// # Panics
    /// The kernel refuses.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_netns(&self.0, || Ok(work())).unwrap()
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Changes links of the network that the calling thread is in.
///
/// # Panics
/// The kernel refuses.
pub fn change(make: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::new();
    make(&mut batch);
    Socket::open(Protocol::Route).unwrap().run(&batch).unwrap();
}

/// The index of a link there.
///
/// # Panics
/// There is none of this name.
#[must_use]
pub fn index(link: &str) -> u32 {
    link_by_name(&mut Socket::open(Protocol::Route).unwrap(), link).unwrap().unwrap().index
}

/// Gives a link there addresses, each with its prefix: `192.0.2.1/24`.
///
/// # Panics
/// There is no such link, or a text is no address.
pub fn addresses(link: &str, nets: &[&str]) {
    let index = index(link);
    change(|batch| nets.iter().for_each(|net| batch.add_address(&Address::new(index, net.parse().unwrap()))));
}

/// Makes a link there, which is up, to another that is called `peer` in `netns`, where it is up, too, and has these addresses.
///
/// # Panics
/// The kernel refuses.
pub fn join(link: &str, netns: &Netns, (peer, mac): (&str, Option<Mac>), nets: &[&str]) {
    let other = Peer { name: peer, mac, mtu: None, netns: Some(netns.as_fd()) };
    change(|batch| batch.add_link(&NewLink { up: true, ..NewLink::new(link, Kind::Veth { peer: other }) }));
    netns.run(|| {
        change(|batch| batch.set_link(&SetLink::named(peer).up(true)));
        addresses(peer, nets);
    });
}
