use rustix::io::Errno;

use super::route::{Route, describe};
use super::socket::Socket;
use super::uapi::{
    AF_UNSPEC, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, RT_TABLE_MAIN, RTM_DELROUTE, RTM_GETROUTE,
    RTM_NEWROUTE, RTN_UNICAST,
};
use super::wire::{Batch, Received};
use crate::Result;

/// A route of any kind, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedRoute {
    /// Who made it (`RTPROT_*`; rtnetlink(7)): 2 is the kernel, 3 and 4 are people, those above are routing daemons' own.
    pub protocol: u8,
    /// What becomes of packets (`RTN_*`): 1 is a way, others are black holes, this machine itself and so on.
    pub kind: u8,
    /// The route. One of many next hops has no gateway and no link here.
    pub route: Route,
}

impl OwnedRoute {
    /// Reads a message that says that a route is there, or is there no longer; none for any other.
    pub fn read(message: Received<'_>) -> Option<Self> {
        if !matches!(message.kind, RTM_NEWROUTE | RTM_DELROUTE) {
            return None;
        }
        let (protocol, kind) = (*message.body.get(5)?, *message.body.get(7)?);
        Some(Self { protocol, kind, route: Route::read_any(message)? })
    }

    /// Whether it is a way, in the main table, that the program with this number has made.
    pub fn is_way_of(&self, protocol: u8) -> bool {
        self.protocol == protocol && self.kind == RTN_UNICAST && self.is_main()
    }

    /// Whether it is in the main table.
    pub fn is_main(&self) -> bool {
        self.route.table.is_none_or(|table| table == RT_TABLE_MAIN)
    }
}

impl Batch {
    /// [`add_route`](Self::add_route) in the name of a program: one to the same destination with the same metric, whoever made it, is an
    /// error (EEXIST).
    pub fn add_route_of(&mut self, route: &Route, protocol: u8) {
        self.new_route_of(route, protocol, NLM_F_CREATE | NLM_F_EXCL, "add");
    }

    /// Deletes the first route that fits and that this program has made (0: whoever made it); there is none is an error (ESRCH).
    pub fn delete_route_of(&mut self, route: &Route, protocol: u8) {
        let object = describe(route);
        let header = route.header(protocol);
        route.write(&mut self.message(RTM_DELROUTE, NLM_F_ACK, &header, "delete", object));
    }
}

/// The routes of all tables in the socket's namespace that `keep` keeps: others take no memory, of which a router's could be many.
pub fn owned_routes(
    socket: &mut Socket,
    mut keep: impl FnMut(&OwnedRoute) -> bool,
) -> Result<Vec<OwnedRoute>> {
    let mut batch = Batch::new();
    batch.message(RTM_GETROUTE, NLM_F_DUMP, &[AF_UNSPEC; 12], "list", "routes");
    socket.dump(&batch, |message| OwnedRoute::read(message).filter(&mut keep))
}

/// Takes away all ways of the main table that the program with this number has made, in the socket's namespace; how many there were. One
/// that is gone meanwhile is taken away.
///
/// # Errors
/// Routes cannot be listed, or one cannot be deleted: the others are tried all the same, and the first error is told.
pub fn delete_routes_of(socket: &mut Socket, protocol: u8) -> Result<usize> {
    let ours = owned_routes(socket, |one| one.is_way_of(protocol))?;
    let mut first = Ok(());
    for one in &ours {
        let mut batch = Batch::new();
        batch.delete_route_of(&one.route, protocol);
        let outcome = match socket.run(&batch) {
            Err(e) if e.errno() == Some(Errno::SRCH) => Ok(()),
            outcome => outcome,
        };
        first = first.and(outcome);
    }
    first.map(|()| ours.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::in_new_netns;
    use crate::netlink::{Address, IpNet, Kind, NewLink, Protocol, SetLink, link_by_name};

    const OURS: u8 = 83;

    /// A bridge with these networks; its number.
    fn bridge(socket: &mut Socket) -> Result<u32> {
        let mut batch = Batch::new();
        let kind = Kind::Bridge { mcast_snooping: None, vlan_filtering: None };
        batch.set_link(&SetLink::named("lo").up(true));
        batch.add_link(&NewLink { up: true, ..NewLink::new("br0", kind) });
        socket.run(&batch)?;
        let link = link_by_name(socket, "br0")?.unwrap().index;
        let mut batch = Batch::new();
        for net in ["192.0.2.1/24", "2001:db8::1/64"] {
            batch.add_address(&Address::new(link, net.parse().unwrap()));
        }
        socket.run(&batch)?;
        Ok(link)
    }

    fn to(destination: &str, gateway: &str) -> Route {
        Route { gateway: Some(gateway.parse().unwrap()), ..Route::to(destination.parse().unwrap()) }
    }

    fn run(socket: &mut Socket, make: impl FnOnce(&mut Batch)) -> Result<()> {
        let mut batch = Batch::new();
        make(&mut batch);
        socket.run(&batch)
    }

    fn there(socket: &mut Socket, net: &str) -> Vec<(u8, Option<u32>)> {
        let net: IpNet = net.parse().unwrap();
        let all = owned_routes(socket, |one| one.route.destination == net).unwrap();
        all.into_iter().map(|one| (one.protocol, one.route.link)).collect()
    }

    #[test]
    fn routes_are_of_who_made_them_and_deleted_as_theirs_alone() {
        in_new_netns(|| {
            let mut socket = Socket::open(Protocol::Route)?;
            let link = Some(bridge(&mut socket)?);
            let (four, six) = (to("10.64.1.0/24", "192.0.2.7"), to("fd64:1::/64", "2001:db8::7"));
            let others = to("10.64.2.0/24", "192.0.2.7");
            run(&mut socket, |batch| {
                batch.add_route_of(&four, OURS);
                batch.add_route_of(&six, OURS);
                batch.add_route(&others);
            })?;
            assert_eq!(there(&mut socket, "10.64.1.0/24"), [(OURS, link)], "the kernel has found the link");
            assert_eq!(there(&mut socket, "fd64:1::/64"), [(OURS, link)]);
            assert_eq!(there(&mut socket, "10.64.2.0/24"), [(3, link)]);
            // A second to the same destination is refused, whoever makes it.
            for (route, protocol) in [(&four, OURS), (&four, 4), (&others, OURS)] {
                let refused = run(&mut socket, |batch| batch.add_route_of(route, protocol)).unwrap_err();
                assert_eq!(refused.errno(), Some(Errno::EXIST), "{refused}");
            }
            // That of another is not found as ours.
            let refused = run(&mut socket, |batch| batch.delete_route_of(&others, OURS)).unwrap_err();
            assert_eq!(refused.errno(), Some(Errno::SRCH), "{refused}");
            assert!(refused.to_string().starts_with("cannot delete route to 10.64.2.0/24 via 192.0.2.7"));
            // In another table it is none of those.
            run(&mut socket, |batch| batch.add_route_of(&Route { table: Some(77), ..four.clone() }, OURS))?;
            assert_eq!(delete_routes_of(&mut socket, OURS)?, 2);
            assert_eq!(delete_routes_of(&mut socket, OURS)?, 0);
            assert_eq!(there(&mut socket, "10.64.1.0/24").len(), 1);
            assert_eq!(there(&mut socket, "fd64:1::/64"), []);
            assert_eq!(there(&mut socket, "10.64.2.0/24"), [(3, link)]);
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn a_route_is_read_back_so_that_it_can_be_deleted() {
        in_new_netns(|| {
            let mut socket = Socket::open(Protocol::Route)?;
            bridge(&mut socket)?;
            // Two of ours to the same destination, which metrics alone tell apart.
            for priority in [None, Some(5), Some(9)] {
                run(&mut socket, |batch| {
                    batch.add_route_of(&Route { priority, ..to("10.64.1.0/24", "192.0.2.7") }, OURS);
                    batch.add_route_of(&Route { priority, ..to("fd64:1::/64", "2001:db8::7") }, OURS);
                })?;
            }
            let ours = owned_routes(&mut socket, |one| one.is_way_of(OURS))?;
            assert_eq!(ours.len(), 6);
            let second = ours.iter().filter(|one| one.route.priority == Some(5));
            second.for_each(|one| {
                run(&mut socket_again(), |batch| batch.delete_route_of(&one.route, OURS)).unwrap()
            });
            let left = owned_routes(&mut socket, |one| one.is_way_of(OURS))?;
            assert!(left.len() == 4 && left.iter().all(|one| one.route.priority != Some(5)), "{left:?}");
            assert_eq!(delete_routes_of(&mut socket, OURS)?, 4);
            Ok(())
        })
        .unwrap();
    }

    fn socket_again() -> Socket {
        Socket::open(Protocol::Route).unwrap()
    }
}
