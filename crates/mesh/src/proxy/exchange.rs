//! One try of a request at one endpoint.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use super::Proxy;
use super::ask::Asked;
use super::tunnel::carry;
use crate::balance::{Pick, Went};
use crate::http1::{Body, Edits, Ending, Fault, Framing, response};
use crate::reactor::{Buffer, Socket, both, race};

/// From so many bytes on a body is passed on unread.
const UNREAD: u64 = 64 << 10;
/// So many answers of 100 and more may come before the one that counts.
const INFORMATIONAL: u32 = 16;

/// A try.
pub(super) struct Exchange<'a> {
    pub(super) proxy: &'a Rc<Proxy>,
    pub(super) client: &'a Socket,
    /// The request's head, and what there was of its body.
    pub(super) out: &'a [u8],
    pub(super) asked: &'a Asked,
    pub(super) response: &'a Edits,
    pub(super) pick: &'a Pick,
    /// Answers that are not passed on, since the request is tried again.
    pub(super) codes: &'a [u16],
    /// Whether only a new connection is good enough.
    pub(super) fresh: bool,
    /// Set when the client is sent something.
    pub(super) answering: &'a Cell<bool>,
    /// Set when more of the body is read: it cannot be sent once more.
    pub(super) uploading: &'a Cell<bool>,
}

/// What becomes of the client's connection.
pub(super) enum Done {
    Keep,
    Close,
    Tunnel(Socket),
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failed {
    NoConnection(io::Error),
    /// A connection that was used before had ended.
    Stale,
    NoAnswer,
    /// An answer that breaks the rules.
    Broken(Fault),
    /// An answer that is to be tried again.
    Status(u16),
    Late,
    /// The client is gone.
    Client,
    /// The request's body breaks the rules.
    Request(Fault),
}

impl Failed {
    pub(super) fn answer(&self, frontend: &str, endpoint: SocketAddr) -> (u16, String) {
        match self {
            Self::NoConnection(e) => (503, format!("{frontend}: cannot connect to {endpoint}: {e}")),
            Self::Stale | Self::NoAnswer => {
                (502, format!("{frontend}: {endpoint} ended the connection without an answer"))
            }
            Self::Broken(fault) => (502, format!("{frontend}: the answer of {endpoint} is refused: {fault}")),
            Self::Status(status) => (*status, format!("{frontend}: {endpoint} answered {status}")),
            Self::Late => (504, format!("{frontend}: {endpoint} took longer than the route lets it")),
            Self::Client => (408, "the client is gone".into()),
            Self::Request(fault) => (400, format!("the request is refused: {fault}")),
        }
    }
}

/// An answer that was passed on.
struct Passed {
    /// The endpoint's connection can be used again.
    reusable: bool,
    /// So can the client's.
    keep: bool,
    tunnel: bool,
}

/// An answer whose head was read.
struct Answering {
    body: Body,
    reusable: bool,
    keep: bool,
    tunnel: bool,
    /// The body is passed on without what surrounds its chunks.
    plain: bool,
}

/// Why a request's body did not get there.
enum Unsent {
    Client,
    Request(Fault),
    /// The endpoint takes no more; it may have answered.
    Endpoint,
}

impl Exchange<'_> {
    pub(super) async fn run(&self, buffer: &mut Buffer) -> Result<Done, Failed> {
        let reactor = &self.proxy.reactor;
        let address = self.pick.address();
        let pooled = if self.fresh { None } else { self.proxy.pool.take(address, reactor.now()) };
        // What must not be sent twice is not sent over a connection of which the kernel knows that it has ended.
        let pooled = pooled.filter(|pooled| self.asked.method.is_idempotent() || !pooled.looks_stale());
        let used = pooled.is_some();
        let server = match pooled {
            Some(pooled) => pooled,
            None => {
                let limit = reactor.now() + self.proxy.settings.connect;
                let connected = reactor.before(Some(limit), Socket::connect(reactor, address)).await;
                let late = |_| Err(io::ErrorKind::TimedOut.into());
                let server = connected.unwrap_or_else(late).map_err(Failed::NoConnection)?;
                self.proxy.count(|counts| counts.connected += 1);
                server
            }
        };
        let began = Instant::now();
        if server.write(self.out).await.is_err() && used {
            return Err(Failed::Stale);
        }
        let done = Cell::new(self.asked.body.is_done());
        let mut body = self.asked.body.clone();
        let (sent, passed) = if done.get() {
            let gone = async {
                self.client.dead().await;
                Err(Failed::Client)
            };
            let passed = race(self.download(&server, used, &done, began), gone).await;
            (true, passed?)
        } else {
            let upload = pin!(self.upload(&server, buffer, &mut body, &done));
            let download = pin!(self.download(&server, used, &done, began));
            let give_up =
                |sent: &Result<(), Unsent>| matches!(sent, Err(Unsent::Client | Unsent::Request(_)));
            match both(upload, download, give_up).await {
                (Some(Err(Unsent::Request(fault))), _) => return Err(Failed::Request(fault)),
                (sent, Some(passed)) => (matches!(sent, Some(Ok(()))), passed?),
                _ => return Err(Failed::Client),
            }
        };
        if passed.tunnel {
            // What the client has sent behind its request is not for us.
            if !sent || server.write(buffer.data()).await.is_err() {
                return Err(Failed::Client);
            }
            buffer.consume(buffer.data().len());
            return Ok(Done::Tunnel(server));
        }
        if passed.reusable && sent {
            self.proxy.pool.put(address, server, reactor.now());
        }
        Ok(if passed.keep && sent { Done::Keep } else { Done::Close })
    }

    /// The rest of the request's body.
    async fn upload(
        &self,
        server: &Socket,
        buffer: &mut Buffer,
        body: &mut Body,
        done: &Cell<bool>,
    ) -> Result<(), Unsent> {
        while !body.is_done() {
            if buffer.is_empty() {
                if body.ahead() >= UNREAD {
                    self.uploading.set(true);
                    let count = body.ahead();
                    let carried = carry(self.proxy, self.client, server, count).await;
                    match carried {
                        Ok(()) => {}
                        Err(_) if server.is_dead() => return Err(Unsent::Endpoint),
                        Err(_) => return Err(Unsent::Client),
                    }
                    body.pass(count);
                    continue;
                }
                if !matches!(self.moving(self.client.read(buffer)).await, Ok(1..)) {
                    return Err(Unsent::Client);
                }
            }
            self.uploading.set(true);
            let count = body.take(buffer.data()).map_err(Unsent::Request)?;
            let sent = self.moving(server.write(buffer.data().get(..count).unwrap_or_default())).await;
            buffer.consume(count);
            sent.map_err(|_| Unsent::Endpoint)?;
        }
        done.set(true);
        Ok(())
    }

    /// The answer, from the endpoint to the client.
    async fn download(
        &self,
        server: &Socket,
        used: bool,
        uploaded: &Cell<bool>,
        began: Instant,
    ) -> Result<Passed, Failed> {
        let reactor = &self.proxy.reactor;
        server.readable().await;
        let mut buffer = reactor.buffer();
        let mut out = reactor.bytes();
        let mut informational = 0;
        let mut head = loop {
            let length = self.head(server, &mut buffer, used && informational == 0).await?;
            match self.read(buffer.data().get(..length), uploaded.get(), began, &mut out)? {
                Some(head) => {
                    buffer.consume(length);
                    break head;
                }
                None => {
                    informational += 1;
                    if informational > INFORMATIONAL {
                        return Err(Failed::Broken(Fault::FirstLine(
                            "the answer, after as many that are none",
                        )));
                    }
                    buffer.consume(length);
                    // It is no answer yet: what fails now is still answered.
                    self.client.write(&out).await.map_err(|_| Failed::Client)?;
                }
            }
        };
        if head.tunnel {
            out.extend_from_slice(buffer.data());
            self.answer(&out).await?;
            return Ok(Passed { reusable: false, keep: false, tunnel: true });
        }
        // What is there of the body goes with the head.
        pour(&mut head.body, &mut buffer, &mut out, head.plain).map_err(Failed::Broken)?;
        self.answer(&out).await?;
        if !head.body.is_done() {
            self.rest(server, &mut head, &mut buffer, &mut out).await?;
        }
        // What comes behind an answer was not asked for: nobody can tell what it answers.
        let reusable = head.reusable && buffer.is_empty();
        reactor.give_back(buffer);
        reactor.give_back_bytes(out);
        Ok(Passed { reusable, keep: head.keep, tunnel: false })
    }

    /// The length of the next head, once it is there.
    async fn head(&self, server: &Socket, buffer: &mut Buffer, used: bool) -> Result<usize, Failed> {
        let mut ending = Ending::default();
        loop {
            match ending.find(buffer.data(), &self.proxy.settings.bounds) {
                Ok(Some(length)) => return Ok(length),
                Ok(None) => {}
                Err(fault) => return Err(Failed::Broken(fault)),
            }
            match server.read(buffer).await {
                Ok(1..) => {}
                _ if used && buffer.is_empty() => return Err(Failed::Stale),
                _ => return Err(Failed::NoAnswer),
            }
        }
    }

    /// Reads a head and writes it as the client gets it; `None` where the answer is still to come.
    fn read(
        &self,
        bytes: Option<&[u8]>,
        uploaded: bool,
        began: Instant,
        out: &mut Vec<u8>,
    ) -> Result<Option<Answering>, Failed> {
        let (proxy, asked, bytes) = (self.proxy, self.asked, bytes.unwrap_or_default());
        let mut head = proxy.head.borrow_mut();
        head.response(bytes, asked.method, &proxy.settings.bounds).map_err(Failed::Broken)?;
        out.clear();
        let (status, tunnel, framing) = (head.status(), head.upgrades(), head.framing());
        if status < 200 && !tunnel {
            // A client of HTTP/1.0 knows of none of these.
            if !asked.old {
                response(out, bytes, &head, None, None, false);
            }
            return Ok(None);
        }
        if tunnel && !asked.upgrades {
            return Err(Failed::Broken(Fault::FirstLine("of an answer to what was asked (101)")));
        }
        self.note(status, began);
        if self.codes.contains(&status) && !self.uploading.get() {
            return Err(Failed::Status(status));
        }
        let plain = asked.old && framing == Framing::Chunked;
        // A client that is still sending is not waited for.
        let keep =
            asked.keeps_alive && uploaded && framing != Framing::Close && !plain && !proxy.draining.get();
        let connection = match (keep || tunnel, asked.old) {
            (true, true) => Some("keep-alive"),
            (true, false) => None,
            (false, _) => Some("close"),
        };
        let edits = (!self.response.is_empty()).then_some(self.response);
        response(out, bytes, &head, edits, connection, plain);
        let reusable = head.keeps_alive() && framing != Framing::Close;
        Ok(Some(Answering { body: Body::new(framing), reusable, keep, tunnel, plain }))
    }

    /// What comes of the body behind what came with the head.
    async fn rest(
        &self,
        server: &Socket,
        head: &mut Answering,
        buffer: &mut Buffer,
        out: &mut Vec<u8>,
    ) -> Result<(), Failed> {
        let Answering { body, plain, .. } = head;
        while !body.is_done() {
            if body.ahead() >= UNREAD && !body.ends_with_connection() && !*plain {
                let count = body.ahead();
                carry(self.proxy, server, self.client, count).await.map_err(|_| Failed::NoAnswer)?;
                body.pass(count);
                continue;
            }
            match server.read(buffer).await {
                Ok(1..) => {}
                Ok(0) if body.ends_with_connection() => break,
                _ => return Err(Failed::NoAnswer),
            }
            if *plain {
                out.clear();
                pour(body, buffer, out, true).map_err(Failed::Broken)?;
                self.answer(out).await?;
            } else {
                let count = body.take(buffer.data()).map_err(Failed::Broken)?;
                self.answer(buffer.data().get(..count).unwrap_or_default()).await?;
                buffer.consume(count);
            }
        }
        Ok(())
    }

    async fn answer(&self, bytes: &[u8]) -> Result<(), Failed> {
        self.answering.set(true);
        self.moving(self.client.write(bytes)).await.map_err(|_| Failed::Client)
    }

    /// Waits for a peer that has begun to send or to take something no longer than it may rest. How long a backend thinks is the route's to
    /// bound.
    async fn moving<T>(&self, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let reactor = &self.proxy.reactor;
        let limit = reactor.now() + self.proxy.settings.stall;
        reactor.before(Some(limit), work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    fn note(&self, status: u16, began: Instant) {
        let now = Instant::now();
        let took = now.saturating_duration_since(began);
        self.pick.went(if status < 500 { Went::Well(took) } else { Went::Badly(status, took) }, now);
    }
}

/// What there is of a body; `plain` without what surrounds its chunks.
fn pour(body: &mut Body, buffer: &mut Buffer, out: &mut Vec<u8>, plain: bool) -> Result<(), Fault> {
    if !plain {
        let count = body.take(buffer.data())?;
        out.extend_from_slice(buffer.data().get(..count).unwrap_or_default());
        buffer.consume(count);
        return Ok(());
    }
    while !body.is_done() && !buffer.is_empty() {
        let piece = body.next(buffer.data())?;
        if piece.data {
            out.extend_from_slice(buffer.data().get(..piece.used).unwrap_or_default());
        }
        buffer.consume(piece.used);
    }
    Ok(())
}
