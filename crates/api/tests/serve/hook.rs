//! A webhook: an HTTPS server that answers reviews as a test wishes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::client::Client;

/// What a webhook answers: the HTTP status and the body.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// A review with this response; the uid is the question's where it has none.
    pub(crate) fn review(request: &Value, mut response: Value) -> Reply {
        if response.get("uid").is_none() {
            response["uid"] = request["uid"].clone();
        }
        let body =
            json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response});
        Reply { status: 200, body: body.to_string().into_bytes() }
    }

    /// An answer that allows it with a JSON patch.
    pub(crate) fn patch(request: &Value, patch: &Value) -> Reply {
        let patch = STANDARD.encode(patch.to_string());
        Reply::review(request, json!({"allowed": true, "patchType": "JSONPatch", "patch": patch}))
    }
}

type Answer = dyn Fn(&str, &Value) -> Reply + Send + Sync;

/// A running webhook.
pub(crate) struct Hook {
    pub(crate) address: SocketAddr,
    /// `caBundle`.
    pub(crate) authority: String,
    /// The paths with their queries and the requests of the reviews, in the order in which they came.
    pub(crate) asked: Arc<Mutex<Vec<(String, Value)>>>,
    /// Reviews at `/held` wait for one of these.
    pub(crate) held: Arc<Semaphore>,
}

impl Hook {
    pub(crate) async fn start(answer: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> Hook {
        let names = ["127.0.0.1", "hook.default.svc"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let pem = made.cert.pem();
        let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hook = Hook {
            address: listener.local_addr().unwrap(),
            authority: STANDARD.encode(&pem),
            asked: Arc::default(),
            held: Arc::new(Semaphore::new(0)),
        };
        let (asked, held) = (Arc::clone(&hook.asked), Arc::clone(&hook.held));
        let answer: Arc<Answer> = Arc::new(answer);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answer) = (acceptor.clone(), Arc::clone(&answer));
                tokio::spawn(served(stream, acceptor, answer, Arc::clone(&asked), Arc::clone(&held)));
            }
        });
        hook
    }

    /// Where it is, as `clientConfig` says it.
    pub(crate) fn client(&self, path: &str) -> Value {
        json!({"url": format!("https://{}{path}", self.address), "caBundle": self.authority})
    }

    /// The requests that it was asked about since the last time.
    pub(crate) fn take(&self) -> Vec<Value> {
        self.asked.lock().unwrap().drain(..).map(|(_, request)| request).collect()
    }
}

async fn served(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    answer: Arc<Answer>,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    held: Arc<Semaphore>,
) {
    // Who does not trust the certificate goes away here.
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let service = service_fn(move |request: Request<Incoming>| {
        let (answer, asked, held) = (Arc::clone(&answer), Arc::clone(&asked), Arc::clone(&held));
        async move {
            let path = request.uri().path_and_query().unwrap().to_string();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let review: Value = serde_json::from_slice(&body).unwrap();
            asked.lock().unwrap().push((path.clone(), review["request"].clone()));
            if path.starts_with("/held") {
                held.acquire().await.unwrap().forget();
            }
            let reply = answer(&path, &review["request"]);
            let response = Response::builder()
                .status(reply.status)
                .header("content-type", "application/json")
                .body(Full::new(Bytes::from(reply.body)));
            Ok::<_, std::convert::Infallible>(response.unwrap())
        }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Rules about one resource.
pub(crate) fn rules(operation: &str, group: &str, version: &str, resource: &str) -> Value {
    json!([{
        "operations": [operation], "apiGroups": [group], "apiVersions": [version], "resources": [resource], "scope": "*",
    }])
}

/// A webhook as a configuration has it, with fields of the test's own.
pub(crate) fn webhook(name: &str, client: Value, rules: Value, more: &Value) -> Value {
    let mut webhook = json!({
        "name": format!("{name}.example.com"),
        "clientConfig": client,
        "rules": rules,
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 20,
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        webhook[field] = value.clone();
    }
    webhook
}

/// The path of configurations of webhooks that change objects or judge them.
pub(crate) fn configurations(mutating: bool) -> &'static str {
    if mutating {
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
    } else {
        "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    }
}

/// Makes a configuration.
pub(crate) async fn configure(admin: &Client, mutating: bool, name: &str, webhooks: Value) {
    let made = json!({"metadata": {"name": name}, "webhooks": webhooks});
    let made = admin.post(configurations(mutating), &made).await;
    assert_eq!(made.status, 201, "{}", made.text());
}

/// Takes it away again.
pub(crate) async fn unconfigure(admin: &Client, mutating: bool, name: &str) {
    let gone = admin.delete(&format!("{}/{name}", configurations(mutating))).await;
    assert_eq!(gone.status, 200, "{}", gone.text());
}
