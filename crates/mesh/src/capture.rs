//! Rules in a pod's network namespace that lead the connections of its programs to listeners there, and those that come to the pod.
//!
//! There are two tables of nftables, family inet (docs/adr/0029-capture-within-the-pods-namespace.md):
//! - that of the rules belongs to a netlink socket, so it is there for exactly as long as the process that serves the listeners, however that
//!   ends. New connections of the pod go their own way then.
//! - the other has a chain of NAT whose one rule does nothing but look at a flow's state. It keeps the kernel following and translating
//!   connections that are open when the rules go, or nothing that the process sends as it ends would reach who waits for it. Whoever captures
//!   a pod records it first, and deletes it when nothing of the pod is open any more.
//!
//! What is open when a pod is captured goes on as it was: between the two tables `nf_conntrack_tcp_loose` is set to 0, so that the kernel takes
//! no connection up in its middle, which rules of NAT would take for a new one.
//!
//! A third one stands beside them in pods that do not take datagrams from everybody ([`admit`]).

mod datagrams;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};

use kernel::namespace::in_netns;
use kernel::netlink::{Protocol, Returning, Socket, sysctl};
use kernel::nft::{
    Base, Chain, ChainInfo, Conntrack, Expression, Family, Header, Hook, Meta, Register,
    STATE_ESTABLISHED_OR_RELATED, STATUS_DNAT, TYPE_LOCAL, Transaction, Verdict, chains,
};
use kernel::{Act as _, Error, Result};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with, sockopt};

use crate::hbone;
pub use datagrams::{Counted, admit, admit_all, counted};

/// The family of all tables.
pub const FAMILY: Family = Family::Inet;
/// What connections of the proxy's own are marked with, all bits of it: nobody leads them to the proxy. Only the pod's own namespace sees it.
pub const MARK: u32 = 0x5e87_a117;
/// What connections to the pod's own programs are marked with. They come from the addresses of those for whom they are made, and so that answers
/// to those come back, what carries this mark is for the pod itself ([`RETURNING`]).
pub const RETURN_MARK: u32 = 0x5e87_a118;
/// What is needed in the pod's namespace for [`RETURN_MARK`]. It does not go with who has made it: whoever captures a pod's inbound side records it
/// first, and takes it away when nothing of the pod is open any more.
pub const RETURNING: Returning = Returning { mark: RETURN_MARK, table: RETURN_MARK };
/// Whether a connection whose beginning the kernel has not seen is followed all the same (nf_conntrack-sysctl). Not in a pod that is captured.
const LOOSE: &str = "net/netfilter/nf_conntrack_tcp_loose";
/// How long, in seconds, a connection is followed of which one side has said all and the other says nothing. What is led to the proxy lives by being
/// followed, so that is as long as for others.
const HALF_CLOSED: &str = "net/netfilter/nf_conntrack_tcp_timeout_close_wait";
/// The same of a connection of which no side has.
const ESTABLISHED: &str = "net/netfilter/nf_conntrack_tcp_timeout_established";
/// Where listeners are, if nobody else is there; else the kernel chooses.
const PORT: u16 = 15001;
/// Where plain text that comes to the pod is led.
const PLAIN_PORT: u16 = 15006;
/// Where HBONE that comes to the pod is led. Not [`hbone::PORT`] itself: what is led to where it goes anyhow is not marked as translated, and
/// [`close`] lets in what is.
const SECURED_PORT: u16 = 15007;
/// So many connections may wait to be taken; the kernel has a bound of its own (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

const OUTPUT: &str = "output";
const UNTRACKED: &str = "untracked";
const CLOSED: &str = "closed";
/// How the names of chains begin that say what a value was.
const WAS: &str = "was-";
/// Before connections are tracked.
const RAW: i32 = -300;
const PREROUTING: &str = "prerouting";
/// The name of the loopback, as rules compare it: with zeroes behind.
const LOOPBACK: [u8; 16] = *b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// Where destinations are translated.
const DSTNAT: i32 = -100;
const TCP: u8 = 6;
/// Where its flags are in its head, and one of them (RFC 9293, 3.1).
const TCP_FLAGS: u32 = 13;
const TCP_RST: u8 = 0x04;
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
    /// That which admits datagrams.
    pub datagrams: String,
    /// Those of the node's own network namespace that look at where packets of members come from ([`sources`](crate::sources)).
    pub sources: String,
}

impl Names {
    /// Of an instance: `sextant-mesh`, `sextant-mesh-nat`, `sextant-mesh-udp` and `sextant-mesh-source`.
    #[must_use]
    pub fn of(instance: &str) -> Self {
        Self {
            rules: format!("{instance}-mesh"),
            kept: format!("{instance}-mesh-nat"),
            datagrams: format!("{instance}-mesh-udp"),
            sources: format!("{instance}-mesh-source"),
        }
    }
}

/// A value below `/proc/sys` of a pod's namespace that is another while the pod is captured. It does not go with who has set it: whoever captures a
/// pod records what it was first, and gives it back when nothing of the pod is open any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its path below `/proc/sys`.
    pub name: &'static str,
    /// What it was before anybody had set it.
    pub before: String,
    value: String,
}

/// Listeners in a pod's namespace, of IPv4 and IPv6 as it has them. They do not block; what comes before somebody accepts waits.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Of what the pod's programs connect to.
    pub outbound: Vec<OwnedFd>,
    /// Of plain text that comes to the pod.
    pub plain: Vec<OwnedFd>,
    /// Of HBONE that comes to the pod.
    pub secured: Vec<OwnedFd>,
}

/// Makes the table [`Names::kept`] alone, and says what is to be [`set`] before [`Capture::begin`]. Connections that are open go on.
///
/// The table also says what values were before, as names of empty chains. Another mesh, which has another ledger, may capture the same pod, and finds by that
/// what to give back when it is the last one to leave.
///
/// # Errors
/// The kernel's.
pub fn keep(netns: impl AsFd + Sync, names: &Names) -> Result<Vec<Setting>> {
    in_netns(netns, || {
        let mut change = Transaction::new();
        add_kept(&mut change, &names.kept);
        // With it there is all that has these values.
        change.commit(&mut Socket::open(Protocol::Netfilter)?)?;
        let mut settings = Vec::new();
        if let Some(now) = value_of(LOOSE)? {
            let mut before = now;
            if before == "0" {
                // Who has set it so has said before what it was, unless he has just given it back.
                let again = told(LOOSE, 1).map_or_else(|| value_of(LOOSE), |was| Ok(Some(was)))?;
                before = again.unwrap_or(before);
            }
            settings.push(Setting { name: LOOSE, before, value: "0".into() });
        }
        if let Some(now) = value_of(HALF_CLOSED)? {
            let seconds = |text: &str| text.parse().unwrap_or(0_u64);
            let longer = value_of(ESTABLISHED)?.filter(|other| seconds(other) > seconds(&now));
            let value = longer.unwrap_or_else(|| now.clone());
            let before = told(HALF_CLOSED, seconds(&now)).unwrap_or(now);
            settings.push(Setting { name: HALF_CLOSED, before, value });
        }
        let mut change = Transaction::new();
        for Setting { name, before, .. } in &settings {
            let name = format!("{}{before}", mark(name));
            change.add_chain(FAMILY, &names.kept, &Chain { name: &name, base: None });
        }
        change.commit(&mut Socket::open(Protocol::Netfilter)?)?;
        Ok(settings)
    })
}

/// The name of a chain that says what a value was, up to that.
fn mark(name: &str) -> String {
    format!("{WAS}{}-", name.rsplit('/').next().unwrap_or(name))
}

/// What a value was before somebody had set it, as a chain in this network namespace says. Programs of the pod may have made that, so it is a number,
/// and `most` at most.
fn told(name: &str, most: u64) -> Option<String> {
    let all = chains(&mut Socket::open(Protocol::Netfilter).ok()?).ok()?;
    was(&all, name, most)
}

fn was(all: &[ChainInfo], name: &str, most: u64) -> Option<String> {
    let mark = mark(name);
    let mut numbers = all.iter().filter_map(|chain| chain.name.strip_prefix(&mark)?.parse::<u64>().ok());
    numbers.find(|number| *number <= most).map(|number| number.to_string())
}

/// Sets what [`keep`] has found, each of which is on record by now.
///
/// # Errors
/// The kernel's.
pub fn set(netns: impl AsFd + Sync, settings: &[Setting]) -> Result<()> {
    in_netns(netns, || settings.iter().try_for_each(|setting| sysctl::write(setting.name, &setting.value)))
}

/// A value; none where this kernel has not got it.
fn value_of(name: &str) -> Result<Option<String>> {
    match sysctl::read(name) {
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(None),
        read => read.map(Some),
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
    /// Leads new connections of the pod in this namespace to the listeners that this gives, and those that come to it as well, if `inbound` is
    /// there: but for those from the addresses in it, which are the node's own, and which its probes come from.
    ///
    /// # Errors
    /// The kernel's: EEXIST or EPERM where another process has captured the pod, an address in use, no descriptor.
    pub fn begin(
        netns: impl AsFd + Sync,
        names: &Names,
        inbound: Option<&[IpAddr]>,
    ) -> Result<(Self, Listeners)> {
        in_netns(netns, || {
            let four = listen_at_loopback(Ipv4Addr::LOCALHOST.into())?;
            let six = listen_at_loopback(Ipv6Addr::LOCALHOST.into())?;
            if four.is_none() && six.is_none() {
                let why = io::Error::from(io::ErrorKind::AddrNotAvailable);
                return Err(Error::new("listen", "at the loopback of a pod, which has no address", why));
            }
            let mut change = Transaction::new();
            add_kept(&mut change, &names.kept);
            let port = |listener: &Option<(u16, OwnedFd)>| listener.as_ref().map(|(port, _)| *port);
            add_rules(&mut change, &names.rules, port(&four), port(&six));
            let mut listeners = Listeners::default();
            if let Some(node) = inbound {
                let mut open = |any: IpAddr| -> Result<(u16, u16)> {
                    let (plain, secured) = (listen_at(any, PLAIN_PORT)?, listen_at(any, SECURED_PORT)?);
                    listeners.plain.push(plain.1);
                    listeners.secured.push(secured.1);
                    Ok((plain.0, secured.0))
                };
                let ports = [
                    four.as_ref().map(|_| open(Ipv4Addr::UNSPECIFIED.into())).transpose()?,
                    six.as_ref().map(|_| open(Ipv6Addr::UNSPECIFIED.into())).transpose()?,
                ];
                add_inbound(&mut change, &names.rules, node, ports);
                RETURNING.add()?;
            }
            let mut nft = Socket::open(Protocol::Netfilter)?;
            change.commit(&mut nft)?;
            listeners.outbound = [four, six].into_iter().flatten().map(|(_, listener)| listener).collect();
            Ok((Self { _owner: nft }, listeners))
        })
    }
}

/// Closes a pod that is captured for as long as nobody serves it: what comes to it over TCP, and is led to nobody, is reset. It stays when the process
/// ends, in the table that is kept. What comes from the node's own addresses, and what is open, goes on; but for what was open before the pod was
/// captured, either way: nobody knows who has begun that.
///
/// # Errors
/// The kernel's.
pub fn close(netns: impl AsFd + Sync, names: &Names, node: &[IpAddr]) -> Result<()> {
    in_netns(netns, || {
        let mut change = Transaction::new();
        add_kept(&mut change, &names.kept);
        add_closed(&mut change, &names.kept, node);
        change.commit(&mut Socket::open(Protocol::Netfilter)?)
    })
}

/// Takes back what [`close`] has done. Not there counts as done.
///
/// # Errors
/// The kernel's.
pub fn open(netns: impl AsFd + Sync, names: &Names) -> Result<()> {
    in_netns(netns, || {
        let mut change = Transaction::new();
        add_kept(&mut change, &names.kept);
        empty_closed(&mut change, &names.kept);
        change.delete_chain(FAMILY, &names.kept, CLOSED);
        change.commit(&mut Socket::open(Protocol::Netfilter)?)
    })
}

/// A listener at an address of loopback and its port; none where the namespace has no such address.
fn listen_at_loopback(address: IpAddr) -> Result<Option<(u16, OwnedFd)>> {
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

/// A listener at all addresses of a family, and its port: this one, if nobody else has it.
fn listen_at(any: IpAddr, port: u16) -> Result<(u16, OwnedFd)> {
    let say = || format!("for what comes to a pod, at {any}");
    let done = match bound(any, port) {
        Err(Errno::ADDRINUSE) => bound(any, 0),
        done => done,
    };
    done.act("listen", say)
}

fn bound(any: IpAddr, port: u16) -> std::result::Result<(u16, OwnedFd), Errno> {
    let family = if any.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    if any.is_ipv6() {
        // What comes over IPv4 has a listener of its own.
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    bind(&fd, &SocketAddr::new(any, port))?;
    listen(&fd, BACKLOG)?;
    let at = SocketAddr::try_from(getsockname(&fd)?)?;
    Ok((at.port(), fd))
}

fn chain(name: &str, priority: i32) -> Chain<'_> {
    Chain { name, base: Some(Base { kind: "nat", hook: Hook::Output, priority, accept: true }) }
}

/// What is sent to the pod's own programs is not tracked: it would be what somebody else has sent, if that one has the same port by chance.
fn add_untracked(change: &mut Transaction, table: &str) {
    let base = Base { kind: "filter", hook: Hook::Output, priority: RAW, accept: true };
    change.add_chain(FAMILY, table, &Chain { name: UNTRACKED, base: Some(base) });
    let mark = Expression::Meta { key: Meta::Mark, to: LOADED };
    let link = Expression::Meta { key: Meta::OutputName, to: LOADED };
    let rule = [
        mark,
        compare(true, RETURN_MARK.to_ne_bytes().to_vec()),
        link,
        compare(true, LOOPBACK.to_vec()),
        Expression::NoTrack,
    ];
    change.add_rule(FAMILY, table, UNTRACKED, &rule, Some("to the pod's own programs"));
}

fn empty_closed(change: &mut Transaction, table: &str) {
    let base = Base { kind: "filter", hook: Hook::Input, priority: 0, accept: true };
    change.add_chain(FAMILY, table, &Chain { name: CLOSED, base: Some(base) });
    change.flush_chain(FAMILY, table, CLOSED);
}

/// What is let in while nobody is there to be asked.
fn add_closed(change: &mut Transaction, table: &str, node: &[IpAddr]) {
    empty_closed(change, table);
    let mut add = |rule: Vec<Expression<'_>>, words: &str| {
        change.add_rule(FAMILY, table, CLOSED, &rule, Some(words));
    };
    add_spared(&mut add, node);
    let (status, state) = (
        Expression::Conntrack { key: Conntrack::Status, to: LOADED },
        Expression::Conntrack { key: Conntrack::State, to: LOADED },
    );
    for (load, bits, words) in [
        (status, STATUS_DNAT, "led to the mesh"),
        (state, STATE_ESTABLISHED_OR_RELATED, "open, or an answer to the pod"),
    ] {
        let mask = Expression::Mask { register: LOADED, mask: bits.to_ne_bytes().to_vec() };
        let is_set = compare(false, 0_u32.to_ne_bytes().to_vec());
        add(vec![load, mask, is_set, Expression::Verdict(Verdict::Accept)], words);
    }
    // It opens nothing. Who goes on saying something over a connection from before has to hear that it is over.
    let flags = Expression::Payload { header: Header::Transport, offset: TCP_FLAGS, len: 1, to: LOADED };
    let mask = Expression::Mask { register: LOADED, mask: vec![TCP_RST] };
    add(vec![flags, mask, compare(false, vec![0]), Expression::Verdict(Verdict::Accept)], "a reset");
    add(vec![Expression::Reject { reset: true }], "nobody can be asked");
}

/// Rules that accept what is none of the mesh's business, or comes from the node.
fn add_spared(add: &mut dyn FnMut(Vec<Expression<'_>>, &str), node: &[IpAddr]) {
    let accept = || Expression::Verdict(Verdict::Accept);
    let protocol = Expression::Meta { key: Meta::Protocol, to: LOADED };
    add(vec![protocol, compare(false, vec![TCP]), accept()], "no TCP");
    let link = Expression::Meta { key: Meta::InputName, to: LOADED };
    add(vec![link, compare(true, LOOPBACK.to_vec()), accept()], "from the pod itself");
    for address in node {
        let (number, offset, bytes) = match address {
            IpAddr::V4(address) => (NFPROTO_IPV4, 12, address.octets().to_vec()),
            IpAddr::V6(address) => (NFPROTO_IPV6, 8, address.octets().to_vec()),
        };
        let len = u32::try_from(bytes.len()).unwrap_or(0);
        let source = Expression::Payload { header: Header::Network, offset, len, to: LOADED };
        add([family(number), vec![source, compare(true, bytes), accept()]].concat(), "from the node");
    }
}

/// Rules for what comes to the pod: `ports` are those of the listeners of plain text and of HBONE, of IPv4 and IPv6.
fn add_inbound(change: &mut Transaction, table: &str, node: &[IpAddr], ports: [Option<(u16, u16)>; 2]) {
    let base = Base { kind: "nat", hook: Hook::Prerouting, priority: DSTNAT, accept: true };
    change.add_chain(FAMILY, table, &Chain { name: PREROUTING, base: Some(base) });
    add_untracked(change, table);
    let mut add = |rule: Vec<Expression<'_>>, words: &str| {
        change.add_rule(FAMILY, table, PREROUTING, &rule, Some(words));
    };
    add_spared(&mut add, node);
    let kind = Expression::AddressType { to: LOADED };
    let other = compare(false, TYPE_LOCAL.to_ne_bytes().to_vec());
    add(vec![kind, other, Expression::Verdict(Verdict::Accept)], "not to the pod");
    for (number, ports) in [NFPROTO_IPV4, NFPROTO_IPV6].into_iter().zip(ports) {
        let Some((plain, secured)) = ports else { continue };
        let redirect = |port: u16| {
            let load = Expression::Immediate { to: LOADED, value: port.to_be_bytes().to_vec() };
            vec![load, Expression::Redirect { port: LOADED }]
        };
        let to = Expression::Payload { header: Header::Transport, offset: 2, len: 2, to: LOADED };
        let is_secured = vec![to, compare(true, hbone::PORT.to_be_bytes().to_vec())];
        add([family(number), is_secured, redirect(secured)].concat(), "HBONE to the mesh");
        add([family(number), redirect(plain)].concat(), "plain text to the mesh");
    }
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
