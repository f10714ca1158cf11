//! The server: connections of a unix socket, requests to services.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::authority::AnyAuthority;
use crate::body::{Body, End, response};
use crate::frame::{HEADER, Received};
use crate::{Code, MAX_MESSAGE, Reply, Service, Status, timeout};

/// How many calls a connection may have at once: a kubelet has one connection, and a call for each probe.
const CALLS: u32 = 4096;
/// How much a peer may send before it is read: a request in one go.
const WINDOW: u32 = 1024 * 1024;

/// Services, to be served together on one socket.
pub struct Server {
    services: Vec<Box<dyn Service>>,
    takes_any_authority: bool,
    /// The longest request, in bytes.
    longest: usize,
    /// How many calls a connection may have at once.
    calls: u32,
}

impl Default for Server {
    fn default() -> Self {
        Self { services: Vec::new(), takes_any_authority: false, longest: MAX_MESSAGE, calls: CALLS }
    }
}

impl Server {
    /// A server without services.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One more service.
    #[must_use]
    pub fn service(mut self, service: impl Service) -> Self {
        self.services.push(Box::new(service));
        self
    }

    /// Serves clients, too, that name the server by its socket's path, percent-encoded: a kubelet at a registration socket, and all
    /// clients over gRPC's C core.
    #[must_use]
    pub fn any_authority(mut self) -> Self {
        self.takes_any_authority = true;
        self
    }

    /// Takes no request of more than `longest` bytes, and of one connection no more than `calls` at once: for peers whose requests are read
    /// before it is known who they are.
    #[must_use]
    pub fn bounded(mut self, longest: usize, calls: u32) -> Self {
        (self.longest, self.calls) = (longest.min(MAX_MESSAGE), calls);
        self
    }

    /// Serves until `stop` resolves. Then nothing new is accepted, streams end with [`Code::Unavailable`], and other
    /// calls have `grace` to end; what is running after that is dropped.
    ///
    /// Dropping the future ends everything at once.
    ///
    /// # Errors
    /// The listener's, where it cannot go on. An `accept` that fails for want of descriptors or memory is tried again.
    pub async fn serve(
        self,
        listener: UnixListener,
        stop: impl Future<Output = ()>,
        grace: Duration,
    ) -> std::io::Result<()> {
        let services = Arc::new(self);
        let (stopping, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(_ended) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let (services, stopped) = (Arc::clone(&services), stopped.clone());
                        if services.takes_any_authority {
                            connections.spawn(connection(services, AnyAuthority::new(stream), stopped));
                        } else {
                            connections.spawn(connection(services, stream, stopped));
                        }
                    }
                    Err(e) if is_passing(&e) => tokio::time::sleep(Duration::from_millis(50)).await,
                    Err(e) => return Err(e),
                },
            }
        }
        drop(listener);
        stopping.send_replace(true);
        let ended = async { while connections.join_next().await.is_some() {} };
        // What has not ended by then is dropped with the set.
        let _late = tokio::time::timeout(grace, ended).await;
        Ok(())
    }

    /// Serves one connection to its end, whoever has accepted it, and whatever it is of: what is encrypted was so before. Dropping the
    /// future ends it at once.
    pub async fn serve_stream(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let (_never, stopped) = watch::channel(false);
        connection(self, stream, stopped).await;
    }

    /// From a request to its response.
    async fn answer(&self, request: Request<Incoming>, stopped: watch::Receiver<bool>) -> Response<Body> {
        if request.method() != Method::POST || !is_grpc(request.headers()) {
            let mut refusal = Response::new(Body::Empty);
            *refusal.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return refusal;
        }
        let headers = request.headers();
        let timeout = headers.get("grpc-timeout").and_then(|text| timeout::parse(text.to_str().ok()?));
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let call = self.call(request);
        let answer = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, call).await.unwrap_or_else(|_| Err(late())),
            None => call.await,
        };
        response(answer, || end(stopped, deadline))
    }

    async fn call(&self, request: Request<Incoming>) -> Result<Reply, Status> {
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        let unknown = || Status::unimplemented(path);
        let (service, method) = path.trim_start_matches('/').split_once('/').ok_or_else(unknown)?;
        let service = self.services.iter().find(|known| known.name() == service).ok_or_else(unknown)?;
        if head.headers.get("grpc-encoding").is_some_and(|encoding| encoding != "identity") {
            return Err(Status::new(Code::Unimplemented, "compressed messages are not understood here"));
        }
        let message = receive(body, self.longest).await?;
        service.call(method, message).ok_or_else(unknown)?.await
    }
}

/// Serves one connection to its end, or to the end of its running calls once the server stops.
async fn connection(
    server: Arc<Server>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    mut stopped: watch::Receiver<bool>,
) {
    let (ending, calls) = (stopped.clone(), server.calls);
    let service = hyper::service::service_fn(move |request| {
        let (server, stopped) = (Arc::clone(&server), ending.clone());
        async move { Ok::<_, Infallible>(server.answer(request, stopped).await) }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    // A client whose deadlines pass all at once resets as many calls; that is no attack.
    builder.max_concurrent_streams(calls).max_pending_accept_reset_streams(CALLS as usize);
    builder.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let is_stopping = tokio::select! {
        // How a connection ends is its peer's affair.
        _end = &mut connection => false,
        _stop = stopped.wait_for(|stopped| *stopped) => true,
    };
    if is_stopping {
        connection.as_mut().graceful_shutdown();
        let _end = connection.await;
    }
}

/// When a stream must end: the caller's deadline, or the server's stop.
fn end(mut stopped: watch::Receiver<bool>, deadline: Option<Instant>) -> End {
    Box::pin(async move {
        let late_at = async move {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = late_at => late(),
            _stop = stopped.wait_for(|stopped| *stopped) => {
                Status::new(Code::Unavailable, "the server is stopping; call again")
            }
        }
    })
}

fn late() -> Status {
    Status::new(Code::DeadlineExceeded, "the caller's time was over before the call was done")
}

/// The one message of a request, of so many bytes at most.
async fn receive(mut body: Incoming, longest: usize) -> Result<Bytes, Status> {
    let broken = |e: hyper::Error| Status::new(Code::Cancelled, format!("the request broke off: {e}"));
    let mut received = Received::default();
    let (mut message, mut length) = (None, 0_usize);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        length = length.saturating_add(data.remaining());
        if length > longest.saturating_add(HEADER) {
            let text = format!("the request has more than {longest} bytes, which is the most here");
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        received.push(data.chunk());
        while let Some(next) = received.take()? {
            if message.replace(next).is_some() {
                return Err(Status::new(Code::Unimplemented, "a call takes one message here"));
            }
        }
    }
    match message {
        Some(message) if received.is_empty() => Ok(message),
        _ => Err(Status::new(Code::InvalidArgument, "the request ends before its message does")),
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let is =
        |text: &[u8]| text.starts_with(b"application/grpc") && !text.starts_with(b"application/grpc-web");
    headers.get("content-type").is_some_and(|text| is(text.as_bytes()))
}

/// A failure of `accept` that passes: the peer gave up, or the machine is short of something.
fn is_passing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, OutOfMemory};
    let short_of_descriptors = matches!(error.raw_os_error(), Some(23 | 24));
    short_of_descriptors
        || matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | OutOfMemory)
}
