//! Bodies: what clients send, what is answered whole, and what is made while it is sent.

use std::any::Any;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::{mpsc, watch};

use super::api::LARGE;
use super::budget::Held;
use super::dress::Dress;
use super::guard::guarded;
use crate::contract::{Reason, Result, Status};
use crate::registry::{Listing, Watching};

/// What a client may send at most, as Kubernetes has it.
pub(crate) const BODY_MAX: usize = 3 * 1024 * 1024;
/// A body counts as so much at least: what is kept of a request beside it.
const BODY_MIN: usize = 4 * 1024;
/// So long may pass without a byte of a body.
const STALL: Duration = Duration::from_secs(10);
/// As much of a refused request's body is read as this, and for so long: who is still sending when the answer comes, over
/// HTTP/2, would lose it.
const UNREAD_MAX: usize = 64 * 1024;
const UNREAD_PATIENCE: Duration = Duration::from_secs(1);
/// As much of an answer is dressed at once.
const PIECE: usize = 32 * 1024;

/// The body of an answer.
pub(crate) struct Body {
    kind: Kind,
    /// Bytes of it that are in memory from the beginning.
    holds: usize,
    /// Whether somebody has seen to what it holds: it is counted, or it is shared with others.
    counted: bool,
    /// What is given back when the answer has been sent.
    kept: Vec<Box<dyn Any + Send>>,
}

enum Kind {
    /// All of it; `None` when it has been sent.
    Whole(Option<Bytes>),
    /// One frame after the other, made when the client has taken the one before.
    Stream(Option<Next>),
}

/// Frames to come. The future gives the next one and what makes the one after it.
type Next = Pin<Box<dyn Future<Output = Option<std::result::Result<(Bytes, Source), Broken>>> + Send>>;

/// Why a body ends before its end.
#[derive(Debug, thiserror::Error)]
#[error("cannot go on with the answer: {0}")]
pub(crate) struct Broken(String);

impl Broken {
    /// Whoever makes the answer has broken off.
    pub(crate) fn off(cause: &dyn std::fmt::Display) -> Broken {
        Broken(cause.to_string())
    }
}

/// What somebody sends, piece by piece.
pub(crate) enum Pieces {
    /// They end with their sender.
    Endless(mpsc::Receiver<Bytes>),
    /// The sender tells when they end before their end.
    Breakable(mpsc::Receiver<std::result::Result<Bytes, Broken>>),
}

impl Pieces {
    async fn next(&mut self) -> Option<std::result::Result<Bytes, Broken>> {
        match self {
            Pieces::Endless(receiver) => receiver.recv().await.map(Ok),
            Pieces::Breakable(receiver) => receiver.recv().await,
        }
    }
}

/// Where frames come from.
enum Source {
    Watch(Box<Watching>, Ending),
    Channel(Pieces, Ending),
    Json(Json, Box<Dress>),
}

/// JSON that is sent in pieces.
enum Json {
    /// A list that has begun with this.
    List(Bytes, Box<Listing>),
    Bytes(Bytes),
    Nothing,
}

/// Says that a stream has to end: the server is stopping. Dropped, it counts the stream as gone.
pub(crate) struct Ending {
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) counted: Option<super::metrics::Watcher>,
}

impl Body {
    /// All of it at once.
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Body {
        let bytes: Bytes = bytes.into();
        Body { holds: bytes.len(), ..Body::of(Kind::Whole(Some(bytes))) }
    }

    fn of(kind: Kind) -> Body {
        Body { kind, holds: 0, counted: false, kept: Vec::new() }
    }

    /// The same bytes for whoever asks for them.
    pub(crate) fn shared(bytes: Bytes) -> Body {
        Body { counted: true, ..Body::whole(bytes) }
    }

    /// Bytes of it that are in memory until it has been sent.
    pub(crate) fn holds(&self) -> usize {
        self.holds
    }

    /// Whether it is large, and nobody has seen to what it holds.
    pub(crate) fn is_to_count(&self) -> bool {
        self.holds > LARGE && !self.counted
    }

    /// Nothing.
    pub(crate) fn empty() -> Body {
        Body::of(Kind::Whole(None))
    }

    fn stream(source: Source) -> Body {
        Body::of(Kind::Stream(Some(source.next())))
    }

    /// The events of a watch. An event is read when the one before is taken, so a slow client holds up nobody else.
    pub(crate) fn watch(watching: Watching, ending: Ending) -> Body {
        Body::stream(Source::Watch(Box::new(watching), ending))
    }

    /// What somebody sends.
    pub(crate) fn channel(pieces: Pieces, stop: watch::Receiver<bool>) -> Body {
        Body::stream(Source::Channel(pieces, Ending { stop, counted: None }))
    }

    /// JSON, dressed as it is sent.
    pub(crate) fn dressed(json: Bytes, dress: Dress) -> Body {
        let holds = json.len();
        Body { holds, ..Body::stream(Source::Json(Json::Bytes(json), Box::new(dress))) }
    }

    /// A list, of which `first` is read already.
    pub(crate) fn list(first: Bytes, rest: Listing, dress: Dress) -> Body {
        Body::stream(Source::Json(Json::List(first, Box::new(rest)), Box::new(dress)))
    }

    /// Holds something until all of it has been sent.
    pub(crate) fn keep(&mut self, kept: impl Any + Send) {
        self.counted = true;
        match &mut self.kind {
            // What sends it may hold the bytes for longer than the body.
            Kind::Whole(Some(bytes)) if !bytes.is_empty() => {
                *bytes = Bytes::from_owner(Kept { bytes: std::mem::take(bytes), _kept: Box::new(kept) });
            }
            _ => self.kept.push(Box::new(kept)),
        }
    }

    /// Holds something for as long as the body is there.
    pub(crate) fn with(&mut self, kept: impl Any + Send) {
        self.kept.push(Box::new(kept));
    }
}

struct Kept {
    bytes: Bytes,
    _kept: Box<dyn Any + Send>,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Source {
    fn next(self) -> Next {
        Box::pin(async move {
            match guarded(self.frame()).await {
                Ok(frame) => frame,
                Err(panicked) => Some(Err(Broken(panicked.told("a stream").message))),
            }
        })
    }

    async fn frame(self) -> Option<std::result::Result<(Bytes, Source), Broken>> {
        match self {
            Source::Watch(mut watching, mut ending) => {
                let frame = tokio::select! {
                    frame = watching.next() => frame?,
                    _ = ending.stop.wait_for(|stop| *stop) => return None,
                };
                if let Some(counted) = &ending.counted {
                    counted.event(frame.len());
                }
                Some(Ok((frame, Source::Watch(watching, ending))))
            }
            Source::Channel(mut pieces, mut ending) => {
                let frame = tokio::select! {
                    frame = pieces.next() => frame?,
                    _ = ending.stop.wait_for(|stop| *stop) => return None,
                };
                Some(frame.map(|frame| (frame, Source::Channel(pieces, ending))))
            }
            Source::Json(json, dress) => json.frame(dress).await.transpose(),
        }
    }
}

impl Json {
    async fn frame(self, mut dress: Box<Dress>) -> std::result::Result<Option<(Bytes, Source)>, Broken> {
        let mut json = self;
        loop {
            let (piece, rest) = match json {
                Json::Bytes(mut bytes) => {
                    let piece = bytes.split_to(bytes.len().min(PIECE));
                    (piece, if bytes.is_empty() { Json::Nothing } else { Json::Bytes(bytes) })
                }
                Json::List(mut first, mut listing) => {
                    let piece = first.split_to(first.len().min(PIECE));
                    let next = if first.is_empty() {
                        listing.next().await.map_err(|status| Broken(status.message))?
                    } else {
                        Some(first)
                    };
                    (piece, next.map_or(Json::Nothing, |next| Json::List(next, listing)))
                }
                Json::Nothing => {
                    let end = dress.end();
                    let source = || Source::Json(Json::Nothing, Box::new(Dress::new(false, false)));
                    return Ok((!end.is_empty()).then(|| (end.into(), source())));
                }
            };
            let piece = if dress.is_plain() { piece } else { dress.piece(&piece).into() };
            if !piece.is_empty() {
                return Ok(Some((piece, Source::Json(rest, dress))));
            }
            json = rest;
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Broken>>> {
        match &mut self.get_mut().kind {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Stream(next) => {
                let Some(future) = next else {
                    return Poll::Ready(None);
                };
                match future.as_mut().poll(context) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(None) => {
                        *next = None;
                        Poll::Ready(None)
                    }
                    Poll::Ready(Some(Err(broken))) => {
                        *next = None;
                        Poll::Ready(Some(Err(broken)))
                    }
                    Poll::Ready(Some(Ok((bytes, source)))) => {
                        *next = Some(source.next());
                        Poll::Ready(Some(Ok(Frame::data(bytes))))
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Kind::Stream(next) => next.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Kind::Stream(_) => SizeHint::default(),
        }
    }
}

/// Reads what a client sends: [`BODY_MAX`] bytes at most, counted as they come.
pub(crate) async fn read(body: &mut Incoming, held: &mut Held) -> Result<Bytes> {
    let told = usize::try_from(http_body::Body::size_hint(body).lower()).unwrap_or(usize::MAX);
    if told > BODY_MAX {
        return Err(too_large());
    }
    held.more(BODY_MIN)?;
    let mut whole = bytes::BytesMut::new();
    while let Some(frame) = tokio::time::timeout(STALL, body.frame()).await.map_err(|_| stalled())? {
        let frame = frame.map_err(|error| Status::bad_request(format!("cannot read the body: {error}")))?;
        if let Some(data) = frame.data_ref() {
            if whole.len() + data.len() > BODY_MAX {
                return Err(too_large());
            }
            held.more(data.len())?;
            whole.extend_from_slice(data);
        }
    }
    Ok(whole.freeze())
}

/// Reads a little of what nobody wants to know.
pub(crate) async fn pass_over(mut body: Incoming) {
    let mut left = UNREAD_MAX;
    let passing = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    // Who does not send it in time may lose the answer.
    let _ = tokio::time::timeout(UNREAD_PATIENCE, passing).await;
}

fn too_large() -> Status {
    let message = format!("Request entity too large: limit is {BODY_MAX}");
    Status::new(413, Reason::RequestEntityTooLarge, message)
}

fn stalled() -> Status {
    let message = format!("Timeout: no byte of the body came for {} seconds", STALL.as_secs());
    Status::new(408, Reason::Timeout, message)
}
