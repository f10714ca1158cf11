//! Rules in a pod's network namespace that lead the connections of its programs to listeners there.
//!
//! There are two tables of nftables, family inet (docs/adr/0029-capture-within-the-pods-namespace.md):
//! - that of the rules belongs to a netlink socket, so it is there for exactly as long as the process that serves the listeners, however that
//!   ends. New connections of the pod go their own way then.
//! - the other has a chain of NAT whose one rule does nothing but look at a flow's state. It keeps the kernel following and translating
//!   connections that are open when the rules go, or nothing that the process sends as it ends would reach who waits for it. Whoever captures
//!   a pod records it first, and deletes it when nothing of the pod is open any more.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};

use kernel::namespace::in_netns;
use kernel::netlink::{Protocol, Socket};
use kernel::nft::{
    Base, Chain, Conntrack, Expression, Family, Header, Hook, Meta, Register, TYPE_LOCAL, Transaction,
    Verdict,
};
use kernel::{Act as _, Error, Result};
use rustix::io::Errno;

/// The family of both tables.
pub const FAMILY: Family = Family::Inet;
/// What connections of the proxy's own are marked with, all bits of it: nobody leads them to the proxy. Only the pod's own namespace sees it.
pub const MARK: u32 = 0x5e87_a117;
/// Where listeners are, if nobody else is there; else the kernel chooses.
const PORT: u16 = 15001;

const OUTPUT: &str = "output";
/// Where destinations are translated.
const DSTNAT: i32 = -100;
const TCP: u8 = 6;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const LOADED: Register = Register::FIRST;

/// What the tables are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// That of the rules.
    pub rules: String,
    /// That which keeps connections.
    pub kept: String,
}

impl Names {
    /// Of an instance: `sextant-mesh` and `sextant-mesh-nat`.
    #[must_use]
    pub fn of(instance: &str) -> Self {
        Self { rules: format!("{instance}-mesh"), kept: format!("{instance}-mesh-nat") }
    }
}

/// The rules in a pod's namespace. They go when this does: new connections of the pod go their own way then, and such as are open go on.
/// [`Names::kept`] stays.
#[derive(Debug)]
pub struct Capture {
    /// The table of the rules belongs to it.
    _owner: Socket,
}

impl Capture {
    /// Leads new connections of the pod in this namespace to the listeners that this gives, of IPv4 and IPv6 as the namespace has them. They do
    /// not block; what comes before somebody accepts waits.
    ///
    /// # Errors
    /// The kernel's: EEXIST or EPERM where another process has captured the pod, an address in use, no descriptor.
    pub fn begin(netns: impl AsFd + Sync, names: &Names) -> Result<(Self, Vec<OwnedFd>)> {
        in_netns(netns, || {
            let four = listen(Ipv4Addr::LOCALHOST.into())?;
            let six = listen(Ipv6Addr::LOCALHOST.into())?;
            if four.is_none() && six.is_none() {
                let why = io::Error::from(io::ErrorKind::AddrNotAvailable);
                return Err(Error::new("listen", "at the loopback of a pod, which has no address", why));
            }
            let mut change = Transaction::new();
            add_kept(&mut change, &names.kept);
            let port = |listener: &Option<(u16, OwnedFd)>| listener.as_ref().map(|(port, _)| *port);
            add_rules(&mut change, &names.rules, port(&four), port(&six));
            let mut nft = Socket::open(Protocol::Netfilter)?;
            change.commit(&mut nft)?;
            let listeners = [four, six].into_iter().flatten().map(|(_, listener)| listener).collect();
            Ok((Self { _owner: nft }, listeners))
        })
    }
}

/// A listener at an address of loopback and its port; none where the namespace has no such address.
fn listen(address: IpAddr) -> Result<Option<(u16, OwnedFd)>> {
    let say = || format!("at {address} of a pod");
    let bound = TcpListener::bind((address, PORT)).or_else(|e| match e.kind() {
        io::ErrorKind::AddrInUse => TcpListener::bind((address, 0)),
        _ => Err(e),
    });
    let listener = match bound {
        Ok(listener) => listener,
        Err(e) => match Errno::from_io_error(&e) {
            Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT) => return Ok(None),
            _ => return Err(e).act("listen", say),
        },
    };
    listener.set_nonblocking(true).act("listen", say)?;
    let port = listener.local_addr().act("listen", say)?.port();
    Ok(Some((port, listener.into())))
}

fn chain(name: &str, priority: i32) -> Chain<'_> {
    Chain { name, base: Some(Base { kind: "nat", hook: Hook::Output, priority, accept: true }) }
}

fn add_kept(change: &mut Transaction, table: &str) {
    change.add_table(
        FAMILY,
        table,
        false,
        Some("keeps connections of the mesh translated; it leads nobody anywhere"),
    );
    change.add_chain(FAMILY, table, &chain(OUTPUT, DSTNAT + 1));
    // An earlier process may have left it.
    change.flush_chain(FAMILY, table, OUTPUT);
    // A chain of NAT alone translates what is followed, and has nothing followed. A rule that looks at flows does.
    let state = Expression::Conntrack { key: Conntrack::State, to: LOADED };
    change.add_rule(FAMILY, table, OUTPUT, &[state], Some("has connections followed"));
}

/// `ipv4` and `ipv6` are the ports of the listeners.
fn add_rules(change: &mut Transaction, table: &str, ipv4: Option<u16>, ipv6: Option<u16>) {
    change.add_owned_table(FAMILY, table, Some("leads connections of this pod to the node's mesh"));
    change.add_chain(FAMILY, table, &chain(OUTPUT, DSTNAT));
    let mut add = |rule: Vec<Expression<'_>>, words: &str| {
        change.add_rule(FAMILY, table, OUTPUT, &rule, Some(words));
    };
    let accept = || Expression::Verdict(Verdict::Accept);
    let protocol = Expression::Meta { key: Meta::Protocol, to: LOADED };
    add(vec![protocol, compare(false, vec![TCP]), accept()], "no TCP");
    let mark = Expression::Meta { key: Meta::Mark, to: LOADED };
    add(vec![mark, compare(true, MARK.to_ne_bytes().to_vec()), accept()], "from the mesh");
    let kind = Expression::AddressType { to: LOADED };
    add(vec![kind, compare(true, TYPE_LOCAL.to_ne_bytes().to_vec()), accept()], "to the pod itself");
    // It is an address of one link, which the proxy is not told.
    let prefix = Expression::Payload { header: Header::Network, offset: 24, len: 2, to: LOADED };
    let link_local = [
        family(NFPROTO_IPV6),
        vec![prefix, Expression::Mask { register: LOADED, mask: vec![0xff, 0xc0] }],
        vec![compare(true, vec![0xfe, 0x80]), accept()],
    ];
    add(link_local.concat(), "link-local");
    for (number, port) in [(NFPROTO_IPV4, ipv4), (NFPROTO_IPV6, ipv6)] {
        if let Some(port) = port {
            let load = Expression::Immediate { to: LOADED, value: port.to_be_bytes().to_vec() };
            add([family(number), vec![load, Expression::Redirect { port: LOADED }]].concat(), "to the mesh");
        }
    }
}

fn compare(equal: bool, value: Vec<u8>) -> Expression<'static> {
    Expression::Compare { register: LOADED, equal, value }
}

/// The packet is of this family.
fn family(number: u8) -> Vec<Expression<'static>> {
    vec![Expression::Meta { key: Meta::Family, to: LOADED }, compare(true, vec![number])]
}
