//! The client: one connection, calls side by side.

use std::path::Path;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderValue, Request, Response, Uri, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming as Body;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::time::Instant;

use crate::frame::{self, Received};
use crate::{Code, Error, Status, timeout};

/// How much the server may send of one answer before it is read.
const WINDOW: u32 = 1024 * 1024;
/// The same for all answers together: a stream that nobody reads must not hold up other calls.
const WINDOWS: u32 = 16 * WINDOW;

/// A connection to a server. Clones share it; it ends with the last of them.
#[derive(Clone, Debug)]
pub struct Channel {
    sender: SendRequest<Full<Bytes>>,
    deadline: Option<Duration>,
}

impl Channel {
    /// Connects to a socket's file. The connection is driven by a task of the current runtime.
    ///
    /// # Errors
    /// Nobody listens there, or what listens speaks no HTTP/2.
    pub async fn connect(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Connect { path: path.to_owned(), source };
        let stream = UnixStream::connect(path).await.map_err(failed)?;
        Self::over(stream).await.map_err(failed)
    }

    /// Speaks over a stream that is connected already, whatever it is of.
    ///
    /// # Errors
    /// What is at its other end speaks no HTTP/2.
    pub async fn over<S>(stream: S) -> std::io::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOWS);
        let handshake = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|e| std::io::Error::other(broken(&e).message))?;
        // Its end shows in the calls.
        tokio::spawn(async move { connection.await.ok() });
        Ok(Self { sender, deadline: None })
    }

    /// The same connection; its calls end after this long with [`Code::DeadlineExceeded`], streams included. `None`,
    /// as at first, waits for ever.
    #[must_use]
    pub fn with_deadline(&self, deadline: Option<Duration>) -> Self {
        Self { sender: self.sender.clone(), deadline }
    }

    /// Whether the connection is gone: further calls would fail.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Calls a method, named `/package.Service/Method`, that gives one answer.
    ///
    /// # Errors
    /// The server's status, the deadline, or the connection's end ([`Code::Unavailable`]).
    pub async fn unary<Q: Message, A: Message + Default>(
        &self,
        path: &'static str,
        request: &Q,
    ) -> Result<A, Error> {
        let mut answers = self.streaming(path, request).await?;
        let failed = |status| Error::Call { method: method(path), status };
        let none = || failed(Status::new(Code::Internal, "the server answered without a message"));
        let answer = answers.next().await?.ok_or_else(none)?;
        match answers.next().await? {
            None => Ok(answer),
            Some(_) => Err(failed(Status::new(Code::Internal, "the server answered with several messages"))),
        }
    }

    /// Calls a method, named `/package.Service/Method`, that gives a stream of answers. Returns once the server has
    /// begun to answer.
    ///
    /// # Errors
    /// As [`Channel::unary`].
    pub async fn streaming<Q: Message, A: Message + Default>(
        &self,
        path: &'static str,
        request: &Q,
    ) -> Result<Incoming<A>, Error> {
        let method = method(path);
        let deadline = self.deadline.and_then(|deadline| Instant::now().checked_add(deadline));
        let failed = |status| Error::Call { method, status };
        let request = self.request(path, frame::encode(request).map_err(failed)?);
        let response = within(deadline, async {
            let mut sender = self.sender.clone();
            sender.ready().await.map_err(|e| broken(&e))?;
            sender.send_request(request).await.map_err(|e| broken(&e))
        });
        let (body, is_over) = accept(response.await.map_err(failed)?).map_err(failed)?;
        let received = Received::default();
        Ok(Incoming { method, body, received, deadline, is_over, answer: std::marker::PhantomData })
    }

    fn request(&self, path: &'static str, frame: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(frame));
        // A path as authority would be refused by Rust's servers; Kubernetes' own clients send this.
        let uri = Uri::builder().scheme("http").authority("localhost").path_and_query(path).build();
        *request.uri_mut() = uri.unwrap_or_default();
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = Version::HTTP_2;
        let headers = request.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        let timeout = self.deadline.and_then(|d| HeaderValue::try_from(timeout::format(d)).ok());
        if let Some(timeout) = timeout {
            headers.insert("grpc-timeout", timeout);
        }
        request
    }
}

/// The answers of a streaming call. Dropping it cancels the call.
#[derive(Debug)]
pub struct Incoming<A> {
    method: &'static str,
    body: Body,
    received: Received,
    deadline: Option<Instant>,
    is_over: bool,
    answer: std::marker::PhantomData<fn() -> A>,
}

impl<A: Message + Default> Incoming<A> {
    /// The next answer; `None` at the stream's good end.
    ///
    /// # Errors
    /// As [`Channel::unary`]; after an error there is no more.
    pub async fn next(&mut self) -> Result<Option<A>, Error> {
        if self.is_over {
            return Ok(None);
        }
        let next = within(self.deadline, receive(&mut self.body, &mut self.received)).await;
        self.is_over = !matches!(next, Ok(Some(_)));
        next.map_err(|status| Error::Call { method: self.method, status })
    }
}

async fn receive<A: Message + Default>(
    body: &mut Body,
    received: &mut Received,
) -> Result<Option<A>, Status> {
    loop {
        if let Some(message) = received.take()? {
            let undecodable = |e| Status::new(Code::Internal, format!("cannot decode the answer: {e}"));
            return A::decode(message).map(Some).map_err(undecodable);
        }
        let Some(frame) = body.frame().await else {
            return Err(Status::new(Code::Unavailable, "the answer broke off: no status at its end"));
        };
        match frame.map_err(|e| broken(&e))?.into_data() {
            Ok(data) => received.push(data.chunk()),
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                return ended(&trailers, received.is_empty());
            }
        }
    }
}

/// What the trailers come to.
fn ended<A>(trailers: &http::HeaderMap, is_whole: bool) -> Result<Option<A>, Status> {
    match Status::read(trailers) {
        Some(status) if status.code != Code::Ok => Err(status),
        Some(_) if is_whole => Ok(None),
        Some(_) => Err(Status::new(Code::Internal, "the answer ends before its message does")),
        None => Err(Status::new(Code::Unknown, "the answer ends without a status")),
    }
}

/// The body of an answer that is gRPC, and that did not fail at once; and whether it is without messages.
fn accept(response: Response<Body>) -> Result<(Body, bool), Status> {
    let status = Status::read(response.headers());
    if let Some(status) = status.clone().filter(|status| status.code != Code::Ok) {
        return Err(status);
    }
    if !response.status().is_success() {
        let text = format!("the server answers with HTTP status {}; does it speak gRPC?", response.status());
        return Err(Status::new(Code::Unknown, text));
    }
    Ok((response.into_body(), status.is_some()))
}

async fn within<T>(
    deadline: Option<Instant>,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let Some(deadline) = deadline else { return call.await };
    let late = || Status::new(Code::DeadlineExceeded, "no answer in time");
    tokio::time::timeout_at(deadline, call).await.unwrap_or_else(|_| Err(late()))
}

fn broken(error: &hyper::Error) -> Status {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Status::new(Code::Unavailable, format!("the connection broke: {cause}"))
}

/// `Method` of `/package.Service/Method`.
fn method(path: &'static str) -> &'static str {
    path.rsplit('/').next().unwrap_or(path)
}
