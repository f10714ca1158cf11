use std::collections::BTreeSet;
use std::net::IpAddr;

use super::net::IpNet;
use super::socket::Socket;
use super::uapi::{
    AF_INET, AF_INET6, AF_UNSPEC, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL,
    NLM_F_REPLACE, RT_SCOPE_LINK, RT_SCOPE_UNIVERSE, RT_TABLE_MAIN, RTA_DST, RTA_GATEWAY, RTA_METRICS,
    RTA_OIF, RTA_PREFSRC, RTA_PRIORITY, RTA_TABLE, RTAX_ADVMSS, RTAX_MTU, RTM_GETROUTE, RTM_NEWROUTE,
    RTN_UNICAST, RTNH_F_ONLINK, RTPROT_BOOT, RTPROT_RA, RTPROT_UNSPEC,
};
use super::wire::{Attributes, Batch, Message, Received};
use crate::Result;

/// A unicast route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to: 0.0.0.0/0 or ::/0 is the default route.
    pub destination: IpNet,
    /// The next hop; none for a network on the link.
    pub gateway: Option<IpAddr>,
    /// Index of the link it leaves through.
    pub link: Option<u32>,
    /// The source address it prefers.
    pub source: Option<IpAddr>,
    /// The routing table; main if none.
    pub table: Option<u32>,
    /// `RT_SCOPE_*`; universe with a gateway and link without one, if none.
    pub scope: Option<u8>,
    /// Its metric.
    pub priority: Option<u32>,
    /// The path MTU in bytes.
    pub mtu: Option<u32>,
    /// The TCP segment size it advertises.
    pub advmss: Option<u32>,
    /// The gateway is taken to be on the link, whatever the addresses say.
    pub onlink: bool,
}

impl Route {
    /// A route of the main table to `destination`, with nothing else said.
    pub fn to(destination: IpNet) -> Self {
        Self {
            destination: destination.network(),
            gateway: None,
            link: None,
            source: None,
            table: None,
            scope: None,
            priority: None,
            mtu: None,
            advmss: None,
            onlink: false,
        }
    }

    pub(super) fn header(&self, protocol: u8) -> [u8; 12] {
        let family = if self.destination.is_ipv4() { AF_INET } else { AF_INET6 };
        let natural = if self.gateway.is_none() && self.destination.is_ipv4() {
            RT_SCOPE_LINK
        } else {
            RT_SCOPE_UNIVERSE
        };
        // Tables above 255 travel in RTA_TABLE alone; that attribute wins anyway.
        let table = u8::try_from(self.table.unwrap_or(RT_TABLE_MAIN)).unwrap_or(0);
        let flags = if self.onlink { RTNH_F_ONLINK } else { 0 };
        let [f0, f1, f2, f3] = flags.to_ne_bytes();
        let scope = self.scope.unwrap_or(natural);
        [family, self.destination.prefix(), 0, 0, table, protocol, scope, RTN_UNICAST, f0, f1, f2, f3]
    }

    pub(super) fn write(&self, m: &mut Message<'_>) {
        if self.destination.prefix() > 0 {
            put(m, RTA_DST, self.destination.network().address());
        }
        if let Some(gateway) = self.gateway {
            put(m, RTA_GATEWAY, gateway);
        }
        if let Some(source) = self.source {
            put(m, RTA_PREFSRC, source);
        }
        for (kind, value) in [(RTA_OIF, self.link), (RTA_TABLE, self.table), (RTA_PRIORITY, self.priority)] {
            if let Some(value) = value {
                m.u32(kind, value);
            }
        }
        if self.mtu.is_some() || self.advmss.is_some() {
            m.nest(RTA_METRICS, |metrics| {
                for (kind, value) in [(RTAX_MTU, self.mtu), (RTAX_ADVMSS, self.advmss)] {
                    if let Some(value) = value {
                        metrics.u32(kind, value);
                    }
                }
            });
        }
    }

    /// Reads an `RTM_NEWROUTE` message of IPv4 or IPv6; none for any other.
    pub fn read(message: Received<'_>) -> Option<Self> {
        if message.kind != RTM_NEWROUTE {
            return None;
        }
        Self::read_any(message)
    }

    /// Reads a message about a route, whatever it says became of it.
    pub(super) fn read_any(message: Received<'_>) -> Option<Self> {
        let attributes = Attributes::after(message.body, 12);
        let number = |kind| attributes.find(kind).and_then(|a| a.u32());
        let metric = |kind| attributes.find(RTA_METRICS)?.nested().find(kind)?.u32();
        let any = match *message.body.first()? {
            AF_INET => IpAddr::from([0u8; 4]),
            AF_INET6 => IpAddr::from([0u8; 16]),
            _ => return None,
        };
        let destination = attributes.find(RTA_DST).and_then(|a| a.address()).unwrap_or(any);
        Some(Self {
            destination: IpNet::new(destination, *message.body.get(1)?)?,
            gateway: attributes.find(RTA_GATEWAY).and_then(|a| a.address()),
            link: number(RTA_OIF),
            source: attributes.find(RTA_PREFSRC).and_then(|a| a.address()),
            table: number(RTA_TABLE).or_else(|| message.body.get(4).map(|t| u32::from(*t))),
            scope: message.body.get(6).copied(),
            priority: number(RTA_PRIORITY),
            mtu: metric(RTAX_MTU),
            advmss: metric(RTAX_ADVMSS),
            onlink: message
                .body
                .get(8..12)
                .and_then(|b| b.try_into().ok())
                .map(u32::from_ne_bytes)
                .unwrap_or(0)
                & RTNH_F_ONLINK
                != 0,
        })
    }
}

pub(super) fn put(m: &mut Message<'_>, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => m.bytes(kind, &v4.octets()),
        IpAddr::V6(v6) => m.bytes(kind, &v6.octets()),
    };
}

impl Batch {
    /// Adds a route; the same one again is an error (EEXIST).
    pub fn add_route(&mut self, route: &Route) {
        self.new_route(route, NLM_F_CREATE | NLM_F_EXCL, "add");
    }

    /// Adds a route, or replaces the one with the same destination and metric.
    pub fn replace_route(&mut self, route: &Route) {
        self.new_route(route, NLM_F_CREATE | NLM_F_REPLACE, "replace");
    }

    /// Adds a route behind those with the same destination.
    pub fn append_route(&mut self, route: &Route) {
        self.new_route(route, NLM_F_CREATE | NLM_F_APPEND, "append");
    }

    fn new_route(&mut self, route: &Route, flags: u16, verb: &'static str) {
        self.new_route_of(route, RTPROT_BOOT, flags, verb);
    }

    pub(super) fn new_route_of(&mut self, route: &Route, protocol: u8, flags: u16, verb: &'static str) {
        let object = describe(route);
        let header = route.header(protocol);
        route.write(&mut self.message(RTM_NEWROUTE, NLM_F_ACK | flags, &header, verb, object));
    }

    /// Asks for the route that a packet to `destination` would take, which [`Route::read`] reads from the answer.
    pub fn ask_route(&mut self, destination: IpAddr) {
        let [family, prefix, ..] = Route::to(IpNet::host(destination)).header(RTPROT_UNSPEC);
        let header = [family, prefix, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let object = format!("a route to {destination}");
        put(&mut self.question(RTM_GETROUTE, &header, "find", object), RTA_DST, destination);
    }

    /// Deletes the first route that fits, whoever made it: somebody, or the kernel for an address.
    pub fn delete_route(&mut self, route: &Route) {
        self.delete_route_of(route, RTPROT_UNSPEC);
    }
}

pub(super) fn describe(route: &Route) -> String {
    match route.gateway {
        Some(gateway) => format!("route to {} via {gateway}", route.destination),
        None => format!("route to {}", route.destination),
    }
}

/// All routes of all tables in the socket's namespace.
pub fn routes(socket: &mut Socket) -> Result<Vec<Route>> {
    let mut batch = Batch::new();
    batch.message(RTM_GETROUTE, NLM_F_DUMP, &[AF_UNSPEC; 12], "list", "routes");
    socket.dump(&batch, Route::read)
}

/// Indices of the links over which a router's advertisement gave the socket's namespace a default route.
pub fn advertised_defaults(socket: &mut Socket) -> Result<BTreeSet<u32>> {
    let mut batch = Batch::new();
    let mut header = [0; 12];
    header[0] = AF_INET6;
    batch.message(RTM_GETROUTE, NLM_F_DUMP, &header, "list", "routes");
    let links = socket.dump(&batch, |message| {
        let is_advertised = message.body.get(5) == Some(&RTPROT_RA);
        Route::read(message).filter(|route| is_advertised && route.destination.prefix() == 0)?.link
    })?;
    Ok(links.into_iter().collect())
}

/// The route a packet to `destination` would take.
pub fn route_to(socket: &mut Socket, destination: IpAddr) -> Result<Option<Route>> {
    let mut batch = Batch::new();
    batch.ask_route(destination);
    let mut found = None;
    socket.each(&batch, |message| found = Route::read(message).or(found.take()))?;
    Ok(found)
}
