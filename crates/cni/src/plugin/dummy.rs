//! `dummy`: an interface that swallows everything, for the addresses it has.

use kernel::netlink::{Batch, Kind, Link, NewLink};

use super::endpoint::{Endpoint, name, temporary_name};
use super::inside::{Duplicates, Inside, Manner};
use super::ipam::Ipam;
use crate::contract::{Error, Request};

/// The plugin `dummy`.
#[derive(Debug)]
pub(super) struct Dummy;

/// There is nobody to be told, and nobody to have the same address.
const ALONE: Manner = Manner { announce: false, announce_ipv6: false, duplicates: Duplicates::Ignored };

impl Endpoint for Dummy {
    const KIND: &'static str = "dummy";
    const MANNER: Manner = ALONE;

    fn judge(&self, request: &Request<'_>) -> Result<(), Error> {
        Ipam::of(request)?.required(request).map(drop)
    }

    fn make(&self, request: &Request<'_>, inside: &mut Inside) -> Result<Link, Error> {
        let temporary = temporary_name(request);
        let mut batch = Batch::new();
        batch.add_link(&NewLink::new(&temporary, Kind::Dummy));
        inside.run(&batch)?;
        name(request, inside, &temporary)
    }

    fn check(&self, _request: &Request<'_>, _inside: &mut Inside, _link: &Link) -> Result<(), Error> {
        Ok(())
    }
}
