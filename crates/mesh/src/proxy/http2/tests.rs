//! Sessions whose times the tests name, with peers whose bytes they write.

mod client;
mod endpoints;
mod pump;
mod retries;
mod stops;

use std::io::{self, Write as _};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use smi::contract::Name;
use smi::model::{Delta, Endpoint, Entry, Frontend, Key, Routing, Shared, Transport};

use super::late::Rest;
use super::*;
use crate::balance::Ejection;
use crate::h2::{Event, Field, Fields};
use crate::proxy::{Builder, Service, Settings};
use crate::reactor::Reactor;

const TO: &str = "10.96.0.1:80";
const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "web")];
const POST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "web")];

/// What does not happen within this time does not happen.
const PATIENCE: Duration = Duration::from_secs(180);

struct Anybody;

impl Origin for Anybody {
    fn destination(&self, _: BorrowedFd<'_>) -> io::Result<SocketAddr> {
        Ok(TO.parse().unwrap())
    }

    fn namespace(&self) -> Option<&str> {
        None
    }
}

/// Runs a test within a task of a loop.
fn run<T: Future<Output = ()> + 'static>(test: impl FnOnce(Reactor) -> T) {
    let reactor = Reactor::new().unwrap();
    reactor.run(test(reactor.clone())).unwrap();
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], 9))
}

/// A Service with these endpoints, whose number is 0.
fn model(routing: Routing, addresses: &[SocketAddr]) -> Delta {
    let one = |address: &SocketAddr| Endpoint {
        address: address.ip(),
        port: address.port(),
        pod: None,
        node: None,
        zone: None,
        ready: true,
        serving: true,
    };
    let (service, port, transport) = (Name::new("shop", "web"), 80, Transport::Tcp);
    let frontend = Frontend { addresses: vec![[10, 96, 0, 1].into()], app_protocol: None, routing };
    let set = vec![
        Shared {
            key: Key::Frontend { service: service.clone(), port, transport, consumer: None },
            entry: Arc::new(Entry::Frontend(frontend)),
        },
        Shared {
            key: Key::Endpoints { service, port, transport },
            entry: Arc::new(Entry::Endpoints(addresses.iter().map(one).collect())),
        },
    ];
    Delta { set, removed: Vec::new() }
}

fn plain(addresses: &[SocketAddr]) -> Delta {
    model(Routing::Plain, addresses)
}

/// One failure leaves an endpoint out.
fn strict() -> Settings {
    let ejection = Ejection { bad_answers: 1, no_answers: 1, ..Ejection::default() };
    Settings { ejection, ..Settings::default() }
}

fn fields<'a>(pairs: &'a [(&str, &str)]) -> impl Iterator<Item = Field<'a>> + Clone {
    pairs.iter().map(|(name, value)| Field::new(*name, *value))
}

/// A socket of the loop, and its other end.
fn pair(reactor: &Reactor) -> (Socket, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (reactor.socket(ours.into()).unwrap(), theirs)
}

/// What an event tells a client, if it is of interest.
fn words(event: Event<'_>, fields: &Fields) -> Option<String> {
    let status = || String::from_utf8_lossy(fields.get(b":status").unwrap_or_default()).into_owned();
    let end_of = |end| if end { " end" } else { "" };
    match event {
        Event::Head { stream, end } => Some(format!("{stream} {}{}", status(), end_of(end))),
        Event::Informational { stream } => Some(format!("{stream} {}", status())),
        Event::Data { stream, bytes, end } => Some(format!("{stream} of {}{}", bytes.len(), end_of(end))),
        Event::Trailers { stream } => Some(format!("{stream} trailers")),
        Event::Reset { stream, code, .. } => Some(format!("{stream} reset {code}")),
        Event::GoAway { last, .. } => Some(format!("last {last}")),
        Event::TooLarge { .. } | Event::Window { .. } | Event::Pong(_) => None,
    }
}

/// A client and the session that it has.
struct Test {
    session: Session,
    client: Connection,
    /// The client's end.
    wire: UnixStream,
    now: Instant,
}

impl Test {
    /// Both know each other's settings.
    async fn new(reactor: &Reactor, delta: Delta, settings: Settings) -> Self {
        let proxy = Proxy::new(reactor, Settings { seed: 1, ..settings });
        proxy.swap(Builder::default().apply(delta));
        let (socket, wire) = pair(reactor);
        let session = Session::new(&proxy, socket, TO.parse().unwrap(), Rc::new(Anybody), None);
        let client = Connection::new(Side::Client, Limits::default());
        let mut test = Self { session, client, wire, now: reactor.now() };
        test.says().await;
        test.told();
        test.says().await;
        assert!(test.client.is_settled() && test.session.connection.is_settled());
        test
    }

    /// The session hears what the client has to say.
    async fn says(&mut self) {
        let bytes = self.client.output().to_vec();
        self.client.sent(bytes.len());
        self.sends(&bytes).await;
    }

    async fn sends(&mut self, bytes: &[u8]) {
        self.wire.write_all(bytes).unwrap();
        // Between two turns of a task the loop looks what came.
        self.session.proxy.reactor.yield_now().await;
        while self.session.hear(self.now) {}
    }

    async fn ask(&mut self, head: &[(&str, &str)], end: bool) -> u32 {
        let stream = self.client.open(fields(head), end).unwrap();
        self.says().await;
        stream
    }

    /// The client hears what there is for it.
    fn told(&mut self) -> Vec<String> {
        let bytes = self.session.connection.output().to_vec();
        self.session.connection.sent(bytes.len());
        let (mut rest, mut all) = (&bytes[..], Vec::new());
        loop {
            let (used, event) = self.client.receive(self.now, rest).unwrap();
            all.extend(event.and_then(|event| words(event, self.client.fields())));
            if used == 0 {
                assert!(rest.is_empty(), "{} bytes are no frame", rest.len());
                return all;
            }
            rest = &rest[used..];
        }
    }

    /// Passes on what can be, and the client hears it.
    fn pumped(&mut self) -> Vec<String> {
        self.session.pump(self.now);
        self.told()
    }

    /// A request whose body is these bytes, and which is whole if it is the `end`.
    async fn posts(&mut self, body: &[u8], end: bool) -> u32 {
        let stream = self.client.open(fields(&POST), false).unwrap();
        let mut sent = 0;
        while sent < body.len() {
            sent += self.client.data(stream, &body[sent..], end).unwrap();
            self.says().await;
        }
        stream
    }

    /// What of a request waits for somebody.
    fn rest(&self, stream: u32) -> Option<Rest> {
        self.session.rest(&self.session.exchanges[&stream]).map(|(_, rest)| rest)
    }

    /// What is late then ends.
    fn passes(&mut self, until: Instant) {
        let _more = self.session.wait(until);
    }

    /// An endpoint has begun to answer, with so much of a body.
    fn is_answered(&mut self, stream: u32, body: usize) {
        self.session.connection.respond(stream, fields(&[(":status", "200")]), false).unwrap();
        let exchange = self.session.exchanges.get_mut(&stream).unwrap();
        exchange.answered = true;
        exchange.down.comes(self.now);
        exchange.down.bytes.resize(body, b'x');
    }

    /// A connection to an endpoint, which has said nothing yet: the endpoint's end.
    fn connected(&mut self, address: SocketAddr) -> UnixStream {
        let proxy = self.session.proxy.clone();
        let (socket, wire) = pair(&proxy.reactor);
        self.session.backends.push(Some(Backend::over(&proxy, socket, address, self.session.limits)));
        wire
    }

    fn exchange(&mut self, stream: u32) -> &mut Exchange {
        self.session.exchanges.get_mut(&stream).unwrap()
    }

    /// Over which of the connections to endpoints a request goes.
    fn place_of(&mut self, stream: u32) -> usize {
        self.exchange(stream).there.unwrap().backend
    }

    fn backend(&mut self, place: usize) -> &mut Backend {
        self.session.backends[place].as_mut().unwrap()
    }

    /// Takes what has come from an endpoint.
    async fn hears(&mut self, place: usize) {
        self.session.proxy.reactor.yield_now().await;
        while self.session.hear_backend(place, self.now) {}
    }

    /// Which endpoint has a request.
    fn endpoint_of(&mut self, stream: u32) -> SocketAddr {
        self.exchange(stream).pick.as_ref().unwrap().address()
    }

    /// Whether this one of the endpoints 1 and 2 is left out; the other is not.
    fn is_out(&self, endpoint: SocketAddr) -> bool {
        let other = if endpoint == address(1) { address(2) } else { address(1) };
        let proxy = &self.session.proxy;
        let balancer = proxy.balancer(&*self.session.origin, Service(0)).unwrap();
        // Of two, the one that is not this.
        let is_in = |not: SocketAddr| balancer.has_another(&[not], proxy.reactor.now());
        assert!(is_in(endpoint), "{other} is left out");
        !is_in(other)
    }
}
