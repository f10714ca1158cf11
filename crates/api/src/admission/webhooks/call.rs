//! How a webhook is asked: HTTPS, with the authority that its configuration names.

use super::place::{Place, place};
use super::review::Question;
use super::webhook::Webhook;
use crate::contract::field::quoted;
use crate::registry::Registry;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use serde_json::Value;
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// An answer is no longer than this.
const LONGEST: usize = 8 << 20;
/// So much of a text that is no answer is told.
const TOLD: usize = 2048;

/// Sends a review and returns what comes back.
pub(super) async fn post(
    registry: &Registry,
    webhook: &Webhook,
    question: &Question,
) -> Result<Bytes, String> {
    let place = place(registry, &webhook.client, webhook.timeout)?;
    let url = place.url.clone();
    match tokio::time::timeout(webhook.timeout, exchange(webhook, place, question.body.clone())).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Failure::Answer(told))) => Err(told),
        Ok(Err(Failure::Sending(cause))) => Err(format!("Post \"{url}\": {cause}")),
        Err(_) => Err(format!("Post \"{url}\": context deadline exceeded")),
    }
}

/// Why there is no answer.
enum Failure {
    /// It could not be asked, or did not answer.
    Sending(String),
    /// It answered that it does not.
    Answer(String),
}

impl From<String> for Failure {
    fn from(cause: String) -> Failure {
        Failure::Sending(cause)
    }
}

async fn exchange(webhook: &Webhook, place: Place, body: String) -> Result<Bytes, Failure> {
    let (host, port) = place.address?;
    let connector = TlsConnector::from(Arc::new(config(&webhook.client)?));
    let name = ServerName::try_from(place.server.clone()).map_err(|error| error.to_string())?;
    let stream = TcpStream::connect((host.as_str(), port)).await;
    let stream =
        stream.map_err(|error| format!("dial tcp {}: {}", joined(&host, port), connect_cause(&error)))?;
    let stream = connector.connect(name, stream).await.map_err(|error| tls_cause(&error, &place.server))?;
    let told = |error: hyper::Error| Failure::Sending(lost(&error));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(told)?;
    let connection = Ended(tokio::spawn(async move {
        // How it ends is seen by who waits for the answer.
        let _ = connection.await;
    }));
    let path = place.url.path_and_query().map_or("/", |path| path.as_str());
    let request = http::Request::post(path)
        .header("host", place.url.authority().map_or("", |authority| authority.as_str()))
        .header("user-agent", "kube-apiserver-admission")
        .header("content-type", "application/json")
        .header("accept", "application/json, */*")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(told)?;
    let (parts, body) = response.into_parts();
    let bytes = Limited::new(body, LONGEST).collect().await.map_err(|error| error.to_string())?.to_bytes();
    drop(connection);
    let kind = parts.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !parts.status.is_success() {
        return Err(Failure::Answer(refusal(parts.status.as_u16(), kind, &bytes)));
    }
    if bytes.is_empty() {
        return Err(Failure::Answer(format!(
            "0-length response with status code: {} and content type: {kind}",
            parts.status.as_u16()
        )));
    }
    Ok(bytes)
}

/// `host:port`, with brackets around an IPv6 address.
fn joined(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Why nobody was reached, as Go says it.
fn connect_cause(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        io::ErrorKind::TimedOut => "connect: connection timed out".to_owned(),
        _ => error.to_string(),
    }
}

/// Why there is no secure connection, as Go says it.
fn tls_cause(error: &io::Error, server: &str) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let unverified = |cause: String| format!("tls: failed to verify certificate: x509: {cause}");
    match inner {
        Some(rustls::Error::InvalidCertificate(cause)) => match cause {
            CertificateError::UnknownIssuer => {
                unverified("certificate signed by unknown authority".to_owned())
            }
            CertificateError::NotValidForName => unverified(format!("certificate is not valid for {server}")),
            CertificateError::NotValidForNameContext { presented, .. } => {
                let names: Vec<&str> = presented.iter().map(|name| bare_name(name)).collect();
                unverified(format!("certificate is valid for {}, not {server}", names.join(", ")))
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => {
                unverified("certificate has expired or is not yet valid".to_owned())
            }
            other => unverified(other.to_string()),
        },
        Some(other) => format!("tls: {other}"),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        None => error.to_string(),
    }
}

/// A name of a certificate without what rustls puts around it: `DnsName("localhost")`.
fn bare_name(name: &str) -> &str {
    name.split_once('(').map_or(name, |(_, rest)| rest.trim_end_matches(')').trim_matches('"'))
}

/// Why a connection gave no answer.
fn lost(error: &hyper::Error) -> String {
    if error.is_incomplete_message() { "EOF".to_owned() } else { error.to_string() }
}

/// What is told of an answer that is a refusal, in the words of Kubernetes' client.
fn refusal(code: u16, kind: &str, body: &[u8]) -> String {
    if let Ok(status) = serde_json::from_slice::<Value>(body)
        && status.get("kind").and_then(Value::as_str) == Some("Status")
        && let Some(message) = status.get("message").and_then(Value::as_str)
    {
        return message.to_owned();
    }
    let text = if kind.starts_with("text/") {
        String::from_utf8_lossy(body).chars().take(TOLD).collect::<String>().trim().to_owned()
    } else {
        "unknown".to_owned()
    };
    match code {
        400 => "the server rejected our request for an unknown reason".to_owned(),
        401 => "the server has asked for the client to provide credentials".to_owned(),
        403 => text,
        404 => "the server could not find the requested resource".to_owned(),
        405 => "the server does not allow this method on the requested resource".to_owned(),
        429 => "the server has received too many requests and has asked us to try again later".to_owned(),
        503 => "the server is currently unable to handle the request".to_owned(),
        504 => "the server was unable to return a response in the time allotted, but may still be processing the \
                request"
            .to_owned(),
        500.. => format!("an error on the server ({}) has prevented the request from succeeding", quoted(&text)),
        _ => format!("the server responded with the status code {code} but did not return more information"),
    }
}

/// A task that ends with its owner.
struct Ended(tokio::task::JoinHandle<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Whom to trust: the authorities of `caBundle`. Without one nobody: this server knows no authority of the machine's.
fn config(client: &Value) -> Result<ClientConfig, String> {
    let bundle = client.get("caBundle").and_then(Value::as_str).unwrap_or_default();
    let unreadable = |cause: String| format!("unable to load root certificates: {cause}");
    let pem = STANDARD.decode(bundle).map_err(|error| unreadable(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unreadable(error.to_string()))?;
    }
    if roots.is_empty() && !pem.is_empty() {
        return Err(unreadable("unable to parse bytes as PEM block".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
