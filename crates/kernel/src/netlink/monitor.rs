use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::changes;
use super::net::IpNet;
use super::owned::OwnedRoute;
use super::uapi::{
    IFA_ADDRESS, IFA_LOCAL, RTM_DELADDR, RTM_DELLINK, RTM_DELROUTE, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWROUTE,
};
use super::wire::{Attributes, Messages, Received, read_u32};
use crate::{Error, Result};

/// What is told of one link, the largest of these, has a few kilobytes.
const RECEIVE: usize = 32 * 1024;

/// Something of a network namespace that has changed: it is there now, is another, or is there no longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The link of this number.
    Link(u32),
    /// An address of a link.
    Address {
        /// The link's number.
        link: u32,
        /// The address.
        net: IpNet,
    },
    /// A route. Of those that go with their link the kernel tells nothing (IPv4).
    Route(Box<OwnedRoute>),
    /// There was more than the socket could hold: it may have been anything.
    Unknown,
}

impl Change {
    /// Reads what a message tells; none of what is not listened for.
    pub fn read(message: Received<'_>) -> Option<Self> {
        match message.kind {
            RTM_NEWLINK | RTM_DELLINK => read_u32(message.body, 4).map(Self::Link),
            RTM_NEWADDR | RTM_DELADDR => {
                let attributes = Attributes::after(message.body, 8);
                let address =
                    attributes.find(IFA_LOCAL).or_else(|| attributes.find(IFA_ADDRESS))?.address()?;
                let net = IpNet::new(address, *message.body.get(1)?)?;
                Some(Self::Address { link: read_u32(message.body, 4)?, net })
            }
            RTM_NEWROUTE | RTM_DELROUTE => OwnedRoute::read(message).map(|one| Self::Route(Box::new(one))),
            _ => None,
        }
    }
}

/// Tells which links, addresses and routes of a network namespace change.
#[derive(Debug)]
pub struct Monitor {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Listens in the caller's network namespace from now on.
    pub fn listen() -> Result<Self> {
        Ok(Self { fd: changes::socket()?, buffer: vec![0; RECEIVE] })
    }

    /// Tells what has changed since the last call, also by the caller itself. Does not wait: poll the descriptor for that.
    pub fn each(&mut self, mut tell: impl FnMut(Change)) -> Result<()> {
        loop {
            let received = rustix::io::retry_on_intr(|| {
                rustix::net::recv(&self.fd, self.buffer.as_mut_slice(), RecvFlags::TRUNC)
            });
            match received {
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::NOBUFS) => tell(Change::Unknown),
                Err(e) => return Err(Error::new("receive", "changes of links", e)),
                Ok((_, length)) => match self.buffer.get(..length) {
                    Some(datagram) => Messages::new(datagram).filter_map(Change::read).for_each(&mut tell),
                    None => tell(Change::Unknown),
                },
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::netlink::{
        Address, Batch, Kind, NewLink, Protocol, Route, SetLink, Socket, delete_link, link_by_name,
    };

    fn told(monitor: &mut Monitor) -> Vec<Change> {
        let mut told = Vec::new();
        monitor.each(|change| told.push(change)).unwrap();
        told
    }

    /// What is told of a route to this network: whose it is, and where it leads.
    fn of_routes(told: &[Change], net: IpNet) -> Vec<(u8, Option<u32>)> {
        let route = |change: &Change| match change {
            Change::Route(one) if one.route.destination == net && one.is_main() => {
                Some((one.protocol, one.route.link))
            }
            _ => None,
        };
        told.iter().filter_map(route).collect()
    }

    #[test]
    fn what_changes_is_told_with_whose_it_is() {
        crate::namespace::in_new_netns(|| {
            let mut socket = Socket::open(Protocol::Route)?;
            let mut monitor = Monitor::listen()?;
            assert_eq!(told(&mut monitor), []);
            let mut batch = Batch::new();
            let kind = Kind::Bridge { mcast_snooping: None, vlan_filtering: None };
            batch.add_link(&NewLink { up: true, ..NewLink::new("br0", kind) });
            socket.run(&batch)?;
            let link = link_by_name(&mut socket, "br0")?.unwrap().index;
            assert!(told(&mut monitor).contains(&Change::Link(link)));

            let nets: [IpNet; 2] = ["192.0.2.1/24", "2001:db8::1/64"].map(|net| net.parse().unwrap());
            let mut batch = Batch::new();
            nets.iter().for_each(|net| batch.add_address(&Address::new(link, *net)));
            socket.run(&batch)?;
            // An address of IPv6 is told of by a thread of the kernel, when it has begun to look for others who have it.
            let mut heard = Vec::new();
            let end = Instant::now() + Duration::from_secs(30);
            while !nets.iter().all(|net| heard.contains(&Change::Address { link, net: *net })) {
                assert!(Instant::now() < end, "{heard:?}");
                std::thread::sleep(Duration::from_millis(1));
                heard.extend(told(&mut monitor));
            }

            let ways = [("10.64.1.0/24", "192.0.2.7"), ("fd64:1::/64", "2001:db8::7")];
            for (to, gateway) in ways {
                let net: IpNet = to.parse().unwrap();
                let route = Route { gateway: gateway.parse().ok(), ..Route::to(net) };
                let mut batch = Batch::new();
                batch.add_route_of(&route, 83);
                socket.run(&batch)?;
                assert_eq!(of_routes(&told(&mut monitor), net), [(83, Some(link))]);
                let mut batch = Batch::new();
                batch.delete_route(&route);
                socket.run(&batch)?;
                assert_eq!(of_routes(&told(&mut monitor), net), [(83, Some(link))], "it is gone");
            }

            let mut batch = Batch::new();
            batch.set_link(&SetLink::named("br0").up(false));
            socket.run(&batch)?;
            assert!(told(&mut monitor).contains(&Change::Link(link)));
            delete_link("br0")?;
            assert!(told(&mut monitor).contains(&Change::Link(link)));
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn more_than_it_can_hold_is_told_as_anything() {
        crate::namespace::in_new_netns(|| {
            let mut socket = Socket::open(Protocol::Route)?;
            let mut monitor = Monitor::listen()?;
            rustix::net::sockopt::set_socket_recv_buffer_size(&monitor.fd, 1).unwrap();
            for _ in 0..64 {
                for up in [true, false] {
                    let mut batch = Batch::new();
                    batch.set_link(&SetLink::named("lo").up(up));
                    socket.run(&batch)?;
                }
            }
            let heard = told(&mut monitor);
            assert!(heard.contains(&Change::Unknown), "{heard:?}");
            assert_eq!(told(&mut monitor), []);
            Ok(())
        })
        .unwrap();
    }
}
