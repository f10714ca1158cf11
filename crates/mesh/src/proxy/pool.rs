//! Connections to endpoints that wait for the next request.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::reactor::Socket;

#[derive(Debug)]
pub(super) struct Pool {
    idle: RefCell<HashMap<SocketAddr, Vec<Idle>>>,
    /// Endpoints that are none any more: what comes back from them is closed.
    gone: RefCell<HashSet<SocketAddr>>,
    count: Cell<usize>,
    most: usize,
    age: Duration,
}

#[derive(Debug)]
struct Idle {
    socket: Socket,
    since: Instant,
}

impl Pool {
    /// `most` for each endpoint, each no longer than `age` without a request.
    pub(super) fn new(most: usize, age: Duration) -> Self {
        Self { idle: RefCell::default(), gone: RefCell::default(), count: Cell::new(0), most, age }
    }

    /// The one that was used last and is still good.
    pub(super) fn take(&self, address: SocketAddr, now: Instant) -> Option<Socket> {
        let mut idle = self.idle.borrow_mut();
        let list = idle.get_mut(&address)?;
        while let Some(Idle { socket, since }) = list.pop() {
            self.count.set(self.count.get() - 1);
            if !socket.has_news() && now.saturating_duration_since(since) < self.age {
                return Some(socket);
            }
        }
        None
    }

    pub(super) fn put(&self, address: SocketAddr, socket: Socket, now: Instant) {
        if !socket.is_quiet() || self.gone.borrow().contains(&address) {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let list = idle.entry(address).or_default();
        if list.len() < self.most {
            socket.rest();
            list.push(Idle { socket, since: now });
            self.count.set(self.count.get() + 1);
        }
    }

    /// Closes those that have ended or waited for too long.
    pub(super) fn sweep(&self, now: Instant) {
        let mut count = 0;
        self.idle.borrow_mut().retain(|_, list| {
            list.retain(|idle| {
                !idle.socket.has_news() && now.saturating_duration_since(idle.since) < self.age
            });
            count += list.len();
            !list.is_empty()
        });
        self.count.set(count);
    }

    /// An endpoint is gone, or back.
    pub(super) fn end(&self, address: SocketAddr) {
        self.gone.borrow_mut().insert(address);
        if let Some(list) = self.idle.borrow_mut().remove(&address) {
            self.count.set(self.count.get() - list.len());
        }
    }

    pub(super) fn begin(&self, address: SocketAddr) {
        let mut gone = self.gone.borrow_mut();
        if !gone.is_empty() {
            gone.remove(&address);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count.get()
    }
}
