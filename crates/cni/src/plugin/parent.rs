//! The link that macvlans, ipvlans and VLANs are made on: their `master`.

use kernel::netlink::{self, Batch, Kind, Link, Mac, NewLink, Protocol, Socket};

use super::endpoint::{name, temporary_name};
use super::inside::Inside;
use super::interface::link_name;
use crate::contract::{Code, Error, Keys, Request};

/// A link that others are made on.
#[derive(Debug)]
pub(super) struct Parent {
    pub(super) link: Link,
    /// Of the namespace it is in.
    socket: Socket,
}

impl Parent {
    /// The link that `master` names, or `otherwise` if it is absent, or else the default route's: the host's, or with
    /// `linkInContainer` the container's.
    pub(super) fn of(request: &Request<'_>, inside: &Inside, otherwise: Option<&str>) -> Result<Self, Error> {
        let keys = request.keys();
        let in_container = keys.boolean("linkInContainer")?;
        let mut socket = if in_container {
            Socket::open_in(Protocol::Route, inside.fd())?
        } else {
            Socket::open(Protocol::Route)?
        };
        let place = if in_container { "in the container" } else { "on the host" };
        let link = find(&keys, &mut socket, otherwise, place)?;
        Ok(Self { link, socket })
    }

    /// STATUS: the link is there, as far as that shows without a container.
    pub(super) fn is_there(request: &Request<'_>) -> Result<(), Error> {
        let keys = request.keys();
        if keys.boolean("linkInContainer")? {
            return Ok(());
        }
        let found = find(&keys, &mut Socket::open(Protocol::Route)?, None, "on the host");
        found.map(drop).map_err(|e| e.code(Code::NotAvailable))
    }

    /// `mtu`, which cannot be more than the parent's; none if the parent's is to be taken.
    pub(super) fn mtu(&self, keys: &Keys<'_>) -> Result<Option<u32>, Error> {
        let Some(value) = keys.get("mtu") else { return Ok(None) };
        match value.as_u64().and_then(|mtu| u32::try_from(mtu).ok()).filter(|mtu| *mtu <= self.link.mtu) {
            Some(0) => Ok(None),
            Some(mtu) => Ok(Some(mtu)),
            None => {
                let most = format_args!("0 to {}, the MTU of master {}", self.link.mtu, self.link.name);
                Err(keys.refuse("mtu", most))
            }
        }
    }

    /// Makes a link on it, in the container.
    pub(super) fn make(
        &mut self,
        request: &Request<'_>,
        inside: &mut Inside,
        kind: Kind<'_>,
        mtu: Option<u32>,
        mac: Option<Mac>,
    ) -> Result<Link, Error> {
        let temporary = temporary_name(request);
        let mut batch = Batch::new();
        batch.add_link(&NewLink { mtu, mac, netns: Some(inside.fd()), ..NewLink::new(&temporary, kind) });
        self.socket.run(&batch).map_err(|e| {
            let message = format!("cannot attach {} to master {}", request.attachment.ifname, self.link.name);
            Error::because(message, e)
        })?;
        name(request, inside, &temporary)
    }
}

fn find(keys: &Keys<'_>, socket: &mut Socket, otherwise: Option<&str>, place: &str) -> Result<Link, Error> {
    let Some(name) = link_name(keys, "master")?.or(otherwise) else { return of_default_route(socket) };
    netlink::link_by_name(socket, name)?.ok_or_else(|| {
        keys.refuse("master", format_args!("the name of a link {place}: {name:?} is not there"))
    })
}

fn of_default_route(socket: &mut Socket) -> Result<Link, Error> {
    let none = || {
        Error::new(Code::InvalidConfig, "cannot choose a \"master\": no default route interface found")
            .hint("name the link in \"master\"")
    };
    let mut index = None;
    for route in netlink::routes(socket)? {
        let default = route.destination.prefix() == 0 && route.table == Some(MAIN);
        // The kernel lists the better ones first, and IPv4 before IPv6.
        if default && index.is_none() {
            index = route.link;
        }
    }
    netlink::link_by_index(socket, index.ok_or_else(none)?)?.ok_or_else(none)
}

/// `RT_TABLE_MAIN`.
pub(super) const MAIN: u32 = 254;
