//! Flows whose element is gone: what is recorded of them tells which they are.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;

use super::read::maps;
use super::{Element, Family, elements, set_info, tables};
use crate::Result;
use crate::netlink::Socket;
use crate::netlink::conntrack::{self, Flows};

/// Deletes the conntrack entries of flows that elements of `holder` have sent to an address and port
/// ([`Flows::sent_to`]), whether or not the elements are still there. None there counts as done.
///
/// Another may have the address by now, and an element that sends the same flows there: of the tables of `family` that
/// have `set`, all maps to `address . port` are asked, and flows to where an element of another holder leads stay.
///
/// # Errors
/// The kernel's; what was deleted until then stays so.
pub fn delete_sent(
    socket: &mut Socket,
    family: Family,
    set: &str,
    holder: &str,
    flows: &[Flows],
) -> Result<()> {
    let mut found = conntrack::find(socket, flows)?;
    if found.is_empty() {
        return Ok(());
    }
    // Asked after they were found: flows of an element that is made from now on are not among them.
    let of_others = destinations_of_others(socket, family, set, holder)?;
    found.retain(|entry| {
        let sent_to = flows.get(entry.fits).and_then(Flows::sent_to);
        sent_to.is_some_and(|destination| !of_others.contains(&destination))
    });
    conntrack::delete_found(socket, &found)
}

/// Where elements that `holder` does not hold lead, in the tables that have `set`: by protocol.
fn destinations_of_others(
    socket: &mut Socket,
    family: Family,
    set: &str,
    holder: &str,
) -> Result<BTreeSet<(u8, SocketAddr)>> {
    let mut all = BTreeSet::new();
    for table in tables(socket, family)? {
        if set_info(socket, family, &table, set)?.is_none() {
            continue;
        }
        for (map, protocol_at) in maps(socket, family, &table)? {
            let there = match elements(socket, family, &table, &map) {
                Err(e) if e.errno() == Some(Errno::NOENT) => continue,
                there => there?,
            };
            let of_others = there.iter().filter(|element| !element.is_held_by(holder));
            all.extend(of_others.filter_map(|element| destination(element, protocol_at)));
        }
    }
    Ok(all)
}

/// Where an element of a map to `address . port` leads, with its protocol, which is at `protocol_at` of its key.
pub(super) fn destination(element: &Element, protocol_at: usize) -> Option<(u8, SocketAddr)> {
    let protocol = *element.key.get(protocol_at)?;
    let value = element.value.as_deref()?;
    let (address, port) = match value.len() {
        8 => (IpAddr::from(*value.first_chunk::<4>()?), value.get(4..6)?),
        20 => (IpAddr::from(*value.first_chunk::<16>()?), value.get(16..18)?),
        _ => return None,
    };
    Some((protocol, SocketAddr::new(address, u16::from_be_bytes(port.try_into().ok()?))))
}
