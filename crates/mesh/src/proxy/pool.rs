//! Connections to endpoints that wait for the next request.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Network;
use crate::reactor::Socket;

/// An endpoint, and the network from which it is asked.
type Place = (Network, SocketAddr);

#[derive(Debug)]
pub(super) struct Pool {
    idle: RefCell<HashMap<SocketAddr, HashMap<Network, Vec<Idle>>>>,
    /// How many ports of Services have an endpoint: what comes back from one that none has any more is closed.
    live: RefCell<HashMap<SocketAddr, u32>>,
    count: Cell<usize>,
    most: usize,
    in_all: usize,
    age: Duration,
}

#[derive(Debug)]
struct Idle {
    socket: Socket,
    since: Instant,
}

impl Pool {
    /// `most` for each endpoint and network, and `in_all` for all of them, each no longer than `age` without a request.
    pub(super) fn new(most: usize, in_all: usize, age: Duration) -> Self {
        Self { idle: RefCell::default(), live: RefCell::default(), count: Cell::new(0), most, in_all, age }
    }

    /// The one that was used last and is still good.
    pub(super) fn take(&self, (network, address): Place, now: Instant) -> Option<Socket> {
        let mut idle = self.idle.borrow_mut();
        let list = idle.get_mut(&address)?.get_mut(&network)?;
        while let Some(Idle { socket, since }) = list.pop() {
            self.count.set(self.count.get() - 1);
            if !socket.has_news() && now.saturating_duration_since(since) < self.age {
                return Some(socket);
            }
        }
        None
    }

    pub(super) fn put(&self, (network, address): Place, socket: Socket, now: Instant) {
        if self.count.get() >= self.in_all || !self.has(address) || !socket.is_quiet() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let list = idle.entry(address).or_default().entry(network).or_default();
        if list.len() < self.most {
            socket.rest();
            list.push(Idle { socket, since: now });
            self.count.set(self.count.get() + 1);
        }
    }

    /// Closes those that have ended or waited for too long.
    pub(super) fn sweep(&self, now: Instant) {
        self.keep(|_, idle| !idle.socket.has_news() && now.saturating_duration_since(idle.since) < self.age);
    }

    /// Closes those of a network.
    pub(super) fn forget(&self, network: Network) {
        self.keep(|(of, _), _| of != network);
    }

    /// Closes those that no other connection carries, of whose places this is true: what goes over them can be read by others.
    pub(super) fn forget_plain(&self, is_theirs: impl Fn(Network, SocketAddr) -> bool) {
        self.keep(|(network, address), idle| !idle.socket.splices() || !is_theirs(network, address));
    }

    /// Closes those of a network to one endpoint.
    pub(super) fn forget_at(&self, network: Network, address: SocketAddr) {
        let mut idle = self.idle.borrow_mut();
        let Some(networks) = idle.get_mut(&address) else { return };
        let closed = networks.remove(&network).map_or(0, |list| list.len());
        self.count.set(self.count.get() - closed);
        if networks.is_empty() {
            idle.remove(&address);
        }
    }

    fn keep(&self, keeps: impl Fn(Place, &Idle) -> bool) {
        let mut count = 0;
        self.idle.borrow_mut().retain(|address, networks| {
            networks.retain(|network, list| {
                list.retain(|idle| keeps((*network, *address), idle));
                count += list.len();
                !list.is_empty()
            });
            !networks.is_empty()
        });
        self.count.set(count);
    }

    /// Closes all of them, since something has run out that they hold. Gives how many they were.
    pub(super) fn shed(&self) -> usize {
        let idle = std::mem::take(&mut *self.idle.borrow_mut());
        drop(idle);
        self.count.replace(0)
    }

    /// A port of a Service has this endpoint no more. Gives whether none has it now.
    pub(super) fn end(&self, address: SocketAddr) -> bool {
        let mut live = self.live.borrow_mut();
        let Some(ports) = live.get_mut(&address) else { return false };
        *ports -= 1;
        if *ports > 0 {
            return false;
        }
        live.remove(&address);
        if let Some(networks) = self.idle.borrow_mut().remove(&address) {
            self.count.set(self.count.get() - networks.values().map(Vec::len).sum::<usize>());
        }
        true
    }

    /// A port of a Service has this endpoint.
    pub(super) fn begin(&self, address: SocketAddr) {
        *self.live.borrow_mut().entry(address).or_default() += 1;
    }

    /// Whether a port of a Service has this endpoint.
    pub(super) fn has(&self, address: SocketAddr) -> bool {
        self.live.borrow().contains_key(&address)
    }

    pub(super) fn len(&self) -> usize {
        self.count.get()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::reactor::Reactor;

    const AGE: Duration = Duration::from_secs(60);

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    const HERE: Network = Network(0);

    /// Puts so many connections to it into the pool, and gives the other ends.
    fn fill(pool: &Pool, reactor: &Reactor, last: u8, count: usize) -> Vec<UnixStream> {
        fill_of(HERE, pool, reactor, last, count)
    }

    fn fill_of(network: Network, pool: &Pool, reactor: &Reactor, last: u8, count: usize) -> Vec<UnixStream> {
        let one = || {
            let (ours, theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            pool.put((network, address(last)), reactor.socket(ours.into()).unwrap(), reactor.now());
            theirs
        };
        (0..count).map(|_| one()).collect()
    }

    #[test]
    fn an_endpoint_of_two_services_stays_while_one_has_it() {
        let (pool, reactor) = (Pool::new(8, 100, AGE), Reactor::new().unwrap());
        let _none = fill(&pool, &reactor, 1, 1);
        assert_eq!(pool.len(), 0, "nobody has it");
        pool.begin(address(1));
        pool.begin(address(1));
        let _two = fill(&pool, &reactor, 1, 2);
        assert!(!pool.end(address(1)) && pool.has(address(1)));
        assert_eq!(pool.len(), 2);
        let _third = fill(&pool, &reactor, 1, 1);
        assert_eq!(pool.len(), 3);
        assert!(pool.end(address(1)) && !pool.has(address(1)));
        let _none = fill(&pool, &reactor, 1, 1);
        assert_eq!((pool.len(), pool.live.borrow().len()), (0, 0));
        // More ends than beginnings change nothing.
        assert!(!pool.end(address(1)));
        pool.begin(address(1));
        let _one = fill(&pool, &reactor, 1, 1);
        assert!(pool.take((HERE, address(1)), reactor.now()).is_some());
    }

    #[test]
    fn what_others_can_read_is_closed_where_that_is_wanted() {
        let (pool, reactor) = (Pool::new(8, 100, AGE), Reactor::new().unwrap());
        (1..=2).for_each(|last| pool.begin(address(last)));
        let mut theirs = fill_of(Network(7), &pool, &reactor, 1, 2);
        theirs.extend(fill_of(Network(8), &pool, &reactor, 1, 1));
        theirs.extend(fill_of(Network(7), &pool, &reactor, 2, 1));
        pool.forget_plain(|network, at| (network, at) == (Network(7), address(1)));
        assert_eq!(pool.len(), 2);
        assert!(pool.take((Network(7), address(1)), reactor.now()).is_none());
        assert!(pool.take((Network(8), address(1)), reactor.now()).is_some());
        assert!(pool.take((Network(7), address(2)), reactor.now()).is_some());
    }

    #[test]
    fn there_are_no_more_than_there_may_be() {
        let (pool, reactor) = (Pool::new(3, 5, AGE), Reactor::new().unwrap());
        (1..=3).for_each(|last| pool.begin(address(last)));
        let mut theirs = Vec::new();
        for (last, wanted) in [(1, 3), (2, 5), (3, 5)] {
            theirs.extend(fill(&pool, &reactor, last, 4));
            assert_eq!(pool.len(), wanted);
        }
        assert_eq!((pool.shed(), pool.len(), pool.shed()), (5, 0, 0));
        assert!(pool.take((HERE, address(1)), reactor.now()).is_none());
        let _again = fill(&pool, &reactor, 3, 1);
        assert_eq!(pool.len(), 1);
    }

    #[test]
    fn those_of_one_network_are_no_other_networks() {
        let (pool, reactor) = (Pool::new(2, 100, AGE), Reactor::new().unwrap());
        (1..=2).for_each(|last| pool.begin(address(last)));
        let mut theirs = fill(&pool, &reactor, 1, 3);
        // As many as there may be of each.
        for last in [1, 2] {
            theirs.extend(fill_of(Network(7), &pool, &reactor, last, 3));
        }
        assert_eq!(pool.len(), 6);
        assert!(pool.take((Network(8), address(1)), reactor.now()).is_none());
        assert!(pool.take((Network(7), address(1)), reactor.now()).is_some());
        pool.forget(Network(7));
        assert_eq!(pool.len(), 2);
        assert!(pool.take((Network(7), address(2)), reactor.now()).is_none());
        assert!(pool.take((HERE, address(1)), reactor.now()).is_some());
        assert!(pool.end(address(1)));
        assert_eq!(pool.len(), 0);
    }
}
