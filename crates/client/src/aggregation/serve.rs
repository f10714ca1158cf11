//! A server that answers what an API server hands on, and nothing else.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::tls::{Front, Identity, config};
use super::{Proxies, host, refusal};
use crate::query::{Query, unescape};

/// How long a request's head may take, and how long a connection may be without one.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections of those who hand requests on, at a time.
const MOST: usize = 64;
/// Connections at a time of others, each of which is told so once.
const STRANGERS: usize = 16;
/// Handshakes at a time. One above the number is sent away, and may come again.
const HANDSHAKES: usize = 64;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The path below `/apis/`, the group first.
    pub path: Vec<String>,
    /// The query.
    pub query: Query,
}

/// What is answered, as JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The status of HTTP.
    pub status: u16,
    /// The object, or the `Status`.
    pub body: Value,
}

impl Answer {
    /// An object.
    #[must_use]
    pub fn of(body: Value) -> Self {
        Self { status: 200, body }
    }

    /// A refusal.
    #[must_use]
    pub fn refused(status: u16, reason: &str, message: &str) -> Self {
        Self { status, body: refusal(status, reason, message) }
    }
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    identity: Identity,
    address: SocketAddr,
}

impl Server {
    /// Listens at an address, as a service of this name, with a certificate of its own.
    ///
    /// # Errors
    /// A text for people: the address cannot be listened on.
    pub async fn bind(address: SocketAddr, service: &str) -> Result<Self, String> {
        let hosts = vec![address.ip().to_string(), "localhost".into(), host(service)];
        let identity = Identity::new(hosts, service)?;
        let failed = |error| format!("cannot listen on {address} for API servers: {error}");
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, identity, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its certificate, in DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.identity.certificate
    }

    /// Answers those who hand requests on, for as long as it is polled. Others are told that they are nobody.
    ///
    /// # Errors
    /// A text for people: an authority of theirs is none, or there is none.
    pub async fn serve<A>(
        &self,
        proxies: &Proxies,
        answer: impl Fn(Asked) -> A + Clone + Send + Sync + 'static,
    ) -> Result<Infallible, String>
    where
        A: Future<Output = Answer> + Send + 'static,
    {
        let front =
            Front::of(proxies)?.ok_or("the API server names no authority of those who hand requests on")?;
        let tls = config(&self.identity, front.verifier())?;
        let known = Arc::new(Known {
            tls,
            front,
            places: Semaphore::new(MOST),
            strangers: Semaphore::new(STRANGERS),
        });
        let (handshakes, mut connections) = (Arc::new(Semaphore::new(HANDSHAKES)), JoinSet::new());
        loop {
            tokio::select! {
                Some(_ended) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let Ok(begun) = handshakes.clone().try_acquire_owned() else { continue };
                        connections.spawn(connection(stream, known.clone(), begun, answer.clone()));
                    }
                    // Descriptors have run out, most likely: others must end before this can go on.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                },
            }
        }
    }
}

/// Whom it lets in, and how many of them.
struct Known {
    tls: Arc<ServerConfig>,
    front: Front,
    places: Semaphore,
    strangers: Semaphore,
}

async fn connection<A: Future<Output = Answer> + Send + 'static>(
    stream: TcpStream,
    known: Arc<Known>,
    begun: OwnedSemaphorePermit,
    answer: impl Fn(Asked) -> A + Clone + Send + Sync + 'static,
) {
    let tls = TlsAcceptor::from(known.tls.clone());
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await else { return };
    drop(begun);
    let hands_on = known.front.hands_on(stream.get_ref().1.peer_certificates().unwrap_or_default());
    let places = if hands_on { &known.places } else { &known.strangers };
    let Ok(_place) = places.try_acquire() else { return };
    let service = service_fn(move |request| {
        let answer = answer.clone();
        async move { Ok::<_, Infallible>(reply(request, hands_on, answer).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    // A client that goes is its own affair.
    let _ = connection.await;
}

async fn reply<A: Future<Output = Answer>>(
    request: Request<Incoming>,
    hands_on: bool,
    answer: impl Fn(Asked) -> A,
) -> Response<Full<Bytes>> {
    if !hands_on {
        let mut reply = written(Answer::refused(401, "Unauthorized", "Unauthorized"));
        // Who is nobody keeps no place.
        reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        return reply;
    }
    if request.method() != Method::GET {
        let text = "the server does not allow this method on the requested resource";
        return written(Answer::refused(405, "MethodNotAllowed", text));
    }
    let mut path: Vec<String> = request.uri().path().split('/').skip(1).map(unescape).collect();
    let query = Query::parse(request.uri().query().unwrap_or_default());
    drop(request);
    if path.first().is_none_or(|first| first != "apis") {
        return written(Answer::refused(404, "NotFound", "the server could not find the requested resource"));
    }
    path.remove(0);
    written(answer(Asked { path, query }).await)
}

fn written(answer: Answer) -> Response<Full<Bytes>> {
    let mut reply = Response::new(Full::new(Bytes::from(answer.body.to_string())));
    *reply.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    };
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::TlsConnector;

    use super::*;

    fn authority() -> (Vec<u8>, Issuer<'static, KeyPair>) {
        let (mut params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "front");
        (params.self_signed(&key).unwrap().der().to_vec(), Issuer::new(params, key))
    }

    /// What a client is told that shows a certificate of this name, or none.
    async fn ask(server: &Server, shows: Option<(&Issuer<'static, KeyPair>, &str)>, request: &str) -> String {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(server.certificate().to_vec())).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let config = match shows {
            None => builder.with_no_client_auth(),
            Some((issuer, name)) => {
                let (mut params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
                params.distinguished_name.push(DnType::CommonName, name);
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
                let shown = params.signed_by(&key, issuer).unwrap().der().clone();
                let key = PrivatePkcs8KeyDer::from(key.serialize_der());
                builder.with_client_auth_cert(vec![shown], key.into()).unwrap()
            }
        };
        let stream = TcpStream::connect(server.address()).await.unwrap();
        let name = ServerName::try_from(host("some-metrics")).unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let text = format!("{request} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut told = Vec::new();
        // Not everybody says good-bye.
        let _cut = stream.read_to_end(&mut told).await;
        String::from_utf8(told).unwrap()
    }

    #[tokio::test]
    async fn who_hands_requests_on_is_answered_and_nobody_else() {
        let server = Server::bind("127.0.0.1:0".parse().unwrap(), "some-metrics").await.unwrap();
        let (front, issuer) = authority();
        let proxies = Proxies { authorities: vec![front], names: vec!["front-proxy-client".into()] };
        let answer = |asked: Asked| async move {
            Answer::of(serde_json::json!({"path": asked.path, "t": asked.query.get("t")}))
        };
        let asking = async {
            let proxy = Some((&issuer, "front-proxy-client"));
            let told = ask(&server, proxy, "GET /apis/a.b/v1/x%2Fy?t=5m").await;
            assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
            assert!(told.ends_with(r#"{"path":["a.b","v1","x/y"],"t":"5m"}"#), "{told}");
            assert!(ask(&server, proxy, "GET /metrics").await.starts_with("HTTP/1.1 404 "));
            assert!(ask(&server, proxy, "DELETE /apis/a.b/v1").await.starts_with("HTTP/1.1 405 "));
            for stranger in [None, Some((&issuer, "somebody"))] {
                let told = ask(&server, stranger, "GET /apis/a.b/v1").await;
                assert!(told.starts_with("HTTP/1.1 401 ") && told.contains("\"Unauthorized\""), "{told}");
            }
        };
        tokio::select! {
            ended = server.serve(&proxies, answer) => panic!("{ended:?}"),
            () = asking => {}
        }
    }

    #[tokio::test]
    async fn nobody_is_answered_where_no_authority_is_named() {
        let server = Server::bind("127.0.0.1:0".parse().unwrap(), "some-metrics").await.unwrap();
        let answer = |_: Asked| async { Answer::of(Value::Null) };
        let why = server.serve(&Proxies::default(), answer).await.unwrap_err();
        assert!(why.contains("names no authority"), "{why}");
    }
}
