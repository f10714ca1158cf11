//! The container's side of an attachment, spoken to through a socket opened in its namespace.

use std::fs::File;
use std::net::IpAddr;
use std::path::Path;

use kernel::netlink::{self, Address, Batch, Link, Protocol, Route, SetLink, Socket, sysctl};

use super::interface::broken;
use crate::contract::{AddResult, Code, Error, Request};

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

    /// CHECK: `link` has the addresses that ADD said it gave to it.
    pub(super) fn check(&mut self, link: &Link, request: &Request<'_>) -> Result<(), Error> {
        let there = self.addresses(link.index)?;
        let mut wanted = request.previous.iter().flat_map(|previous| &previous.ips);
        match wanted.find(|ip| !there.iter().any(|address| address.net == ip.address)) {
            Some(ip) => Err(broken(format!("link {} has lost its address {}", link.name, ip.address))),
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
    pub(super) fn configure(&mut self, link: &Link, result: &AddResult, announce: bool) -> Result<(), Error> {
        if result.ips.iter().any(|ip| !ip.address.is_ipv4()) {
            // Images and runtimes that turn IPv6 off by default do not mean an interface that is given an address.
            let key = format!("net/ipv6/conf/{}/disable_ipv6", link.name);
            if sysctl::read_in(&self.netns, &key)? != "0" {
                sysctl::write_in(&self.netns, &key, "0")?;
            }
        }
        let mut batch = Batch::new();
        batch.set_link(&SetLink::index(LOOPBACK).up(true));
        // The addresses come before the link is up: with arp_notify the kernel then announces them.
        if announce {
            batch.set_link(&SetLink::index(link.index).arp_notify(true));
        }
        for ip in &result.ips {
            batch.add_address(&Address::new(link.index, ip.address));
        }
        batch.set_link(&SetLink::index(link.index).up(true));
        for route in &result.routes {
            batch.add_route(&kernel_route(route, link.index, result));
        }
        Ok(self.socket.run(&batch)?)
    }
}

/// A route without a next hop takes the gateway of its family.
fn kernel_route(route: &crate::contract::Route, link: u32, result: &AddResult) -> Route {
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
