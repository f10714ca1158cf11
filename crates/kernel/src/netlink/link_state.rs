use super::link::{IpvlanMode, MacvlanMode, header};
use super::net::Mac;
use super::socket::Socket;
use super::uapi::{
    AF_INET, AF_UNSPEC, IF_OPER_UNKNOWN, IF_OPER_UP, IFF_ALLMULTI, IFF_PROMISC, IFF_RUNNING, IFF_UP,
    IFLA_ADDRESS, IFLA_AF_SPEC, IFLA_BRPORT_ISOLATED, IFLA_BRPORT_MODE, IFLA_EXT_MASK, IFLA_IFALIAS,
    IFLA_IFNAME, IFLA_INET_CONF, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_INFO_SLAVE_DATA, IFLA_IPVLAN_MODE,
    IFLA_LINK, IFLA_LINK_NETNSID, IFLA_LINKINFO, IFLA_MACVLAN_MODE, IFLA_MASTER, IFLA_MTU, IFLA_OPERSTATE,
    IFLA_TXQLEN, IFLA_VLAN_ID, IFLA_VRF_TABLE, IPV4_DEVCONF_ROUTE_LOCALNET, NLM_F_DUMP,
    RTEXT_FILTER_SKIP_STATS, RTM_GETLINK, RTM_NEWLINK,
};
use super::wire::{Attributes, Batch, Message, Received, read_u16, read_u32};
use crate::Result;

/// A link as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// "veth", "bridge", ...; empty for physical links and loopback.
    pub kind: String,
    /// Its link-layer address, if it has one of six bytes.
    pub mac: Option<Mac>,
    /// The MTU in bytes.
    pub mtu: u32,
    /// How many packets may wait to be sent.
    pub tx_queue_len: u32,
    /// `IFF_*`.
    pub flags: u32,
    /// Index of its bridge or other master.
    pub master: Option<u32>,
    /// Index of its peer or parent (in the namespace `peer_netns`, if that is given).
    pub peer: Option<u32>,
    /// The local id of the peer's namespace, when it is another one.
    pub peer_netns: Option<u32>,
    /// Words for people.
    pub alias: Option<String>,
    /// `IF_OPER_*` (RFC 2863): 6 is up.
    pub operstate: u8,
    /// Packets from and to 127.0.0.0/8 may pass.
    pub route_localnet: bool,
    /// As a bridge port: hairpin mode.
    pub hairpin: bool,
    /// As a bridge port: isolated.
    pub isolated: bool,
    /// What its kind was made with.
    pub detail: Option<Detail>,
}

/// What tells a link from others of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Of a macvlan.
    Macvlan(MacvlanMode),
    /// Of an ipvlan.
    Ipvlan(IpvlanMode),
    /// The tag's number.
    Vlan(u16),
    /// The routing table.
    Vrf(u32),
}

impl Detail {
    fn read(kind: &str, data: Attributes<'_>) -> Option<Self> {
        let half = |key| data.find(key).and_then(|a| read_u16(a.value, 0));
        let whole = |key| data.find(key).and_then(|a| a.u32());
        match kind {
            "macvlan" => whole(IFLA_MACVLAN_MODE).and_then(MacvlanMode::of).map(Self::Macvlan),
            "ipvlan" => half(IFLA_IPVLAN_MODE).and_then(IpvlanMode::of).map(Self::Ipvlan),
            "vlan" => half(IFLA_VLAN_ID).map(Self::Vlan),
            "vrf" => whole(IFLA_VRF_TABLE).map(Self::Vrf),
            _ => None,
        }
    }
}

impl Link {
    /// Administratively up.
    pub fn is_up(&self) -> bool {
        self.flags & IFF_UP != 0
    }

    /// Up, and connected to something.
    pub fn is_running(&self) -> bool {
        self.flags & IFF_RUNNING != 0
    }

    /// Frames pass for certain: a carrier was seen (`operstate` is up). A port of a bridge forwards from then on.
    pub fn is_connected(&self) -> bool {
        self.operstate == IF_OPER_UP
    }

    /// Promiscuous by an operator's wish (`IFF_PROMISC`).
    pub fn is_promisc(&self) -> bool {
        self.flags & IFF_PROMISC != 0
    }

    /// Takes in all multicast frames by an operator's wish (`IFF_ALLMULTI`).
    pub fn is_allmulti(&self) -> bool {
        self.flags & IFF_ALLMULTI != 0
    }

    /// Reads an `RTM_NEWLINK` message; none for any other, or one without a name.
    pub fn read(message: Received<'_>) -> Option<Self> {
        if message.kind != RTM_NEWLINK {
            return None;
        }
        let mut link = Self {
            index: read_u32(message.body, 4)?,
            name: String::new(),
            kind: String::new(),
            mac: None,
            mtu: 0,
            tx_queue_len: 0,
            flags: read_u32(message.body, 8)?,
            master: None,
            peer: None,
            peer_netns: None,
            alias: None,
            operstate: IF_OPER_UNKNOWN,
            route_localnet: false,
            hairpin: false,
            isolated: false,
            detail: None,
        };
        for attribute in Attributes::after(message.body, 16) {
            match attribute.kind {
                IFLA_IFNAME => link.name = attribute.text(),
                IFLA_ADDRESS => link.mac = attribute.value.try_into().ok().map(Mac),
                IFLA_MTU => link.mtu = attribute.u32()?,
                IFLA_TXQLEN => link.tx_queue_len = attribute.u32()?,
                IFLA_MASTER => link.master = attribute.u32(),
                IFLA_LINK => link.peer = attribute.u32(),
                IFLA_LINK_NETNSID => link.peer_netns = attribute.u32(),
                IFLA_IFALIAS => link.alias = Some(attribute.text()),
                IFLA_OPERSTATE => link.operstate = attribute.u8().unwrap_or(IF_OPER_UNKNOWN),
                IFLA_LINKINFO => link.read_info(attribute.nested()),
                IFLA_AF_SPEC => link.route_localnet = routes_localnet(attribute.nested()),
                _ => {}
            }
        }
        (!link.name.is_empty()).then_some(link)
    }

    fn read_info(&mut self, info: Attributes<'_>) {
        self.kind = info.find(IFLA_INFO_KIND).map(|a| a.text()).unwrap_or_default();
        let data = info.find(IFLA_INFO_DATA).map(|data| data.nested());
        self.detail = data.and_then(|data| Detail::read(&self.kind, data));
        if let Some(port) = info.find(IFLA_INFO_SLAVE_DATA) {
            let on = |key| port.nested().find(key).and_then(|a| a.u8()) == Some(1);
            self.hairpin = on(IFLA_BRPORT_MODE);
            self.isolated = on(IFLA_BRPORT_ISOLATED);
        }
    }
}

/// Read in an `IFLA_AF_SPEC`, where the IPv4 settings are 32 bits each, counted from 1.
fn routes_localnet(families: Attributes<'_>) -> bool {
    let conf = families.find(u16::from(AF_INET)).and_then(|ipv4| ipv4.nested().find(IFLA_INET_CONF));
    let at = usize::from(IPV4_DEVCONF_ROUTE_LOCALNET - 1) * 4;
    conf.and_then(|conf| read_u32(conf.value, at)).is_some_and(|on| on != 0)
}

impl Batch {
    /// Asks for the link called `name`, which [`Link::read`] reads from the answer.
    pub fn ask_link(&mut self, name: &str) {
        self.ask_for_link(0, format!("link {name}")).text(IFLA_IFNAME, name);
    }

    fn ask_for_link(&mut self, index: u32, object: String) -> Message<'_> {
        without_counters(self.question(RTM_GETLINK, &header(AF_UNSPEC, index, 0, 0), "find", object))
    }
}

/// The kernel would have to add them up.
fn without_counters(mut message: Message<'_>) -> Message<'_> {
    message.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    message
}

/// The link called `name` in the socket's namespace.
pub fn link_by_name(socket: &mut Socket, name: &str) -> Result<Option<Link>> {
    let mut batch = Batch::new();
    batch.ask_link(name);
    one(socket, &batch)
}

/// The link with this index in the socket's namespace.
pub fn link_by_index(socket: &mut Socket, index: u32) -> Result<Option<Link>> {
    let mut batch = Batch::new();
    batch.ask_for_link(index, format!("link number {index}"));
    one(socket, &batch)
}

/// All links of the socket's namespace.
pub fn links(socket: &mut Socket) -> Result<Vec<Link>> {
    let mut batch = Batch::new();
    drop(without_counters(batch.message(
        RTM_GETLINK,
        NLM_F_DUMP,
        &header(AF_UNSPEC, 0, 0, 0),
        "list",
        "links",
    )));
    socket.dump(&batch, Link::read)
}

fn one(socket: &mut Socket, batch: &Batch) -> Result<Option<Link>> {
    let mut found = None;
    let outcome = socket.each(batch, |message| found = Link::read(message).or(found.take()));
    match outcome {
        Err(e) if e.errno() == Some(rustix::io::Errno::NODEV) => Ok(None),
        outcome => outcome.map(|()| found),
    }
}
