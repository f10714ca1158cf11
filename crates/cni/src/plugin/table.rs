//! The nftables table of an instance: made once, then only elements come and go.

use kernel::Error as KernelError;
use kernel::netlink::{IpNet, Protocol, Socket};
use kernel::nft::{
    Base, Chain, Conntrack, Element, Expression, Family, Field, Header, Hook, Meta, Nat, Register,
    STATUS_DNAT, Set, TYPE_LOCAL, Target, Transaction, Value, Verdict, table_exists,
};
use ledger::{Effect, Record};
use rustix::io::Errno;

use crate::contract::{Error, Keys, hash};

pub(super) const FAMILY: Family = Family::Inet;

/// Published on any address of the host: `protocol . port : address . port`.
pub(super) const HOSTPORTS4: &str = "hostports4";
pub(super) const HOSTPORTS6: &str = "hostports6";
/// Published on one address: `address . protocol . port : address . port`.
pub(super) const HOSTPORTS4_ADDR: &str = "hostports4_addr";
pub(super) const HOSTPORTS6_ADDR: &str = "hostports6_addr";
/// Link and network behind it with published containers: `link . first-last address`.
pub(super) const HAIRPIN4: &str = "hairpin4";
pub(super) const HAIRPIN6: &str = "hairpin6";
/// Link and network whose traffic is masqueraded when it leaves: `link . first-last address`.
pub(super) const MASQ4: &str = "masq4";
pub(super) const MASQ6: &str = "masq6";

const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;

/// An instance's table, by its name.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) name: String,
}

impl Table {
    /// `sextant.table` of a configuration; `sextant` if it says nothing.
    pub(super) fn of(keys: &Keys<'_>) -> Result<Self, Error> {
        let own = keys.object("sextant")?;
        let name = match own.map(|own| Keys::new(own, "\"sextant\"")) {
            Some(own) => {
                let name = own.text("table")?.unwrap_or("sextant");
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
                if name.is_empty() || name.len() > 100 || !name.chars().all(plain) {
                    return Err(own.refuse("table", "a name of letters, digits, '_', '.' and '-'"));
                }
                name
            }
            None => "sextant",
        };
        Ok(Self { name: name.to_owned() })
    }

    /// The table's part in the name of a shared effect.
    pub(super) fn shared(&self, what: &str) -> String {
        format!("cni-{}-{what}", self.name)
    }

    /// Makes the table, or joins those who use it.
    pub(super) fn join(&self, record: &mut dyn Record) -> Result<(), Error> {
        record.share(&self.shared("table"), &mut |record| {
            record.record(Effect::NftTable { family: FAMILY.to_string(), table: self.name.clone() })?;
            let mut socket = Socket::open(Protocol::Netfilter)?;
            if !record.counts_users() {
                return Ok(self.make(&mut socket)?);
            }
            let mut change = Transaction::new();
            // Nobody uses one that is there: it is of a life before.
            change.add_table(FAMILY, &self.name, false, None);
            change.delete_table(FAMILY, &self.name);
            self.build(&mut change);
            Ok(change.commit(&mut socket)?)
        })?;
        Ok(())
    }

    /// Joins those whose traffic through `link` from `network` is in `set`.
    pub(super) fn join_network(
        &self,
        set: &'static str,
        link: &str,
        network: IpNet,
        record: &mut dyn Record,
    ) -> Result<(), Error> {
        let name = self.shared(&format!("{set}-{}", hash(&[link, &network.to_string()])));
        let value = |address| Value::new().ifname(link).address(address).into_bytes();
        let (first, last) = (value(network.network().address()), value(network.last()));
        let element = Element {
            key: first.clone(),
            key_end: Some(last.clone()),
            comment: Some(name.clone()),
            ..Element::default()
        };
        record.share(&name, &mut |record| {
            record.record(Effect::NftElement {
                family: FAMILY.to_string(),
                table: self.name.clone(),
                set: set.into(),
                key: [first.clone(), last.clone()].concat(),
                holder: name.clone(),
            })?;
            let mut socket = Socket::open(Protocol::Netfilter)?;
            self.change(&mut socket, |change| {
                change.add_elements(FAMILY, &self.name, set, std::slice::from_ref(&element), false);
            })?;
            Ok(())
        })?;
        Ok(())
    }

    /// Makes a change of elements. Somebody may have flushed the ruleset: then the table is made again, once.
    pub(super) fn change(
        &self,
        socket: &mut Socket,
        build: impl Fn(&mut Transaction),
    ) -> Result<(), KernelError> {
        let attempt = |socket: &mut Socket| {
            let mut change = Transaction::new();
            build(&mut change);
            change.commit(socket)
        };
        match attempt(socket) {
            Err(e) if e.errno() == Some(Errno::NOENT) && !table_exists(socket, FAMILY, &self.name)? => {
                self.make(socket)?;
                attempt(socket)
            }
            outcome => outcome,
        }
    }

    /// Makes the table if it is not there.
    fn make(&self, socket: &mut Socket) -> Result<(), KernelError> {
        if table_exists(socket, FAMILY, &self.name)? {
            return Ok(());
        }
        let mut change = Transaction::new();
        self.build(&mut change);
        match change.commit(socket) {
            // Another was quicker.
            Err(e) if e.errno() == Some(Errno::EXIST) => Ok(()),
            outcome => outcome,
        }
    }

    fn build(&self, change: &mut Transaction) {
        let table = self.name.as_str();
        change.add_table(FAMILY, table, true, Some("made by sextant; changes are overwritten"));
        for (name, key, value) in [
            (HOSTPORTS4, &[Field::PROTOCOL, Field::SERVICE][..], &[Field::IPV4, Field::SERVICE]),
            (HOSTPORTS6, &[Field::PROTOCOL, Field::SERVICE], &[Field::IPV6, Field::SERVICE]),
            (
                HOSTPORTS4_ADDR,
                &[Field::IPV4, Field::PROTOCOL, Field::SERVICE],
                &[Field::IPV4, Field::SERVICE],
            ),
            (
                HOSTPORTS6_ADDR,
                &[Field::IPV6, Field::PROTOCOL, Field::SERVICE],
                &[Field::IPV6, Field::SERVICE],
            ),
        ] {
            let target = Some(Target::Fields(value));
            change.add_set(FAMILY, table, &Set { name, key, target, interval: false });
        }
        for (name, key) in [
            (HAIRPIN4, &[Field::IFNAME, Field::IPV4]),
            (HAIRPIN6, &[Field::IFNAME, Field::IPV6]),
            (MASQ4, &[Field::IFNAME, Field::IPV4]),
            (MASQ6, &[Field::IFNAME, Field::IPV6]),
        ] {
            change.add_set(FAMILY, table, &Set { name, key, target: None, interval: true });
        }
        let base = |kind, hook, priority| Some(Base { kind, hook, priority, accept: true });
        for (name, base) in [
            ("guard", base("filter", Hook::Prerouting, -300)),
            ("hostports", None),
            ("prerouting", base("nat", Hook::Prerouting, -100)),
            ("output", base("nat", Hook::Output, -100)),
            ("postrouting", base("nat", Hook::Postrouting, 100)),
        ] {
            change.add_chain(FAMILY, table, &Chain { name, base });
        }
        for (chain, comment, rule) in rules() {
            change.add_rule(FAMILY, table, chain, &rule, comment);
        }
    }
}

type Rule = (&'static str, Option<&'static str>, Vec<Expression<'static>>);

fn rules() -> Vec<Rule> {
    let jump = || vec![Expression::Verdict(Verdict::Jump("hostports"))];
    let mut rules = vec![
        // route_localnet, which publishing on loopback needs, must not open the host's 127.0.0.0/8 to containers.
        (
            "guard",
            Some("127.0.0.0/8 never comes in from outside"),
            [
                link_is_not_lo(Meta::InputName),
                begins_with(true, false, [0xff, 127]),
                vec![Expression::Verdict(Verdict::Drop)],
            ]
            .concat(),
        ),
        ("prerouting", None, jump()),
        ("output", None, jump()),
    ];
    for v4 in [true, false] {
        rules.push(("hostports", None, to_container(v4, true)));
    }
    for v4 in [true, false] {
        rules.push(("hostports", None, to_container(v4, false)));
    }
    for v4 in [true, false] {
        // Not by the interface it came in: for packets that leave where they came in, Linux does not tell it here.
        let set = if v4 { HAIRPIN4 } else { HAIRPIN6 };
        let same_network = link_and_address(v4, Meta::OutputName, true, set);
        rules.push((
            "postrouting",
            Some("back to the network it came from: answers must come through here"),
            [same_network, dnat(), vec![Expression::Masquerade]].concat(),
        ));
    }
    rules.push((
        "postrouting",
        Some("published on loopback"),
        [
            begins_with(true, true, [0xff, 127]),
            link_is_not_lo(Meta::OutputName),
            dnat(),
            vec![Expression::Masquerade],
        ]
        .concat(),
    ));
    for v4 in [true, false] {
        let set = if v4 { MASQ4 } else { MASQ6 };
        let stays = link_and_address(v4, Meta::OutputName, false, set);
        rules.push(("postrouting", None, [stays, vec![Expression::Verdict(Verdict::Return)]].concat()));
        let multicast = if v4 { [0xf0, 0xe0] } else { [0xff, 0xff] };
        let multicast = begins_with(v4, false, multicast);
        rules.push(("postrouting", None, [multicast, vec![Expression::Verdict(Verdict::Return)]].concat()));
        let leaves = link_and_address(v4, Meta::InputName, true, set);
        rules.push(("postrouting", None, [leaves, vec![Expression::Masquerade]].concat()));
    }
    rules
}

fn family(v4: bool) -> Vec<Expression<'static>> {
    let register = Register::FIRST;
    let number = if v4 { NFPROTO_IPV4 } else { NFPROTO_IPV6 };
    vec![
        Expression::Meta { key: Meta::Family, to: register },
        Expression::Compare { register, equal: true, value: vec![number] },
    ]
}

/// Loads the packet's source or destination address.
fn address(v4: bool, source: bool, to: Register) -> Expression<'static> {
    let (offset, len) = match (v4, source) {
        (true, true) => (12, 4),
        (true, false) => (16, 4),
        (false, true) => (8, 16),
        (false, false) => (24, 16),
    };
    Expression::Payload { header: Header::Network, offset, len, to }
}

/// The first byte of the packet's address, masked by the first of the two, is the second.
fn begins_with(v4: bool, source: bool, [mask, byte]: [u8; 2]) -> Vec<Expression<'static>> {
    let register = Register::FIRST;
    let first_byte = match address(v4, source, register) {
        Expression::Payload { header, offset, to, .. } => Expression::Payload { header, offset, len: 1, to },
        other => other,
    };
    let mut rule = family(v4);
    rule.push(first_byte);
    if mask != 0xff {
        rule.push(Expression::Mask { register, mask: vec![mask] });
    }
    rule.push(Expression::Compare { register, equal: true, value: vec![byte] });
    rule
}

fn link_is_not_lo(key: Meta) -> Vec<Expression<'static>> {
    let register = Register::FIRST;
    let mut name = vec![0; 16];
    name[..2].copy_from_slice(b"lo");
    vec![Expression::Meta { key, to: register }, Expression::Compare { register, equal: false, value: name }]
}

/// The flow was sent elsewhere by a rule.
fn dnat() -> Vec<Expression<'static>> {
    let register = Register::FIRST;
    vec![
        Expression::Conntrack { key: Conntrack::Status, to: register },
        Expression::Mask { register, mask: STATUS_DNAT.to_ne_bytes().to_vec() },
        Expression::Compare { register, equal: false, value: vec![0; 4] },
    ]
}

/// The link and the packet's source or destination are in `set`.
fn link_and_address(v4: bool, link: Meta, source: bool, set: &'static str) -> Vec<Expression<'static>> {
    let mut rule = family(v4);
    rule.push(Expression::Meta { key: link, to: Register(0) });
    rule.push(address(v4, source, Register(4)));
    rule.push(Expression::Lookup { set, register: Register(0), to: None, invert: false });
    rule
}

/// Sends what is for a published port to its container.
fn to_container(v4: bool, one_address: bool) -> Vec<Expression<'static>> {
    let (set, addresses) = match (v4, one_address) {
        (true, true) => (HOSTPORTS4_ADDR, 1),
        (true, false) => (HOSTPORTS4, 0),
        (false, true) => (HOSTPORTS6_ADDR, 4),
        (false, false) => (HOSTPORTS6, 0),
    };
    let mut rule = family(v4);
    if one_address {
        rule.push(address(v4, false, Register(0)));
    } else {
        let register = Register::FIRST;
        rule.push(Expression::AddressType { to: register });
        rule.push(Expression::Compare { register, equal: true, value: TYPE_LOCAL.to_ne_bytes().to_vec() });
    }
    rule.push(Expression::Meta { key: Meta::Protocol, to: Register(addresses) });
    rule.push(Expression::Payload {
        header: Header::Transport,
        offset: 2,
        len: 2,
        to: Register(addresses + 1),
    });
    rule.push(Expression::Lookup { set, register: Register(0), to: Some(Register(0)), invert: false });
    let port = Some(Register(if v4 { 1 } else { 4 }));
    rule.push(Expression::Nat { kind: Nat::Destination, ipv4: v4, address: Register(0), port });
    rule
}
