//! `vrf`: puts the container's interface into a routing domain, which the interfaces of several networks may share.

use std::time::{Duration, Instant};

use kernel::netlink::{self, Address, Batch, Detail, IpNet, Kind, Link, NewLink, Route, SetLink};
use ledger::Record;

use super::inside::Inside;
use super::interface::{broken, previous, vanished};
use super::parent::MAIN;
use crate::contract::{AddResult, Code, Error, FAILED, Plugin, Request};

/// The plugin `vrf`. All it makes is in the container: nothing is recorded.
#[derive(Debug)]
pub(super) struct Vrf;

/// `RT_SCOPE_UNIVERSE`: neither the kernel's own routes of addresses nor those to what is on the link.
const UNIVERSE: u8 = 0;

/// How long the kernel may take to make the local route of an address.
const SETTLE: Duration = Duration::from_secs(3);

impl Plugin for Vrf {
    fn add(&self, request: &Request<'_>, _record: &mut dyn Record) -> Result<AddResult, Error> {
        let name = domain(request)?;
        let table = request.keys().number("table")?.filter(|table| *table != 0);
        let previous = previous(request)?;
        let mut inside = Inside::open(request.attachment.netns()?)?;
        // A domain's last member may be leaving.
        inside.lock()?;
        let (vrf, table) = ensure(request, &mut inside, name, table)?;
        enter(request, &mut inside, &vrf, table)?;
        Ok(previous.clone())
    }

    fn del(&self, request: &Request<'_>, _record: &mut dyn Record) -> Result<(), Error> {
        let Some(mut inside) = Inside::if_there(request)? else { return Ok(()) };
        inside.lock()?;
        let vrf = match domain(request) {
            Ok(name) => inside.link(name)?,
            // Which it was still shows.
            Err(_) => match inside.link(&request.attachment.ifname)?.and_then(|own| own.master) {
                Some(index) => netlink::link_by_index(inside.socket(), index)?,
                None => None,
            },
        };
        let Some(vrf) = vrf.filter(is_vrf) else { return Ok(()) };
        let members =
            netlink::links(inside.socket())?.into_iter().filter(|link| link.master == Some(vrf.index));
        let (own, others): (Vec<_>, Vec<_>) =
            members.partition(|link| link.name == request.attachment.ifname);
        let mut batch = Batch::new();
        own.iter().for_each(|link| batch.set_link(&SetLink::index(link.index).master(0)));
        inside.run(&batch)?;
        if others.is_empty() { inside.delete(&vrf.name) } else { Ok(()) }
    }

    fn check(&self, request: &Request<'_>) -> Result<(), Error> {
        let name = domain(request)?;
        previous(request)?;
        let ifname = &request.attachment.ifname;
        let mut inside = Inside::open(request.attachment.netns()?)?;
        let vrf = inside.link(name)?.filter(is_vrf);
        let vrf = vrf.ok_or_else(|| broken(format!("vrf {name} is not there")))?;
        match inside.link(ifname)? {
            Some(link) if link.master == Some(vrf.index) => Ok(()),
            _ => Err(broken(format!("link {ifname} is not in vrf {name}"))),
        }
    }

    fn status(&self, request: &Request<'_>) -> Result<(), Error> {
        domain(request).map(drop)
    }
}

fn domain<'a>(request: &Request<'a>) -> Result<&'a str, Error> {
    let name = super::interface::link_name(&request.keys(), "vrfname")?;
    name.ok_or_else(|| request.keys().refuse("vrfname", "a valid vrf name, which is required"))
}

fn is_vrf(link: &Link) -> bool {
    matches!(link.detail, Some(Detail::Vrf(_)))
}

/// The domain, made if it is not there, with its table.
fn ensure(
    request: &Request<'_>,
    inside: &mut Inside,
    name: &str,
    table: Option<u32>,
) -> Result<(Link, u32), Error> {
    if let Some(there) = inside.link(name)? {
        return match there.detail {
            Some(Detail::Vrf(of)) if table.is_none_or(|wanted| wanted == of) => Ok((there, of)),
            Some(Detail::Vrf(of)) => {
                let wanted = format!("{of}: VRF {name} already exist with different routing table {of}");
                Err(request.keys().refuse("table", wanted))
            }
            _ => Err(request
                .keys()
                .refuse("vrfname", format!("the name of a vrf: it is a {} link", there.kind))),
        };
    }
    let table = match table {
        Some(table) => table,
        None => free_table(&netlink::links(inside.socket())?),
    };
    let mut batch = Batch::new();
    batch.add_link(&NewLink { up: true, ..NewLink::new(name, Kind::Vrf { table }) });
    inside.run(&batch)?;
    Ok((inside.link(name)?.ok_or_else(|| vanished(name))?, table))
}

/// The lowest number that no other domain has.
fn free_table(links: &[Link]) -> u32 {
    let taken = |table: &u32| links.iter().any(|link| link.detail == Some(Detail::Vrf(*table)));
    (1..).find(|table| !taken(table)).unwrap_or(1)
}

/// Makes the attachment's link a member. The kernel takes it down and up for that, which loses its IPv6 addresses and all
/// routes but those to what is on the link: they are given back.
fn enter(request: &Request<'_>, inside: &mut Inside, vrf: &Link, table: u32) -> Result<(), Error> {
    let ifname = &request.attachment.ifname;
    let link = inside.link(ifname)?.ok_or_else(|| vanished(ifname))?;
    match link.master {
        None => {}
        // ADD was killed after this.
        Some(master) if master == vrf.index => return Ok(()),
        Some(master) => {
            let master = netlink::link_by_index(inside.socket(), master)?.map(|link| link.name);
            let master = master.unwrap_or_default();
            let error =
                format!("cannot use vrf {}: interface {ifname} has already a master set: {master}", vrf.name);
            return Err(Error::new(Code::InvalidConfig, error));
        }
    }
    let lost = |address: &Address| !address.net.is_ipv4() && address.permanent_global;
    let before: Vec<_> = inside.addresses(link.index)?.into_iter().filter(lost).collect();
    let routes = netlink::routes(inside.socket())?.into_iter();
    let of_link =
        |r: &Route| r.link == Some(link.index) && r.scope == Some(UNIVERSE) && r.table == Some(MAIN);
    // The kernel makes those of IPv6 addresses again.
    let routes: Vec<_> =
        routes.filter(|r| of_link(r) && (r.destination.is_ipv4() || r.gateway.is_some())).collect();

    let mut batch = Batch::new();
    batch.set_link(&SetLink::index(link.index).master(vrf.index));
    inside.run(&batch)?;
    let there = inside.addresses(link.index)?;
    let mut batch = Batch::new();
    for address in before.iter().filter(|address| !there.iter().any(|a| a.net == address.net)) {
        batch.add_address(address);
    }
    inside.run(&batch)?;
    for address in before {
        await_local_route(inside, IpNet::host(address.net.address()), table)?;
    }
    let mut batch = Batch::new();
    for route in routes {
        batch.replace_route(&Route { table: Some(table), ..route });
    }
    inside.run(&batch)
}

/// Routes through a gateway need the kernel's own of the addresses, which it makes a moment later.
fn await_local_route(inside: &mut Inside, address: IpNet, table: u32) -> Result<(), Error> {
    let begin = Instant::now();
    loop {
        let routes = netlink::routes(inside.socket())?;
        if routes.iter().any(|r| r.destination == address && r.table == Some(table)) {
            return Ok(());
        }
        if begin.elapsed() > SETTLE {
            let error =
                format!("cannot keep address {address} in table {table}: the kernel makes no route for it");
            return Err(Error::new(FAILED, error));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
