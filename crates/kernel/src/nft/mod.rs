//! nf_tables: tables, chains, rules, sets and maps, changed in atomic transactions over nfnetlink.
//!
//! What changes often belongs into sets and maps: adding or deleting an element costs the same whatever else is
//! there. `nft list ruleset` shows everything made here as if nft had made it. No `nft` program is run.
//!
//! ```no_run
//! use kernel::netlink::{Protocol, Socket};
//! use kernel::nft::{Element, Family, Field, Set, Transaction, Value};
//!
//! let mut change = Transaction::new();
//! change.add_table(Family::Inet, "example", true, None);
//! let ports = Set { name: "ports", key: &[Field::PROTOCOL, Field::SERVICE], target: None, interval: false };
//! change.add_set(Family::Inet, "example", &ports);
//! let https = Element { key: Value::new().protocol(6).port(443).into_bytes(), ..Element::default() };
//! change.add_elements(Family::Inet, "example", "ports", &[https], true);
//! change.commit(&mut Socket::open(Protocol::Netfilter)?)?;
//! # Ok::<(), kernel::Error>(())
//! ```

mod chains;
mod datatype;
mod expression;
mod monitor;
mod read;
mod sent;
mod transaction;
mod uapi;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use rustix::io::Errno;

pub use chains::{BaseInfo, ChainInfo, RuleInfo, chain_exists, chains, rules};
pub use datatype::{Field, Target, Value};
pub use expression::{
    Conntrack, Count, DIRECTION_REPLY, Expression, Header, Meta, Nat, Register, STATE_ESTABLISHED_OR_RELATED,
    STATUS_DNAT, TYPE_LOCAL, Verdict,
};
pub use monitor::{Loss, Monitor};
pub use read::{SetInfo, element, elements, set_info, table_exists, tables, verdicts};
pub use sent::delete_sent;
pub use transaction::{Base, Chain, Element, Hook, Set, Transaction};

use crate::namespace::{in_netns, open_pinned};
use crate::netlink::conntrack::{Flows, delete_flows_on};
use crate::netlink::{Protocol, Socket};
use crate::{Error, Result};

/// The family of a table: which packets it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Frames that a bridge forwards.
    Bridge,
}

impl Family {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ip => 2,
            Self::Bridge => 7,
            Self::Ip6 => 10,
        }
    }

    /// None for a family that this type does not name (arp, netdev).
    fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.number() == number)
    }

    const ALL: [Self; 4] = [Self::Inet, Self::Ip, Self::Bridge, Self::Ip6];
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Bridge => "bridge",
            Self::Ip6 => "ip6",
        })
    }
}

impl FromStr for Family {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|family| family.to_string() == text)
            .ok_or_else(|| Error::new("use", format!("nftables family {text:?}"), Errno::AFNOSUPPORT))
    }
}

/// Deletes a table and all in it. Not there counts as done.
pub fn delete_table(family: &str, table: &str) -> Result<()> {
    let mut change = Transaction::new();
    change.delete_table(family.parse()?, table);
    absent_is_done(change.commit(&mut Socket::open(Protocol::Netfilter)?))
}

/// Deletes a table and all in it in another network namespace: the one that is pinned at `netns`, if that still is the one whose file has
/// this inode. Not there counts as done, and so does a namespace that is gone, which has taken the table along.
pub fn delete_table_in(netns: &Path, inode: u64, family: &str, table: &str) -> Result<()> {
    open_pinned(netns, inode)?.map_or(Ok(()), |file| in_netns(&file, || delete_table(family, table)))
}

/// Deletes an element whose comment names `holder`, and the conntrack entries that it made: in a map to
/// `address . port`, the flows that were sent to that address and port. An element, set or table that is not there,
/// or an element of another holder, counts as done; then the entries go that are known to have been made by it,
/// `sent`, as [`delete_sent`] deletes them.
///
/// A key twice as long as the set's own is an interval: its first key, then its last.
pub fn delete_element(
    family: &str,
    table: &str,
    set: &str,
    key: &[u8],
    holder: &str,
    sent: Option<Flows>,
) -> Result<()> {
    let family = family.parse()?;
    let socket = &mut Socket::open(Protocol::Netfilter)?;
    if delete_held_element(socket, family, (table, set), key, holder)? {
        return Ok(());
    }
    sent.map_or(Ok(()), |flows| delete_sent(socket, family, set, holder, &[flows]))
}

/// The same by what is there alone. False: no element of `holder` is.
fn delete_held_element(
    socket: &mut Socket,
    family: Family,
    (table, set): (&str, &str),
    key: &[u8],
    holder: &str,
) -> Result<bool> {
    let Some(info) = set_info(socket, family, table, set)? else { return Ok(false) };
    let wanted = element_of_key(key, info.key_len);
    let Some(there) = element(socket, family, table, set, &wanted)? else { return Ok(false) };
    if !there.is_held_by(holder) {
        return Ok(false);
    }
    let mut change = Transaction::new();
    change.delete_elements(family, table, set, &[wanted]);
    absent_is_done(change.commit(socket))?;
    // After the deletion: before it, the next packet would make the entry again.
    let destination = info.destination_map().and_then(|protocol_at| sent::destination(&there, protocol_at));
    if let Some((protocol, to)) = destination {
        let flows = Flows::AnsweredFrom { address: to.ip(), port: Some((protocol, to.port())) };
        delete_flows_on(socket, &flows)?;
    }
    Ok(true)
}

fn element_of_key(key: &[u8], key_len: usize) -> Element {
    match key.split_at_checked(key_len) {
        Some((first, last)) if last.len() == key_len => {
            Element { key: first.to_vec(), key_end: Some(last.to_vec()), ..Element::default() }
        }
        _ => Element { key: key.to_vec(), ..Element::default() },
    }
}

fn absent_is_done(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(e) if e.errno() == Some(Errno::NOENT) => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests;
