//! `host-local`: addresses of this host's own subnets, one file a lease.

mod conf;
mod range;
mod store;

use kernel::netlink::IpNet;
use ledger::Record;

use crate::contract::{AddResult, Code, Error, Ip, Plugin, Request};
use conf::Conf;
use range::{Range, candidates};
use store::{Holder, Store};

/// The plugin `host-local`.
#[derive(Debug)]
pub(super) struct HostLocal;

impl Plugin for HostLocal {
    fn add(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<AddResult, Error> {
        let conf = Conf::of(request)?;
        let wanted = wanted(&conf)?;
        let store = Store::open(conf.dir)?;
        let mut ips = Vec::new();
        for (index, (set, wanted)) in conf.sets.iter().zip(wanted).enumerate() {
            ips.push(give(&store, index, set, wanted, holder(request), record)?);
        }
        Ok(AddResult { ips, routes: conf.routes, dns: conf.dns, ..AddResult::default() })
    }

    fn del(&self, request: &Request<'_>, _record: &mut dyn Record) -> Result<(), Error> {
        let Some(store) = Store::open_existing(conf::dir(request)?)? else { return Ok(()) };
        match request.previous.filter(|previous| !previous.ips.is_empty()) {
            Some(previous) => {
                let addresses: Vec<_> = previous.ips.iter().map(|ip| ip.address.address()).collect();
                store.release(&addresses, holder(request))
            }
            None => store.release_all(holder(request)),
        }
    }

    fn check(&self, request: &Request<'_>) -> Result<(), Error> {
        let conf = Conf::of(request)?;
        let store = Store::open_existing(conf.dir)?;
        let ours = |ip: &Ip| conf.sets.iter().flatten().any(|range| range.contains(ip.address.address()));
        let mut ips = request.previous.iter().flat_map(|previous| &previous.ips).filter(|ip| ours(ip));
        let held = |ip: &Ip| store.as_ref().is_some_and(|s| s.is_held(ip.address.address(), holder(request)));
        match ips.find(|ip| !held(ip)) {
            Some(ip) => Err(Error::new(
                Code::Other(100),
                format!("address {} is no longer leased to {}", ip.address, request.attachment.container_id),
            )),
            None => Ok(()),
        }
    }

    fn status(&self, request: &Request<'_>) -> Result<(), Error> {
        let conf = Conf::of(request)?;
        let Some(store) = Store::open_existing(conf.dir)? else { return Ok(()) };
        let taken: std::collections::HashSet<_> = store.leases()?.into_iter().collect();
        match conf.sets.iter().find(|set| candidates(set, None).all(|(ip, _)| taken.contains(&ip))) {
            Some(set) => Err(full(set).code(Code::NotAvailable)),
            None => Ok(()),
        }
    }
}

fn holder<'a>(request: &Request<'a>) -> Holder<'a> {
    Holder { container_id: &request.attachment.container_id, ifname: &request.attachment.ifname }
}

/// Which requested address each set of ranges is to give.
fn wanted(conf: &Conf) -> Result<Vec<Option<std::net::IpAddr>>, Error> {
    let mut left = conf.requested.clone();
    let of_set = |set: &Vec<Range>| {
        let at = left.iter().position(|ip| set.iter().any(|range| range.contains(*ip)));
        at.map(|at| left.remove(at))
    };
    let wanted = conf.sets.iter().map(of_set).collect();
    match left.first() {
        Some(left) => Err(Error::new(
            Code::InvalidConfig,
            format!(
                "cannot give the requested address {left}: no range has it, or another request took its range"
            ),
        )),
        None => Ok(wanted),
    }
}

/// Gives an address of one set of ranges: the wanted one, or the next free one after the last.
fn give(
    store: &Store,
    index: usize,
    set: &[Range],
    wanted: Option<std::net::IpAddr>,
    holder: Holder<'_>,
    record: &mut dyn Record,
) -> Result<Ip, Error> {
    if let Some(address) = wanted {
        let range = set.iter().find(|range| range.contains(address) && range.gateway != address);
        let Some(range) = range else {
            return Err(Error::new(Code::InvalidConfig, format!("cannot give {address}: it is the gateway")));
        };
        if !store.take(address, index, holder, record)? {
            return Err(Error::new(Code::Other(100), format!("cannot give {address}: somebody has it")));
        }
        return Ok(lease(address, range));
    }
    for (address, range) in candidates(set, store.last_given(index)) {
        if store.take(address, index, holder, record)? {
            return Ok(lease(address, range));
        }
    }
    Err(full(set))
}

fn lease(address: std::net::IpAddr, range: &Range) -> Ip {
    let address = IpNet::new(address, range.subnet.prefix()).unwrap_or_else(|| IpNet::host(address));
    Ip { address, gateway: Some(range.gateway), interface: None }
}

fn full(set: &[Range]) -> Error {
    let ranges: Vec<_> = set.iter().map(|range| format!("{}-{}", range.first, range.last)).collect();
    Error::new(Code::Other(100), format!("cannot give an address: all of {} are taken", ranges.join(", ")))
        .hint("delete containers, or enlarge \"ranges\"")
}
