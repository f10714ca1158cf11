use std::os::fd::{AsRawFd, BorrowedFd};

use super::net::Mac;
use super::uapi::{
    AF_INET, AF_INET6, AF_UNSPEC, IFF_ALLMULTI, IFF_PROMISC, IFF_UP, IFLA_ADDRESS, IFLA_AF_SPEC,
    IFLA_BR_MCAST_SNOOPING, IFLA_BR_STP_STATE, IFLA_BR_VLAN_FILTERING, IFLA_BRPORT_ISOLATED,
    IFLA_BRPORT_MODE, IFLA_IFALIAS, IFLA_IFNAME, IFLA_INET_CONF, IFLA_INET6_ADDR_GEN_MODE, IFLA_INFO_DATA,
    IFLA_INFO_KIND, IFLA_INFO_SLAVE_DATA, IFLA_INFO_SLAVE_KIND, IFLA_IPVLAN_MODE, IFLA_LINK, IFLA_LINKINFO,
    IFLA_MACVLAN_BC_QUEUE_LEN, IFLA_MACVLAN_MODE, IFLA_MASTER, IFLA_MTU, IFLA_NET_NS_FD, IFLA_TXQLEN,
    IFLA_VLAN_ID, IFLA_VRF_TABLE, IN6_ADDR_GEN_MODE_NONE, IPV4_DEVCONF_ARP_NOTIFY,
    IPV4_DEVCONF_ROUTE_LOCALNET, NLM_F_ACK, NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL, RTM_DELLINK, RTM_NEWLINK,
    RTM_SETLINK, VETH_INFO_PEER,
};
use super::wire::{Batch, Message};

/// `struct ifinfomsg`.
pub(super) fn header(family: u8, index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[0] = family;
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

/// A link to be made.
#[derive(Debug, Clone)]
pub struct NewLink<'a> {
    /// Its name, at most 15 bytes.
    pub name: &'a str,
    /// What it is.
    pub kind: Kind<'a>,
    /// The kernel's default if none.
    pub mtu: Option<u32>,
    /// Packets that may wait to be sent; the kernel's default for the kind if none.
    pub tx_queue_len: Option<u32>,
    /// Random if none.
    pub mac: Option<Mac>,
    /// Index of the bridge (or other master) it becomes a port of.
    pub master: Option<u32>,
    /// Up from the start.
    pub up: bool,
    /// The network namespace it is made in; the socket's own if none.
    pub netns: Option<BorrowedFd<'a>>,
    /// The answer has it as it was born, before it is a port of `master`, for [`Link::read`](super::Link::read): it need not
    /// be asked for. Before Linux 6.2 the answer has nothing.
    pub told: bool,
}

impl<'a> NewLink<'a> {
    /// A link that is down, with the kernel's defaults, in the socket's namespace.
    pub fn new(name: &'a str, kind: Kind<'a>) -> Self {
        Self {
            name,
            kind,
            mtu: None,
            tx_queue_len: None,
            mac: None,
            master: None,
            up: false,
            netns: None,
            told: false,
        }
    }
}

/// The kinds of link, with what each needs at birth.
#[derive(Debug, Clone)]
pub enum Kind<'a> {
    /// Two ends of a cable.
    Veth {
        /// The other end.
        peer: Peer<'a>,
    },
    /// A switch. Spanning tree is off.
    Bridge {
        /// Multicast snooping; the kernel's default (on) if none.
        mcast_snooping: Option<bool>,
        /// VLAN filtering; the kernel's default (off) if none. Needs a kernel with VLAN_8021Q.
        vlan_filtering: Option<bool>,
    },
    /// An interface that swallows everything.
    Dummy,
    /// Hands back what was redirected to it, once it has passed its queueing disciplines.
    Ifb,
    /// A second MAC address on the link with index `parent`.
    Macvlan {
        /// Index of the lower link, in the socket's namespace.
        parent: u32,
        /// Who can talk to whom.
        mode: MacvlanMode,
        /// How many broadcast frames may wait to be copied to all; the kernel's default if none.
        broadcast_queue: Option<u32>,
    },
    /// Addresses of its own on the link with index `parent`, under that link's MAC.
    Ipvlan {
        /// Index of the lower link, in the socket's namespace.
        parent: u32,
        /// What of the host's stack its packets pass.
        mode: IpvlanMode,
    },
    /// The frames with one 802.1Q tag of the link with index `parent`.
    Vlan {
        /// Index of the lower link, in the socket's namespace.
        parent: u32,
        /// The tag's number, 0 to 4094.
        id: u16,
    },
    /// A routing domain: what its ports receive and send is routed by `table`.
    Vrf {
        /// The routing table.
        table: u32,
    },
}

/// How macvlans of one parent see each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacvlanMode {
    /// Not at all.
    Private,
    /// Through the switch outside.
    Vepa,
    /// Directly.
    Bridge,
    /// Only one, which owns the parent.
    Passthru,
}

impl MacvlanMode {
    const ALL: [(Self, u32); 4] =
        [(Self::Private, 1), (Self::Vepa, 2), (Self::Bridge, 4), (Self::Passthru, 8)];

    fn number(self) -> u32 {
        Self::ALL.iter().find(|(mode, _)| *mode == self).map_or(0, |(_, number)| *number)
    }

    pub(super) fn of(number: u32) -> Option<Self> {
        Self::ALL.iter().find(|(_, n)| *n == number).map(|(mode, _)| *mode)
    }
}

/// What an ipvlan's packets pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpvlanMode {
    /// A stack of its own, as a switch's port has.
    L2,
    /// The parent's stack routes what leaves; no broadcast or multicast.
    L3,
    /// The same, through the parent's netfilter and connection tracking.
    L3s,
}

impl IpvlanMode {
    const ALL: [Self; 3] = [Self::L2, Self::L3, Self::L3s];

    pub(super) fn of(number: u16) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// The far end of a veth.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// Its name there.
    pub name: &'a str,
    /// Its MAC; random if none.
    pub mac: Option<Mac>,
    /// Its MTU; the kernel's default if none.
    pub mtu: Option<u32>,
    /// The namespace it is born in; the near end's if none.
    pub netns: Option<BorrowedFd<'a>>,
}

impl Kind<'_> {
    fn name(&self) -> &'static str {
        match self {
            Kind::Veth { .. } => "veth",
            Kind::Bridge { .. } => "bridge",
            Kind::Dummy => "dummy",
            Kind::Ifb => "ifb",
            Kind::Macvlan { .. } => "macvlan",
            Kind::Ipvlan { .. } => "ipvlan",
            Kind::Vlan { .. } => "vlan",
            Kind::Vrf { .. } => "vrf",
        }
    }

    /// The lower link that it cannot be without.
    fn parent(&self) -> Option<u32> {
        match self {
            Kind::Macvlan { parent, .. } | Kind::Ipvlan { parent, .. } | Kind::Vlan { parent, .. } => {
                Some(*parent)
            }
            _ => None,
        }
    }

    fn write(&self, info: &mut Message<'_>) {
        info.text(IFLA_INFO_KIND, self.name());
        match self {
            Kind::Veth { peer } => {
                info.nest(IFLA_INFO_DATA, |data| {
                    data.nest_after(VETH_INFO_PEER, &header(AF_UNSPEC, 0, 0, 0), |end| {
                        common(end, peer.name, peer.mac, peer.mtu, peer.netns);
                    });
                });
            }
            Kind::Bridge { mcast_snooping, vlan_filtering } => {
                info.nest(IFLA_INFO_DATA, |data| {
                    data.u32(IFLA_BR_STP_STATE, 0);
                    if let Some(on) = mcast_snooping {
                        data.u8(IFLA_BR_MCAST_SNOOPING, u8::from(*on));
                    }
                    if let Some(on) = vlan_filtering {
                        data.u8(IFLA_BR_VLAN_FILTERING, u8::from(*on));
                    }
                });
            }
            Kind::Dummy | Kind::Ifb => {}
            Kind::Macvlan { mode, broadcast_queue, .. } => {
                info.nest(IFLA_INFO_DATA, |data| {
                    data.u32(IFLA_MACVLAN_MODE, mode.number());
                    if let Some(length) = broadcast_queue {
                        data.u32(IFLA_MACVLAN_BC_QUEUE_LEN, *length);
                    }
                });
            }
            Kind::Ipvlan { mode, .. } => {
                info.nest(IFLA_INFO_DATA, |data| {
                    data.bytes(IFLA_IPVLAN_MODE, &(*mode as u16).to_ne_bytes());
                });
            }
            Kind::Vlan { id, .. } => {
                info.nest(IFLA_INFO_DATA, |data| {
                    data.bytes(IFLA_VLAN_ID, &id.to_ne_bytes());
                });
            }
            Kind::Vrf { table } => {
                info.nest(IFLA_INFO_DATA, |data| {
                    data.u32(IFLA_VRF_TABLE, *table);
                });
            }
        }
    }
}

fn common(
    m: &mut Message<'_>,
    name: &str,
    mac: Option<Mac>,
    mtu: Option<u32>,
    netns: Option<BorrowedFd<'_>>,
) {
    m.text(IFLA_IFNAME, name);
    if let Some(mac) = mac {
        m.bytes(IFLA_ADDRESS, &mac.0);
    }
    if let Some(mtu) = mtu {
        m.u32(IFLA_MTU, mtu);
    }
    if let Some(netns) = netns {
        m.u32(IFLA_NET_NS_FD, netns.as_raw_fd().cast_unsigned());
    }
}

/// Changes to a link that is there. Built up by its methods; only what was named is changed.
#[derive(Debug, Clone, Default)]
pub struct SetLink<'a> {
    name: Option<&'a str>,
    index: u32,
    flags: u32,
    change: u32,
    new_name: Option<&'a str>,
    mtu: Option<u32>,
    tx_queue_len: Option<u32>,
    mac: Option<Mac>,
    master: Option<u32>,
    alias: Option<&'a str>,
    hairpin: Option<bool>,
    isolated: Option<bool>,
    arp_notify: Option<bool>,
    route_localnet: Option<bool>,
    no_link_local: bool,
    netns: Option<BorrowedFd<'a>>,
}

impl<'a> SetLink<'a> {
    /// The link called `name`.
    pub fn named(name: &'a str) -> Self {
        Self { name: Some(name), ..Self::default() }
    }

    /// The link with this index.
    pub fn index(index: u32) -> Self {
        Self { index, ..Self::default() }
    }

    fn flag(mut self, flag: u32, on: bool) -> Self {
        self.change |= flag;
        self.flags = if on { self.flags | flag } else { self.flags & !flag };
        self
    }

    /// Up or down.
    #[must_use]
    pub fn up(self, on: bool) -> Self {
        self.flag(IFF_UP, on)
    }

    /// Promiscuous or not.
    #[must_use]
    pub fn promisc(self, on: bool) -> Self {
        self.flag(IFF_PROMISC, on)
    }

    /// All multicast frames are taken in, or those alone that somebody listens for.
    #[must_use]
    pub fn allmulti(self, on: bool) -> Self {
        self.flag(IFF_ALLMULTI, on)
    }

    /// A new name; only a link found by its index can be renamed.
    #[must_use]
    pub fn rename(self, name: &'a str) -> Self {
        Self { new_name: Some(name), ..self }
    }

    /// The MTU in bytes.
    #[must_use]
    pub fn mtu(self, mtu: u32) -> Self {
        Self { mtu: Some(mtu), ..self }
    }

    /// How many packets may wait to be sent.
    #[must_use]
    pub fn tx_queue_len(self, packets: u32) -> Self {
        Self { tx_queue_len: Some(packets), ..self }
    }

    /// The link-layer address.
    #[must_use]
    pub fn mac(self, mac: Mac) -> Self {
        Self { mac: Some(mac), ..self }
    }

    /// Index of the master; 0 frees it from one.
    #[must_use]
    pub fn master(self, index: u32) -> Self {
        Self { master: Some(index), ..self }
    }

    /// Words for people, shown by `ip link`.
    #[must_use]
    pub fn alias(self, words: &'a str) -> Self {
        Self { alias: Some(words), ..self }
    }

    /// As a bridge port: frames may leave where they came in.
    #[must_use]
    pub fn hairpin(self, on: bool) -> Self {
        Self { hairpin: Some(on), ..self }
    }

    /// As a bridge port: no frames to other isolated ports.
    #[must_use]
    pub fn isolated(self, on: bool) -> Self {
        Self { isolated: Some(on), ..self }
    }

    /// Announce the IPv4 addresses by ARP when the link comes up.
    #[must_use]
    pub fn arp_notify(self, on: bool) -> Self {
        Self { arp_notify: Some(on), ..self }
    }

    /// Let 127.0.0.0/8 be routed through this link.
    #[must_use]
    pub fn route_localnet(self, on: bool) -> Self {
        Self { route_localnet: Some(on), ..self }
    }

    /// No IPv6 link-local address is made when the link comes up.
    #[must_use]
    pub fn no_link_local(self) -> Self {
        Self { no_link_local: true, ..self }
    }

    /// Moves it into another network namespace, where it is down and has no addresses. With a new name of a pattern such
    /// as `eth%d` the kernel numbers it there.
    #[must_use]
    pub fn netns(self, netns: BorrowedFd<'a>) -> Self {
        Self { netns: Some(netns), ..self }
    }

    fn object(&self) -> String {
        self.name.map_or_else(|| format!("link number {}", self.index), |name| format!("link {name}"))
    }

    fn write_families(&self, m: &mut Message<'_>) {
        let ipv4 =
            [(IPV4_DEVCONF_ARP_NOTIFY, self.arp_notify), (IPV4_DEVCONF_ROUTE_LOCALNET, self.route_localnet)];
        if !self.no_link_local && ipv4.iter().all(|(_, on)| on.is_none()) {
            return;
        }
        m.nest(IFLA_AF_SPEC, |families| {
            if ipv4.iter().any(|(_, on)| on.is_some()) {
                families.nest(u16::from(AF_INET), |family| {
                    family.nest(IFLA_INET_CONF, |conf| {
                        for (key, on) in ipv4.iter().filter_map(|(key, on)| on.map(|on| (*key, on))) {
                            conf.u32(key, u32::from(on));
                        }
                    });
                });
            }
            if self.no_link_local {
                families.nest(u16::from(AF_INET6), |family| {
                    family.u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
                });
            }
        });
    }
}

impl Batch {
    /// Makes a link; one of that name is an error (EEXIST).
    pub fn add_link(&mut self, link: &NewLink<'_>) {
        let up = if link.up { IFF_UP } else { 0 };
        let object = format!("{} link {}", link.kind.name(), link.name);
        let header = header(AF_UNSPEC, 0, up, up);
        let echo = if link.told { NLM_F_ECHO } else { 0 };
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL | echo;
        let mut m = self.message(RTM_NEWLINK, flags, &header, "create", object);
        common(&mut m, link.name, link.mac, link.mtu, link.netns);
        if let Some(packets) = link.tx_queue_len {
            m.u32(IFLA_TXQLEN, packets);
        }
        if let Some(master) = link.master {
            m.u32(IFLA_MASTER, master);
        }
        if let Some(parent) = link.kind.parent() {
            m.u32(IFLA_LINK, parent);
        }
        m.nest(IFLA_LINKINFO, |info| link.kind.write(info));
    }

    /// Changes a link.
    pub fn set_link(&mut self, set: &SetLink<'_>) {
        // Only RTM_NEWLINK (without NLM_F_CREATE) reaches a bridge port, and only it takes a name for that.
        let port = set.hairpin.is_some() || set.isolated.is_some();
        let kind = if port { RTM_NEWLINK } else { RTM_SETLINK };
        let header = header(AF_UNSPEC, set.index, set.flags, set.change);
        let mut m = self.message(kind, NLM_F_ACK, &header, "change", set.object());
        if let Some(name) = set.new_name.or(set.name) {
            m.text(IFLA_IFNAME, name);
        }
        if let Some(netns) = set.netns {
            m.u32(IFLA_NET_NS_FD, netns.as_raw_fd().cast_unsigned());
        }
        if let Some(mtu) = set.mtu {
            m.u32(IFLA_MTU, mtu);
        }
        if let Some(packets) = set.tx_queue_len {
            m.u32(IFLA_TXQLEN, packets);
        }
        if let Some(mac) = set.mac {
            m.bytes(IFLA_ADDRESS, &mac.0);
        }
        if let Some(master) = set.master {
            m.u32(IFLA_MASTER, master);
        }
        if let Some(words) = set.alias {
            m.bytes(IFLA_IFALIAS, words.as_bytes());
        }
        set.write_families(&mut m);
        if port {
            m.nest(IFLA_LINKINFO, |info| {
                info.text(IFLA_INFO_SLAVE_KIND, "bridge").nest(IFLA_INFO_SLAVE_DATA, |port| {
                    for (key, on) in [(IFLA_BRPORT_MODE, set.hairpin), (IFLA_BRPORT_ISOLATED, set.isolated)] {
                        if let Some(on) = on {
                            port.u8(key, u8::from(on));
                        }
                    }
                });
            });
        }
    }

    /// Deletes a link by its name.
    pub fn delete_link(&mut self, name: &str) {
        let object = format!("link {name}");
        self.message(RTM_DELLINK, NLM_F_ACK, &header(AF_UNSPEC, 0, 0, 0), "delete", object)
            .text(IFLA_IFNAME, name);
    }
}
