//! `host-device`: gives a link of the host to the container, and takes it back.
//!
//! The device is not ours: it is never deleted, and nothing of it is recorded in the ledger, whose inverse of a link is its
//! deletion. Its alias says what the host calls it, from before it leaves until it is back under that name; so whatever
//! moment this process is killed at, DEL finds it and knows where it belongs.

mod device;
mod transfer;

use kernel::netlink::{Protocol, Socket};
use ledger::Record;

use super::endpoint::{checked_link, configure, made};
use super::inside::{Duplicates, Inside, Manner};
use super::interface::{all, name_service, readable, sandbox};
use super::ipam::Ipam;
use crate::contract::{AddResult, Error, Interface, Plugin, Request};
use device::Device;

/// The plugin `host-device`.
#[derive(Debug)]
pub(super) struct HostDevice;

const MANNER: Manner = Manner { announce: false, announce_ipv6: false, duplicates: Duplicates::Awaited };

impl Plugin for HostDevice {
    fn add(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<AddResult, Error> {
        let device = Device::of(request)?;
        let ipam = Ipam::of(request)?;
        if device.is_of_a_program()? {
            return for_a_program(request, record, &ipam);
        }
        let mut host = Socket::open(Protocol::Route)?;
        let mut inside = Inside::open(request.attachment.netns()?)?;
        let link = device.find(&mut host)?;
        let there = transfer::give(request, &mut host, &mut inside, &link)?;
        let added = configure(request, record, &ipam, MANNER, &mut inside, &there);
        if added.is_err() {
            // The error at hand says more than one of this would; DEL tries again.
            let _ = transfer::take_back(request, &mut host, &mut inside, link.is_up());
        }
        added
    }

    fn del(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<(), Error> {
        let (ipam, read) = readable(Ipam::of(request));
        let freed = ipam.del_with(request, record, |_| {
            let mut host = Socket::open(Protocol::Route)?;
            match Inside::if_there(request)? {
                Some(mut inside) => transfer::take_back(request, &mut host, &mut inside, false)?,
                // With its namespace a physical device falls back to the host, under the name it had there.
                None => device::rename_fallen(request, &mut host)?,
            }
            transfer::finish(request, &mut host)
        });
        all([freed, read])
    }

    fn check(&self, request: &Request<'_>) -> Result<(), Error> {
        let device = Device::of(request)?;
        Ipam::of(request)?.check(request)?;
        if device.is_of_a_program()? {
            return made(request).map(drop);
        }
        let (mut inside, link) = checked_link(request)?;
        inside.check(&link, request)
    }

    fn status(&self, request: &Request<'_>) -> Result<(), Error> {
        Ipam::of(request)?.status(request)
    }

    fn gc(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<(), Error> {
        Ipam::of(request)?.gc(request, record)
    }
}

/// A device whose driver is a program's (DPDK) has no link: the result says what the program may call it.
fn for_a_program(request: &Request<'_>, record: &mut dyn Record, ipam: &Ipam) -> Result<AddResult, Error> {
    let mut result = ipam.add(request, record)?;
    let name = request.attachment.ifname.clone();
    result.interfaces = vec![Interface { name, sandbox: sandbox(request)?, ..Interface::default() }];
    for ip in &mut result.ips {
        ip.interface = Some(0);
    }
    result.dns = name_service(request, result.dns)?;
    Ok(result)
}
