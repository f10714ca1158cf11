//! The outbound side: connections of pods to Services.
//!
//! A [`Proxy`] belongs to one thread with its [`Reactor`]. [`Proxy::accept`] takes connections; whom each is for is told by an [`Origin`].
//! What holds is in [`Tables`], made by a [`Builder`] and swapped by [`Proxy::swap`] or, from another thread, by a [`Remote`]: requests that
//! have begun end as they began, the next one goes by the new tables.
//!
//! HTTP/2 is read where a route has to read it, and goes to endpoints as HTTP/2; else it is passed on unread. What is not served yet is refused: routes
//! by the name that a TLS client asks for (reset).

mod answer;
mod ask;
mod connection;
mod counted;
mod detect;
mod exchange;
mod failed;
mod forward;
mod http2;
mod inside;
mod members;
mod mirror;
mod pool;
mod progress;
mod reach;
mod rules;
mod secured;
mod tables;
mod tunnel;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use smi::contract::Name;
use smi::model::Mode;

pub use ask::edited;
pub use inside::Inside;
pub use members::Member;
pub use rules::{Frontend, Protocol, RuleId, Service};
pub use tables::{Builder, Tables};

pub(crate) use answer::Answer;

use crate::balance::{Balancer, Budget, Dice, Ejection};
use crate::hbone::Link;
use crate::http1::{Bounds, Head};
use crate::identity::Certificates;
use crate::reactor::{Reactor, Socket, keep_alive, tcp};
use crate::telemetry::Telemetry;
use counted::Open;
use mirror::Mirrors;
use pool::Pool;
use secured::Links;
use tunnel::Pipes;

/// Whom a connection is for.
pub trait Origin {
    /// The address that the client has connected to.
    ///
    /// # Errors
    /// It is not known; the connection is reset.
    fn destination(&self, connection: BorrowedFd<'_>) -> io::Result<SocketAddr>;

    /// The namespace of the clients, where that is known.
    fn namespace(&self) -> Option<&str>;

    /// The network that connections to endpoints are made from. What waits for a request there is for its clients alone, and so is what is known
    /// of endpoints: one that cannot be reached from there may be reached from elsewhere.
    fn network(&self) -> Network {
        Network::default()
    }

    /// The network that it is counted for: that of a pod whose clients they are, or that they have come to.
    fn counted(&self) -> Network {
        self.network()
    }

    /// A socket of TCP in that network, which does not block and is not connected yet; of the calling thread's own by default.
    ///
    /// # Errors
    /// The kernel's: no descriptor is left, or the network is gone.
    fn socket(&self, ipv4: bool) -> io::Result<OwnedFd> {
        tcp(ipv4)
    }

    /// The same for a connection to `to`, which comes from somebody else's address where that can be.
    ///
    /// # Errors
    /// As [`Origin::socket`].
    fn socket_from(&self, from: IpAddr, to: SocketAddr) -> io::Result<OwnedFd> {
        let _own = from;
        self.socket(to.is_ipv4())
    }

    /// The pod whose clients they are, or that is connected to, by its name in the API: the model says who it is.
    fn workload(&self) -> Option<&Name> {
        None
    }

    /// Of what goes to a pod's own application, who has come there.
    fn inside(&self) -> Option<&Inside> {
        None
    }
}

/// The first of the networks of visitors: pods have lower ones.
const VISITS: u64 = 1 << 63;

/// A network by number. The process' own is 0; those of pods are below 2^63.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(pub u64);

/// How long things may take, and how much there may be.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How large a head may be.
    pub bounds: Bounds,
    /// From a request's first byte to the end of its head; then it is answered 408. Over HTTP/2 any frame has as long, and the connection is
    /// reset then.
    pub head: Duration,
    /// A client's connection without a request; then it is closed.
    pub idle: Duration,
    /// A client that has begun a body and sends nothing more of it, or takes nothing more of an answer; then its connection is reset. So it is
    /// if it sends nothing more at all and for so long there is nothing for it. An endpoint that takes nothing more of a request has not
    /// answered then, nor has one that stops within a head, a chunk, a frame, or a body whose length it has told. It is also how long the
    /// kernel asks an endpoint that is silent. Over HTTP/2 a request whose bytes wait for so long ends alone, and a client
    /// that sends nothing more of a body is waited for as long as its route says.
    pub stall: Duration,
    /// To connect to an endpoint.
    pub connect: Duration,
    /// So many other endpoints are tried when there is no connection to one.
    pub other_endpoints: u32,
    /// A connection to an endpoint without a request.
    pub pool_idle: Duration,
    /// So many connections without a request for each endpoint.
    pub pool_most: usize,
    /// So many of them for all endpoints together.
    pub pool_in_all: usize,
    /// So many connections of HBONE from one pod to one peer, those included that end with their last streams. Each carries a hundred connections at a time.
    pub links: usize,
    /// How long the first bytes of a connection may leave open whether it is HTTP; then it is not.
    pub detect: Duration,
    /// When endpoints are left out.
    pub ejection: Ejection,
    /// So many of a hundred requests may be tried again.
    pub retry_percent: u32,
    /// So many in ten seconds may be in any case.
    pub retry_least: u32,
    /// So many copies of requests are on their way at a time; of what is more there is none.
    pub mirrors: usize,
    /// So many bytes of a request may wait for one copy of it, beside what came with its head. What is slower is given up.
    pub mirror_queue: usize,
    /// So many may wait for all copies together, heads and trailers included.
    pub mirror_queues: usize,
    /// So long a copy may take when the request itself has ended; a second at most of a proxy that is drained.
    pub mirror_behind: Duration,
    /// What random numbers begin with: another number in each process by default, so that not all proxies choose alike.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bounds: Bounds::default(),
            head: Duration::from_secs(60),
            idle: Duration::from_secs(300),
            stall: Duration::from_secs(300),
            connect: Duration::from_secs(5),
            other_endpoints: 2,
            pool_idle: Duration::from_secs(60),
            pool_most: 256,
            pool_in_all: 4096,
            links: 256,
            detect: Duration::from_secs(10),
            ejection: Ejection::default(),
            retry_percent: 20,
            retry_least: 100,
            mirrors: 1024,
            mirror_queue: 1 << 20,
            mirror_queues: 64 << 20,
            mirror_behind: Duration::from_secs(30),
            seed: RandomState::new().build_hasher().finish(),
        }
    }
}

/// What was done since the start.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Connections of clients.
    pub connections: u64,
    /// Those of them that have ended.
    pub ended: u64,
    /// Requests that were read.
    pub requests: u64,
    /// Requests that the proxy has answered itself.
    pub answered: u64,
    /// Connections that were passed on unread, tunnels among them.
    pub unread: u64,
    /// Connections to endpoints.
    pub connected: u64,
    /// Requests that were sent once more.
    pub retried: u64,
    /// Connections to endpoints that had ended when a request was sent.
    pub stale: u64,
    /// Connections of HBONE to members.
    pub linked: u64,
    /// Connections, and streams of HBONE, that came to pods.
    pub visits: u64,
    /// Those of them that came as streams of HBONE, from who has proved who it is.
    pub secured: u64,
    /// Those of them, and requests, that policies have refused.
    pub refused: u64,
}

/// The data path of one thread.
pub struct Proxy {
    reactor: Reactor,
    settings: Settings,
    tables: RefCell<Arc<Tables>>,
    /// Of each port of a Service that clients of a network have asked for, as they see its endpoints.
    balancers: RefCell<BTreeMap<(Service, Network), Rc<Balancer>>>,
    pool: Pool,
    pipes: Rc<Pipes>,
    dice: RefCell<Dice>,
    budget: RefCell<Budget>,
    /// Tasks with connections to endpoints that are no other task's.
    sessions: RefCell<BTreeSet<u32>>,
    /// What heads are read into: between two waits nobody else reads one.
    head: RefCell<Head>,
    /// What pods prove who they are with; none where there are no identities.
    certificates: RefCell<Option<Arc<Certificates>>>,
    links: Links,
    mirrors: Mirrors,
    /// Connections of HBONE that came.
    servers: RefCell<Vec<(Network, Weak<Link>)>>,
    /// Tasks that look at policies when they change.
    watched: RefCell<BTreeSet<u32>>,
    /// The number of the next visitor's network.
    visits: Cell<u64>,
    draining: Cell<bool>,
    counts: Cell<Counts>,
    telemetry: Telemetry,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("counts", &self.counts.get()).finish_non_exhaustive()
    }
}

impl Proxy {
    /// Without tables: every connection is passed on to where it was going.
    #[must_use]
    pub fn new(reactor: &Reactor, settings: Settings) -> Rc<Self> {
        let proxy = Rc::new(Self {
            reactor: reactor.clone(),
            settings,
            tables: RefCell::default(),
            balancers: RefCell::default(),
            pool: Pool::new(settings.pool_most, settings.pool_in_all, settings.pool_idle),
            pipes: Rc::default(),
            dice: RefCell::new(Dice::new(settings.seed)),
            budget: RefCell::new(Budget::new(settings.retry_percent, settings.retry_least, reactor.now())),
            sessions: RefCell::default(),
            head: RefCell::default(),
            certificates: RefCell::default(),
            links: Links::default(),
            mirrors: Mirrors::default(),
            servers: RefCell::default(),
            watched: RefCell::default(),
            visits: Cell::new(VISITS),
            draining: Cell::new(false),
            counts: Cell::default(),
            telemetry: Telemetry::default(),
        });
        let swept = Rc::downgrade(&proxy);
        let reactor = reactor.clone();
        reactor.clone().spawn(async move {
            loop {
                let Some(every) = swept.upgrade().map(|proxy| proxy.settings.pool_idle / 12) else { return };
                reactor.until(reactor.now() + every.max(Duration::from_millis(100))).await;
                let Some(proxy) = swept.upgrade() else { return };
                proxy.pool.sweep(reactor.now());
                proxy.mirrors.sweep(reactor.now(), proxy.settings.pool_idle);
                proxy.links.sweep();
                proxy.servers.borrow_mut().retain(|(_, link)| link.strong_count() > 0);
                proxy.telemetry.sweep(reactor.now());
            }
        });
        proxy
    }

    /// Goes by these tables from now on.
    pub fn swap(&self, tables: Arc<Tables>) {
        let before = self.tables.replace(tables.clone());
        let mut balancers = self.balancers.borrow_mut();
        let now = self.reactor.now();
        let count = tables.endpoints.len().max(before.endpoints.len());
        let changed = |number: &usize| match (before.endpoints.get(*number), tables.endpoints.get(*number)) {
            (Some(Some(one)), Some(Some(other))) => !Arc::ptr_eq(one, other),
            (None | Some(None), None | Some(None)) => false,
            _ => true,
        };
        let changed: Vec<Service> = (0..count).filter(changed).map(Service).collect();
        self.telemetry.swaps.set(self.telemetry.swaps.get() + 1);
        if !changed.is_empty() {
            // An address that is another pod's now.
            self.telemetry.end(|subject, series| match (subject.backend, subject.endpoint) {
                (Some(backend), Some(endpoint)) if changed.binary_search(&backend).is_ok() => {
                    tables.pod(backend, endpoint) != series.pod.as_ref()
                }
                _ => false,
            });
        }
        // Those that stay, with their Service or with another, must not end in between: their connections would be closed.
        for service in &changed {
            for endpoint in tables.endpoints(*service) {
                self.pool.begin(SocketAddr::new(endpoint.address, endpoint.port));
            }
        }
        let mut gone = false;
        for service in changed {
            for endpoint in before.endpoints(service) {
                gone |= self.pool.end(SocketAddr::new(endpoint.address, endpoint.port));
            }
            let endpoints = tables.endpoints(service);
            for (_, balancer) in balancers.range((service, Network(0))..=(service, Network(u64::MAX))) {
                balancer.set(endpoints, now);
            }
            self.mirrors.set(service, endpoints, now);
            if endpoints.is_empty() {
                // Who asks for it again begins anew.
                balancers.retain(|(of, _), _| *of != service);
            }
        }
        if gone {
            self.mirrors.keep(|(_, address), _| self.pool.has(address));
            // Who has connections of its own to it ends them.
            self.sessions.borrow().iter().for_each(|task| self.reactor.wake(*task));
        }
        if !Arc::ptr_eq(&before.members, &tables.members) {
            // What was allowed may be no more.
            self.watched.borrow().iter().for_each(|task| self.reactor.wake(*task));
            let is_member = |address: IpAddr, identity: &str| {
                tables.member_at(address).is_some_and(|member| &*member.identity == identity)
            };
            self.links.forget_spoken(is_member);
            let _closed = self.mirrors.shed();
            if self.certificates.borrow().is_some() {
                // What was said in plain text before both were members is not said so any more. What goes to a pod's own application is.
                let is_members = |network: Network, address: SocketAddr| {
                    let member = tables.member_at(address.ip());
                    network.0 < VISITS && member.is_some_and(|member| member.mode != Mode::Outside)
                };
                self.pool.forget_plain(is_members);
            }
        }
    }

    /// From now on members prove who they are to each other, with these.
    pub fn identify(&self, certificates: Arc<Certificates>) {
        *self.certificates.borrow_mut() = Some(certificates);
    }

    /// The task that runs has connections to endpoints that are no other task's: it is run when an endpoint goes, until this is dropped.
    fn session(self: &Rc<Self>) -> Listed {
        let task = self.reactor.current();
        self.sessions.borrow_mut().insert(task);
        Listed { proxy: self.clone(), task }
    }

    /// Who swaps tables from another thread.
    ///
    /// # Errors
    /// The kernel's: no descriptor is left.
    pub fn remote(self: &Rc<Self>) -> io::Result<Remote> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let listened = self.reactor.socket(event.try_clone()?)?;
        let remote = Remote { event: Arc::new(event), next: Arc::default() };
        let (proxy, next) = (Rc::downgrade(self), remote.next.clone());
        self.reactor.spawn(async move {
            while listened.event().await.is_ok() {
                let Some(proxy) = proxy.upgrade() else { return };
                if let Some(tables) = next.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    proxy.swap(tables);
                }
            }
        });
        Ok(remote)
    }

    /// Takes the connections that come to a listener, for as long as it is polled.
    pub async fn accept(self: Rc<Self>, listener: Socket, origin: Rc<dyn Origin>) {
        self.take_each(&listener, |connection| self.serve(connection, &origin)).await;
    }

    async fn take_each(&self, listener: &Socket, serve: impl Fn(OwnedFd)) {
        loop {
            match listener.accept().await {
                Ok(connection) => serve(connection),
                // No descriptor or memory is left: what has one must end first, as what waits for a request can at once.
                Err(e)
                    if !matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted)
                        && self.shed() == 0 =>
                {
                    self.reactor.until(self.reactor.now() + Duration::from_millis(50)).await;
                }
                Err(_) => {}
            }
        }
    }

    /// Serves one connection, which does not block.
    pub fn serve(self: &Rc<Self>, connection: OwnedFd, origin: &Rc<dyn Origin>) {
        self.count(|counts| counts.connections += 1);
        let _undelayed = rustix::net::sockopt::set_tcp_nodelay(&connection, true);
        let _unwatched = keep_alive(&connection);
        let destination = origin.destination(connection.as_fd());
        let open = Open::new(self);
        let Ok(client) = self.reactor.socket(connection) else { return };
        let Ok(to) = destination else { return client.reset() };
        self.reactor.spawn(connection::serve(self.clone(), client, to, origin.clone(), open));
    }

    /// Ends each connection of a client after the request it has, and at once where it has none. What is passed on unread goes on.
    pub fn drain(&self) {
        self.draining.set(true);
        // Their streams end as connections do.
        self.leave_servers(|_| true);
        self.reactor.wake_all();
    }

    /// Nobody comes to a network any more: who has a connection of HBONE to it opens no more streams.
    pub(crate) fn part(&self, network: Network) {
        self.leave_servers(|of| of == network);
    }

    fn leave_servers(&self, which: impl Fn(Network) -> bool) {
        let servers = self.servers.borrow();
        let leaving = servers.iter().filter(|(of, _)| which(*of)).filter_map(|(_, link)| link.upgrade());
        leaving.for_each(|link| link.leave());
    }

    /// What was done since the start.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts.get()
    }

    /// How many connections to endpoints wait for a request.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.pool.len()
    }

    /// Something has run out that connections hold: those without a request are closed. Gives how many they were.
    fn shed(&self) -> usize {
        self.pool.shed() + self.mirrors.shed()
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    /// The endpoints of a port of a Service, as clients of a network see them; `None` where it has none.
    fn balancer(&self, origin: &dyn Origin, service: Service) -> Option<Rc<Balancer>> {
        if let Some(inside) = origin.inside() {
            return Some(inside.balancer().clone());
        }
        let network = origin.network();
        let tables = self.tables.borrow();
        let endpoints = tables.endpoints(service);
        if endpoints.is_empty() {
            return None;
        }
        let mut balancers = self.balancers.borrow_mut();
        let balancer = balancers.entry((service, network)).or_insert_with(|| {
            let balancer = Balancer::new(self.settings.ejection);
            balancer.set(endpoints, self.reactor.now());
            Rc::new(balancer)
        });
        Some(balancer.clone())
    }

    /// Nobody of this network is served any more: what waits there for a request is closed, and what was known is forgotten.
    pub fn forget(&self, network: Network) {
        self.balancers.borrow_mut().retain(|(_, of), _| *of != network);
        self.pool.forget(network);
        self.mirrors.forget(network);
        self.links.forget(network);
        self.telemetry.end(|subject, _| subject.network == network);
        self.telemetry.forget_mirrored(network);
    }

    fn find(&self, to: SocketAddr, origin: &dyn Origin) -> Option<Arc<Frontend>> {
        match origin.inside() {
            Some(inside) => Some(inside.frontend().clone()),
            None => self.tables.borrow().frontend(to, origin.namespace()).cloned(),
        }
    }
}

/// That a task is among [`Proxy::session`]s.
struct Listed {
    proxy: Rc<Proxy>,
    task: u32,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.proxy.sessions.borrow_mut().remove(&self.task);
    }
}

/// Swaps a proxy's tables from any thread.
#[derive(Debug, Clone)]
pub struct Remote {
    event: Arc<OwnedFd>,
    next: Arc<Mutex<Option<Arc<Tables>>>>,
}

impl Remote {
    /// The proxy goes by these tables with the next turn of its loop.
    ///
    /// # Errors
    /// The kernel's.
    pub fn swap(&self, tables: Arc<Tables>) -> io::Result<()> {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(tables);
        rustix::io::write(&self.event, &1_u64.to_ne_bytes())?;
        Ok(())
    }
}
