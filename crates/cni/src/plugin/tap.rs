//! `tap`: a link whose far end is a program, such as a virtual machine in the container.

use kernel::netlink::{Batch, Link, SetLink};
use kernel::tun::{self, Tap as NewTap};

use super::endpoint::{Endpoint, name, temporary_name};
use super::inside::{Duplicates, Inside, Manner};
use super::interface::{configured_mac, link_name, vanished};
use crate::contract::{Error, Request};

/// The plugin `tap`.
#[derive(Debug)]
pub(super) struct Tap;

/// Until the program opens its end nothing is connected, and there is nothing to wait for.
const MANNER: Manner = Manner { announce: true, announce_ipv6: false, duplicates: Duplicates::Detected };

impl Endpoint for Tap {
    const KIND: &'static str = "tun";
    const MANNER: Manner = MANNER;

    fn judge(&self, request: &Request<'_>) -> Result<(), Error> {
        configured_mac(request).map(drop)
    }

    fn make(&self, request: &Request<'_>, inside: &mut Inside) -> Result<Link, Error> {
        let temporary = temporary_name(request);
        let made = make(request, inside, &temporary);
        if made.is_err() {
            let _ = inside.delete(&temporary);
        }
        made?;
        name(request, inside, &temporary)
    }

    fn check(&self, _request: &Request<'_>, _inside: &mut Inside, _link: &Link) -> Result<(), Error> {
        Ok(())
    }
}

/// Makes the tap with its MTU, MAC and bridge.
fn make(request: &Request<'_>, inside: &mut Inside, name: &str) -> Result<(), Error> {
    let keys = request.keys();
    let mac = configured_mac(request)?;
    let mtu = keys.number("mtu")?.filter(|mtu| *mtu != 0);
    let bridge = link_name(&keys, "bridge")?.map(|name| port_of(request, inside, name)).transpose()?;
    let (owner, group) = (keys.number("owner")?, keys.number("group")?);
    let selinux_context = keys.text("selinuxContext")?.filter(|context| !context.is_empty());
    let tap = NewTap {
        name,
        multi_queue: keys.boolean("multiQueue")?,
        // As the reference plugin has it: programs that it serves expect the header there, and there alone.
        vnet_header: owner.is_some() && group.is_some() && selinux_context.is_none(),
        owner,
        group,
        selinux_context,
    };
    tun::make(inside.fd(), &tap)?;
    let link = inside.link(name)?.ok_or_else(|| vanished(name))?;
    let mut set = SetLink::index(link.index);
    if let Some(mtu) = mtu {
        set = set.mtu(mtu);
    }
    if let Some(mac) = mac {
        set = set.mac(mac);
    }
    if let Some(bridge) = bridge {
        set = set.master(bridge.index);
    }
    let mut batch = Batch::new();
    batch.set_link(&set);
    inside.run(&batch)
}

/// The bridge in the container that `bridge` names.
fn port_of(request: &Request<'_>, inside: &mut Inside, name: &str) -> Result<Link, Error> {
    let found = inside.link(name)?.filter(|link| link.kind == "bridge");
    found.ok_or_else(|| request.keys().refuse("bridge", "the name of a bridge in the container"))
}
