//! Bodies: what is answered whole, and what is streamed.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::watch;

use crate::contract::{Reason, Result, Status};
use crate::registry::Watching;

/// What a client may send at most, as Kubernetes has it.
pub(crate) const BODY_MAX: usize = 3 * 1024 * 1024;

/// The body of an answer.
pub(crate) enum Body {
    /// All of it; `None` when it has been sent.
    Whole(Option<Bytes>),
    /// One frame after the other, made when the client has taken the one before.
    Stream(Frames),
}

/// Frames to come. The future gives the next one and what makes the one after it.
type Next = Pin<Box<dyn Future<Output = Option<(Bytes, Source)>> + Send>>;

/// A body that is made while it is sent.
pub(crate) struct Frames(Option<Next>);

/// Where frames come from.
enum Source {
    Watch(Box<Watching>, Ending),
    Channel(tokio::sync::mpsc::Receiver<Bytes>, Ending),
}

/// Says that a stream has to end: the server is stopping. Dropped, it counts the stream as gone.
pub(crate) struct Ending {
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) counted: Option<super::metrics::Watcher>,
}

impl Body {
    /// All of it at once.
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Body {
        Body::Whole(Some(bytes.into()))
    }

    /// Nothing.
    pub(crate) fn empty() -> Body {
        Body::Whole(None)
    }

    /// The events of a watch. An event is read when the one before is taken, so a slow client holds up nobody else.
    pub(crate) fn watch(watching: Watching, ending: Ending) -> Body {
        Body::Stream(Frames(Some(Source::Watch(Box::new(watching), ending).next())))
    }

    /// What somebody sends.
    pub(crate) fn channel(receiver: tokio::sync::mpsc::Receiver<Bytes>, stop: watch::Receiver<bool>) -> Body {
        let ending = Ending { stop, counted: None };
        Body::Stream(Frames(Some(Source::Channel(receiver, ending).next())))
    }
}

impl Source {
    fn next(self) -> Next {
        Box::pin(async move {
            match self {
                Source::Watch(mut watching, mut ending) => {
                    let frame = tokio::select! {
                        frame = watching.next() => frame?,
                        _ = ending.stop.wait_for(|stop| *stop) => return None,
                    };
                    if let Some(counted) = &ending.counted {
                        counted.event(frame.len());
                    }
                    Some((frame, Source::Watch(watching, ending)))
                }
                Source::Channel(mut receiver, mut ending) => {
                    let frame = tokio::select! {
                        frame = receiver.recv() => frame?,
                        _ = ending.stop.wait_for(|stop| *stop) => return None,
                    };
                    Some((frame, Source::Channel(receiver, ending)))
                }
            }
        })
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Body::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Body::Stream(Frames(next)) => {
                let Some(future) = next else {
                    return Poll::Ready(None);
                };
                match future.as_mut().poll(context) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(None) => {
                        *next = None;
                        Poll::Ready(None)
                    }
                    Poll::Ready(Some((bytes, source))) => {
                        *next = Some(source.next());
                        Poll::Ready(Some(Ok(Frame::data(bytes))))
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Body::Stream(Frames(next)) => next.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Body::Stream(_) => SizeHint::default(),
        }
    }
}

/// Reads what a client sends: [`BODY_MAX`] bytes at most.
pub(crate) async fn read(mut body: Incoming) -> Result<Bytes> {
    let told = usize::try_from(http_body::Body::size_hint(&body).lower()).unwrap_or(usize::MAX);
    if told > BODY_MAX {
        return Err(too_large());
    }
    let mut whole = bytes::BytesMut::with_capacity(told);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::bad_request(format!("cannot read the body: {error}")))?;
        if let Some(data) = frame.data_ref() {
            if whole.len() + data.len() > BODY_MAX {
                return Err(too_large());
            }
            whole.extend_from_slice(data);
        }
    }
    Ok(whole.freeze())
}

fn too_large() -> Status {
    let message = format!("Request entity too large: limit is {BODY_MAX}");
    Status::new(413, Reason::RequestEntityTooLarge, message)
}
