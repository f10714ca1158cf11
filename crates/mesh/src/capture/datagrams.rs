//! Rules in a pod's network namespace that let datagrams in by where they come from.
//!
//! The table belongs to nobody, so it stays as it is when the process ends, however that happens: a pod that was closed stays closed, and who was let
//! in still is. Whoever makes it records it first. What is let in:
//! - what the pod says to itself, and what is no UDP;
//! - answers to what the pod has sent: packets in the direction in which their flow did not begin. That a flow goes on is not enough, or who was let in
//!   once would be for as long as he sends;
//! - what comes from an address of a set to a port of the set that belongs to it.
//!
//! All else is dropped, without an answer, which would go to whose address was given and not to who has sent.
//!
//! What is let in by a policy is counted, and what is dropped. The kernel has these counts; who makes the table anew has them go on.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::AsFd;

use kernel::Result;
use kernel::namespace::in_netns;
use kernel::netlink::{Protocol, Socket, conntrack};
use kernel::nft::{
    Base, Chain, Conntrack, Count, DIRECTION_REPLY, Element, Expression, Field, Header, Hook, Meta, Set,
    Transaction, Verdict, chain_exists, delete_table, rules,
};
use smi::model::Ports;

use super::{FAMILY, LOADED, LOOPBACK, NFPROTO_IPV4, NFPROTO_IPV6, Names, compare, family};
use crate::datagrams::Admitted;

const INPUT: &str = "input";
/// A chain that nothing goes to, and that is there if all flows are forgotten that had begun before the table came.
const SETTLED: &str = "settled";
/// Where those go whom a policy names, and where all else goes. Each has one rule, which counts.
const ADMITTED: &str = "admitted";
const DROPPED: &str = "dropped";
const UDP: u8 = 17;

/// How an address of a family is found in a packet, and what its sets are called.
struct Kind {
    number: u8,
    field: Field,
    /// Where the source is in its header.
    offset: u32,
    len: u32,
    prefix: &'static str,
    is: fn(&IpAddr) -> bool,
}

const KINDS: [Kind; 2] = [
    Kind {
        number: NFPROTO_IPV4,
        field: Field::IPV4,
        offset: 12,
        len: 4,
        prefix: "from4",
        is: IpAddr::is_ipv4,
    },
    Kind {
        number: NFPROTO_IPV6,
        field: Field::IPV6,
        offset: 8,
        len: 16,
        prefix: "from6",
        is: IpAddr::is_ipv6,
    },
];

impl Kind {
    /// The set of addresses of a list, by its place among the lists.
    fn set(&self, place: usize) -> String {
        format!("{}-{place}", self.prefix)
    }

    /// The addresses of this family, as elements of their set.
    fn elements<'a>(&self, addresses: impl Iterator<Item = &'a IpAddr>) -> Vec<Element> {
        addresses.filter(|address| (self.is)(address)).map(|address| element(octets(*address))).collect()
    }
}

/// What the rules of a pod have counted, while there are any: what comes to it by a policy, or by none. Answers to the pod, and what it says to itself,
/// are neither.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Datagrams that were let in because a policy names their source.
    pub admitted: Count,
    /// Those that nothing lets in.
    pub dropped: Count,
}

/// What was counted since there are rules in a pod's namespace; none where there are not, or such as count nothing.
///
/// # Errors
/// The kernel's.
pub fn counted(netns: impl AsFd + Sync, names: &Names) -> Result<Option<Counted>> {
    in_netns(netns, || so_far(&names.datagrams))
}

/// The same, in the network namespace of the calling thread.
fn so_far(table: &str) -> Result<Option<Counted>> {
    let all = rules(&mut Socket::open(Protocol::Netfilter)?, FAMILY, table)?;
    let of = |chain: &str| all.iter().find(|rule| rule.chain == chain)?.counted;
    Ok(of(ADMITTED).zip(of(DROPPED)).map(|(admitted, dropped)| Counted { admitted, dropped }))
}

/// Has a pod take only datagrams that are admitted. `before` is what this has made there last, if it has: where only addresses differ, only those are
/// changed. Otherwise all of it is made anew, in one change: there is no moment at which more is let in. When that is for the first time, or was not finished
/// then, who has begun flows that are open is forgotten, because nobody knows.
///
/// # Errors
/// The kernel's.
pub fn admit(
    netns: impl AsFd + Sync,
    names: &Names,
    admitted: &Admitted,
    before: Option<&Admitted>,
) -> Result<()> {
    let table = names.datagrams.as_str();
    in_netns(netns, || {
        if let Some(before) = before
            && admitted.has_ports_of(before)
            && difference(table, before, admitted).commit(&mut Socket::open(Protocol::Netfilter)?).is_ok()
        {
            return Ok(());
        }
        // There may be one of a process before this one, or what somebody in the pod has made of it.
        let mut nft = Socket::open(Protocol::Netfilter)?;
        let is_settled = chain_exists(&mut nft, FAMILY, table, SETTLED)?;
        // What cannot be read begins anew; nobody is let in by it.
        let counted = so_far(table).ok().flatten().unwrap_or_default();
        let mut change = whole(table, admitted, counted);
        if is_settled {
            settle(&mut change, table);
        }
        change.commit(&mut nft)?;
        if is_settled {
            return Ok(());
        }
        // Whoever ends or fails before the last of this leaves it to the next.
        conntrack::delete_all_of(UDP)?;
        let mut change = Transaction::new();
        settle(&mut change, table);
        change.commit(&mut nft)
    })
}

/// Has a pod take datagrams from anybody, as it does without [`admit`]. What is not there counts as taken away.
///
/// # Errors
/// The kernel's.
pub fn admit_all(netns: impl AsFd + Sync, names: &Names) -> Result<()> {
    in_netns(netns, || delete_table(&FAMILY.to_string(), &names.datagrams))
}

/// The table as it is to be, whatever is there, in which counts go on from these.
fn whole(table: &str, admitted: &Admitted, counted: Counted) -> Transaction {
    let mut change = Transaction::new();
    change.remake_table(FAMILY, table, Some("lets datagrams in by their source, for the node's mesh"));
    for (name, count, verdict) in
        [(ADMITTED, counted.admitted, Verdict::Accept), (DROPPED, counted.dropped, Verdict::Drop)]
    {
        change.add_chain(FAMILY, table, &Chain { name, base: None });
        let rule = [Expression::CounterFrom(count), Expression::Verdict(verdict)];
        change.add_rule(FAMILY, table, name, &rule, None);
    }
    let base = Base { kind: "filter", hook: Hook::Input, priority: 0, accept: true };
    change.add_chain(FAMILY, table, &Chain { name: INPUT, base: Some(base) });
    let accept = || Expression::Verdict(Verdict::Accept);
    let protocol = Expression::Meta { key: Meta::Protocol, to: LOADED };
    add(&mut change, table, &[protocol, compare(false, vec![UDP]), accept()], "no UDP");
    let link = Expression::Meta { key: Meta::InputName, to: LOADED };
    add(&mut change, table, &[link, compare(true, LOOPBACK.to_vec()), accept()], "from the pod itself");
    let direction = Expression::Conntrack { key: Conntrack::Direction, to: LOADED };
    let is_reply = compare(true, vec![DIRECTION_REPLY]);
    add(&mut change, table, &[direction, is_reply, accept()], "an answer to the pod");
    for (place, (ports, sources)) in admitted.lists().enumerate() {
        let named = ports_set(place);
        if let Ports::Listed(ports) = ports {
            make(&mut change, table, &named, Field::SERVICE);
            let elements: Vec<Element> =
                ports.iter().map(|port| element(port.to_be_bytes().to_vec())).collect();
            change.add_elements(FAMILY, table, &named, &elements, false);
        }
        for kind in &KINDS {
            let set = kind.set(place);
            make(&mut change, table, &set, kind.field);
            change.add_elements(FAMILY, table, &set, &kind.elements(sources.iter()), false);
            let mut rule = family(kind.number);
            rule.extend([
                Expression::Payload {
                    header: Header::Network,
                    offset: kind.offset,
                    len: kind.len,
                    to: LOADED,
                },
                is_in(&set),
            ]);
            if let Ports::Listed(_) = ports {
                rule.extend([
                    Expression::Payload { header: Header::Transport, offset: 2, len: 2, to: LOADED },
                    is_in(&named),
                ]);
            }
            rule.push(Expression::Verdict(Verdict::Goto(ADMITTED)));
            add(&mut change, table, &rule, "of somebody whom a policy names");
        }
    }
    add(&mut change, table, &[Expression::Verdict(Verdict::Goto(DROPPED))], "of anybody else");
    change
}

/// Has it said that nothing is open whose beginning nobody knows.
fn settle(change: &mut Transaction, table: &str) {
    change.add_chain(FAMILY, table, &Chain { name: SETTLED, base: None });
}

fn ports_set(place: usize) -> String {
    format!("ports-{place}")
}

/// What makes the sets of `before` those that are to be.
fn difference(table: &str, before: &Admitted, admitted: &Admitted) -> Transaction {
    let mut change = Transaction::new();
    for (place, ((_, old), (_, new))) in before.lists().zip(admitted.lists()).enumerate() {
        let without = |all: &BTreeSet<IpAddr>, others: &BTreeSet<IpAddr>| -> Vec<IpAddr> {
            all.difference(others).copied().collect()
        };
        let (gone, come) = (without(old, new), without(new, old));
        for kind in &KINDS {
            let set = kind.set(place);
            change.delete_elements(FAMILY, table, &set, &kind.elements(gone.iter()));
            change.add_elements(FAMILY, table, &set, &kind.elements(come.iter()), false);
        }
    }
    change
}

fn make(change: &mut Transaction, table: &str, name: &str, field: Field) {
    change.add_set(FAMILY, table, &Set { name, key: &[field], target: None, interval: false });
}

fn add(change: &mut Transaction, table: &str, rule: &[Expression<'_>], words: &str) {
    change.add_rule(FAMILY, table, INPUT, rule, Some(words));
}

/// What was loaded is an element of this set.
fn is_in(set: &str) -> Expression<'_> {
    Expression::Lookup { set, register: LOADED, to: None, invert: false }
}

fn element(key: Vec<u8>) -> Element {
    Element { key, ..Element::default() }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
