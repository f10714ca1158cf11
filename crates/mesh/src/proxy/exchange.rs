//! One try of a request at one endpoint.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::ask::Asked;
use super::failed::Failed;
use super::progress::{Progress, Stage};
use super::tunnel::{Torn, carry};
use super::{Origin, Proxy};
use crate::balance::{Pick, Went};
use crate::http1::{Body, Edits, Ending, Fault, Framing, response};
use crate::reactor::{Buffer, Socket, race};
use crate::telemetry::Call;

/// From so many bytes on a body is passed on unread.
const UNREAD: u64 = 64 << 10;
/// So many answers of 100 and more may come before the one that counts.
pub(super) const INFORMATIONAL: u32 = 16;

/// A try.
pub(super) struct Exchange<'a> {
    pub(super) proxy: &'a Rc<Proxy>,
    pub(super) origin: &'a dyn Origin,
    pub(super) client: &'a Socket,
    /// The request's head, and what there was of its body.
    pub(super) out: &'a [u8],
    pub(super) asked: &'a Asked,
    pub(super) response: &'a Edits,
    pub(super) pick: &'a Pick,
    /// Whether an answer with this status is not passed on, since the request is tried again. If so the budget has been charged for it.
    pub(super) swallows: &'a dyn Fn(u16) -> bool,
    /// Whether only a new connection is good enough.
    pub(super) fresh: bool,
    pub(super) progress: &'a Progress,
    /// Where it is counted.
    pub(super) call: &'a Call,
}

/// What becomes of the client's connection.
pub(super) enum Done {
    Keep,
    Close,
    Tunnel(Socket),
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
    /// The endpoint has taken nothing for too long.
    Stuck,
}

impl Exchange<'_> {
    pub(super) async fn run(&self, buffer: &mut Buffer) -> Result<Done, Failed> {
        let (reactor, progress) = (&self.proxy.reactor, self.progress);
        let address = self.pick.address();
        let place = (self.origin.network(), address);
        progress.stage.set(Stage::Reaching);
        let pooled = if self.fresh { None } else { self.proxy.pool.take(place, reactor.now()) };
        // What must not be sent twice is not sent over a connection of which the kernel knows that it has ended.
        let pooled = pooled.filter(|pooled| self.asked.method.is_idempotent() || !pooled.looks_stale());
        let used = pooled.is_some();
        let server = match pooled {
            Some(pooled) => pooled,
            None => {
                let server = self.proxy.reach(self.origin, address).await.map_err(Failed::NoConnection)?;
                server.set_patience(self.proxy.settings.stall);
                server
            }
        };
        let began = Instant::now();
        // The answer may come before all was sent. Once it was, all that is left to do on this side is to see whether somebody still waits.
        let upload = async { Err(self.upload(&server, buffer, used).await) };
        let passed = race(upload, self.download(&server, used, began)).await?;
        let sent = progress.stage.get() == Stage::Asked;
        if passed.tunnel {
            // What the client has sent behind its request is not for us.
            if !sent || self.proxy.moving(server.write(buffer.data())).await.is_err() {
                return Err(Failed::Client);
            }
            buffer.consume(buffer.data().len());
            // Who has a tunnel may rest as it likes.
            server.set_patience(Duration::ZERO);
            return Ok(Done::Tunnel(server));
        }
        if passed.reusable && sent {
            self.proxy.pool.put(place, server, reactor.now());
        }
        Ok(if passed.keep && sent { Done::Keep } else { Done::Close })
    }

    /// Sends the request, then waits until nobody wants its answer any more. Why there will be none.
    async fn upload(&self, server: &Socket, buffer: &mut Buffer, used: bool) -> Failed {
        let gone = async || {
            self.progress.gone(self.proxy, self.client).await;
            Failed::Client
        };
        let write = async { Ok(self.proxy.moving(server.write(self.out)).await) };
        let unsent = match race(write, async { Err(gone().await) }).await {
            Err(gone) => return gone,
            Ok(Err(e)) if e.kind() == io::ErrorKind::TimedOut => Err(Unsent::Stuck),
            Ok(Err(_)) if used => return Failed::Stale,
            Ok(Err(_)) => Err(Unsent::Endpoint),
            Ok(Ok(())) => {
                self.call.sent(self.out.len());
                self.rest_of_request(server, buffer).await
            }
        };
        match unsent {
            Ok(()) => self.progress.stage.set(Stage::Asked),
            // It may have answered.
            Err(Unsent::Endpoint) => {}
            // It may be answering, and has its reason not to take the rest.
            Err(Unsent::Stuck) if self.progress.answering.get() => {}
            Err(Unsent::Stuck) => return Failed::NoAnswer,
            Err(Unsent::Client) => return Failed::Client,
            Err(Unsent::Request(fault)) => return Failed::Request(fault),
        }
        gone().await
    }

    /// What comes of the request's body behind what came with its head.
    async fn rest_of_request(&self, server: &Socket, buffer: &mut Buffer) -> Result<(), Unsent> {
        let mut body = self.asked.body.clone();
        // Who waits for a 100 waits for the endpoint.
        if !body.is_done() && !self.asked.expects {
            self.progress.stage.set(Stage::Uploading);
        }
        while !body.is_done() {
            if buffer.is_empty() {
                // What is copied is read.
                if body.ahead() >= UNREAD && !self.asked.copies.are_wanted() {
                    self.beyond_the_head();
                    let count = body.ahead();
                    carry(self.proxy, self.client, server, count).await.map_err(|torn| match torn {
                        Torn::To => Unsent::Endpoint,
                        Torn::Stuck => Unsent::Stuck,
                        Torn::From | Torn::Own => Unsent::Client,
                    })?;
                    self.call.sent(usize::try_from(count).unwrap_or(usize::MAX));
                    body.pass(count);
                    continue;
                }
                if !matches!(self.proxy.moving(self.client.read(buffer)).await, Ok(1..)) {
                    return Err(Unsent::Client);
                }
            }
            self.beyond_the_head();
            let count = body.take(buffer.data()).map_err(Unsent::Request)?;
            let piece = buffer.data().get(..count).unwrap_or_default();
            self.asked.copies.push(piece);
            let sent = self.proxy.moving(server.write(piece)).await;
            self.call.sent(count);
            buffer.consume(count);
            sent.map_err(
                |e| {
                    if e.kind() == io::ErrorKind::TimedOut { Unsent::Stuck } else { Unsent::Endpoint }
                },
            )?;
        }
        self.asked.copies.end(None);
        Ok(())
    }

    fn beyond_the_head(&self) {
        self.progress.uploading.set(true);
        self.progress.stage.set(Stage::Uploading);
    }

    /// The answer, from the endpoint to the client.
    async fn download(&self, server: &Socket, used: bool, began: Instant) -> Result<Passed, Failed> {
        let reactor = &self.proxy.reactor;
        server.readable().await;
        let mut buffer = reactor.buffer();
        let mut out = reactor.bytes();
        let mut informational = 0;
        let mut head = loop {
            let length = self.head(server, &mut buffer, used && informational == 0).await?;
            match self.read(buffer.data().get(..length), began, &mut out)? {
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
                    // It is no answer yet: what fails behind it is still answered, but not in the middle of it.
                    self.answer(&out).await?;
                    self.progress.answering.set(false);
                    if self.progress.stage.get() == Stage::Reaching {
                        self.progress.stage.set(Stage::Uploading);
                    }
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

    /// The length of the next head, once it is there. How long it takes to begin is the route's to bound.
    async fn head(&self, server: &Socket, buffer: &mut Buffer, used: bool) -> Result<usize, Failed> {
        let mut ending = Ending::default();
        loop {
            match ending.find(buffer.data(), &self.proxy.settings.bounds) {
                Ok(Some(length)) => return Ok(length),
                Ok(None) => {}
                Err(fault) => return Err(Failed::Broken(fault)),
            }
            let begun = !buffer.is_empty();
            match self.next(server, buffer, begun).await {
                Ok(1..) => {}
                _ if used && !begun => return Err(Failed::Stale),
                _ => return Err(Failed::NoAnswer),
            }
        }
    }

    /// Reads a head and writes it as the client gets it; `None` where the answer is still to come.
    fn read(
        &self,
        bytes: Option<&[u8]>,
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
        if !self.progress.uploading.get() && (self.swallows)(status) {
            return Err(Failed::Status(status));
        }
        let plain = asked.old && framing == Framing::Chunked;
        // A client that is still sending is not waited for.
        let uploaded = self.progress.stage.get() == Stage::Asked;
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
                self.progress.carrying.set(true);
                let carried = carry(self.proxy, server, self.client, count).await;
                self.progress.carrying.set(false);
                carried.map_err(|torn| match torn {
                    Torn::From => Failed::NoAnswer,
                    // It is cut all the same, and the endpoint has done nothing for that.
                    Torn::To | Torn::Stuck | Torn::Own => Failed::Client,
                })?;
                self.call.received(usize::try_from(count).unwrap_or(usize::MAX));
                body.pass(count);
                continue;
            }
            // Between two chunks, or with an end that nobody knows, an answer may be a stream of events that rests as the route lets it.
            match self.next(server, buffer, body.has_begun()).await {
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

    /// Reads more of an answer; what has begun rests no longer than it may.
    async fn next(&self, server: &Socket, buffer: &mut Buffer, begun: bool) -> io::Result<usize> {
        let read = server.read(buffer);
        if begun { self.proxy.moving(read).await } else { read.await }
    }

    async fn answer(&self, bytes: &[u8]) -> Result<(), Failed> {
        self.progress.answering.set(true);
        self.progress.pieces.set(self.progress.pieces.get() + 1);
        self.call.received(bytes.len());
        self.proxy.moving(self.client.write(bytes)).await.map_err(|_| Failed::Client)
    }

    fn note(&self, status: u16, began: Instant) {
        self.call.answers(status);
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
