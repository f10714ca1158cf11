//! `macspoofchk`: a container sends under its own MAC or not at all.
//!
//! One rule for all, in a table of family bridge: a port that is guarded passes frames whose source is the one that it is
//! allowed. An element each, whatever the number of ports.

use kernel::netlink::{Mac, Protocol, Socket};
use kernel::nft::{Expression, Family, Field, Header, Hook, Meta, Register, Set, Value, Verdict};
use ledger::Record;

use crate::contract::{Error, Holders};
use crate::plugin::interface::broken;
use crate::plugin::table::{Held, Part, Rule, Table, base};

/// Ports that are guarded: `link`.
const GUARDED: &str = "guarded";
/// What they may send as: `link . MAC`.
const ALLOWED: &str = "allowed";

const CHAIN: &str = "macspoofchk";

/// What the check has in the table of family bridge.
pub(super) fn part() -> Part {
    let set = |name, key| Set { name, key, target: None, interval: false };
    let register = Register(0);
    let port = vec![
        Expression::Meta { key: Meta::InputName, to: register },
        Expression::Lookup { set: GUARDED, register, to: None, invert: false },
    ];
    let stranger = vec![
        Expression::Payload { header: Header::Link, offset: 6, len: 6, to: Register(4) },
        Expression::Lookup { set: ALLOWED, register, to: None, invert: true },
    ];
    Part {
        family: Family::Bridge,
        sets: vec![set(GUARDED, &[Field::IFNAME]), set(ALLOWED, &[Field::IFNAME, Field::ETHER])],
        chains: vec![base(CHAIN, "filter", Hook::Prerouting, -300)],
        rules: vec![Rule::new(CHAIN, [port, stranger, vec![Expression::Verdict(Verdict::Drop)]])],
    }
}

/// From now on `port` passes what `mac` sends and nothing else.
pub(super) fn guard(
    table: &Table,
    port: &str,
    mac: Mac,
    holder: &str,
    record: &mut dyn Record,
) -> Result<(), Error> {
    let mut socket = Socket::open(Protocol::Netfilter)?;
    table.join(Family::Bridge, &mut socket, record)?;
    table.add(&elements(port, mac, holder), &mut socket, record)
}

/// Lets `holder`'s port go. Where its MAC is not known, its elements are looked for.
pub(super) fn release(table: &Table, port: &str, mac: Option<Mac>, holder: &str) -> Result<(), Error> {
    let Some(mac) = mac else { return delete(table, |of| of == holder) };
    let mut socket = Socket::open(Protocol::Netfilter)?;
    let held = table.of_those(elements(port, mac, holder), &mut socket)?;
    table.delete(&held, &mut socket)
}

/// GC: lets the ports go whose holders are stale.
pub(super) fn collect(table: &Table, holders: &Holders) -> Result<(), Error> {
    delete(table, |holder| holders.is_stale(holder))
}

fn delete(table: &Table, wanted: impl Fn(&str) -> bool) -> Result<(), Error> {
    let mut socket = Socket::open(Protocol::Netfilter)?;
    let sets = [GUARDED, ALLOWED].map(|set| (Family::Bridge, set));
    let held = table.held(&sets, |element| element.comment.as_deref().is_some_and(&wanted), &mut socket)?;
    table.delete(&held, &mut socket)
}

/// CHECK: the port is guarded still.
pub(super) fn check(table: &Table, port: &str, mac: Mac, holder: &str) -> Result<(), Error> {
    let mut socket = Socket::open(Protocol::Netfilter)?;
    for one in elements(port, mac, holder) {
        if table.find(&one, &mut socket)?.as_ref() != Some(&one.element) {
            let place = format!("set {} of nftables table bridge {}", one.set, table.name);
            return Err(broken(format!("port {port} is not guarded: its element of {place} is not there")));
        }
    }
    Ok(())
}

/// Puts the port's elements back.
pub(super) fn restore(table: &Table, port: &str, mac: Mac, holder: &str) -> Result<(), Error> {
    let elements = elements(port, mac, holder);
    table.restore(&elements, &mut Socket::open(Protocol::Netfilter)?)
}

fn elements(port: &str, mac: Mac, holder: &str) -> [Held; 2] {
    let element = |set, key: Value| Held::new(set, key.into_bytes(), holder).in_family(Family::Bridge);
    [element(GUARDED, Value::new().ifname(port)), element(ALLOWED, Value::new().ifname(port).mac(mac))]
}
