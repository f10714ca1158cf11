//! The container's side of an attachment, spoken to through a socket opened in its namespace.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use kernel::namespace::in_netns;
use kernel::netlink::{self, Address, Batch, Link, Protocol, Route, SetLink, Socket, sysctl};

use super::interface::{broken, mac_in, own_addresses, sandbox};
use crate::contract::{self, AddResult, Code, Error, FAILED, Ip, Request};

/// `NSFS_MAGIC`: the file system of namespaces.
const NSFS: u64 = 0x6e73_6673;

fn is_netns(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|fs| fs.f_type as u64 == NSFS)
}

/// The index of `lo` in every namespace.
pub(super) const LOOPBACK: u32 = 1;

/// A container's network namespace.
#[derive(Debug)]
pub(super) struct Inside {
    netns: File,
    socket: Socket,
}

impl Inside {
    /// Opens the namespace at `path`.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let netns = Self::file(path)?;
        let socket = Socket::open_in(Protocol::Route, &netns)?;
        Ok(Self { netns, socket })
    }

    /// A request's namespace, which is open already.
    pub(super) fn of(request: &Request<'_>, netns: File) -> Result<Self, Error> {
        let socket = request.delegate.sockets().open_in(Protocol::Route, &netns)?;
        Ok(Self { netns, socket })
    }

    /// DEL: the attachment's namespace; none if it is gone.
    pub(super) fn if_there(request: &Request<'_>) -> Result<Option<Self>, Error> {
        let Some(path) = &request.attachment.netns else { return Ok(None) };
        match Self::open(path) {
            Ok(inside) => Ok(Some(inside)),
            Err(e) if e.code == Code::UnknownContainer => Ok(None),
            // A namespace's file that lost its namespace (a reboot, an unmount) is a plain file.
            Err(_) if !is_netns(path) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The namespace's file alone.
    pub(super) fn file(path: &Path) -> Result<File, Error> {
        File::open(path).map_err(|e| {
            let gone = e.kind() == std::io::ErrorKind::NotFound;
            let error = Error::because(format!("cannot open network namespace {}", path.display()), e);
            if gone { error.code(Code::UnknownContainer) } else { error.code(Code::Io) }
        })
    }

    /// The link called `name`.
    pub(super) fn link(&mut self, name: &str) -> Result<Option<Link>, Error> {
        Ok(netlink::link_by_name(&mut self.socket, name)?)
    }

    /// The addresses of a link.
    pub(super) fn addresses(&mut self, link: u32) -> Result<Vec<Address>, Error> {
        Ok(netlink::addresses(&mut self.socket, Some(link))?)
    }

    /// Changes a link.
    pub(super) fn change(&mut self, change: &SetLink<'_>) -> Result<(), Error> {
        let mut batch = Batch::new();
        batch.set_link(change);
        Ok(self.socket.run(&batch)?)
    }

    /// CHECK: the attachment's interface, which is the other end of the host's `near`.
    pub(super) fn far_end(&mut self, near: &Link, request: &Request<'_>) -> Result<Link, Error> {
        let ifname = &request.attachment.ifname;
        let link = self.link(ifname)?.ok_or_else(|| broken(format!("link {ifname} is not there")))?;
        if link.kind == "veth" && link.peer == Some(near.index) {
            return Ok(link);
        }
        Err(broken(format!("link {ifname} is not the other end of {}", near.name)))
    }

    /// CHECK: `link` has the MAC and the addresses, and its namespace the routes, that ADD said it gave to them.
    pub(super) fn check(&mut self, link: &Link, request: &Request<'_>) -> Result<(), Error> {
        let Some(previous) = request.previous else { return Ok(()) };
        let wanted = mac_in(request.previous, &link.name, &sandbox(request)?);
        if let (Some(wanted), Some(mac)) = (wanted, link.mac.filter(|mac| Some(*mac) != wanted)) {
            return Err(broken(format!("link {} has the MAC {mac}, not {wanted}", link.name)));
        }
        let there = self.addresses(link.index)?;
        let has = |ip: &&&Ip| there.iter().any(|address| address.net == ip.address);
        if let Some(ip) = own_addresses(request, previous).iter().find(|ip| !has(ip)) {
            return Err(broken(format!("link {} has lost its address {}", link.name, ip.address)));
        }
        // In whatever table: plugins of the chain move routes.
        let there = netlink::routes(&mut self.socket)?;
        let fits = |wanted: &contract::Route, route: &Route| {
            let gateway = wanted.gw.filter(|_| wanted.dst.prefix() > 0);
            route.destination == wanted.dst.network() && gateway.is_none_or(|gw| route.gateway == Some(gw))
        };
        match previous.routes.iter().find(|wanted| !there.iter().any(|route| fits(wanted, route))) {
            Some(lost) => Err(broken(format!("the route to {} is gone", lost.dst))),
            None => Ok(()),
        }
    }

    /// Loopback, up or down.
    pub(super) fn set_loopback(&mut self, up: bool) -> Result<(), Error> {
        let mut batch = Batch::new();
        batch.set_link(&SetLink::index(LOOPBACK).up(up));
        Ok(self.socket.run(&batch)?)
    }

    /// Gives `link` its addresses, brings it (and loopback) up, and makes the routes: all in one message to the kernel.
    pub(super) fn configure(&mut self, link: &Link, result: &AddResult, manner: Manner) -> Result<(), Error> {
        let ipv6 = result.ips.iter().any(|ip| !ip.address.is_ipv4());
        if ipv6 || manner.announce_ipv6 {
            in_netns(&self.netns, || prepare_ipv6(&link.name, ipv6, manner))?;
        }
        let mut batch = Batch::new();
        batch.set_link(&SetLink::index(LOOPBACK).up(true));
        // The addresses come before the link is up: with arp_notify the kernel then announces them.
        if manner.announce {
            batch.set_link(&SetLink::index(link.index).arp_notify(true));
        }
        for ip in &result.ips {
            let no_dad = manner.duplicates == Duplicates::Ignored;
            batch.add_address(&Address { no_dad, ..Address::new(link.index, ip.address) });
        }
        batch.set_link(&SetLink::index(link.index).up(true));
        // With its last address the last of what a route may need is there.
        if ipv6 && manner.duplicates == Duplicates::Awaited {
            self.socket.run(&batch)?;
            self.await_addresses(link)?;
            batch = Batch::new();
        }
        for route in &result.routes {
            batch.append_route(&kernel_route(route, link.index, result));
        }
        Ok(self.socket.run(&batch)?)
    }

    /// Waits until the kernel knows of each IPv6 address that nobody else has it. A link that is not connected to anything
    /// yet gets no answer: its addresses are taken as they are.
    fn await_addresses(&mut self, link: &Link) -> Result<(), Error> {
        let begin = Instant::now();
        loop {
            let there = self.addresses(link.index)?;
            let there = || there.iter().filter(|address| !address.net.is_ipv4());
            if let Some(taken) = there().find(|address| address.duplicate) {
                let error = format!(
                    "cannot use address {} of link {}: somebody on its network has it",
                    taken.net, link.name
                );
                return Err(Error::new(FAILED, error));
            }
            let Some(tentative) = there().find(|address| address.tentative) else { return Ok(()) };
            if begin.elapsed() >= SETTLE {
                let running = self.link(&link.name)?.is_some_and(|link| link.is_running());
                let error = format!(
                    "cannot use address {} of link {}: duplicate address detection does not end",
                    tentative.net, link.name
                );
                return if running { Err(Error::new(Code::TryAgain, error)) } else { Ok(()) };
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Deletes a link. Not there counts as done.
    pub(super) fn delete(&mut self, name: &str) -> Result<(), Error> {
        Ok(netlink::delete_link_on(&mut self.socket, name)?)
    }

    /// Brings a link up that has no addresses.
    pub(super) fn up(&mut self, link: &Link) -> Result<(), Error> {
        let mut batch = Batch::new();
        batch.set_link(&SetLink::index(LOOPBACK).up(true));
        batch.set_link(&SetLink::index(link.index).up(true));
        self.run(&batch)
    }

    /// Sends a batch there.
    pub(super) fn run(&mut self, batch: &Batch) -> Result<(), Error> {
        Ok(self.socket.run(batch)?)
    }

    /// The socket there.
    pub(super) fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// Keeps every other plugin that asks for it out of the namespace until this is dropped.
    pub(super) fn lock(&self) -> Result<(), Error> {
        rustix::io::retry_on_intr(|| {
            rustix::fs::flock(&self.netns, rustix::fs::FlockOperation::LockExclusive)
        })
        .map_err(|e| Error::because("cannot lock the container's network namespace", e).code(Code::Io))
    }

    /// The namespace at hand, for whoever makes or moves a link into it.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.netns.as_fd()
    }
}

/// How long addresses are waited for.
const SETTLE: Duration = Duration::from_secs(5);

/// How an interface gets its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Manner {
    /// IPv4 neighbours are told of the addresses: every container of a bridge pays for that.
    pub(super) announce: bool,
    /// IPv6 neighbours too.
    pub(super) announce_ipv6: bool,
    /// What is done about others that have an IPv6 address.
    pub(super) duplicates: Duplicates,
}

impl Manner {
    /// Nobody is told and nobody is asked.
    pub(super) const QUIET: Self =
        Self { announce: false, announce_ipv6: false, duplicates: Duplicates::Ignored };
}

/// What is done about others on the network that have an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duplicates {
    /// Nothing: whoever gave the address knows all there are.
    Ignored,
    /// The kernel looks for them when the link is connected.
    Detected,
    /// The same, and ADD waits for the outcome.
    Awaited,
}

/// Settings of a link that is to have IPv6 addresses.
fn prepare_ipv6(link: &str, addresses: bool, manner: Manner) -> kernel::Result<()> {
    let conf = |link: &str, key| format!("net/ipv6/conf/{link}/{key}");
    if addresses {
        // Images and runtimes that turn IPv6 off by default do not mean an interface that is given an address.
        for link in ["lo", link] {
            let key = conf(link, "disable_ipv6");
            if sysctl::read(&key)? != "0" {
                sysctl::write(&key, "0")?;
            }
        }
        sysctl::write(&conf(link, "keep_addr_on_down"), "1")?;
        for key in ["enhanced_dad", "accept_dad"].iter().filter(|_| manner.duplicates == Duplicates::Awaited)
        {
            sysctl::write(&conf(link, key), "1")?;
        }
    }
    if manner.announce_ipv6 {
        // The kernel may have no IPv6 at all.
        let _ = sysctl::write(&conf(link, "ndisc_notify"), "1");
    }
    Ok(())
}

/// A route without a next hop takes the gateway of its family.
fn kernel_route(route: &contract::Route, link: u32, result: &AddResult) -> Route {
    let v4 = route.dst.is_ipv4();
    let gateway: Option<IpAddr> = route
        .gw
        .or_else(|| result.ips.iter().filter(|ip| ip.address.is_ipv4() == v4).find_map(|ip| ip.gateway));
    // Scope "link" says that there is no next hop.
    let gateway = gateway.filter(|_| route.gw.is_some() || route.scope != Some(253));
    Route {
        gateway,
        link: Some(link),
        table: route.table,
        scope: route.scope,
        priority: route.priority,
        mtu: route.mtu,
        advmss: route.advmss,
        ..Route::to(route.dst)
    }
}
