//! Connections of this server to others: TLS and HTTP/1.1, one for each request, with what goes wrong in the words of Go's
//! clients, which users know.

use std::collections::HashMap;
use std::hash::Hash;
use std::io::{Error as IoError, ErrorKind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderValue;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, SignatureScheme, WantsVerifier,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::auth::{self, Identity, provider};

/// How long a client certificate is used; it lives for a year.
const USED: Duration = Duration::from_secs(100 * 24 * 3600);
/// So many ways of trusting are remembered.
const MOST: usize = 64;
/// How long reaching somebody may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to `host`, which proves to be `name` as the configuration wants it.
pub(crate) async fn open<B>(
    config: Arc<ClientConfig>,
    host: &str,
    port: u16,
    name: ServerName<'static>,
) -> Result<SendRequest<B>, String>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let reach = async {
        let stream = TcpStream::connect((host, port)).await.map_err(|error| dialing(&error, &address))?;
        // What goes back and forth is small, as events, lines and keys are.
        let _ = stream.set_nodelay(true);
        TlsConnector::from(config).connect(name, stream).await.map_err(|error| distrusted(&error))
    };
    let stream = tokio::time::timeout(PATIENCE, reach)
        .await
        .map_err(|_| format!("dial tcp {address}: i/o timeout"))??;
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // It ends when its sender and its answer are dropped; how, is seen by who reads the answer.
    tokio::spawn(connection.with_upgrades());
    Ok(sender)
}

/// TLS to which is still to be said by what others prove themselves, and TLS to which it has been said.
pub(crate) type Trusting = ConfigBuilder<ClientConfig, WantsVerifier>;
pub(crate) type Trusted = ConfigBuilder<ClientConfig, WantsClientCert>;

/// The client certificate by which this server proves itself to others, made when it is first needed, and TLS with it for each
/// way (`T`) of trusting them.
pub(crate) struct Proof<T> {
    issue: Box<dyn Fn() -> Result<Identity, auth::Error> + Send + Sync>,
    held: Mutex<Option<Held<T>>>,
}

struct Held<T> {
    since: Instant,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    configs: HashMap<T, Arc<ClientConfig>>,
}

impl<T: Clone + Eq + Hash> Proof<T> {
    /// Certificates are what `issue` makes.
    pub(crate) fn new(issue: impl Fn() -> Result<Identity, auth::Error> + Send + Sync + 'static) -> Proof<T> {
        Proof { issue: Box::new(issue), held: Mutex::new(None) }
    }

    /// TLS for a way of trusting, which `trust` says where it is not known yet.
    pub(crate) fn config(
        &self,
        way: &T,
        trust: impl FnOnce(Trusting) -> Result<Trusted, String>,
    ) -> Result<Arc<ClientConfig>, String> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_none_or(|held| held.since.elapsed() > USED || held.configs.len() > MOST) {
            *held = None;
        }
        let held = match &mut *held {
            Some(held) => held,
            none => none.insert(Held::new(&(self.issue)().map_err(|error| error.to_string())?)?),
        };
        if let Some(config) = held.configs.get(way) {
            return Ok(Arc::clone(config));
        }
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let config = trust(builder.map_err(|error| error.to_string())?)?
            .with_client_auth_cert(held.chain.clone(), held.key.clone_key())
            .map_err(|error| error.to_string())?;
        let config = Arc::new(config);
        held.configs.insert(way.clone(), Arc::clone(&config));
        Ok(config)
    }
}

impl<T> Held<T> {
    fn new(identity: &Identity) -> Result<Held<T>, String> {
        let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes());
        let key =
            PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(|error| error.to_string())?;
        let chain = vec![certificate.map_err(|error| error.to_string())?];
        Ok(Held { since: Instant::now(), chain, key, configs: HashMap::new() })
    }
}

/// Carries bytes between two upgraded connections until both are done.
pub(crate) async fn relay(ours: OnUpgrade, theirs: OnUpgrade) {
    let (Ok(ours), Ok(theirs)) = tokio::join!(ours, theirs) else { return };
    let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
    // How it ended is seen by the two who spoke.
    let _ = tokio::io::copy_bidirectional(&mut ours, &mut theirs).await;
}

/// How browsers send a bearer token: as a protocol of WebSocket.
const TOKEN: &str = "base64url.bearer.authorization.k8s.io.";

/// A list of protocols of WebSocket without the token among them, which is for this server alone; nothing if nothing is
/// left.
pub(crate) fn without_token(protocols: &HeaderValue) -> Option<HeaderValue> {
    let is_token = protocols.as_bytes().windows(TOKEN.len()).any(|part| part == TOKEN.as_bytes());
    if !is_token {
        return Some(protocols.clone());
    }
    // What is no text may hold a token all the same.
    let list = protocols.to_str().ok()?.split(',').map(str::trim);
    let others: Vec<&str> = list.filter(|one| !one.starts_with(TOKEN) && !one.is_empty()).collect();
    if others.is_empty() { None } else { HeaderValue::from_str(&others.join(", ")).ok() }
}

fn dialing(error: &IoError, address: &str) -> String {
    let cause = match error.kind() {
        ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        _ => error.to_string(),
    };
    format!("dial tcp {address}: {cause}")
}

fn distrusted(error: &IoError) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        // Of an authority of the same name the signature is another's.
        Some(rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) => "tls: failed to verify certificate: x509: certificate signed by unknown authority".to_owned(),
        _ => format!("tls: {error}"),
    }
}

/// Believes every certificate; that its holder has the key is still checked.
#[derive(Debug)]
struct Blind(Arc<CryptoProvider>);

/// TLS that believes every certificate.
pub(crate) fn blind(trusting: Trusting) -> Trusted {
    trusting.dangerous().with_custom_certificate_verifier(Arc::new(Blind(provider())))
}

impl ServerCertVerifier for Blind {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
