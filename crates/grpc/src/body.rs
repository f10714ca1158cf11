//! What goes back over HTTP: frames, then the status in trailers.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;

use crate::service::Frames;
use crate::{Code, Reply, Status};

/// Resolves when a stream has to end though its handler has more, with the reason.
pub(crate) type End = Pin<Box<dyn Future<Output = Status> + Send>>;

/// The body of a response.
pub(crate) enum Body {
    /// The status is in the headers already.
    Empty,
    One(Bytes),
    Many(Box<dyn Frames>, End),
    /// All messages are out.
    Trailers(Status),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let ok = || Status::new(Code::Ok, "");
        let (frame, next) = match &mut *self {
            Self::Empty => return Poll::Ready(None),
            Self::One(message) => (Frame::data(std::mem::take(message)), Some(Self::Trailers(ok()))),
            Self::Many(frames, end) => match end.as_mut().poll(context) {
                Poll::Ready(status) => (trailers(&status), Some(Self::Empty)),
                Poll::Pending => match ready!(frames.poll_frame(context)) {
                    Some(Ok(message)) => (Frame::data(message), None),
                    Some(Err(status)) => (trailers(&status), Some(Self::Empty)),
                    None => (trailers(&ok()), Some(Self::Empty)),
                },
            },
            Self::Trailers(status) => (trailers(status), Some(Self::Empty)),
        };
        if let Some(next) = next {
            *self = next;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

fn trailers(status: &Status) -> Frame<Bytes> {
    let mut trailers = HeaderMap::with_capacity(2);
    status.write(&mut trailers);
    Frame::trailers(trailers)
}

/// The response of a call; a failure without any message is headers alone.
pub(crate) fn response(answer: Result<Reply, Status>, end: impl FnOnce() -> End) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    match answer {
        Ok(Reply::One(message)) => *response.body_mut() = Body::One(message),
        Ok(Reply::Many(frames)) => *response.body_mut() = Body::Many(frames, end()),
        Err(status) => status.write(response.headers_mut()),
    }
    response
}
