//! A client's connection, from its first byte to its end.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::answer::Answer;
use super::ask::{Asked, Way, ask};
use super::detect::{Spoken, greets, said};
use super::inside::Inside;
use super::mirror::{Copies, Original};
use super::reach::is_own;
use super::rules::{Destination, Frontend, Protocol, Routing, Service};
use super::tunnel::tunnel;
use super::{Open, Origin, Proxy, RuleId, http2};
use crate::balance::{Pick, Went};
use crate::http1::{Body, Ending, Fault, Framing, Method};
use crate::reactor::{Buffer, Socket, race};
use crate::telemetry::{Call, Passing, Reason, Request, Subject, add};

/// So many bytes of a body that nobody wants are read, so that the client sees the answer before the connection's end, and for so long.
const UNWANTED: usize = 256 << 10;
const LINGER: Duration = Duration::from_secs(2);

/// What becomes of a client's connection after a request.
pub(super) enum Next {
    /// The next request.
    Keep,
    /// Its end, once the client has taken what it was sent.
    Close,
    /// Its end, told as one that is no proper end.
    Reset,
    /// It is a tunnel from here on, for the request of this subject.
    Tunnel(Socket, Pick, Box<Subject>),
}

/// Where a connection goes if nobody reads it, and by which rule.
#[derive(Debug, Clone, Copy)]
struct Aim {
    frontend: Service,
    rule: Option<RuleId>,
    backend: Service,
}

impl Aim {
    fn subject(&self, origin: &dyn Origin) -> Subject {
        Subject {
            network: origin.counted(),
            frontend: Some(self.frontend),
            rule: self.rule,
            backend: Some(self.backend),
            ..Subject::default()
        }
    }
}

pub(super) async fn serve(
    proxy: Rc<Proxy>,
    client: Socket,
    to: SocketAddr,
    origin: Rc<dyn Origin>,
    _open: Open,
) {
    let Some(frontend) = proxy.find(to, &*origin) else {
        return pass_to(&proxy, client, to, &*origin).await;
    };
    let own = frontend.own;
    match (&frontend.routing, frontend.protocol) {
        (Routing::Refused, _) => client.reset(),
        (Routing::Connections(shares), _) => {
            let drawn = shares.draw(&mut proxy.dice.borrow_mut()).map(|share| share.to.clone());
            match drawn {
                Some(Destination::Service(backend)) => {
                    let aim = Aim { frontend: own, rule: shares.from, backend };
                    pass(&proxy, client, aim, &*origin).await;
                }
                _ => client.reset(),
            }
        }
        (routing, Protocol::Opaque) => {
            let aim = for_connection(&proxy, routing, own);
            pass(&proxy, client, aim, &*origin).await;
        }
        (_, Protocol::Http) => {
            drop(frontend);
            http(proxy, client, to, origin).await;
        }
        (routing, Protocol::Unknown) => {
            let aim = for_connection(&proxy, routing, own);
            drop(frontend);
            detect(proxy, client, to, origin, aim).await;
        }
    }
}

/// Where a connection goes that is no HTTP.
fn for_connection(proxy: &Proxy, routing: &Routing, own: Service) -> Aim {
    let plain = Aim { frontend: own, rule: None, backend: own };
    match routing {
        Routing::Requests(shares) => match shares.draw(&mut proxy.dice.borrow_mut()).map(|share| &share.to) {
            Some(Destination::Service(service)) => Aim { rule: shares.from, backend: *service, ..plain },
            _ => plain,
        },
        _ => plain,
    }
}

/// To where it was going, unread.
async fn pass_to(proxy: &Rc<Proxy>, client: Socket, to: SocketAddr, origin: &dyn Origin) {
    match proxy.reach(origin, to).await {
        Ok(server) => {
            let subject = |network| Subject { network, ..Subject::default() };
            unread(proxy, client, server, Passing::begin(proxy, subject(origin.counted()))).await;
        }
        Err(_) => client.reset(),
    }
}

/// To an endpoint, unread.
async fn pass(proxy: &Rc<Proxy>, client: Socket, aim: Aim, origin: &dyn Origin) {
    match connect(proxy, aim, origin).await {
        Some((pick, server)) => to_endpoint(proxy, client, pick, server, (aim, origin)).await,
        None => {
            let has_some = proxy.balancer(origin, aim.backend).is_some();
            let reason = if has_some { Reason::NoConnection } else { Reason::NoEndpoint };
            proxy.series(aim.subject(origin)).because(reason);
            client.reset();
        }
    }
}

async fn to_endpoint(
    proxy: &Rc<Proxy>,
    client: Socket,
    pick: Pick,
    server: Socket,
    (aim, origin): (Aim, &dyn Origin),
) {
    // All that is ever known of it: there was a connection.
    pick.went(Went::Connected, proxy.reactor.now());
    let subject = || Subject { endpoint: Some(pick.address()), ..aim.subject(origin) };
    unread(proxy, client, server, Passing::begin(proxy, subject())).await;
}

/// A connection to an endpoint of a Service; to another where there is none to the first.
async fn connect(proxy: &Rc<Proxy>, aim: Aim, origin: &dyn Origin) -> Option<(Pick, Socket)> {
    let balancer = proxy.balancer(origin, aim.backend)?;
    let mut avoid = Vec::new();
    for _ in 0..=proxy.settings.other_endpoints {
        let pick = balancer.pick_connection(&avoid, &mut proxy.dice.borrow_mut(), proxy.reactor.now())?;
        match proxy.reach(origin, pick.address()).await {
            Ok(server) => return Some((pick, server)),
            Err(e) => {
                if !is_own(&e) {
                    pick.went(Went::NotAtAll, proxy.reactor.now());
                }
                let subject = Subject { endpoint: Some(pick.address()), ..aim.subject(origin) };
                add(&proxy.series(subject).failed, 1);
                avoid.push(pick.address());
            }
        }
        if !balancer.has_another(&avoid, proxy.reactor.now()) {
            return None;
        }
    }
    None
}

async fn unread(proxy: &Rc<Proxy>, client: Socket, server: Socket, passing: Box<Passing<'_>>) {
    proxy.count(|counts| counts.unread += 1);
    // What passes bytes on is not held by a connection that is read.
    let passed = Box::pin(tunnel(&proxy.reactor, &client, &server, &proxy.pipes, passing.meters())).await;
    if passed.is_err() {
        passing.is_torn();
        client.reset();
        server.reset();
    }
}

/// Waits for the first bytes of either side: of a protocol in which the server speaks first, it is connected to already.
async fn find_out(
    proxy: &Rc<Proxy>,
    client: &Socket,
    origin: &dyn Origin,
    aim: Aim,
) -> (Spoken, Option<(Pick, Socket)>) {
    let limit = proxy.reactor.now() + proxy.settings.detect;
    let mut ahead = None;
    if !client.looks_stale() {
        // Who speaks first need not wait for a connection that is for the case that it does not.
        let spoken = async {
            client.readable().await;
            None
        };
        ahead = race(connect(proxy, aim, origin), spoken).await;
        // Without an endpoint there may still be routes for what the client will say.
        if let Some((_, server)) = &ahead {
            let either = race(client.readable(), server.readable());
            let _elapsed = proxy.reactor.before(Some(limit), either).await;
        }
    }
    let speaks = ahead.as_ref().is_some_and(|(_, server)| server.has_bytes());
    // A server that has closed says nothing about what is spoken.
    let ahead = ahead.filter(|(_, server)| speaks || !server.has_ended());
    let said = match &ahead {
        Some((_, server)) if speaks => {
            // Servers of HTTP/2 may greet before they hear who is there.
            let both = async { if greets(server).await { said(client).await } else { Spoken::Other } };
            proxy.reactor.before(Some(limit), both).await.unwrap_or(Spoken::Other)
        }
        Some(_) if !client.is_readable() => Spoken::Other,
        _ => proxy.reactor.before(Some(limit), said(client)).await.unwrap_or(Spoken::Other),
    };
    (said, ahead)
}

/// Whatever it turns out to be.
async fn detect(proxy: Rc<Proxy>, client: Socket, to: SocketAddr, origin: Rc<dyn Origin>, aim: Aim) {
    // What it takes to find out is not held by the connection from then on.
    let found = Box::pin(find_out(&proxy, &client, &*origin, aim)).await;
    match found {
        (Spoken::Http1, ahead) => {
            if let Some((pick, server)) = ahead {
                server.set_patience(proxy.settings.stall);
                proxy.pool.put((origin.network(), pick.address()), server, proxy.reactor.now());
            }
            http(proxy, client, to, origin).await;
        }
        (Spoken::Http2, ahead) if reads(&proxy, to, &origin) => {
            let ahead = ahead.map(|(pick, server)| (pick.address(), server));
            // What HTTP/2 needs is not held by a connection of HTTP/1.1, which is in the same task.
            Box::pin(http2::serve(proxy, client, to, origin, ahead)).await;
        }
        (_, Some((pick, server))) => {
            to_endpoint(&proxy, client, pick, server, (aim, &*origin)).await;
        }
        (_, None) => pass(&proxy, client, aim, &*origin).await,
    }
}

/// Whether somebody has to read requests to know where they go.
fn reads(proxy: &Proxy, to: SocketAddr, origin: &Rc<dyn Origin>) -> bool {
    let frontend = proxy.find(to, &**origin);
    frontend.is_some_and(|frontend| matches!(frontend.routing, Routing::Http(_) | Routing::Requests(_)))
}

/// Requests, one after the other.
pub(super) async fn http(proxy: Rc<Proxy>, client: Socket, to: SocketAddr, origin: Rc<dyn Origin>) {
    let mut buffer = Buffer::default();
    loop {
        if buffer.is_empty() {
            // Who waits for a request needs no memory for it.
            proxy.reactor.give_back(std::mem::take(&mut buffer));
            let limit = proxy.reactor.now() + proxy.settings.idle;
            let waited = proxy.reactor.before(Some(limit), wanted(&proxy, &client)).await;
            if waited != Ok(true) {
                return;
            }
            buffer = proxy.reactor.buffer();
        }
        let next = match head(&proxy, &client, &mut buffer).await {
            // What a request needs is not held by a connection without one.
            Head::There(length) => Box::pin(one(&proxy, &client, &mut buffer, length, (to, &origin))).await,
            Head::Wrong(answer) => Box::pin(refuse(&proxy, &client, &answer, &*origin)).await,
            Head::Ended => return,
        };
        match next {
            Next::Keep => {}
            Next::Close => return linger(&proxy, &client).await,
            Next::Reset => return client.reset(),
            Next::Tunnel(server, pick, subject) => {
                // What passes unread needs no buffer.
                proxy.reactor.give_back(std::mem::take(&mut buffer));
                unread(&proxy, client, server, Passing::begin(&proxy, *subject)).await;
                return drop(pick);
            }
        }
    }
}

/// Waits for a request; false where none is wanted any more.
async fn wanted(proxy: &Proxy, client: &Socket) -> bool {
    let drained = poll_fn(|_| if proxy.draining.get() { Poll::Ready(false) } else { Poll::Pending });
    race(
        async {
            client.readable().await;
            true
        },
        drained,
    )
    .await
}

enum Head {
    There(usize),
    Wrong(Answer),
    Ended,
}

fn wrong(fault: Fault) -> Answer {
    Answer::new(fault.status(), format!("the request is refused: {fault}"))
}

async fn head(proxy: &Rc<Proxy>, client: &Socket, buffer: &mut Buffer) -> Head {
    let limit = proxy.reactor.now() + proxy.settings.head;
    let mut ending = Ending::default();
    let read = async {
        loop {
            match ending.find(buffer.data(), &proxy.settings.bounds) {
                Ok(Some(length)) => return Head::There(length),
                Ok(None) => {}
                Err(fault) => return Head::Wrong(wrong(fault)),
            }
            if !matches!(client.read(buffer).await, Ok(1..)) {
                return Head::Ended;
            }
        }
    };
    let late = |_| Head::Wrong(Answer::new(408, format!("no whole head came in {:?}", proxy.settings.head)));
    proxy.reactor.before(Some(limit), read).await.unwrap_or_else(late)
}

/// Serves the request whose head is the first `length` bytes.
async fn one(
    proxy: &Rc<Proxy>,
    client: &Socket,
    buffer: &mut Buffer,
    length: usize,
    (to, origin): (SocketAddr, &Rc<dyn Origin>),
) -> Next {
    proxy.count(|counts| counts.requests += 1);
    let mut call = Call::new(origin.counted(), proxy.reactor.now());
    let Some(frontend) = proxy.find(to, &**origin) else {
        let text = format!("nothing is served at {to} any more");
        not_understood(proxy, &**origin, &mut call);
        return reply(proxy, client, &Answer::new(503, text).because(Reason::NoRoute), &call).await;
    };
    call.asks(frontend.own);
    let mut out = proxy.reactor.bytes();
    let whom = (to, origin.inside());
    let (way, mut asked) = match understood(proxy, &frontend, whom, buffer.data().get(..length), &mut out) {
        Ok(understood) => understood,
        Err(fault) => {
            not_understood(proxy, &**origin, &mut call);
            return reply(proxy, client, &wrong(fault), &call).await;
        }
    };
    if proxy.telemetry().is_watched() {
        call.request = buffer.data().get(..length).map(|bytes| Box::new(asked_for(proxy, bytes)));
        call.peer = origin.inside().map(|inside| inside.who().into());
    }
    buffer.consume(length);
    if !asked.expects
        && !asked.body.is_done()
        && let Err(fault) = begin_body(&mut asked.body, buffer, &mut out)
    {
        return reply(proxy, client, &wrong(fault), &call).await;
    }
    let next = match way {
        Way::Answer(answer) => {
            let unread = matches!(frontend.routing, Routing::Connections(_) | Routing::Refused);
            let keep = asked.keeps_alive && asked.body.is_done() && !unread;
            answered(proxy, client, &answer, &asked, keep, &call).await
        }
        Way::To { service, share, rule, from } => {
            call.by(from);
            call.aims(service);
            // What becomes a tunnel is no request any more.
            if !share.mirrors.is_empty() && !asked.upgrades {
                let whole = asked.body.is_done();
                let original = Original::One(&out, asked.method);
                asked.copies = proxy.mirror(&share.mirrors, (origin, call.subject(), rule), original, whole);
            }
            let asking = (out.as_slice(), &asked, &**origin);
            proxy.forward(client, buffer, asking, (&frontend, service, share, rule), &call).await
        }
    };
    proxy.ended(&call);
    proxy.reactor.give_back_bytes(out);
    next
}

fn understood<'f>(
    proxy: &Proxy,
    frontend: &'f Arc<Frontend>,
    whom: (SocketAddr, Option<&Inside>),
    bytes: Option<&[u8]>,
    out: &mut Vec<u8>,
) -> Result<(Way<'f>, Asked), Fault> {
    let bytes = bytes.unwrap_or_default();
    let mut head = proxy.head.borrow_mut();
    head.request(bytes, &proxy.settings.bounds)?;
    let way = ask(frontend, whom, (&head, bytes), &mut proxy.dice.borrow_mut(), out)?;
    Ok((way, Asked::of(&head)))
}

/// What the head that was read last asks for.
fn asked_for(proxy: &Proxy, bytes: &[u8]) -> Request {
    let head = proxy.head.borrow();
    Request::new(1, head.method_name(bytes), head.target(bytes), head.host(bytes).unwrap_or_default())
}

/// What is there of the body goes with the head.
fn begin_body(body: &mut Body, buffer: &mut Buffer, out: &mut Vec<u8>) -> Result<(), Fault> {
    let there = body.take(buffer.data())?;
    out.extend_from_slice(buffer.data().get(..there).unwrap_or_default());
    buffer.consume(there);
    Ok(())
}

pub(super) async fn answered(
    proxy: &Rc<Proxy>,
    client: &Socket,
    answer: &Answer,
    asked: &Asked,
    keep: bool,
    call: &Call,
) -> Next {
    proxy.count(|counts| counts.answered += 1);
    call.answers_itself(answer);
    let keep = keep && !proxy.draining.get();
    let connection = match (keep, asked.old) {
        (true, true) => Some("keep-alive"),
        (true, false) => None,
        (false, _) => Some("close"),
    };
    let mut out = proxy.reactor.bytes();
    answer.write(&mut out, asked.method == Method::Head, connection);
    let sent = proxy.moving(client.write(&out)).await;
    call.received(out.len());
    proxy.reactor.give_back_bytes(out);
    match sent {
        Ok(()) if keep => Next::Keep,
        Ok(()) => Next::Close,
        Err(_) => Next::Reset,
    }
}

/// What a head asks for that nobody reads is told of, too, if somebody wants to know.
fn not_understood(proxy: &Proxy, origin: &dyn Origin, call: &mut Call) {
    if proxy.telemetry().is_watched() {
        call.request = Some(Box::new(Request::new(1, "", "", "")));
        call.peer = origin.inside().map(|inside| inside.who().into());
    }
}

/// Answers what is no request.
async fn refuse(proxy: &Rc<Proxy>, client: &Socket, answer: &Answer, origin: &dyn Origin) -> Next {
    let mut call = Call::new(origin.counted(), proxy.reactor.now());
    not_understood(proxy, origin, &mut call);
    reply(proxy, client, answer, &call).await
}

/// Answers a request of which nothing else is known, and which has ended with that.
async fn reply(proxy: &Rc<Proxy>, client: &Socket, answer: &Answer, call: &Call) -> Next {
    let asked = Asked {
        method: Method::Other,
        body: Body::new(Framing::None),
        expects: false,
        upgrades: false,
        keeps_alive: false,
        old: false,
        copies: Copies::default(),
    };
    let next = answered(proxy, client, answer, &asked, false, call).await;
    proxy.ended(call);
    next
}

/// Ends a connection whose client may still be sending: closed at once, it would lose what it was sent last.
pub(super) async fn linger(proxy: &Rc<Proxy>, client: &Socket) {
    client.finish();
    let limit = proxy.reactor.now() + LINGER;
    let read = async {
        let (mut buffer, mut unwanted) = (proxy.reactor.buffer(), 0);
        while unwanted < UNWANTED {
            match client.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => unwanted += count,
            }
            buffer.consume(buffer.data().len());
        }
        proxy.reactor.give_back(buffer);
    };
    let _elapsed = proxy.reactor.before(Some(limit), read).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How much is held for as long as this runs.
    fn size<F>(_: impl FnOnce(Rc<Proxy>, Socket, SocketAddr, Rc<dyn Origin>, Open) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_of_http_1_does_not_hold_what_http_2_needs() {
        let two = size(|proxy, client, to, origin, _| http2::serve(proxy, client, to, origin, None));
        assert!(size(serve) < two, "{} of {two}", size(serve));
    }
}
