//! The agent's own server: what an API server asks of a kubelet, for `kubectl logs`, `exec`, `attach` and `port-forward`.
//!
//! HTTP/1.1 over TLS. Clients must show a certificate of the cluster's authority, and it must be of the group `system:masters`, as the API
//! server's is: nobody else is let in.

pub(crate) mod certificate;
pub(crate) mod logs;
mod query;
mod streams;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use k8s_openapi::List;
use k8s_openapi::api::core::v1::Pod;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::Setup;
use crate::agent::Agent;
use query::Query;

/// How long a handshake or a request's head may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Connections at a time; who comes then waits in the listener's queue.
const MOST: usize = 256;

/// A body of any kind.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;
/// An answer.
pub(crate) type Reply = Response<Body>;

/// A server that listens.
pub(crate) struct Server {
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    port: u16,
}

impl Server {
    /// Listens where the setup says.
    pub(crate) async fn bind(setup: &Setup) -> Result<Self, String> {
        let tls = certificate::server(setup)?;
        let failed = |error| format!("cannot listen on {} for the API server: {error}", setup.listen);
        let listener = listen_on(setup.listen).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        Ok(Self { listener, tls, port })
    }

    /// The port it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Answers, for ever.
    pub(crate) async fn serve(&self, agent: &Arc<Agent>) -> ! {
        let places = Arc::new(Semaphore::new(MOST));
        loop {
            // Nobody closes it.
            let Ok(place) = places.clone().acquire_owned().await else { continue };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let (tls, agent) = (TlsAcceptor::from(self.tls.clone()), agent.clone());
                    tokio::spawn(async move {
                        connection(stream, tls, agent).await;
                        drop(place);
                    });
                }
                // Descriptors have run out, most likely: others must end before this can go on.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

/// Listens at an address that the machine may get later: that of its pods' bridge, or of a network that is away.
fn listen_on(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    kernel::socket::bind_ahead(&socket)?;
    socket.bind(address)?;
    socket.listen(1024)
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, agent: Arc<Agent>) {
    let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, tls.accept(stream)).await else { return };
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let may = shown.is_some_and(certificate::is_master);
    let service = service_fn(|request| {
        let agent = agent.clone();
        async move {
            let reply = if may { answer(request, &agent).await } else { forbidden() };
            Ok::<_, Infallible>(reply)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // A client that goes is its own affair.
    let _ = connection.await;
}

fn forbidden() -> Reply {
    text(StatusCode::FORBIDDEN, "Forbidden: the certificate must be of the group system:masters")
}

/// An answer of some text.
pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(text.into())).boxed_unsync());
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    reply
}

async fn answer(request: Request<Incoming>, agent: &Arc<Agent>) -> Reply {
    let path = request.uri().path().to_owned();
    let parts: Vec<String> = path.split('/').skip(1).map(query::unescape).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let query = Query::parse(request.uri().query().unwrap_or_default());
    match parts[..] {
        ["healthz"] => text(StatusCode::OK, "ok"),
        ["metrics"] => metrics(agent),
        ["pods"] => pods(agent),
        ["containerLogs", namespace, pod, container] => {
            logs::answer(agent, namespace, pod, container, &query).await
        }
        // Kubelets take the uid as well.
        ["exec", namespace, pod, container] | ["exec", namespace, pod, _, container] => {
            streams::exec(agent, request, namespace, pod, container, &query).await
        }
        ["attach", namespace, pod, container] | ["attach", namespace, pod, _, container] => {
            streams::attach(agent, request, namespace, pod, container, &query).await
        }
        ["portForward", namespace, pod] | ["portForward", namespace, pod, _] => {
            streams::port_forward(agent, request, namespace, pod, &query).await
        }
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

fn pods(agent: &Agent) -> Reply {
    let items = agent.pods.all().iter().map(|pod| (**pod).clone()).collect();
    let list = List::<Pod> { items, ..List::default() };
    let mut reply = text(StatusCode::OK, serde_json::to_string(&list).unwrap_or_default());
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

fn metrics(agent: &Agent) -> Reply {
    let running =
        agent.pods.find(|pod| pod.status.as_ref().is_some_and(|one| one.phase.as_deref() == Some("Running")));
    let known = agent.pods.all().len();
    text(
        StatusCode::OK,
        format!(
            "# HELP kubelet_running_pods Number of pods that have a running pod sandbox\n\
             # TYPE kubelet_running_pods gauge\nkubelet_running_pods {}\n\
             # HELP kubelet_desired_pods Number of pods that are bound to the node\n\
             # TYPE kubelet_desired_pods gauge\nkubelet_desired_pods {known}\n\
             # HELP sextant_agent_queue Pods that wait to be looked at, or are looked at\n\
             # TYPE sextant_agent_queue gauge\nsextant_agent_queue {}\n",
            running.len(),
            agent.queue.len()
        ),
    )
}
