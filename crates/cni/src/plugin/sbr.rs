//! `sbr`: source based routing. What leaves with an address of this interface leaves through this interface, by a routing
//! table of the address's own.

use std::net::IpAddr;

use kernel::netlink::{self, Batch, IpNet, Link, Route, Rule};
use ledger::Record;
use rustix::io::Errno;

use super::inside::Inside;
use super::interface::{own_addresses, previous, vanished};
use super::parent::MAIN;
use crate::contract::{AddResult, Code, Error, Ip, Plugin, Request};

/// The plugin `sbr`. All it makes is in the container: nothing is recorded.
#[derive(Debug)]
pub(super) struct Sbr;

/// The first table that is given out.
const FIRST_TABLE: u32 = 100;

/// `RT_SCOPE_LINK`: the destination is on the link.
const LINK: u8 = 253;

impl Plugin for Sbr {
    fn add(&self, request: &Request<'_>, _record: &mut dyn Record) -> Result<AddResult, Error> {
        let conf = Conf::of(request)?;
        let previous = previous(request)?;
        let ips = own_addresses(request, previous);
        if ips.is_empty() {
            let error = format!(
                "cannot route by source: \"prevResult\" has no IP address of interface {}",
                request.attachment.ifname
            );
            return Err(Error::new(Code::InvalidConfig, error));
        }
        let mut inside = Inside::open(request.attachment.netns()?)?;
        // Another attachment of this container may be choosing its tables.
        inside.lock()?;
        let added = match conf.table {
            Some(table) => {
                let mut batch = Batch::new();
                ips.iter().for_each(|ip| batch.add_rule(&rule(ip, table)));
                inside.run(&batch)
            }
            None => conf.route(request, &mut inside, &ips),
        };
        added?;
        Ok(previous.clone())
    }

    fn del(&self, request: &Request<'_>, _record: &mut dyn Record) -> Result<(), Error> {
        // One that cannot be read says nothing of the rules: those of the addresses are this attachment's.
        let table = request.keys().number("table").unwrap_or_default();
        let Some(mut inside) = Inside::if_there(request)? else { return Ok(()) };
        inside.lock()?;
        // The tables' routes go with the link, the rules do not.
        let Some(link) = inside.link(&request.attachment.ifname)? else { return Ok(()) };
        let there = inside.addresses(link.index)?;
        let own = |rule: &Rule| {
            let source = rule.source.filter(|source| *source == IpNet::host(source.address()));
            let source = source.map(IpNet::address);
            table.is_none_or(|table| table == rule.table)
                && there.iter().any(|address| Some(address.net.address()) == source)
        };
        let rules = netlink::rules(inside.socket())?;
        let mut batch = Batch::new();
        rules.iter().filter(|rule| own(rule)).for_each(|rule| batch.delete_rule(rule));
        inside.run(&batch)
    }

    /// Each address's rule is there, and its table has a route.
    fn check(&self, request: &Request<'_>) -> Result<(), Error> {
        let conf = Conf::of(request)?;
        let mut inside = Inside::open(request.attachment.netns()?)?;
        let rules = netlink::rules(inside.socket())?;
        for ip in request.previous.map(|previous| own_addresses(request, previous)).unwrap_or_default() {
            let source = Some(IpNet::host(ip.address.address()));
            let fits =
                |rule: &&Rule| rule.source == source && conf.table.is_none_or(|table| table == rule.table);
            if !rules.iter().any(|rule| fits(&rule)) {
                let what = format!("no policy rule for packets from {} is there", ip.address.address());
                return Err(super::interface::broken(what));
            }
        }
        Ok(())
    }

    fn status(&self, request: &Request<'_>) -> Result<(), Error> {
        Conf::of(request).map(drop)
    }
}

/// What the plugin is told.
#[derive(Debug)]
struct Conf {
    /// Routes are somebody else's: only the rules to this table are made.
    table: Option<u32>,
    /// Gateways instead of the addresses' own; one a family.
    gateways: Vec<IpAddr>,
    /// The main table keeps the networks of the addresses.
    source_hints: bool,
}

impl Conf {
    fn of(request: &Request<'_>) -> Result<Self, Error> {
        let keys = request.keys();
        let mut gateways: Vec<IpAddr> = Vec::new();
        for value in keys.list("gateways")? {
            let gateway = value.as_str().and_then(|text| text.parse::<IpAddr>().ok());
            let gateway = gateway.ok_or_else(|| {
                keys.refuse(
                    "gateways",
                    format_args!("a list of addresses: {value} is an invalid static gateway IP address"),
                )
            })?;
            if gateways.iter().any(|other| other.is_ipv4() == gateway.is_ipv4()) {
                let family = if gateway.is_ipv4() { "IPv4" } else { "IPv6" };
                let wanted = format!("one address a family at most: there are multiple {family} addresses");
                return Err(keys.refuse("gateways", wanted));
            }
            gateways.push(gateway);
        }
        let table = keys.number("table")?;
        Ok(Self { table, gateways, source_hints: keys.boolean("addSourceHints")? })
    }

    /// A table for each address, with its rule and the link's routes; then those leave the main table.
    fn route(&self, request: &Request<'_>, inside: &mut Inside, ips: &[&Ip]) -> Result<(), Error> {
        let ifname = &request.attachment.ifname;
        let link = inside.link(ifname)?.ok_or_else(|| vanished(ifname))?;
        let all = netlink::routes(inside.socket())?;
        let rules = netlink::rules(inside.socket())?;
        let taken = |table: &u32| {
            rules.iter().any(|r| r.table == *table) || all.iter().any(|r| r.table == Some(*table))
        };
        let tables = (FIRST_TABLE..).filter(|table| !taken(table));
        let main: Vec<_> =
            all.iter().filter(|r| r.link == Some(link.index) && r.table == Some(MAIN)).collect();
        let mut batch = Batch::new();
        for (ip, table) in ips.iter().zip(tables) {
            batch.add_rule(&rule(ip, table));
            self.fill(&mut batch, ip, table, &link, &main);
        }
        inside.run(&batch)?;
        self.leave_main(inside, ips, &link, &main)
    }

    /// The routes of one address's table.
    fn fill(&self, batch: &mut Batch, ip: &Ip, table: u32, link: &Link, main: &[&Route]) {
        let v4 = ip.address.is_ipv4();
        let own = self.gateways.iter().copied().find(|gateway| gateway.is_ipv4() == v4);
        if let Some((gateway, default)) = own.or(ip.gateway).zip(IpNet::new(any(v4), 0)) {
            let gateway = Some(gateway);
            batch.add_route(&Route {
                gateway,
                link: Some(link.index),
                table: Some(table),
                ..Route::to(default)
            });
        }
        for route in main {
            let near = |address: Option<IpAddr>| address.is_some_and(|address| ip.address.contains(address));
            let generic = route.source.is_none() && route.gateway.is_none();
            if own.is_some() && route.destination.prefix() == 0 && route.destination.is_ipv4() == v4 {
                continue;
            }
            if near(route.source) || near(route.gateway) || generic {
                batch.replace_route(&Route { table: Some(table), ..(*route).clone() });
            }
        }
    }

    fn leave_main(
        &self,
        inside: &mut Inside,
        ips: &[&Ip],
        link: &Link,
        main: &[&Route],
    ) -> Result<(), Error> {
        if self.source_hints {
            let mut batch = Batch::new();
            for ip in ips {
                let source = Some(ip.address.address());
                let scope = Some(LINK).filter(|_| ip.address.is_ipv4());
                batch.replace_route(&Route {
                    source,
                    scope,
                    link: Some(link.index),
                    ..Route::to(ip.address)
                });
            }
            inside.run(&batch)?;
        }
        // Only then: what is reached through a gateway needs the way to the gateway.
        for route in main {
            let kept = self.source_hints && (route.scope == Some(LINK) || is_hint(route, ips));
            if kept {
                continue;
            }
            let mut batch = Batch::new();
            batch.delete_route(route);
            match inside.socket().run(&batch) {
                // It went with another.
                Err(e) if e.errno() == Some(Errno::SRCH) => {}
                outcome => outcome?,
            }
        }
        Ok(())
    }
}

/// IPv6 knows no scope of routes: those that hint at the source are known by their network.
fn is_hint(route: &Route, ips: &[&Ip]) -> bool {
    route.gateway.is_none() && ips.iter().any(|ip| ip.address.network() == route.destination)
}

fn rule(ip: &Ip, table: u32) -> Rule {
    Rule::from_source(IpNet::host(ip.address.address()), table)
}

fn any(v4: bool) -> IpAddr {
    if v4 { [0; 4].into() } else { [0; 16].into() }
}
