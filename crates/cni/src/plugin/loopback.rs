//! `loopback`: brings `lo` up.

use kernel::netlink::IpNet;
use ledger::Record;

use super::inside::{Inside, LOOPBACK};
use super::interface::broken;
use crate::contract::{AddResult, Error, FAILED, Interface, Ip, Plugin, Request};

/// The plugin `loopback`.
#[derive(Debug)]
pub(super) struct Loopback;

impl Plugin for Loopback {
    fn add(&self, request: &Request<'_>, _record: &mut dyn Record) -> Result<AddResult, Error> {
        // No record: it goes with the namespace.
        let netns = request.attachment.netns()?;
        let mut inside = Inside::open(netns)?;
        inside.set_loopback(true)?;
        let there = addresses(&mut inside)?;
        if let Some(previous) = request.previous {
            return Ok(previous.clone());
        }
        let sandbox = netns.display().to_string();
        let interface =
            Interface { name: "lo".into(), mac: "00:00:00:00:00:00".into(), sandbox, ..Interface::default() };
        // One of each family, as far as the kernel speaks it.
        let first = |v4: bool| there.iter().find(move |net| net.is_ipv4() == v4).copied();
        let ips = [first(true), first(false)].into_iter().flatten();
        let ips = ips.map(|address| Ip { address, gateway: None, interface: Some(0) }).collect();
        Ok(AddResult { interfaces: vec![interface], ips, ..AddResult::default() })
    }

    fn del(&self, request: &Request<'_>, _record: &mut dyn Record) -> Result<(), Error> {
        Inside::if_there(request)?.map_or(Ok(()), |mut inside| inside.set_loopback(false))
    }

    fn check(&self, request: &Request<'_>) -> Result<(), Error> {
        let mut inside = Inside::open(request.attachment.netns()?)?;
        if !inside.link("lo")?.is_some_and(|lo| lo.is_up()) {
            return Err(broken("loopback interface lo is down"));
        }
        addresses(&mut inside).map(drop)
    }
}

/// What `lo` has, all of which must be for the machine itself.
fn addresses(inside: &mut Inside) -> Result<Vec<IpNet>, Error> {
    let there = inside.addresses(LOOPBACK)?.into_iter().map(|address| address.net);
    let there: Vec<_> = there.collect();
    match there.iter().find(|net| !net.address().is_loopback()) {
        Some(net) => Err(Error::new(
            FAILED,
            format!("cannot use loopback interface lo: it has the non-loopback address {}", net.address()),
        )),
        None => Ok(there),
    }
}
