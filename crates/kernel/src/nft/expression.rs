use std::ops::AddAssign;

use super::uapi::{
    NF_ACCEPT, NF_DROP, NFT_GOTO, NFT_JUMP, NFT_RETURN, NFTA_COUNTER_BYTES, NFTA_COUNTER_PACKETS,
    NFTA_DATA_VALUE, NFTA_DATA_VERDICT, NFTA_EXPR_DATA, NFTA_EXPR_NAME, NFTA_LIST_ELEM, NFTA_VERDICT_CHAIN,
    NFTA_VERDICT_CODE,
};
use crate::netlink::Message;

/// A place of four bytes in the register file; longer values take the places that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register(pub u8);

impl Register {
    /// The first place.
    pub const FIRST: Self = Self(0);

    fn number(self) -> u32 {
        // NFT_REG32_00 is 8.
        8 + u32::from(self.0.min(15))
    }
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It goes on to the next hook.
    Accept,
    /// It is gone.
    Drop,
    /// Back to the calling chain.
    Return,
    /// Through another chain and back here.
    Jump(&'a str),
    /// Through another chain, not back.
    Goto(&'a str),
}

/// A part of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// Ethernet.
    Link,
    /// IPv4 or IPv6.
    Network,
    /// TCP, UDP, SCTP.
    Transport,
}

/// What the kernel knows about a packet beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meta {
    /// What the frame carries: `ETH_P_*` in network order (two bytes).
    EtherType,
    /// Its mark.
    Mark,
    /// The number of the interface it came in by, in the machine's order (four bytes).
    Input,
    /// The name of the interface it came in by.
    InputName,
    /// The name of the interface it leaves by.
    OutputName,
    /// 2 for IPv4, 10 for IPv6 (one byte).
    Family,
    /// The protocol above IP (one byte).
    Protocol,
}

/// What connection tracking knows about a packet's flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conntrack {
    /// New, established, ... (a bit mask).
    State,
    /// Whether the packet goes as the flow's first one did, or comes back: see [`DIRECTION_REPLY`] (one byte).
    Direction,
    /// `IPS_*` (a bit mask).
    Status,
    /// The flow's mark.
    Mark,
}

/// The flow was sent to another destination by a rule (`IPS_DST_NAT`), as a mask for [`Conntrack::Status`].
pub const STATUS_DNAT: u32 = 0x20;
/// A flow that has seen packets both ways, or belongs to one, as a mask for [`Conntrack::State`] (`ct state
/// established,related`).
pub const STATE_ESTABLISHED_OR_RELATED: u32 = 0x2 | 0x4;
/// `IP_CT_DIR_REPLY`: what [`Conntrack::Direction`] is of packets of who has not begun the flow (`ct direction reply`).
pub const DIRECTION_REPLY: u8 = 1;
/// `RTN_LOCAL`: the answer of [`Expression::AddressType`] for an address of this machine.
pub const TYPE_LOCAL: u32 = 2;

/// Which end of a flow is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nat {
    /// The source.
    Source,
    /// The destination.
    Destination,
}

/// What was counted: packets, and their bytes. The kernel has a batch of segments that it carries as one packet (GRO, GSO) for one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub packets: u64,
    /// Bytes of them, from the network header on (in the ip, inet and bridge families).
    pub bytes: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, more: Self) {
        self.packets = self.packets.saturating_add(more.packets);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }
}

/// One step of a rule.
#[allow(missing_docs, reason = "the fields are described by their variant")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression<'a> {
    /// Loads bytes of the packet.
    Payload { header: Header, offset: u32, len: u32, to: Register },
    /// Loads what is known about the packet.
    Meta { key: Meta, to: Register },
    /// Loads what is known about the flow.
    Conntrack { key: Conntrack, to: Register },
    /// Loads the kind of the packet's destination address, see [`TYPE_LOCAL`].
    AddressType { to: Register },
    /// Goes on if the register is (or is not) `value`.
    Compare { register: Register, equal: bool, value: Vec<u8> },
    /// Keeps the bits of the register that are set in `mask`.
    Mask { register: Register, mask: Vec<u8> },
    /// Loads a constant.
    Immediate { to: Register, value: Vec<u8> },
    /// Goes on if the register's value is in `set` (or is not); a map's value is loaded into `to`.
    Lookup { set: &'a str, register: Register, to: Option<Register>, invert: bool },
    /// Follows the verdict that a verdict map has for the register's value.
    VerdictMap { map: &'a str, register: Register },
    /// Ends with a verdict.
    Verdict(Verdict<'a>),
    /// The packet is of no flow: connection tracking, which comes after priority -300, passes it by.
    NoTrack,
    /// Counts.
    Counter,
    /// Counts on from there.
    CounterFrom(Count),
    /// Translates to the address (and port) in registers. `ipv4`: the family of the address.
    Nat { kind: Nat, ipv4: bool, address: Register, port: Option<Register> },
    /// Translates the source to the address of the interface the packet leaves by.
    Masquerade,
    /// Sends to a port of this machine.
    Redirect { port: Register },
    /// Loads a number below `below`, by chance (four bytes in the machine's order).
    Random { below: u32, to: Register },
    /// Adds an element to a map that was made for that ([`add_dynamic_set`](super::Transaction::add_dynamic_set)), for so many
    /// milliseconds from now; of one that is there only the time begins anew. Ends the rule where the map is full.
    Update { map: &'a str, key: Register, value: Register, timeout: u64 },
    /// Ends with an answer that says so: a TCP reset, or else ICMP's port unreachable.
    Reject { reset: bool },
}

impl Expression<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Payload { .. } => "payload",
            Self::Meta { .. } => "meta",
            Self::Conntrack { .. } => "ct",
            Self::AddressType { .. } => "fib",
            Self::Compare { .. } => "cmp",
            Self::Mask { .. } => "bitwise",
            Self::Immediate { .. } | Self::Verdict(_) => "immediate",
            Self::Lookup { .. } | Self::VerdictMap { .. } => "lookup",
            Self::NoTrack => "notrack",
            Self::Counter | Self::CounterFrom(_) => "counter",
            Self::Nat { .. } => "nat",
            Self::Masquerade => "masq",
            Self::Redirect { .. } => "redir",
            Self::Random { .. } => "numgen",
            Self::Update { .. } => "dynset",
            Self::Reject { .. } => "reject",
        }
    }

    pub(super) fn write(&self, list: &mut Message<'_>) {
        list.nest(NFTA_LIST_ELEM, |expression| {
            expression.text(NFTA_EXPR_NAME, self.name()).nest(NFTA_EXPR_DATA, |data| self.write_data(data));
        });
    }

    /// Attribute numbers are those of each expression's own `enum nft_*_attributes`.
    fn write_data(&self, m: &mut Message<'_>) {
        match self {
            Self::Payload { header, offset, len, to } => {
                let base = match header {
                    Header::Link => 0,
                    Header::Network => 1,
                    Header::Transport => 2,
                };
                m.be32(1, to.number()).be32(2, base).be32(3, *offset).be32(4, *len);
            }
            Self::Meta { key, to } => {
                let key = match key {
                    Meta::EtherType => 1,
                    Meta::Mark => 3,
                    Meta::Input => 4,
                    Meta::InputName => 6,
                    Meta::OutputName => 7,
                    Meta::Family => 15,
                    Meta::Protocol => 16,
                };
                m.be32(1, to.number()).be32(2, key);
            }
            Self::Conntrack { key, to } => {
                let key = match key {
                    Conntrack::State => 0,
                    Conntrack::Direction => 1,
                    Conntrack::Status => 2,
                    Conntrack::Mark => 3,
                };
                m.be32(1, to.number()).be32(2, key);
            }
            // NFT_FIB_RESULT_ADDRTYPE of NFTA_FIB_F_DADDR.
            Self::AddressType { to } => {
                m.be32(1, to.number()).be32(2, 3).be32(3, 2);
            }
            Self::Compare { register, equal, value } => {
                m.be32(1, register.number()).be32(2, u32::from(!equal)).nest(3, |d| put_value(d, value));
            }
            Self::Mask { register, mask } => {
                let len = u32::try_from(mask.len()).unwrap_or(u32::MAX);
                m.be32(1, register.number()).be32(2, register.number()).be32(3, len);
                m.nest(4, |d| put_value(d, mask)).nest(5, |d| put_value(d, &vec![0; mask.len()]));
            }
            Self::Immediate { to, value } => {
                m.be32(1, to.number()).nest(2, |d| put_value(d, value));
            }
            Self::Lookup { set, register, to, invert } => {
                m.text(1, set).be32(2, register.number());
                if let Some(to) = to {
                    m.be32(3, to.number());
                }
                if *invert {
                    m.be32(5, 1);
                }
            }
            Self::VerdictMap { map, register } => {
                m.text(1, map).be32(2, register.number()).be32(3, 0);
            }
            Self::Verdict(verdict) => {
                m.be32(1, 0).nest(2, |d| put_verdict(d, *verdict));
            }
            Self::NoTrack | Self::Counter | Self::Masquerade => {}
            Self::CounterFrom(Count { packets, bytes }) => {
                m.bytes(NFTA_COUNTER_BYTES, &bytes.to_be_bytes());
                m.bytes(NFTA_COUNTER_PACKETS, &packets.to_be_bytes());
            }
            Self::Nat { kind, ipv4, address, port } => {
                let kind = match kind {
                    Nat::Source => 0,
                    Nat::Destination => 1,
                };
                m.be32(1, kind).be32(2, if *ipv4 { 2 } else { 10 }).be32(3, address.number());
                if let Some(port) = port {
                    m.be32(5, port.number());
                }
            }
            Self::Redirect { port } => {
                m.be32(1, port.number());
            }
            // NFT_NG_RANDOM.
            Self::Random { below, to } => {
                m.be32(1, to.number()).be32(2, *below).be32(3, 1);
            }
            // NFT_DYNSET_OP_UPDATE.
            Self::Update { map, key, value, timeout } => {
                m.text(1, map).be32(3, 1).be32(4, key.number()).be32(5, value.number());
                m.bytes(6, &timeout.to_be_bytes());
            }
            // NFT_REJECT_TCP_RST, or NFT_REJECT_ICMPX_UNREACH with NFT_REJECT_ICMPX_PORT_UNREACH.
            Self::Reject { reset } => {
                m.be32(1, if *reset { 1 } else { 2 }).u8(2, u8::from(!reset));
            }
        }
    }
}

pub(super) fn put_value(m: &mut Message<'_>, value: &[u8]) {
    m.bytes(NFTA_DATA_VALUE, value);
}

pub(super) fn put_verdict(m: &mut Message<'_>, verdict: Verdict<'_>) {
    let (code, chain) = match verdict {
        Verdict::Accept => (NF_ACCEPT, None),
        Verdict::Drop => (NF_DROP, None),
        Verdict::Return => (NFT_RETURN, None),
        Verdict::Jump(chain) => (NFT_JUMP, Some(chain)),
        Verdict::Goto(chain) => (NFT_GOTO, Some(chain)),
    };
    m.nest(NFTA_DATA_VERDICT, |verdict| {
        verdict.be32(NFTA_VERDICT_CODE, code.cast_unsigned());
        if let Some(chain) = chain {
            verdict.text(NFTA_VERDICT_CHAIN, chain);
        }
    });
}
