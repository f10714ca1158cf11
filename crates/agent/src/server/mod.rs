//! The agent's own server: what an API server asks of a kubelet, for `kubectl logs`, `exec`, `attach` and `port-forward`.
//!
//! HTTP/1.1 over TLS. Clients with a certificate of the cluster's authority and of the group `system:masters`, as the API server's is, may do
//! everything; those with one of the front proxies' authority and a name that these have (`requestheader-allowed-names`) may ask below
//! `/apis/` alone. Of others, with a certificate or a token, the API server says who they are and whether they may ([`access`]).

mod access;
pub(crate) mod certificate;
pub(crate) mod logs;
mod reviews;
mod streams;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use client::aggregation::{self, Front, Identity, Proxies};
use client::query::{Query, unescape};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use k8s_openapi::List;
use k8s_openapi::api::authentication::v1::UserInfo;
use k8s_openapi::api::core::v1::Pod;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

use crate::Setup;
use crate::agent::Agent;
use crate::stats;
pub(crate) use reviews::Reviews;

/// How long a request's head may take, and how long a connection may be without one.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections at a time.
const MOST: usize = 256;
/// Of these, connections of those who have shown no certificate of the cluster's: no number of them takes a place from those who have.
const STRANGERS: usize = 64;
/// Handshakes at a time. One above the number is sent away, and may come again.
const HANDSHAKES: usize = 256;

/// A body of any kind.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;
/// An answer.
pub(crate) type Reply = Response<Body>;

/// A server that listens.
pub(crate) struct Server {
    listener: TcpListener,
    identity: Identity,
    authorities: Vec<Vec<u8>>,
    clients: RwLock<Arc<Clients>>,
    port: u16,
}

/// Whom it lets in.
struct Clients {
    tls: Arc<ServerConfig>,
    /// The cluster's clients. Groups are what their authority says, and not that of proxies.
    own: Arc<dyn ClientCertVerifier>,
    /// Those who hand on what others ask.
    front: Option<Front>,
}

impl Clients {
    fn new(identity: &Identity, authorities: &[Vec<u8>], proxies: &Proxies) -> Result<Self, String> {
        let all = [authorities, &proxies.authorities].concat();
        let tls = aggregation::config(identity, aggregation::verifier(&all)?)?;
        let own = aggregation::verifier(authorities)?;
        Ok(Self { tls, own, front: Front::of(proxies)? })
    }

    /// Whether who shows this may do everything.
    fn is_master(&self, shown: &[CertificateDer<'_>]) -> bool {
        shown.first().is_some_and(certificate::is_master) && aggregation::is_of(shown, &*self.own)
    }

    /// Who shows this, as its certificate says, where that is of the cluster's authority.
    fn named(&self, shown: &[CertificateDer<'_>]) -> Option<UserInfo> {
        let own = shown.first().filter(|_| aggregation::is_of(shown, &*self.own))?;
        certificate::user(own)
    }

    /// Whether who shows this hands on what others ask.
    fn hands_on(&self, shown: &[CertificateDer<'_>]) -> bool {
        self.front.as_ref().is_some_and(|front| front.hands_on(shown))
    }
}

impl Server {
    /// Listens where the setup says.
    pub(crate) async fn bind(setup: &Setup) -> Result<Self, String> {
        let identity = certificate::identity(setup)?;
        let authorities = setup.client_authorities.clone();
        let clients = Arc::new(Clients::new(&identity, &authorities, &Proxies::default())?);
        let failed = |error| format!("cannot listen on {} for the API server: {error}", setup.listen);
        let listener = listen_on(setup.listen).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        Ok(Self { listener, identity, authorities, clients: RwLock::new(clients), port })
    }

    /// Its certificate, in DER.
    pub(crate) fn certificate(&self) -> &[u8] {
        &self.identity.certificate
    }

    /// Lets those in as well that hand on what others ask: for `/apis/` alone.
    pub(crate) fn trust(&self, proxies: Proxies) {
        match Clients::new(&self.identity, &self.authorities, &proxies) {
            Ok(clients) => {
                *self.clients.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(clients);
            }
            Err(why) => eprintln!("sextant agent: warning: nobody is let in for metrics.k8s.io: {why}"),
        }
    }

    /// The port it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Answers, for ever.
    pub(crate) async fn serve(&self, agent: &Arc<Agent>) -> ! {
        let places = Arc::new(Places::default());
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let Ok(begun) = places.handshakes.clone().try_acquire_owned() else { continue };
                    let clients = self.clients.read().unwrap_or_else(PoisonError::into_inner).clone();
                    tokio::spawn(connection(stream, clients, agent.clone(), places.clone(), begun));
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

/// How many there may be.
struct Places {
    handshakes: Arc<Semaphore>,
    all: Semaphore,
    strangers: Semaphore,
}

impl Default for Places {
    fn default() -> Self {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
        Self { handshakes, all: Semaphore::new(MOST), strangers: Semaphore::new(STRANGERS) }
    }
}

async fn connection(
    stream: TcpStream,
    clients: Arc<Clients>,
    agent: Arc<Agent>,
    places: Arc<Places>,
    begun: OwnedSemaphorePermit,
) {
    let tls = TlsAcceptor::from(clients.tls.clone());
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await else { return };
    drop(begun);
    let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let may = clients.is_master(shown);
    // Whom it asks for may do so: the API server has looked.
    let hands_on = clients.hands_on(shown);
    let named = clients.named(shown);
    // Who may have a token, and may not: one above the number is sent away, as is anybody once there is no place at all.
    let is_stranger = !may && !hands_on && named.is_none();
    let known = if is_stranger { places.strangers.try_acquire().map(Some) } else { Ok(None) };
    let (Ok(_stranger), Ok(_place)) = (known, places.all.try_acquire()) else { return };
    let service = service_fn(|request| {
        let (agent, named) = (agent.clone(), named.clone());
        async move {
            let is_api = request.uri().path().starts_with("/apis/");
            if may || hands_on && is_api {
                return Ok::<_, Infallible>(answer(request, &agent).await);
            }
            Ok(match access::check(&agent, named, &request).await {
                Ok(()) => answer(request, &agent).await,
                Err(mut refused) => {
                    // Who is refused keeps no place.
                    refused.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                    refused
                }
            })
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

/// An answer of some text.
pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(text.into())).boxed_unsync());
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    reply
}

async fn answer(request: Request<Incoming>, agent: &Arc<Agent>) -> Reply {
    let path = request.uri().path().to_owned();
    let parts: Vec<String> = path.split('/').skip(1).map(unescape).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let query = Query::parse(request.uri().query().unwrap_or_default());
    match parts[..] {
        ["healthz"] => text(StatusCode::OK, "ok"),
        ["metrics"] => metrics(agent),
        ["metrics", "resource"] => {
            text(StatusCode::OK, stats::resource(stats::snapshot(agent).await.ok().as_ref()))
        }
        ["metrics", "cadvisor"] => match stats::cadvisor(agent).await {
            Ok(metrics) => text(StatusCode::OK, metrics),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        },
        ["metrics", "probes"] => {
            let answers = agent.memories(|key, memory| (key.clone(), memory.answers.clone()));
            text(StatusCode::OK, stats::probes(&answers))
        }
        ["stats", "summary"] => summary(agent, query.is("only_cpu_and_memory")).await,
        ["apis", ref rest @ ..] => stats::answer(agent, rest, &query).await,
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
    let items = agent.all_pods().iter().map(|pod| (**pod).clone()).collect();
    let list = List::<Pod> { items, ..List::default() };
    let mut reply = text(StatusCode::OK, serde_json::to_string(&list).unwrap_or_default());
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

async fn summary(agent: &Agent, only_cpu_and_memory: bool) -> Reply {
    let asked = async {
        let all = stats::snapshot(agent).await?;
        stats::summary(agent, &all, only_cpu_and_memory).await
    };
    match asked.await {
        Ok(summary) => {
            let mut reply = text(StatusCode::OK, summary.to_string());
            reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            reply
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("Internal Error: {error}")),
    }
}

fn metrics(agent: &Agent) -> Reply {
    let running =
        agent.pods.find(|pod| pod.status.as_ref().is_some_and(|one| one.phase.as_deref() == Some("Running")));
    let known = agent.all_pods().len();
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

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    fn authority(name: &str) -> (Vec<u8>, Issuer<'static, KeyPair>) {
        let (mut params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        (params.self_signed(&key).unwrap().der().to_vec(), Issuer::new(params, key))
    }

    fn client(of: &Issuer<'static, KeyPair>, name: &str, group: &str) -> [CertificateDer<'static>; 1] {
        let (mut params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        [params.signed_by(&key, of).unwrap().der().clone()]
    }

    #[test]
    fn the_authority_of_proxies_makes_no_masters() {
        let identity = certificate::identity(&crate::agent::tests::setup()).unwrap();
        // Names of authorities say nothing.
        let ((own, cluster), (other, front)) = (authority("ca"), authority("ca"));
        let of = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let proxies = Proxies { authorities: vec![other.clone()], names };
            Clients::new(&identity, std::slice::from_ref(&own), &proxies).unwrap()
        };
        let master = client(&cluster, "api", "system:masters");
        let proxy = client(&front, "front-proxy-client", "system:masters");
        let clients = of(&["front-proxy-client"]);
        assert!(clients.is_master(&master) && !clients.hands_on(&master));
        assert!(clients.hands_on(&proxy) && !clients.is_master(&proxy));
        let jane = client(&cluster, "jane", "dev");
        assert!(!clients.is_master(&jane) && !clients.is_master(&[]) && clients.named(&[]).is_none());
        let named = clients.named(&jane).unwrap();
        assert_eq!(named.username.as_deref(), Some("jane"));
        assert_eq!(named.groups.unwrap(), ["dev", "system:authenticated"]);
        assert!(clients.named(&client(&front, "jane", "dev")).is_none(), "that authority names nobody");
        let stranger = client(&front, "stranger", "x");
        assert!(!clients.hands_on(&stranger) && of(&[]).hands_on(&stranger));
        let none = Clients::new(&identity, std::slice::from_ref(&own), &Proxies::default()).unwrap();
        assert!(none.is_master(&master) && !none.hands_on(&proxy));
    }
}
