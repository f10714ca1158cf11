//! What follows a change: connections without an end (UDP) go on to where they were sent first, and clients are remembered, until
//! somebody says otherwise.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use kernel::netlink::Socket;
use kernel::netlink::conntrack::{self, Flow, Flows, delete_flows_on};
use kernel::nft::{self, Element, Family, Transaction};

use super::Elements;
use crate::plan::Protocol;
use crate::table::{Held, Kind, Value};

/// A kind and a key of its map of fronts.
type FrontKey = (Kind, Vec<u8>);

/// What there was of fronts before a change.
#[derive(Debug, Default)]
pub(super) struct Before(BTreeMap<FrontKey, Old>);

#[derive(Debug)]
struct Old {
    targets: Vec<SocketAddr>,
    affinity: bool,
}

impl Before {
    /// The fronts that these elements are of.
    pub(super) fn of<'a>(there: &Elements, held: impl Iterator<Item = &'a Held>) -> Self {
        let mut fronts = BTreeMap::new();
        for held in held {
            let Some((kind, key)) = front(held) else { continue };
            fronts.entry((kind, key.clone())).or_insert_with(|| {
                let chain = there.get(kind.fronts()).and_then(|chains| chains.get(&key));
                let affinity = matches!(chain, Some(Value::Chain(chain)) if chain.matches('-').count() == 2);
                Old { targets: targets(there, kind, &key), affinity }
            });
        }
        Self(fronts)
    }
}

fn front(held: &Held) -> Option<FrontKey> {
    for kind in Kind::ALL {
        if held.set == kind.fronts() {
            return Some((kind, held.key.clone()));
        }
        if held.set == kind.targets() {
            // Behind the key is the number.
            return Some((kind, held.key.get(..held.key.len().checked_sub(4)?)?.to_vec()));
        }
    }
    None
}

/// The targets of a front.
fn targets(there: &Elements, kind: Kind, key: &[u8]) -> Vec<SocketAddr> {
    let Some(all) = there.get(kind.targets()) else { return Vec::new() };
    let mine = all.range(key.to_vec()..).take_while(|(numbered, _)| numbered.starts_with(key));
    mine.filter_map(|(_, value)| match value {
        Value::Target(bytes) => target(bytes),
        _ => None,
    })
    .collect()
}

fn target(value: &[u8]) -> Option<SocketAddr> {
    let (address, port) = match value.len() {
        8 => (IpAddr::from(*value.first_chunk::<4>()?), value.get(4..6)?),
        20 => (IpAddr::from(*value.first_chunk::<16>()?), value.get(16..18)?),
        _ => return None,
    };
    Some(SocketAddr::new(address, u16::from_be_bytes(port.try_into().ok()?)))
}

/// Ends what goes on by what there was. With `whole` nobody knows what there was: all flows and clients are looked at.
pub(super) fn follow(socket: &mut Socket, table: &str, before: &Before, there: &Elements, whole: bool) {
    let told = |outcome: kernel::Result<()>| {
        if let Err(error) = outcome {
            eprintln!("sextant services: warning: {error}; some clients may be sent to what is gone");
        }
    };
    if whole {
        told(end_stale_flows(socket, there));
        Kind::ALL.iter().for_each(|kind| told(forget(socket, table, *kind, |_| true, there)));
        return;
    }
    for ((kind, key), old) in &before.0 {
        let now = targets(there, *kind, key);
        let gone: Vec<_> = old.targets.iter().filter(|target| !now.contains(target)).collect();
        if is_udp(*kind, key) {
            let by_front = gone.iter().filter_map(|target| sent(*kind, key, **target));
            let before_front = (old.targets.is_empty() && !now.is_empty()).then(|| first_sent_to(*kind, key));
            for flows in by_front.chain(before_front.flatten()) {
                told(delete_flows_on(socket, &flows));
            }
        }
        if old.affinity && !gone.is_empty() {
            told(forget(socket, table, *kind, |of| of.starts_with(key), there));
        }
    }
}

fn is_udp(kind: Kind, key: &[u8]) -> bool {
    key.get(kind.protocol_at()) == Some(&Protocol::Udp.number())
}

/// The address and the port of a front; none is any address of the node.
fn place(kind: Kind, key: &[u8]) -> Option<(Option<IpAddr>, u16)> {
    let address = match kind.node {
        true => None,
        false if kind.ipv4 => Some(IpAddr::from(*key.first_chunk::<4>()?)),
        false => Some(IpAddr::from(*key.first_chunk::<16>()?)),
    };
    let at = kind.protocol_at() + 4;
    Some((address, u16::from_be_bytes(key.get(at..at + 2)?.try_into().ok()?)))
}

/// Flows that a front has sent to a target; who came there another way goes on.
fn sent(kind: Kind, key: &[u8], target: SocketAddr) -> Option<Flows> {
    let (to, port) = place(kind, key)?;
    Some(Flows::Sent { to, port, protocol: Protocol::Udp.number(), answered_from: target })
}

/// Flows that began before the front led anywhere.
fn first_sent_to(kind: Kind, key: &[u8]) -> Option<Flows> {
    let (address, port) = place(kind, key)?;
    Some(Flows::FirstSentTo { ipv4: kind.ipv4, address, protocol: Protocol::Udp.number(), port })
}

/// Ends the UDP flows to fronts that would be sent elsewhere today.
fn end_stale_flows(socket: &mut Socket, there: &Elements) -> kernel::Result<()> {
    let mut stale: Vec<Flow> = Vec::new();
    for flow in conntrack::flows(socket, Protocol::Udp.number())? {
        let Flow { destination, answered_from } = flow;
        let ipv4 = destination.is_ipv4();
        let mut known = false;
        let mut fits = false;
        for kind in Kind::ALL.into_iter().filter(|kind| kind.ipv4 == ipv4) {
            let at = nft::Value::new();
            let at = if kind.node { at } else { at.address(destination.ip()) };
            let key = at.protocol(Protocol::Udp.number()).port(destination.port()).into_bytes();
            if !there.get(kind.fronts()).is_some_and(|fronts| fronts.contains_key(&key)) {
                continue;
            }
            // To the port of a node's address; the same port of any other address is none of it.
            known |= !kind.node || answered_from != destination;
            fits |= targets(there, kind, &key).contains(&answered_from);
        }
        if known && !fits && !stale.contains(&flow) {
            stale.push(flow);
        }
    }
    for Flow { destination, answered_from } in stale {
        let (to, port, protocol) = (Some(destination.ip()), destination.port(), Protocol::Udp.number());
        delete_flows_on(socket, &Flows::Sent { to, port, protocol, answered_from })?;
    }
    Ok(())
}

/// Forgets the clients of some fronts that were sent where nothing of the front is any more.
fn forget(
    socket: &mut Socket,
    table: &str,
    kind: Kind,
    is: impl Fn(&[u8]) -> bool,
    there: &Elements,
) -> kernel::Result<()> {
    let map = kind.affinity();
    let address = if kind.ipv4 { 4 } else { 16 };
    for Element { key, value, .. } in nft::elements(socket, Family::Inet, table, map)? {
        let Some(front) = key.len().checked_sub(address).and_then(|end| key.get(..end)) else { continue };
        let target = value.as_deref().and_then(target);
        if !is(front) || target.is_some_and(|target| targets(there, kind, front).contains(&target)) {
            continue;
        }
        let mut change = Transaction::new();
        change.delete_elements(Family::Inet, table, map, &[Element { key, ..Element::default() }]);
        match change.commit(socket) {
            // Its time was over.
            Err(e) if e.errno() == Some(rustix::io::Errno::NOENT) => {}
            outcome => outcome?,
        }
    }
    Ok(())
}
