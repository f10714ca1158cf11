//! One request over HTTP or HTTPS, and its answer.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// An answer is no longer than this, in bytes.
const LONGEST: usize = 32 << 20;
/// How long reaching a server may take.
const REACH: Duration = Duration::from_secs(5);
/// A connection that nobody uses is closed after this.
const IDLE: Duration = Duration::from_secs(50);

/// An answer. It may have secrets in it, so it is not shown.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// What was sent, as text; what is none is replaced.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Connections, which are kept for a while.
#[derive(Clone, Debug)]
pub(crate) struct Http(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Http {
    /// Servers prove themselves by the system's authorities, and those of `bundle`.
    ///
    /// # Errors
    /// The bundle cannot be read.
    pub(crate) fn new(bundle: Option<&Path>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = bundle {
            let wrong = |why: String| format!("cannot use AWS_CA_BUNDLE {}: {why}", path.display());
            let found = CertificateDer::pem_file_iter(path).map_err(|e| wrong(e.to_string()))?;
            let before = roots.len();
            for certificate in found {
                let certificate = certificate.map_err(|e| wrong(e.to_string()))?;
                roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
            }
            if roots.len() == before {
                return Err(wrong("it has no certificate; name a file of them in PEM".into()));
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls = tls.map_err(|e| format!("cannot set up TLS: {e}"))?;
        let tls = tls.with_root_certificates(roots).with_no_client_auth();
        let mut plain = HttpConnector::new();
        plain.enforce_http(false);
        plain.set_nodelay(true);
        plain.set_connect_timeout(Some(REACH));
        let both = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(plain);
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(8);
        Ok(Self(client.build(both)))
    }

    /// Sends a request, and waits for all of its answer.
    ///
    /// # Errors
    /// A text for people: nobody answered, or not in time.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        patience: Duration,
    ) -> Result<Answer, String> {
        let exchange = async {
            let answer = self.0.request(request).await.map_err(|e| causes(&e))?;
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, LONGEST).collect().await.map_err(|e| causes(&*e))?.to_bytes();
            Ok(Answer { status: parts.status, headers: parts.headers, body })
        };
        let late = || format!("no answer within {} s", patience.as_secs_f32());
        tokio::time::timeout(patience, exchange).await.map_err(|_| late())?
    }
}

/// An error with all that it came of.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let all = std::iter::successors(Some(error), |error| error.source());
    let mut texts: Vec<String> = all.map(ToString::to_string).collect();
    texts.dedup();
    texts.join(": ")
}
