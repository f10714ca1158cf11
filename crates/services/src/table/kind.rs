use kernel::nft::{Expression, Field, Header, Meta, Register, Value};

use crate::plan::{At, Front};

/// One of the groups that fronts fall into: each has maps of its own, as their keys differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    pub(crate) ipv4: bool,
    /// Ports of the node, by protocol and port alone.
    pub(crate) node: bool,
    /// Asked only for who comes from outside, and first.
    pub(crate) outside: bool,
}

impl Kind {
    pub(crate) const ALL: [Self; 8] = [
        Self { ipv4: true, node: false, outside: false },
        Self { ipv4: true, node: false, outside: true },
        Self { ipv4: true, node: true, outside: false },
        Self { ipv4: true, node: true, outside: true },
        Self { ipv4: false, node: false, outside: false },
        Self { ipv4: false, node: false, outside: true },
        Self { ipv4: false, node: true, outside: false },
        Self { ipv4: false, node: true, outside: true },
    ];

    pub(crate) fn of(front: &Front) -> Self {
        let node = matches!(front.at, At::Node { .. });
        Self { ipv4: front.at.is_ipv4(), node, outside: front.outside }
    }

    fn name(self, names: [&'static str; 8]) -> &'static str {
        let at = Self::ALL.iter().position(|kind| *kind == self);
        at.and_then(|at| names.get(at)).copied().unwrap_or_default()
    }

    /// The verdict map by which a packet finds a chain. The chains are called after it.
    pub(crate) fn fronts(self) -> &'static str {
        self.name(["service4", "outside4", "node4", "outnode4", "service6", "outside6", "node6", "outnode6"])
    }

    /// The map of targets: the same key and a number.
    pub(crate) fn targets(self) -> &'static str {
        self.name([
            "service4_targets",
            "outside4_targets",
            "node4_targets",
            "outnode4_targets",
            "service6_targets",
            "outside6_targets",
            "node6_targets",
            "outnode6_targets",
        ])
    }

    /// The map of targets that clients have been sent to: the same key and their address.
    pub(crate) fn affinity(self) -> &'static str {
        self.name([
            "service4_clients",
            "outside4_clients",
            "node4_clients",
            "outnode4_clients",
            "service6_clients",
            "outside6_clients",
            "node6_clients",
            "outnode6_clients",
        ])
    }

    pub(crate) fn fields(self) -> Vec<Field> {
        let port = [Field::PROTOCOL, Field::SERVICE];
        let address = (!self.node).then_some(super::address_field(self.ipv4));
        address.into_iter().chain(port).collect()
    }

    /// Registers that its key takes.
    pub(crate) fn registers(self) -> u8 {
        if self.node { 2 } else { 2 + address_registers(self.ipv4) }
    }

    /// Loads its key from a packet, from the first register on.
    pub(crate) fn load(self) -> Vec<Expression<'static>> {
        let first = if self.node { 0 } else { address_registers(self.ipv4) };
        let address = (!self.node).then(|| destination(self.ipv4, Register(0)));
        address.into_iter().chain(protocol_and_port(first)).collect()
    }

    /// The key of a front.
    pub(crate) fn key(front: &Front) -> Value {
        let value = match front.at {
            At::Address(address) => Value::new().address(address),
            At::Node { .. } => Value::new(),
        };
        value.protocol(front.protocol.number()).port(front.port)
    }

    /// Where the protocol's number is in a key.
    pub(crate) fn protocol_at(self) -> usize {
        (usize::from(self.registers()) - 2) * 4
    }
}

/// Registers that an address takes.
pub(super) fn address_registers(ipv4: bool) -> u8 {
    if ipv4 { 1 } else { 4 }
}

pub(super) fn source(ipv4: bool, to: Register) -> Expression<'static> {
    let (offset, len) = if ipv4 { (12, 4) } else { (8, 16) };
    Expression::Payload { header: Header::Network, offset, len, to }
}

/// Loads where the packet goes to.
pub(crate) fn destination(ipv4: bool, to: Register) -> Expression<'static> {
    let (offset, len) = if ipv4 { (16, 4) } else { (24, 16) };
    Expression::Payload { header: Header::Network, offset, len, to }
}

pub(super) fn protocol_and_port(first: u8) -> [Expression<'static>; 2] {
    let port = Expression::Payload { header: Header::Transport, offset: 2, len: 2, to: Register(first + 1) };
    [Expression::Meta { key: Meta::Protocol, to: Register(first) }, port]
}
