//! A copy over HTTP/1.1.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::task::Poll;

use super::super::exchange::INFORMATIONAL;
use super::super::{Origin, Proxy, Service};
use super::feed::Feed;
use super::{connected, note};
use crate::http1::{Body, Ending, Framing, Method};
use crate::reactor::{Buffer, Socket, race};
use crate::telemetry::Unmirrored;

/// How far what waits was sent.
enum Step {
    Some,
    All,
    Waits,
    /// The endpoint takes no more.
    Ended,
}

/// Sends a copy and reads its answer, whose status it gives.
///
/// # Errors
/// There is none.
pub(super) async fn ask(
    proxy: &Rc<Proxy>,
    origin: &Rc<dyn Origin>,
    service: Service,
    feed: &Feed,
    method: Method,
) -> Result<u16, Unmirrored> {
    // One that has ended cannot be told from one that does not answer, and nothing is sent twice.
    let there =
        |place| proxy.pool.take(place, proxy.reactor.now()).filter(|server: &Socket| !server.looks_stale());
    let (pick, server) = connected(proxy, origin, service, there, |socket| socket).await?;
    let began = proxy.reactor.now();
    let sent = Cell::new(false);
    let sending = async {
        match send(feed, &server).await {
            Ok(true) => sent.set(true),
            // It may have answered.
            Ok(false) => feed.close(),
            Err(lost) => return Err(lost),
        }
        pending().await
    };
    let answered = race(sending, answer(proxy, &server, method)).await;
    let now = proxy.reactor.now();
    note(&pick, answered.map(|(status, _)| status), now.saturating_duration_since(began), now);
    let (status, reusable) = answered?;
    if reusable && sent.get() {
        proxy.pool.put((origin.network(), pick.address()), server, now);
    }
    Ok(status)
}

/// Sends all of a copy; false where the endpoint takes no more of it.
async fn send(feed: &Feed, server: &Socket) -> Result<bool, Unmirrored> {
    let step = |bytes: &[u8], whole: bool| match (bytes.is_empty(), whole) {
        (true, true) => (0, Step::All),
        (true, false) => (0, Step::Waits),
        (false, _) => match server.poll_write(bytes) {
            Poll::Ready(Ok(count)) => (count, Step::Some),
            Poll::Ready(Err(_)) => (0, Step::Ended),
            Poll::Pending => (0, Step::Waits),
        },
    };
    poll_fn(|_| {
        loop {
            match feed.look(|bytes, whole, _| step(bytes, whole)) {
                Ok(Step::Some) => {}
                Ok(Step::All) => return Poll::Ready(Ok(true)),
                Ok(Step::Ended) => return Poll::Ready(Ok(false)),
                Ok(Step::Waits) => return Poll::Pending,
                Err(lost) => return Poll::Ready(Err(lost)),
            }
        }
    })
    .await
}

/// Reads an answer to its end and keeps nothing of it. Its status, and whether the connection can be used again.
async fn answer(proxy: &Rc<Proxy>, server: &Socket, method: Method) -> Result<(u16, bool), Unmirrored> {
    let mut buffer = proxy.reactor.buffer();
    let mut informational = 0;
    let (status, framing, keeps) = loop {
        let length = head(proxy, server, &mut buffer).await?;
        let read = read(proxy, buffer.data().get(..length).unwrap_or_default(), method)?;
        buffer.consume(length);
        if read.0 >= 200 {
            break read;
        }
        informational += 1;
        if read.0 == 101 || informational > INFORMATIONAL {
            return Err(Unmirrored::NoAnswer);
        }
    };
    let mut body = Body::new(framing);
    loop {
        let count = body.take(buffer.data()).map_err(|_| Unmirrored::NoAnswer)?;
        buffer.consume(count);
        if body.is_done() {
            break;
        }
        match server.read(&mut buffer).await {
            Ok(1..) => {}
            Ok(0) if body.ends_with_connection() => break,
            _ => return Err(Unmirrored::NoAnswer),
        }
    }
    let reusable = keeps && framing != Framing::Close && buffer.is_empty();
    proxy.reactor.give_back(buffer);
    Ok((status, reusable))
}

/// The length of the next head, once it is there.
async fn head(proxy: &Rc<Proxy>, server: &Socket, buffer: &mut Buffer) -> Result<usize, Unmirrored> {
    let mut ending = Ending::default();
    loop {
        match ending.find(buffer.data(), &proxy.settings.bounds) {
            Ok(Some(length)) => return Ok(length),
            Ok(None) => {}
            Err(_) => return Err(Unmirrored::NoAnswer),
        }
        if !matches!(server.read(buffer).await, Ok(1..)) {
            return Err(Unmirrored::NoAnswer);
        }
    }
}

/// What a head says: the status, how the body ends, and whether the connection goes on behind it.
fn read(proxy: &Proxy, bytes: &[u8], method: Method) -> Result<(u16, Framing, bool), Unmirrored> {
    let mut head = proxy.head.borrow_mut();
    head.response(bytes, method, &proxy.settings.bounds).map_err(|_| Unmirrored::NoAnswer)?;
    Ok((head.status(), head.framing(), head.keeps_alive()))
}
