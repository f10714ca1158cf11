//! The inbound side: who comes to a pod, and whether it may.
//!
//! What comes is plain text, of which nobody is known but an address, or a stream of HBONE, whose peer has proved who it is. The policies that guard
//! the pod are asked ([`smi::gate`]): about a connection, which is then passed on unread, or about each of its requests. What they say is asked again
//! when they change.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::SystemTime;

use rustix::net::getpeername;
use smi::contract::Name;
use smi::gate::{Peer, Verdict};
use smi::model::Endpoint;

use super::answer::Answer;
use super::connection::http;
use super::detect::{Spoken, said};
use super::rules::Frontend;
use super::tunnel::tunnel;
use super::{Network, Origin, Proxy, Service, http2};
use crate::balance::Balancer;
use crate::hbone::{Asked, Link};
use crate::identity::Identity;
use crate::reactor::{Socket, keep_alive, race};
use crate::telemetry::{Passing, Subject};

/// Somebody who comes to a pod.
#[derive(Clone)]
struct Visitor {
    proxy: Rc<Proxy>,
    pod: Rc<dyn Origin>,
    to: SocketAddr,
    from: SocketAddr,
    identity: Option<Identity>,
}

/// How it is told what becomes of it.
enum Door {
    /// By what becomes of its connection.
    Plain,
    /// By the answer to its CONNECT.
    Stream(Rc<Link>, u32),
}

impl Door {
    /// It is let in.
    fn open(&self) {
        if let Self::Stream(link, stream) = self {
            link.answer(*stream, 200);
        }
    }

    /// It is not.
    fn close(&self, client: Socket, status: u16) {
        match self {
            Self::Plain => client.reset(),
            Self::Stream(link, stream) => link.answer(*stream, status),
        }
    }
}

/// Somebody whose requests are read, as the origin of what goes to the pod's application.
pub struct Inside {
    visitor: Visitor,
    /// What waits for a request there is for this connection alone: the application may take it for that of one client.
    network: Network,
    frontend: Arc<Frontend>,
    balancer: Rc<Balancer>,
}

impl std::fmt::Debug for Inside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inside")
            .field("to", &self.visitor.to)
            .field("from", &self.visitor.from)
            .finish_non_exhaustive()
    }
}

impl Visitor {
    fn peer(&self) -> Peer<'_> {
        let identity = self.identity.as_ref().map(Identity::as_str);
        Peer { identity, address: self.from.ip().to_canonical() }
    }

    fn verdict(&self) -> Verdict {
        let tables = self.proxy.tables.borrow();
        let member = self.pod.workload().and_then(|name| tables.member(name));
        // Of whom nothing is known, nothing is allowed.
        member.map_or(Verdict::Refused, |member| member.connection(&self.peer(), self.to.port()))
    }

    /// Ends when the policies do not let be any more what they have let, from when this is polled first: they may have changed since they were asked.
    async fn revoked(&self, was: Verdict) {
        let _listed = Watched::new(&self.proxy);
        let mut members = None;
        poll_fn(|_| {
            let current = self.proxy.tables.borrow().members.clone();
            if members.as_ref().is_some_and(|members| Arc::ptr_eq(members, &current)) {
                return Poll::Pending;
            }
            members = Some(current);
            match (was, self.verdict()) {
                (_, Verdict::Allowed) | (Verdict::ByRequest, Verdict::ByRequest) => Poll::Pending,
                _ => Poll::Ready(()),
            }
        })
        .await;
    }

    /// What is counted of it.
    fn subject(&self) -> Subject {
        Subject {
            network: self.pod.network(),
            frontend: Some(Service::INSIDE),
            backend: Some(Service::INSIDE),
            endpoint: Some(self.to),
            ..Subject::default()
        }
    }

    /// A connection is refused.
    fn refuses(&self) {
        self.proxy.count(|counts| counts.refused += 1);
        // Ports that nobody has, anybody can make up: all that is refused unread counts as one.
        let subject = Subject { endpoint: None, ..self.subject() };
        self.proxy.refused(subject, self.to, || self.who());
    }

    /// What it is called: the identity that it has proved, or its address.
    fn who(&self) -> String {
        self.identity.as_ref().map_or_else(|| self.from.ip().to_canonical().to_string(), Identity::to_string)
    }

    /// Lets it in, or not.
    async fn receive(self, client: Socket, door: Door) {
        match self.verdict() {
            Verdict::Refused => {
                self.refuses();
                door.close(client, 403);
            }
            Verdict::Allowed => self.pass(client, &door).await,
            Verdict::ByRequest => {
                door.open();
                self.read(client).await;
            }
        }
    }

    /// To the application, unread.
    async fn pass(self, client: Socket, door: &Door) {
        let proxy = &self.proxy;
        let connecting = async {
            let fd = self.pod.socket_from(self.from.ip(), self.to)?;
            Socket::connect_over(&proxy.reactor, fd, self.to).await
        };
        let limit = proxy.reactor.now() + proxy.settings.connect;
        let server = match proxy.reactor.before(Some(limit), connecting).await {
            Ok(Ok(server)) => server,
            // Nobody listens there, or it is not known who does.
            Ok(Err(_)) => return door.close(client, 503),
            Err(_) => return door.close(client, 504),
        };
        door.open();
        proxy.count(|counts| counts.unread += 1);
        let counted = Passing::begin(proxy, self.subject()).of(|| self.who());
        let passing =
            async { tunnel(&proxy.reactor, &client, &server, &proxy.pipes, counted.meters()).await.is_err() };
        let revoked = async {
            self.revoked(Verdict::Allowed).await;
            true
        };
        if race(revoked, passing).await {
            counted.is_torn();
            client.reset();
            server.reset();
        }
    }

    /// To the application, request by request.
    async fn read(self, client: Socket) {
        let proxy = self.proxy.clone();
        let limit = proxy.reactor.now() + proxy.settings.detect;
        let visitor = self.clone();
        let reading = async {
            let spoken = proxy.reactor.before(Some(limit), said(&client)).await.unwrap_or(Spoken::Other);
            let to = visitor.to;
            let inside = |visitor: Visitor| -> Rc<dyn Origin> { Rc::new(Inside::new(visitor)) };
            match spoken {
                Spoken::Http1 => http(proxy.clone(), client, to, inside(visitor)).await,
                Spoken::Http2 => {
                    let origin = inside(visitor);
                    Box::pin(http2::serve(proxy.clone(), client, to, origin, None)).await;
                }
                // What is no request, no rule is about.
                Spoken::Other | Spoken::Unclear => {
                    visitor.refuses();
                    client.reset();
                }
            }
        };
        race(self.revoked(Verdict::ByRequest), reading).await;
    }
}

impl Inside {
    fn new(visitor: Visitor) -> Self {
        let Visitor { proxy, to, .. } = &visitor;
        let balancer = Balancer::new(proxy.settings.ejection);
        let application = Endpoint {
            address: to.ip(),
            port: to.port(),
            pod: None,
            node: None,
            zone: None,
            ready: true,
            serving: true,
        };
        balancer.set(&[application], proxy.reactor.now());
        proxy.pool.begin(*to);
        let network = Network(proxy.visits.get());
        proxy.visits.set(network.0 + 1);
        let frontend = Arc::new(Frontend::inside(*to));
        Self { network, frontend, balancer: Rc::new(balancer), visitor }
    }

    /// Whether the policies let this be asked.
    pub(super) fn admits(&self, head: &impl smi::matching::Head) -> bool {
        let Visitor { proxy, pod, to, .. } = &self.visitor;
        let tables = proxy.tables.borrow();
        let member = pod.workload().and_then(|name| tables.member(name));
        let admitted = member.is_some_and(|member| member.request(&self.visitor.peer(), to.port(), head));
        if !admitted {
            proxy.count(|counts| counts.refused += 1);
        }
        admitted
    }

    /// Who has come, as people are told.
    pub(super) fn who(&self) -> String {
        self.visitor.who()
    }

    /// What who may not ask is answered.
    pub(super) fn refusal(&self) -> Answer {
        let who = match &self.visitor.identity {
            Some(identity) => identity.to_string(),
            None => format!("{}, without an identity,", self.visitor.from.ip()),
        };
        Answer::new(403, format!("the policies of this pod do not let {who} ask this"))
    }

    pub(super) fn frontend(&self) -> &Arc<Frontend> {
        &self.frontend
    }

    pub(super) fn balancer(&self) -> &Rc<Balancer> {
        &self.balancer
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let Visitor { proxy, to, .. } = &self.visitor;
        proxy.pool.forget_at(self.network, *to);
        proxy.pool.end(*to);
    }
}

impl Origin for Inside {
    fn destination(&self, _connection: BorrowedFd<'_>) -> io::Result<SocketAddr> {
        Ok(self.visitor.to)
    }

    fn namespace(&self) -> Option<&str> {
        None
    }

    fn network(&self) -> Network {
        self.network
    }

    fn counted(&self) -> Network {
        self.visitor.pod.network()
    }

    fn socket(&self, _ipv4: bool) -> io::Result<OwnedFd> {
        self.visitor.pod.socket_from(self.visitor.from.ip(), self.visitor.to)
    }

    fn workload(&self) -> Option<&Name> {
        self.visitor.pod.workload()
    }

    fn inside(&self) -> Option<&Inside> {
        Some(self)
    }
}

/// That a task is told when policies change.
struct Watched {
    proxy: Rc<Proxy>,
    task: u32,
}

impl Watched {
    fn new(proxy: &Rc<Proxy>) -> Self {
        let task = proxy.reactor.current();
        proxy.watched.borrow_mut().insert(task);
        Self { proxy: proxy.clone(), task }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.proxy.watched.borrow_mut().remove(&self.task);
    }
}

impl Proxy {
    /// Takes what comes to a pod as plain text, for as long as it is polled.
    pub async fn accept_plain(self: Rc<Self>, listener: Socket, pod: Rc<dyn Origin>) {
        self.take_each(&listener, |connection| self.enter_plain(connection, &pod)).await;
    }

    /// Takes what comes to a pod over HBONE, for as long as it is polled.
    pub async fn accept_secured(self: Rc<Self>, listener: Socket, pod: Rc<dyn Origin>) {
        self.take_each(&listener, |connection| self.enter_secured(connection, &pod)).await;
    }

    fn enter_plain(self: &Rc<Self>, connection: OwnedFd, pod: &Rc<dyn Origin>) {
        self.count(|counts| counts.visits += 1);
        let Some((from, to)) = self.prepare(&connection, pod) else { return };
        let Ok(client) = self.reactor.socket(connection) else { return };
        let Ok(to) = to else { return client.reset() };
        let visitor = Visitor { proxy: self.clone(), pod: pod.clone(), to, from, identity: None };
        self.reactor.spawn(visitor.receive(client, Door::Plain));
    }

    fn prepare(
        &self,
        connection: &OwnedFd,
        pod: &Rc<dyn Origin>,
    ) -> Option<(SocketAddr, io::Result<SocketAddr>)> {
        let _undelayed = rustix::net::sockopt::set_tcp_nodelay(connection, true);
        let _unwatched = keep_alive(connection);
        // Who is gone already has no address any more.
        let from = SocketAddr::try_from(getpeername(connection).ok()??).ok()?;
        Some((from, pod.destination(connection.as_fd())))
    }

    fn enter_secured(self: &Rc<Self>, connection: OwnedFd, pod: &Rc<dyn Origin>) {
        // Where a peer was going is of no interest: its streams say that.
        let Some((from, _)) = self.prepare(&connection, pod) else { return };
        let held = {
            let (tables, certificates) = (self.tables.borrow(), self.certificates.borrow());
            let member = pod.workload().and_then(|name| tables.member(name));
            member.and_then(|member| certificates.as_ref()?.held(&member.identity, SystemTime::now()))
        };
        let Ok(client) = self.reactor.socket(connection) else { return };
        // Nobody can be told who answers here.
        let Some(held) = held else { return client.reset() };
        let Ok(link) = Link::server(&self.reactor, &held, client, self.settings.connect) else { return };
        let (proxy, pod) = (self.clone(), pod.clone());
        self.servers.borrow_mut().push((pod.network(), Rc::downgrade(&link)));
        self.reactor.spawn(link.serve(move |link, asked| proxy.connect(link, asked, from, &pod)));
    }

    /// Somebody who has proved who it is wants to connect.
    fn connect(self: &Rc<Self>, link: &Rc<Link>, asked: Asked, from: SocketAddr, pod: &Rc<dyn Origin>) {
        self.count(|counts| {
            counts.visits += 1;
            counts.secured += 1;
        });
        let Some(client) = link.stream(&asked) else { return };
        let door = Door::Stream(link.clone(), asked.stream);
        let Ok(to) = asked.authority.parse::<SocketAddr>() else { return door.close(client, 400) };
        let is_own = {
            let tables = self.tables.borrow();
            let member = pod.workload().and_then(|name| tables.member(name));
            member.is_some_and(|member| member.has(to.ip()))
        };
        // Nobody is led on to somebody else: what the peer may do there, others decide.
        if !is_own {
            self.count(|counts| counts.refused += 1);
            return door.close(client, 403);
        }
        let identity = Some(asked.peer.identity);
        let visitor = Visitor { proxy: self.clone(), pod: pod.clone(), to, from, identity };
        self.reactor.spawn(visitor.receive(client, door));
    }
}
