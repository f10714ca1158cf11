//! The container's side of an attachment, spoken to through a socket opened in its namespace.

use std::fs::File;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use kernel::netlink::{self, Address, Batch, Dad, Link, Protocol, Route, SetLink, Socket, sysctl};

use super::interface::{broken, mac_in, sandbox};
use crate::contract::{self, AddResult, Code, Error, FAILED, Ip, Request};

/// How long duplicate address detection may take.
const SETTLE: Duration = Duration::from_secs(5);

/// The index of `lo` in every namespace.
const LOOPBACK: u32 = 1;

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

    /// CHECK: `link` has the MAC, the addresses and the routes that ADD said it gave to it.
    pub(super) fn check(&mut self, link: &Link, request: &Request<'_>) -> Result<(), Error> {
        let Some(previous) = request.previous else { return Ok(()) };
        let sandbox = sandbox(request)?;
        let wanted = mac_in(request.previous, &link.name, &sandbox);
        if let (Some(wanted), Some(mac)) = (wanted, link.mac.filter(|mac| Some(*mac) != wanted)) {
            return Err(broken(format!("link {} has the MAC {mac}, not {wanted}", link.name)));
        }
        let there = self.addresses(link.index)?;
        let lost = |ip: &&Ip| !there.iter().any(|address| address.net == ip.address);
        if let Some(ip) = previous.ips.iter().find(lost) {
            return Err(broken(format!("link {} has lost its address {}", link.name, ip.address)));
        }
        let there = netlink::routes(&mut self.socket)?;
        let found = |wanted: &contract::Route| {
            there.iter().any(|route| {
                // Of a default route the next hop is no matter: a plugin of the chain may have changed it.
                let by_way = |gw: IpAddr| wanted.dst.prefix() == 0 || route.gateway == Some(gw);
                route.destination == wanted.dst.network() && wanted.gw.is_none_or(by_way)
            })
        };
        match previous.routes.iter().find(|route| !found(route)) {
            Some(route) => Err(broken(format!("the route to {} is gone", route.dst))),
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
    /// With `announce`, neighbours are told of the addresses: every container of a bridge pays for that.
    ///
    /// With `dad`, IPv6 addresses are probed first, and this waits for the outcome.
    pub(super) fn configure(
        &mut self,
        link: &Link,
        result: &AddResult,
        announce: bool,
        dad: bool,
    ) -> Result<(), Error> {
        self.allow_ipv6(link, result, dad)?;
        let mut batch = Batch::new();
        batch.set_link(&SetLink::index(LOOPBACK).up(true));
        // The addresses come before the link is up: with arp_notify the kernel then announces them.
        if announce {
            batch.set_link(&SetLink::index(link.index).arp_notify(true));
        }
        for ip in &result.ips {
            batch.add_address(&Address { no_dad: !dad, ..Address::new(link.index, ip.address) });
        }
        batch.set_link(&SetLink::index(link.index).up(true));
        for route in &result.routes {
            batch.append_route(&kernel_route(route, link.index, result));
        }
        self.socket.run(&batch)?;
        if dad { self.settle(link) } else { Ok(()) }
    }

    /// Runs requests there.
    pub(super) fn run(&mut self, batch: &Batch) -> Result<(), Error> {
        Ok(self.socket.run(batch)?)
    }

    /// Brings a link up that has no addresses.
    pub(super) fn up(&mut self, link: &Link) -> Result<(), Error> {
        let mut batch = Batch::new();
        batch.set_link(&SetLink::index(LOOPBACK).up(true));
        batch.set_link(&SetLink::index(link.index).up(true));
        self.run(&batch)
    }

    /// Images and runtimes that turn IPv6 off by default do not mean an interface that is given an address.
    pub(super) fn allow_ipv6(&self, link: &Link, result: &AddResult, dad: bool) -> Result<(), Error> {
        if result.ips.iter().all(|ip| ip.address.is_ipv4()) {
            return Ok(());
        }
        let conf = format!("net/ipv6/conf/{}", link.name);
        let key = format!("{conf}/disable_ipv6");
        if sysctl::read_in(&self.netns, &key)? != "0" {
            sysctl::write_in(&self.netns, &key, "0")?;
        }
        for key in ["enhanced_dad", "accept_dad"].iter().filter(|_| dad) {
            sysctl::write_in(&self.netns, &format!("{conf}/{key}"), "1")?;
        }
        Ok(())
    }

    /// Waits until duplicate address detection is over. Without a carrier it never is: then nobody can be asked.
    fn settle(&mut self, link: &Link) -> Result<(), Error> {
        let until = Instant::now() + SETTLE;
        loop {
            let there = self.addresses(link.index)?;
            let in_state = |dad| there.iter().find(|address| address.dad == dad).map(|address| address.net);
            if let Some(net) = in_state(Dad::Failed) {
                let error = format!("cannot use address {net}: somebody on the network has it (DAD failed)");
                return Err(Error::new(FAILED, error));
            }
            let Some(net) = in_state(Dad::Tentative) else { return Ok(()) };
            if Instant::now() > until {
                let running = self.link(&link.name)?.is_some_and(|link| link.is_running());
                let error = format!("cannot use address {net}: it is tentative after {} s", SETTLE.as_secs());
                return if running { Err(Error::new(Code::TryAgain, error)) } else { Ok(()) };
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A route without a next hop takes the gateway of its family.
pub(super) fn kernel_route(route: &contract::Route, link: u32, result: &AddResult) -> Route {
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
