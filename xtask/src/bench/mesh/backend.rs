//! Who is asked in the end: HTTP/1.1, gRPC, and who takes bytes. All in one thread of this process.

use std::convert::Infallible;
use std::future::ready;
use std::net::{SocketAddr, TcpListener as Listener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::place::{BACKEND, Place, Processor, pin};
use crate::Result;

/// The length of an answer's body.
pub(super) const BODY: usize = 1024;
/// The ports: of HTTP/1.1, of gRPC, and of who takes bytes.
pub(super) const HTTP: u16 = 8080;
pub(super) const RPC: u16 = 8081;
pub(super) const BULK: u16 = 8082;

/// The thread ends with the process.
pub(super) struct Backend(Arc<AtomicU64>);

impl Backend {
    /// Answers in the backends' network from now on.
    pub(super) fn start(place: &Place) -> Result<Self> {
        let listen = |port: u16| -> std::io::Result<Listener> {
            let address: SocketAddr = format!("{BACKEND}:{port}").parse().map_err(std::io::Error::other)?;
            let listener = Listener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let (http, rpc, bulk) = (
            place.far().run(|| listen(HTTP))?,
            place.far().run(|| listen(RPC))?,
            place.far().run(|| listen(BULK))?,
        );
        let received = Arc::new(AtomicU64::new(0));
        let counted = received.clone();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let begun = pin(Processor::First).and_then(|()| {
                tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())
            });
            let runtime = match begun {
                Ok(runtime) => runtime,
                Err(error) => return drop(tell.send(Err(error))),
            };
            runtime.block_on(async {
                let listeners = [http, rpc, bulk].map(TcpListener::from_std);
                let [Ok(http), Ok(rpc), Ok(bulk)] = listeners else {
                    return drop(tell.send(Err("a backend cannot listen".to_owned())));
                };
                drop(tell.send(Ok(())));
                tokio::join!(answer_http(http), answer_rpc(rpc), take(bulk, counted));
            });
        });
        told.recv().map_err(|_| "the backends' thread has panicked")??;
        Ok(Self(received))
    }

    /// Bytes that were taken until now.
    pub(super) fn received(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Answers each head that comes, whatever it says.
async fn answer_http(listener: TcpListener) {
    let head = format!(
        "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/html\r\nContent-Length: {BODY}\r\n\r\n"
    );
    let answer: Bytes = head.into_bytes().into_iter().chain(std::iter::repeat_n(b'x', BODY)).collect();
    while let Ok((stream, _)) = listener.accept().await {
        let answer = answer.clone();
        tokio::spawn(async move {
            // Who has asked is gone, and says so himself.
            let _gone = answer_one(stream, &answer).await;
        });
    }
}

async fn answer_one(mut stream: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut held = Vec::with_capacity(4096);
    while stream.read_buf(&mut held).await? > 0 {
        while let Some(end) = held.windows(4).position(|part| part == b"\r\n\r\n") {
            held.drain(..end + 4);
            stream.write_all(answer).await?;
        }
    }
    Ok(())
}

/// Answers each call with one message.
async fn answer_rpc(listener: TcpListener) {
    let answer = super::load::message(BODY);
    while let Ok((stream, _)) = listener.accept().await {
        let answer = answer.clone();
        let _slower = stream.set_nodelay(true);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| called(request, answer.clone()));
            let _gone = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

type Called = http_body_util::combinators::WithTrailers<
    Full<Bytes>,
    std::future::Ready<Option<std::result::Result<HeaderMap, Infallible>>>,
>;

async fn called(
    request: Request<Incoming>,
    answer: Bytes,
) -> std::result::Result<Response<Called>, hyper::Error> {
    request.into_body().collect().await?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let mut response = Response::new(Full::new(answer).with_trailers(ready(Some(Ok(trailers)))));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}

/// Takes all that comes, and counts it.
async fn take(listener: TcpListener, received: Arc<AtomicU64>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let received = received.clone();
        tokio::spawn(async move {
            let mut buffer = vec![0; 256 << 10];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                received.fetch_add(count as u64, Ordering::Relaxed);
            }
        });
    }
}
