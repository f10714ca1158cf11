//! Connections: their number, their patience, and their end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::api::{Api, Peer};
use super::patience::{Endless, Patient};
use crate::auth::certificate::Certified;

/// Connections at a time; who comes then waits in the listener's queue.
pub(super) const MOST: usize = 1024;
/// How long a handshake or a head may take, and how long a connection may be idle between requests.
const PATIENCE: Duration = Duration::from_secs(32);
/// How long a connection of HTTP/2 may be without a request: as Kubernetes has it.
const IDLE: Duration = Duration::from_secs(90);
/// The largest head.
const HEAD_MAX: usize = 64 * 1024;
/// Streams of one HTTP/2 connection.
const STREAMS: u32 = 100;

/// A listener with what its connections share.
pub(super) struct Listening {
    pub(super) listener: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) places: Arc<Semaphore>,
}

/// Takes connections until `stop`, and then waits for those there are.
pub(super) async fn accept(at: Listening, api: Arc<Api>, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let mut stopped = pin!(async { drop(stop.wait_for(|stop| *stop).await) });
    loop {
        let next = async {
            let Ok(place) = Arc::clone(&at.places).acquire_owned().await else {
                return std::future::pending().await;
            };
            (at.listener.accept().await, place)
        };
        tokio::select! {
            () = &mut stopped => break,
            Some(_) = connections.join_next() => {}
            (accepted, place) = next => match accepted {
                Ok((stream, address)) => {
                    api.metrics.connected();
                    let peer = Peer { address, server: at.address, certified: None };
                    connections.spawn(connection(stream, peer, at.tls.clone(), Arc::clone(&api), place));
                }
                // Descriptors have run out, most likely: others must end before this can go on.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
        }
    }
    drop(at.listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(
    stream: TcpStream,
    mut peer: Peer,
    tls: Option<TlsAcceptor>,
    api: Arc<Api>,
    place: OwnedSemaphorePermit,
) {
    // Events are small and late ones are no use.
    let _ = stream.set_nodelay(true);
    match tls {
        None => one(stream, peer, &api, place).await,
        Some(tls) => {
            let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, tls.accept(stream)).await else {
                return;
            };
            let session = stream.get_ref().1;
            let shown = session.peer_certificates().and_then(|chain| chain.first());
            peer.certified = shown.and_then(Certified::read);
            if session.alpn_protocol() == Some(b"h2") {
                two(stream, peer, &api, place).await;
            } else {
                one(stream, peer, &api, place).await;
            }
        }
    }
}

/// HTTP/1.1.
async fn one(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    api: &Arc<Api>,
    place: OwnedSemaphorePermit,
) {
    let mut stop = api.stop.clone();
    let open = Open::default();
    let stream = TokioIo::new(Patient::new(stream, &open.endless, place));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .max_buf_size(HEAD_MAX)
            .serve_connection(stream, service_fn(answering(peer, api, &open)))
            .with_upgrades()
    );
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// HTTP/2. A connection without a request is let go after a while, as one of HTTP/1.1 is.
async fn two(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    api: &Arc<Api>,
    place: OwnedSemaphorePermit,
) {
    let mut stop = api.stop.clone();
    let open = Open::default();
    let stream = TokioIo::new(Patient::new(stream, &open.endless, place));
    let mut connection = pin!(
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PATIENCE)
            .keep_alive_timeout(PATIENCE)
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(u32::try_from(HEAD_MAX).unwrap_or(u32::MAX))
            .max_send_buf_size(64 * 1024)
            .serve_connection(stream, service_fn(answering(peer, api, &open)))
    );
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => {}
        () = open.idle(IDLE) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// The requests of a connection that are being answered.
#[derive(Clone, Default)]
struct Open {
    count: watch::Sender<usize>,
    /// Whether one of them has become a stream of its own.
    endless: Endless,
}

/// One of them, until its answer has been sent.
struct Answered(watch::Sender<usize>);

impl Open {
    fn one(&self) -> Answered {
        self.count.send_modify(|open| *open += 1);
        Answered(self.count.clone())
    }

    /// When there was none for that long.
    async fn idle(&self, long: Duration) {
        let mut open = self.count.subscribe();
        loop {
            let _ = open.wait_for(|open| *open == 0).await;
            if tokio::time::timeout(long, open.wait_for(|open| *open > 0)).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

type Answering = std::pin::Pin<Box<dyn Future<Output = Result<super::answer::Response, Infallible>> + Send>>;

fn answering(peer: Peer, api: &Arc<Api>, open: &Open) -> impl Fn(Request<Incoming>) -> Answering + use<> {
    let (peer, api, open) = (Arc::new(peer), Arc::clone(api), open.clone());
    move |request| {
        let (peer, api) = (Arc::clone(&peer), Arc::clone(&api));
        let (one, endless) = (open.one(), open.endless.clone());
        Box::pin(async move {
            let mut response = api.answer(request, peer).await;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                endless.begin();
            }
            response.body_mut().with(one);
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    #[tokio::test]
    async fn an_upgraded_connection_keeps_its_place() {
        let places = Arc::new(Semaphore::new(1));
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let (upgrades, mut upgrading) = tokio::sync::mpsc::unbounded_channel();
        let service = service_fn(move |mut request: Request<Incoming>| {
            upgrades.send(hyper::upgrade::on(&mut request)).unwrap();
            let response = http::Response::builder().status(101).header("connection", "upgrade");
            let response = response.header("upgrade", "x").body(http_body_util::Empty::<bytes::Bytes>::new());
            async { Ok::<_, Infallible>(response.unwrap()) }
        });
        let ours = TokioIo::new(Patient::new(ours, &Endless::default(), place));
        let serving = tokio::spawn(http1::Builder::new().serve_connection(ours, service).with_upgrades());
        theirs.write_all(b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n").await.unwrap();
        let upgraded = upgrading.recv().await.unwrap().await.unwrap();
        serving.await.unwrap().unwrap();
        assert_eq!(places.available_permits(), 0);
        drop(upgraded);
        assert_eq!(places.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_connection_is_idle_when_nothing_of_it_is_answered() {
        let open = Open::default();
        let one = open.one();
        let short = Duration::from_millis(1);
        assert!(tokio::time::timeout(short * 20, open.idle(short)).await.is_err());
        drop(one);
        open.idle(short).await;
    }
}
