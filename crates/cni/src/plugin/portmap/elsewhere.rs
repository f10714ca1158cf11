//! Has another instance published a port that is about to lead elsewhere?
//!
//! Each instance has a table of its own. Where two of them send the same port somewhere, the kernel asks one table first
//! (seen: the one that was made last), so that the other's container becomes unreachable without a word.

use std::fs::{self, File};

use kernel::netlink::{Kept, Socket};
use kernel::nft::{self, Element, Family, Value};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::chains::{HOSTPORTS4, HOSTPORTS4_ADDR, HOSTPORTS6, HOSTPORTS6_ADDR};
use super::elements::Publication;
use crate::contract::{Code, Error, Request};
use crate::plugin::table::Table;

/// Keeps every other instance in this network namespace from publishing while it lives: between looking and publishing
/// nobody comes. The lock is on the namespace itself, for instances share no file.
pub(super) fn lock<'a>(request: &Request<'a>) -> Result<Alone<'a>, Error> {
    let file = request.delegate.sockets().namespace()?;
    rustix::io::retry_on_intr(|| flock(&*file, FlockOperation::LockExclusive))
        .map_err(|e| Error::because("cannot lock the host's network namespace", e).code(Code::Io))?;
    Ok(Alone(file))
}

/// The lock. It is given back by saying so, for the file stays open.
pub(super) struct Alone<'a>(Kept<'a, File>);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        let _ = flock(&*self.0, FlockOperation::Unlock);
    }
}

/// Refuses a publication that meets one in another table made as ours is, and names its container.
pub(super) fn refuse_if_published(
    own: &Table,
    publications: &[Publication<'_>],
    socket: &mut Socket,
) -> Result<(), Error> {
    for name in nft::tables(socket, Family::Inet)?.into_iter().filter(|name| *name != own.name) {
        let mut there = Vec::new();
        for (set, ipv4) in
            [(HOSTPORTS4, true), (HOSTPORTS4_ADDR, true), (HOSTPORTS6, false), (HOSTPORTS6_ADDR, false)]
        {
            there.extend(elements(&name, set, socket)?.into_iter().map(|element| (ipv4, element)));
        }
        for publication in publications {
            let meets = |(ipv4, element): &&(bool, Element)| {
                *ipv4 == publication.is_ipv4() && is_met_by(publication, element)
            };
            if let Some((_, element)) = there.iter().find(meets) {
                return Err(refusal(publication, &name, element));
            }
        }
    }
    Ok(())
}

fn refusal(publication: &Publication<'_>, table: &str, there: &Element) -> Error {
    // network/container/interface; before, there was no network.
    let mut parts = there.comment.as_deref().unwrap_or_default().rsplit('/');
    let id = parts.nth(1).unwrap_or("somebody unknown");
    let place = netns_of(id).map(|path| format!(", network namespace {path}")).unwrap_or_default();
    let text = format!(
        "cannot publish host port {}: container {id} of another instance (nftables table inet {table}{place}) has \
         published it already",
        publication.words()
    );
    Error::new(Code::Other(100), text).hint("choose another host port, or stop that container")
}

/// Whether an element takes packets that the publication is to have: it is for the same address, or one of the two is
/// for all.
fn is_met_by(publication: &Publication<'_>, there: &Element) -> bool {
    let mapping = publication.mapping;
    let port = Value::new().protocol(mapping.protocol.number()).port(mapping.host_port).into_bytes();
    // Somebody else's set may have the name: it is only like ours if it is filled like ours.
    let alike = publication.held.element.value.as_ref().map(Vec::len) == there.value.as_ref().map(Vec::len);
    let Some(address) = there.key.strip_suffix(port.as_slice()).filter(|_| alike) else { return false };
    let wanted = mapping.host_ip.filter(|ip| !ip.is_unspecified());
    address.is_empty() || wanted.is_none_or(|ip| Value::new().address(ip).into_bytes() == address)
}

/// A set's elements; none if there is no such set.
fn elements(table: &str, set: &str, socket: &mut Socket) -> Result<Vec<Element>, Error> {
    match nft::elements(socket, Family::Inet, table, set) {
        Err(e) if e.errno() == Some(Errno::NOENT) => Ok(Vec::new()),
        there => Ok(there?),
    }
}

/// Where the namespace of that container is pinned, which tells whose it is.
fn netns_of(id: &str) -> Option<String> {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").ok()?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|_| !id.is_empty()).find(|point| point.rsplit('/').next() == Some(id)).map(str::to_owned)
}
