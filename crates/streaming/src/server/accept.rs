//! Connections and their one request.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::config::{Config, StartError};
use super::runtime::Runtime;
use super::sessions::Sessions;
use super::tokens::{LIFETIME, Tokens};
use crate::negotiate::{Reply, refuse};
use crate::port_forward;
use crate::remote_command::{self, Answer, Exit, Requested};

/// How long a client may take for its handshake, and then for its request.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a request's head may have at most. Clients send under 1 KiB.
const HEAD_MAX: usize = 16 * 1024;

/// Connections that have not come to streaming yet.
const UNDECIDED_MAX: usize = 256;

/// What was called for.
pub(super) enum Call<R: Runtime> {
    Exec(R::Exec, Requested),
    Attach(R::Attach, Requested),
    PortForward(R::PortForward, Vec<u16>),
}

pub(super) struct Shared<R: Runtime> {
    pub(super) config: Config,
    pub(super) runtime: Arc<R>,
    pub(super) tokens: Tokens<Call<R>>,
    pub(super) sessions: Arc<Sessions>,
}

/// Listens, and spawns the task that takes connections.
pub(super) async fn start<R: Runtime>(
    config: Config,
    runtime: Arc<R>,
) -> Result<(Arc<Shared<R>>, SocketAddr), StartError> {
    let address = config.listen;
    if config.tls.is_none() && !address.ip().is_loopback() {
        return Err(StartError::NotLoopback { address });
    }
    let listen = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let (tokens, sessions) = (Tokens::new(LIFETIME), Arc::new(Sessions::new()));
    let shared = Arc::new(Shared { config, runtime, tokens, sessions });
    tokio::spawn(accept(listener, Arc::clone(&shared)));
    Ok((shared, address))
}

async fn accept<R: Runtime>(listener: TcpListener, shared: Arc<Shared<R>>) {
    let undecided = Arc::new(Semaphore::new(UNDECIDED_MAX));
    let mut refused = pin!(shared.sessions.refused());
    loop {
        let next = shared.tokens.expire();
        let expired = async {
            match next {
                Some(when) => tokio::time::sleep_until(when.into()).await,
                None => std::future::pending().await,
            }
        };
        let connected = async {
            // Whoever comes now waits in the listener's queue.
            let Ok(place) = Arc::clone(&undecided).acquire_owned().await else {
                return std::future::pending().await;
            };
            (listener.accept().await, place)
        };
        tokio::select! {
            () = &mut refused => return,
            () = expired => {}
            () = shared.tokens.inserted.notified(), if next.is_none() => {}
            (connected, place) = connected => match connected {
                Ok((stream, _)) => {
                    let shared = Arc::clone(&shared);
                    tokio::spawn(async move {
                        connection(stream, &shared).await;
                        drop(place);
                    });
                }
                // Descriptors have run out, most likely: others must end before this can go on.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
        }
    }
}

async fn connection<R: Runtime>(stream: TcpStream, shared: &Arc<Shared<R>>) {
    crate::socket::tune(&stream);
    match &shared.config.tls {
        None => serve(stream, shared).await,
        Some(tls) => {
            let handshake = TlsAcceptor::from(Arc::clone(&tls.0)).accept(stream);
            if let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, handshake).await {
                serve(stream, shared).await;
            }
        }
    }
}

/// Answers one request. The connection goes on in the session, if it has come to one.
async fn serve<R: Runtime>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    shared: &Arc<Shared<R>>,
) {
    let service = service_fn(|request| {
        let response = answer(request, shared);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // A client that sends no request, or goes, is its own affair.
    let _ = tokio::time::timeout(PATIENCE * 2, connection).await;
}

fn answer<R: Runtime>(request: Request<Incoming>, shared: &Arc<Shared<R>>) -> Reply {
    let path = request.uri().path().to_owned();
    let Some((kind, token)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else {
        return *refuse(
            StatusCode::NOT_FOUND,
            "there is nothing here: addresses are made by Exec, Attach and PortForward",
        );
    };
    let fits = |call: &Call<R>| {
        matches!(
            (call, kind),
            (Call::Exec(..), "exec") | (Call::Attach(..), "attach") | (Call::PortForward(..), "portforward")
        )
    };
    if !shared.tokens.has(token, fits) {
        return *refuse(
            StatusCode::NOT_FOUND,
            "address not found: each works once, for a minute; ask for a new one",
        );
    }
    // A request that cannot be served leaves the address valid, for the client may come again with another protocol.
    let refusal = match kind {
        "portforward" => port_forward::refusal(&request),
        _ => remote_command::refusal(&request),
    };
    if let Some(refusal) = refusal {
        return refusal;
    }
    let Some(call) = shared.tokens.take(token) else {
        return *refuse(StatusCode::NOT_FOUND, "this address has just been used");
    };
    let Answer { response, session } = stream(request, call, shared);
    if let Some(session) = session {
        shared.sessions.spawn(session);
    }
    response
}

fn stream<R: Runtime>(request: Request<Incoming>, call: Call<R>, shared: &Arc<Shared<R>>) -> Answer {
    let (runtime, limits) = (Arc::clone(&shared.runtime), &shared.config.limits);
    match call {
        Call::Exec(call, requested) => {
            remote_command::answer(request, requested, limits, |streams| async move {
                runtime.exec(call, streams).await
            })
        }
        Call::Attach(call, requested) => {
            remote_command::answer(request, requested, limits, |streams| async move {
                runtime.attach(call, streams).await.map(|()| Exit::SUCCESS)
            })
        }
        Call::PortForward(call, ports) => {
            let call = Arc::new(call);
            port_forward::answer(request, &ports, limits, move |port| {
                let (runtime, call) = (Arc::clone(&runtime), Arc::clone(&call));
                async move { runtime.connect(&call, port).await }
            })
        }
    }
}
