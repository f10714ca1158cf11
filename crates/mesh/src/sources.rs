//! Where packets of members say that they come from: at the node's end of a pod's link only what comes from the pod's own addresses passes.
//!
//! Whoever is let in by an address ([`datagrams`](crate::datagrams)) is let in by what is looked at here. It is not looked at within the pod, where a
//! program with a packet socket goes past all rules. A link is known by its number, which no other has until the machine starts anew: what is left
//! of one that is gone says nothing about another.
//!
//! There are two tables of one name, with the same rules: family bridge for links that are a bridge's ports, and family inet for those that are not.
//! What is dropped is counted for each link by itself, by the kernel; who makes the tables anew has the counts go on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::AsFd;

use kernel::Result;
use kernel::namespace::in_netns;
use kernel::netlink::{Protocol, Socket, addresses, links, netns_id};
use kernel::nft::{
    Base, Chain, Count, Element, Expression, Family, Field, Header, Hook, Meta, Register, Set, Target,
    Transaction, Value, Verdict, rules,
};

/// The families of the tables.
pub const FAMILIES: [Family; 2] = [Family::Inet, Family::Bridge];

const PREROUTING: &str = "prerouting";
/// Where all goes that is not to pass. It leads on to a chain of the link, which has one rule, and that counts.
const DROPPED: &str = "dropped";
/// Which link has which of these chains, and what they are called, before the link's number.
const COUNTS: &str = "counts";
const OF_LINK: &str = "link-";
/// Before all else, connection tracking among it.
const RAW: i32 = -300;
/// Links whose packets are looked at, and what they may come from.
const ENDS4: &str = "ends4";
const OWN4: &str = "own4";
const ENDS6: &str = "ends6";
const OWN6: &str = "own6";
/// Ethernet types.
const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
/// A protocol above IPv6, and the type of its messages by which a link says that it has an address (RFC 4861, 4.4).
const ICMPV6: u8 = 58;
const ADVERTISEMENT: u8 = 136;
/// Those of tags (IEEE 802.1Q, customers' and services').
const TAGS: [u16; 2] = [0x8100, 0x88a8];
/// Where the link's number is loaded, an address behind it, and something else.
const LINK: Register = Register(0);
const SOURCE: Register = Register(1);
const OTHER: Register = Register(8);

/// The node's end of a pod's link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Its number on the node.
    pub link: u32,
    /// The addresses that the pod's end had.
    pub addresses: BTreeSet<IpAddr>,
}

/// What may come from which end: addresses by the link's number. Of a family of which there is none all may.
pub type Ends = BTreeMap<u32, BTreeSet<IpAddr>>;

/// What was dropped, by the number of the link that it came from.
pub type Dropped = BTreeMap<u32, Count>;

/// The ends that links of a pod have in the network namespace of the calling thread. A pod may have none: its links end elsewhere, or have no other end.
///
/// # Errors
/// The kernel's.
pub fn ends(netns: impl AsFd + Sync) -> Result<Vec<End>> {
    let mut socket = Socket::open(Protocol::Route)?;
    // From when they are listed on the namespaces of their peers have numbers.
    let all = links(&mut socket)?;
    let Some(id) = netns_id(&mut socket, netns.as_fd())? else { return Ok(Vec::new()) };
    let inside = in_netns(netns, || addresses(&mut Socket::open(Protocol::Route)?, None))?;
    let here = all.iter().filter(|link| link.kind == "veth" && link.peer_netns == Some(id));
    let end = |link: u32, peer: u32| End {
        link,
        addresses: inside.iter().filter(|one| one.link == peer).map(|one| one.net.address()).collect(),
    };
    Ok(here.filter_map(|link| Some(end(link.index, link.peer?))).collect())
}

/// Has packets of these ends dropped that come from elsewhere, in the network namespace of the calling thread; of others, or of none, all pass. What
/// this has made before is made anew, each table in one change. What it has counted of these ends goes on.
///
/// # Errors
/// The kernel's: EOPNOTSUPP or ENOENT where it knows no tables of a family.
pub fn check(table: &str, ends: &Ends) -> Result<()> {
    let mut done = Ok(());
    for family in FAMILIES {
        // What cannot be read begins anew; nothing passes by it.
        let counts = so_far(family, table).unwrap_or_default();
        let made = whole(family, table, ends, &counts).commit(&mut Socket::open(Protocol::Netfilter)?);
        done = done.and(made);
    }
    done
}

/// What was dropped so far, in the network namespace of the calling thread: of each end that [`check`] looks at now, since it does.
///
/// # Errors
/// The kernel's.
pub fn dropped(table: &str) -> Result<Dropped> {
    let mut all = Dropped::new();
    for family in FAMILIES {
        for (link, count) in so_far(family, table)? {
            *all.entry(link).or_default() += count;
        }
    }
    Ok(all)
}

/// The same, by the table of one family.
fn so_far(family: Family, table: &str) -> Result<Dropped> {
    let all = rules(&mut Socket::open(Protocol::Netfilter)?, family, table)?;
    let of_link = all.iter().filter_map(|rule| {
        let link = rule.chain.strip_prefix(OF_LINK)?.parse::<u32>().ok()?;
        Some((link, rule.counted?))
    });
    Ok(of_link.collect())
}

fn whole(family: Family, table: &str, ends: &Ends, counts: &Dropped) -> Transaction {
    let mut change = Transaction::new();
    let words = "drops what members of the mesh send from addresses that are not theirs";
    change.remake_table(family, table, Some(words));
    for (name, key) in [
        (ENDS4, &[Field::IFINDEX][..]),
        (ENDS6, &[Field::IFINDEX][..]),
        (OWN4, &[Field::IFINDEX, Field::IPV4][..]),
        (OWN6, &[Field::IFINDEX, Field::IPV6][..]),
    ] {
        change.add_set(family, table, &Set { name, key, target: None, interval: false });
    }
    for (is_ipv4, all, own) in [(true, ENDS4, OWN4), (false, ENDS6, OWN6)] {
        let (mut links, mut pairs) = (Vec::new(), Vec::new());
        for (link, sources) in ends {
            let mut sources = sources.iter().filter(|source| source.is_ipv4() == is_ipv4).peekable();
            if sources.peek().is_some() {
                links.push(element(Value::new().mark(*link)));
            }
            pairs.extend(sources.map(|source| element(Value::new().mark(*link).address(*source))));
        }
        change.add_elements(family, table, all, &links, true);
        change.add_elements(family, table, own, &pairs, true);
    }
    add_dropped(&mut change, family, table, ends, counts);
    let base = Base { kind: "filter", hook: Hook::Prerouting, priority: RAW, accept: true };
    change.add_chain(family, table, &Chain { name: PREROUTING, base: Some(base) });
    let mut add = |rules: [Vec<Expression<'_>>; 3], words: &str| {
        let mut rule = rules.concat();
        rule.push(Expression::Verdict(Verdict::Goto(DROPPED)));
        change.add_rule(family, table, PREROUTING, &rule, Some(words));
    };
    // Who asks for an address has none.
    let has_one = || vec![Expression::Compare { register: SOURCE, equal: false, value: vec![0; 4] }];
    let network = Header::Network;
    add([of_end(IPV4, ENDS4), foreign((network, 12, 4), OWN4), has_one()], "IPv4 from elsewhere");
    // Addresses of one link say nothing anywhere else, and who looks whether an address is free has none.
    let mut other = not_of_one_link(network);
    other.extend([
        Expression::Payload { header: network, offset: 8, len: 16, to: OTHER },
        Expression::Compare { register: OTHER, equal: false, value: vec![0; 16] },
    ]);
    add([of_end(IPV6, ENDS6), foreign((network, 8, 16), OWN6), other], "IPv6 from elsewhere");
    // Who answers for another's address is sent what is for that one. That is asked and answered from addresses of one link.
    let transport = Header::Transport;
    let mut answer = of_end(IPV6, ENDS6);
    answer.extend([
        Expression::Meta { key: Meta::Protocol, to: OTHER },
        Expression::Compare { register: OTHER, equal: true, value: vec![ICMPV6] },
        Expression::Payload { header: transport, offset: 0, len: 1, to: OTHER },
        Expression::Compare { register: OTHER, equal: true, value: vec![ADVERTISEMENT] },
    ]);
    let other = not_of_one_link(transport);
    add([answer, foreign((transport, 8, 16), OWN6), other], "answers for others");
    if family == Family::Bridge {
        add([of_end(ARP, ENDS4), foreign((network, 14, 4), OWN4), has_one()], "answers for others");
        // The kernel takes one tag off before it looks, and who receives takes off more of them if their number is 0: what is within could be anything.
        for kind in TAGS {
            for ends in [ENDS4, ENDS6] {
                add([of_end(kind, ends), Vec::new(), Vec::new()], "a tag within a tag");
            }
        }
    }
    change
}

/// The packet is of this type, and comes from an end that is looked at.
fn of_end(kind: u16, ends: &str) -> Vec<Expression<'_>> {
    vec![
        Expression::Meta { key: Meta::EtherType, to: LINK },
        Expression::Compare { register: LINK, equal: true, value: kind.to_be_bytes().to_vec() },
        Expression::Meta { key: Meta::Input, to: LINK },
        Expression::Lookup { set: ends, register: LINK, to: None, invert: false },
    ]
}

/// What drops, and counts by whose end it is.
fn add_dropped(change: &mut Transaction, family: Family, table: &str, ends: &Ends, counts: &Dropped) {
    let target = Some(Target::Verdict);
    change.add_set(family, table, &Set { name: COUNTS, key: &[Field::IFINDEX], target, interval: false });
    for link in ends.keys() {
        let chain = format!("{OF_LINK}{link}");
        change.add_chain(family, table, &Chain { name: &chain, base: None });
        let count = counts.get(link).copied().unwrap_or_default();
        let rule = [Expression::CounterFrom(count), Expression::Verdict(Verdict::Drop)];
        change.add_rule(family, table, &chain, &rule, None);
        let one = [element(Value::new().mark(*link))];
        change.add_verdicts(family, table, COUNTS, &one, Verdict::Goto(&chain));
    }
    change.add_chain(family, table, &Chain { name: DROPPED, base: None });
    let count = [
        Expression::Meta { key: Meta::Input, to: LINK },
        Expression::VerdictMap { map: COUNTS, register: LINK },
    ];
    change.add_rule(family, table, DROPPED, &count, None);
    // Each link has a chain. Whoever takes one away has nothing pass.
    change.add_rule(family, table, DROPPED, &[Expression::Verdict(Verdict::Drop)], None);
}

/// The address of IPv6 that is 8 bytes behind the start of this header is none that means one link.
fn not_of_one_link(header: Header) -> Vec<Expression<'static>> {
    vec![
        Expression::Payload { header, offset: 8, len: 2, to: OTHER },
        Expression::Mask { register: OTHER, mask: vec![0xff, 0xc0] },
        Expression::Compare { register: OTHER, equal: false, value: vec![0xfe, 0x80] },
    ]
}

/// What is at this place of a header, so long, is none of the end's own addresses.
fn foreign((header, offset, len): (Header, u32, u32), own: &str) -> Vec<Expression<'_>> {
    vec![
        Expression::Payload { header, offset, len, to: SOURCE },
        Expression::Lookup { set: own, register: LINK, to: None, invert: true },
    ]
}

fn element(key: Value) -> Element {
    Element { key: key.into_bytes(), ..Element::default() }
}
