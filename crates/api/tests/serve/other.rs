//! A server of a group of its own, as a service of a cluster is one: HTTPS, and it believes the front proxy alone.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

/// The group version that it serves.
pub(crate) const SERVED: &str = "/apis/sea.example/v1";

/// An authority of the test's own.
pub(crate) struct Issuing {
    pub(crate) certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Issuing {
    pub(crate) fn new() -> Issuing {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Issuing { certificate, issuer: Issuer::new(params, key) }
    }

    /// As `caBundle` has it.
    pub(crate) fn bundle(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(&self.certificate)
    }

    /// TLS for a server of that name which takes clients of the authority `clients` alone.
    fn server(&self, name: &str, clients: &str) -> rustls::ServerConfig {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(clients.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap();
        rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
            )
            .unwrap()
    }
}

type Asked = Arc<Mutex<Vec<String>>>;

/// The server. Dropped, it ends.
pub(crate) struct Other {
    pub(crate) address: SocketAddr,
    /// Lets a watch tell its second event.
    pub(crate) more: Arc<Notify>,
    /// From when on it answers every request with `[]`.
    pub(crate) is_odd: Arc<AtomicBool>,
    /// Who asked for what: user, method and path.
    pub(crate) asked: Asked,
    task: JoinSet<()>,
}

impl Other {
    pub(crate) async fn start(issuing: &Issuing, name: &str, clients: &str) -> Other {
        let tls = tokio_rustls::TlsAcceptor::from(Arc::new(issuing.server(name, clients)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let more = Arc::new(Notify::new());
        let asked = Asked::default();
        let mut task = JoinSet::new();
        let (gate, log) = (Arc::clone(&more), Arc::clone(&asked));
        let is_odd = Arc::new(AtomicBool::new(false));
        let odd = Arc::clone(&is_odd);
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, gate, log) = (tls.clone(), Arc::clone(&gate), Arc::clone(&log));
                let odd = Arc::clone(&odd);
                connections.spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let chain = stream.get_ref().1.peer_certificates().unwrap();
                    let peer = api::auth::certificate::Certified::read(&chain[0])
                        .unwrap()
                        .asker()
                        .unwrap()
                        .user
                        .clone();
                    let service = service_fn(|request| {
                        log.lock().unwrap().push(line(&request));
                        let is_odd = odd.load(Ordering::SeqCst);
                        answer(request, peer.clone(), Arc::clone(&gate), Arc::clone(&log), is_odd)
                    });
                    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    let _ = served.with_upgrades().await;
                });
            }
        });
        Other { address, more, is_odd, asked, task }
    }

    /// Ends: nobody listens there any more.
    pub(crate) async fn stop(mut self) {
        self.task.shutdown().await;
    }
}

type Answer = Response<BoxBody<Bytes, io::Error>>;

fn line(request: &Request<Incoming>) -> String {
    let user = request.headers().get("x-remote-user").map_or("", |user| user.to_str().unwrap());
    format!("{user} {} {}", request.method(), request.uri().path())
}

fn full(text: impl Into<Bytes>) -> BoxBody<Bytes, io::Error> {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

fn whole(status: StatusCode, value: &Value) -> Answer {
    let body = full(value.to_string());
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.header("x-of-the-other", "yes").body(body).unwrap()
}

async fn answer(
    request: Request<Incoming>,
    peer: String,
    more: Arc<Notify>,
    log: Asked,
    is_odd: bool,
) -> Result<Answer, Infallible> {
    if is_odd {
        return Ok(whole(StatusCode::OK, &json!([])));
    }
    let path = request.uri().path().to_owned();
    Ok(match path.as_str() {
        SERVED => whole(
            StatusCode::OK,
            &json!({
                "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "sea.example/v1",
                "resources": [{
                    "name": "fish", "singularName": "fish", "namespaced": true, "kind": "Fish",
                    "verbs": ["create", "deletecollection", "get", "list", "watch"],
                }],
            }),
        ),
        "/openapi/v3" => whole(
            StatusCode::OK,
            &json!({"paths": {
                "apis/sea.example/v1": {"serverRelativeURL": "/openapi/v3/apis/sea.example/v1?hash=F15B"},
                "apis/apps/v1": {"serverRelativeURL": "/openapi/v3/apis/apps/v1?hash=BAD"},
            }}),
        ),
        _ if request.headers().contains_key("upgrade") => upgraded(request),
        _ if path.ends_with("/hangs") => {
            let _body = request.into_body().collect().await;
            std::future::pending().await
        }
        _ if path.ends_with("/breaks") => broken(more),
        _ if request.uri().query().is_some_and(|query| query.contains("follow=true")) => {
            quiet(Gone(log, request.uri().to_string())).await
        }
        _ if request.uri().query().is_some_and(|query| query.contains("watch=1")) => watched(more),
        _ => {
            let status = if request.method() == Method::POST { StatusCode::CREATED } else { StatusCode::OK };
            let headers: Vec<Value> = request
                .headers()
                .iter()
                .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
                .collect();
            let (method, uri) = (request.method().to_string(), request.uri().to_string());
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let body = String::from_utf8_lossy(&body).into_owned();
            whole(
                status,
                &json!({"peer": peer, "method": method, "uri": uri, "headers": headers, "body": body}),
            )
        }
    })
}

/// Two events, the second when it is let.
fn watched(more: Arc<Notify>) -> Answer {
    let (sender, receiver) = mpsc::channel::<Result<Frame<Bytes>, io::Error>>(1);
    tokio::spawn(async move {
        let event = |name: &str| {
            let line = json!({"type": "ADDED", "object": {"metadata": {"name": name}}}).to_string() + "\n";
            Ok(Frame::data(Bytes::from(line)))
        };
        let _ = sender.send(event("nemo")).await;
        more.notified().await;
        let _ = sender.send(event("dory")).await;
    });
    let response = Response::builder().header("content-type", "application/json");
    response.body(Receiving(receiver).boxed()).unwrap()
}

/// Breaks off after a piece, when it is let.
fn broken(more: Arc<Notify>) -> Answer {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let _ = sender.send(Ok(Frame::data(Bytes::from("half")))).await;
        more.notified().await;
        let _ = sender.send(Err(io::ErrorKind::Other.into())).await;
    });
    Response::new(Receiving(receiver).boxed())
}

/// Written down when nobody wants the answer any more.
struct Gone(Asked, String);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.lock().unwrap().push(format!("gone {}", self.1));
    }
}

/// The log of a container that says one word and no other; of one with `tailLines=0` not even that.
async fn quiet(gone: Gone) -> Answer {
    if gone.1.contains("tailLines=0") {
        std::future::pending::<()>().await;
    }
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let _ = sender.send(Ok(Frame::data(Bytes::from("word\n")))).await;
        sender.closed().await;
        drop(gone);
    });
    Response::new(Receiving(receiver).boxed())
}

/// A receiver as a body.
struct Receiving(mpsc::Receiver<Result<Frame<Bytes>, io::Error>>);

impl http_body::Body for Receiving {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(context)
    }
}

/// Says back what it hears.
fn upgraded(mut request: Request<Incoming>) -> Answer {
    let protocol = request.headers()["upgrade"].clone();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let stream = TokioIo::new(upgrade.await.unwrap());
        let (mut read, mut write) = tokio::io::split(stream);
        let _ = tokio::io::copy(&mut read, &mut write).await;
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "Upgrade")
        .header("upgrade", protocol)
        .body(full(""))
        .unwrap()
}
