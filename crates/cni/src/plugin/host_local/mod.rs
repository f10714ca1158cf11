//! `host-local`: addresses of this host's own subnets, one file a lease.

mod boot;
mod conf;
mod index;
mod kept;
mod range;
mod scan;
mod store;

use std::net::IpAddr;

use kernel::netlink::IpNet;
use ledger::Record;

use crate::contract::{AddResult, Code, Error, Ip, Plugin, Request};
use conf::{Conf, Read};
use kept::Stores;
use range::{Range, parts};
use store::{Holder, Store};

/// The plugin `host-local`.
#[derive(Debug, Default)]
pub(super) struct HostLocal {
    stores: Stores,
    read: Read,
}

impl Plugin for HostLocal {
    fn add(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<AddResult, Error> {
        let conf = Conf::of(request, &self.read)?;
        let wanted = wanted(&conf)?;
        let mut store = self.stores.open(conf.dir.clone())?;
        let before = store.held(holder(request))?;
        let mut ips = Vec::new();
        for (index, (set, wanted)) in conf.sets().zip(wanted).enumerate() {
            let given = match wanted {
                Some(address) => give(&mut store, index, set, address, holder(request), record),
                None => refuse_second(set, &before, holder(request))
                    .and_then(|()| give_any(&mut store, index, set, holder(request), record)),
            };
            match given {
                Ok(ip) => ips.push(ip),
                // What this call took goes back; what the container had before stays.
                Err(error) => {
                    let taken = ips.iter().map(|ip: &Ip| ip.address.address());
                    let left = taken.filter_map(|address| store.remove(address).err()).next();
                    return Err(left.map_or(error, |left| Error::because("cannot give it back", left)));
                }
            }
        }
        self.stores.keep(store);
        Ok(AddResult { ips, routes: conf.routes(), dns: conf.dns, ..AddResult::default() })
    }

    fn del(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<(), Error> {
        let Some(mut store) = self.stores.open_existing(conf::dir(request)?)? else { return Ok(()) };
        store.release(holder(request), record)?;
        self.stores.keep(store);
        Ok(())
    }

    fn check(&self, request: &Request<'_>) -> Result<(), Error> {
        let conf = Conf::of(request, &self.read)?;
        let held = match Store::open_existing(conf.dir.clone())? {
            Some(mut store) => store.held(holder(request))?,
            None => Vec::new(),
        };
        let ours = |ip: &&Ip| conf.sets().flatten().any(|range| range.contains(ip.address.address()));
        let mut ips = request.previous.iter().flat_map(|previous| &previous.ips).filter(ours);
        let id = &request.attachment.container_id;
        if held.is_empty() {
            return Err(Error::new(Code::Other(100), format!("no address is leased to container {id}")));
        }
        match ips.find(|ip| !held.contains(&ip.address.address())) {
            Some(ip) => Err(Error::new(
                Code::Other(100),
                format!("address {} is no longer leased to container {id}", ip.address),
            )),
            None => Ok(()),
        }
    }

    fn status(&self, request: &Request<'_>) -> Result<(), Error> {
        let conf = Conf::of(request, &self.read)?;
        let Some(store) = Store::open_existing(conf.dir.clone())? else { return Ok(()) };
        let next =
            |set: &[Range]| parts(set, None).into_iter().find_map(|(from, to, r)| store.free(from, to, r));
        match conf.sets().find(|set| next(set).is_none()) {
            Some(set) => Err(full(set).code(Code::NotAvailable)),
            None => Ok(()),
        }
    }

    fn gc(&self, request: &Request<'_>, _record: &mut dyn Record) -> Result<(), Error> {
        let valid = request.valid_attachments()?;
        let Some(mut store) = Store::open_existing(conf::dir(request)?)? else { return Ok(()) };
        let stays = |id: &str, ifname: Option<&str>| {
            valid.iter().any(|v| v.container_id == id && ifname.is_none_or(|name| v.ifname == name))
        };
        let mut left = store.retain(stays).into_iter();
        left.next().map_or(Ok(()), Err)
    }
}

fn holder<'a>(request: &Request<'a>) -> Holder<'a> {
    Holder { container_id: &request.attachment.container_id, ifname: &request.attachment.ifname }
}

/// Which requested address each set of ranges is to give.
fn wanted(conf: &Conf) -> Result<Vec<Option<IpAddr>>, Error> {
    let mut left = conf.requested.clone();
    let of_set = |set: &[Range]| {
        let at = left.iter().position(|ip| set.iter().any(|range| range.contains(*ip)));
        at.map(|at| left.remove(at))
    };
    let wanted = conf.sets().map(of_set).collect();
    if left.is_empty() {
        return Ok(wanted);
    }
    let left: Vec<_> = left.iter().map(ToString::to_string).collect();
    Err(Error::new(Code::InvalidConfig, format!("failed to allocate all requested IPs: {}", left.join(" ")))
        .hint("no range has them, or another request took its range"))
}

/// Two leases of one set for one interface: DEL comes before a second ADD.
fn refuse_second(set: &[Range], held: &[IpAddr], holder: Holder<'_>) -> Result<(), Error> {
    let Some(address) = held.iter().find(|ip| set.iter().any(|range| range.contains(**ip))) else {
        return Ok(());
    };
    let Holder { container_id, ifname } = holder;
    Err(Error::new(
        Code::Other(100),
        format!("cannot give an address to {ifname} of container {container_id}: it has {address} already"),
    ))
}

/// Gives the address that was asked for.
fn give(
    store: &mut Store,
    index: usize,
    set: &[Range],
    address: IpAddr,
    holder: Holder<'_>,
    record: &mut dyn Record,
) -> Result<Ip, Error> {
    let range = set.iter().find(|range| range.contains(address) && range.gateway != address);
    let Some(range) = range else {
        return Err(Error::new(Code::InvalidConfig, format!("cannot give {address}: it is the gateway")));
    };
    if !store.take(address, index, holder, record)? {
        return Err(Error::new(Code::Other(100), format!("cannot give {address}: somebody has it")));
    }
    Ok(lease(address, range))
}

/// Gives the next free address after the last.
fn give_any(
    store: &mut Store,
    index: usize,
    set: &[Range],
    holder: Holder<'_>,
    record: &mut dyn Record,
) -> Result<Ip, Error> {
    let last = store.last_given(index);
    // A second look is only for an index that somebody has tampered with.
    for _ in 0..2 {
        let mut free = parts(set, last)
            .into_iter()
            .filter_map(|(from, to, range)| store.free(from, to, range).map(|address| (address, range)));
        let Some((address, range)) = free.next() else { return Err(full(set)) };
        if store.take(address, index, holder, record)? {
            return Ok(lease(address, range));
        }
        store.rebuild()?;
    }
    Err(full(set).code(Code::TryAgain))
}

fn lease(address: IpAddr, range: &Range) -> Ip {
    let address = IpNet::new(address, range.subnet.prefix()).unwrap_or_else(|| IpNet::host(address));
    Ip { address, gateway: Some(range.gateway), interface: None }
}

fn full(set: &[Range]) -> Error {
    let ranges: Vec<_> = set.iter().map(|range| format!("{}-{}", range.first, range.last)).collect();
    Error::new(Code::Other(100), format!("cannot give an address: all of {} are taken", ranges.join(", ")))
        .hint("delete containers, or enlarge \"ranges\"")
}

/// Any bytes as an index, as a lease and as its name: for the fuzzer.
pub(super) fn exercise(bytes: &[u8]) {
    index::exercise(bytes);
    scan::exercise(&String::from_utf8_lossy(bytes));
}
