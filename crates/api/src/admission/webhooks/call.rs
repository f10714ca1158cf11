//! How a webhook is asked: HTTPS, with the authority that its configuration names.

use super::rules::Webhook;
use crate::registry::Registry;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// An answer is no longer than this.
const LONGEST: usize = 8 << 20;

/// Where a webhook is.
struct Place {
    /// As messages and the request line have it.
    url: Uri,
    /// The name in its certificate.
    server: String,
    host: String,
    port: u16,
}

/// Sends a review and returns what comes back.
pub(super) async fn post(registry: &Registry, webhook: &Webhook, review: &Value) -> Result<Bytes, String> {
    let place = place(registry, &webhook.client)?;
    let url = place.url.clone();
    let asked = tokio::time::timeout(webhook.timeout, exchange(webhook, place, review.to_string()));
    match asked.await {
        Ok(answer) => answer.map_err(|cause| format!("Post \"{url}\": {cause}")),
        Err(_) => Err(format!("Post \"{url}\": context deadline exceeded")),
    }
}

async fn exchange(webhook: &Webhook, place: Place, body: String) -> Result<Bytes, String> {
    let told = |error: &dyn std::error::Error| error.to_string();
    let stream = TcpStream::connect((place.host.as_str(), place.port)).await.map_err(|error| told(&error))?;
    let connector = TlsConnector::from(Arc::new(config(&webhook.client)?));
    let name = ServerName::try_from(place.server.clone()).map_err(|error| told(&error))?;
    let stream = connector.connect(name, stream).await.map_err(|error| told(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| told(&error))?;
    let connection = Ended(tokio::spawn(async move {
        // How it ends is seen by who waits for the answer.
        let _ = connection.await;
    }));
    let path = place.url.path_and_query().map_or("/", |path| path.as_str());
    let request = http::Request::post(path)
        .header("host", place.url.authority().map_or("", |authority| authority.as_str()))
        .header("content-type", "application/json")
        .header("accept", "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| told(&error))?;
    let response = sender.send_request(request).await.map_err(|error| told(&error))?;
    let status = response.status();
    let bytes = Limited::new(response.into_body(), LONGEST)
        .collect()
        .await
        .map_err(|error| error.to_string())?
        .to_bytes();
    drop(connection);
    if status.is_success() { Ok(bytes) } else { Err(format!("the server answered {status}")) }
}

/// A task that ends with its owner.
struct Ended(tokio::task::JoinHandle<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn config(client: &Value) -> Result<ClientConfig, String> {
    let bundle = client.get("caBundle").and_then(Value::as_str).unwrap_or_default();
    let pem = STANDARD.decode(bundle).map_err(|error| format!("its caBundle is no base64: {error}"))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| format!("its caBundle is no PEM: {error}"))?;
        roots.add(certificate).map_err(|error| format!("its caBundle is no authority: {error}"))?;
    }
    if roots.is_empty() {
        return Err("its configuration names no authority: set clientConfig.caBundle".to_owned());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn place(registry: &Registry, client: &Value) -> Result<Place, String> {
    if let Some(url) = client.get("url").and_then(Value::as_str) {
        let url: Uri = url.parse().map_err(|error| format!("its url {url:?} is none: {error}"))?;
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if url.scheme_str() != Some("https") || host.is_empty() {
            return Err(format!("its url \"{url}\" is no https URL"));
        }
        let port = url.port_u16().unwrap_or(443);
        return Ok(Place { url, server: host.clone(), host, port });
    }
    let Some(service) = client.get("service") else {
        return Err("its configuration names neither url nor service".to_owned());
    };
    let text = |field: &str| service.get(field).and_then(Value::as_str).unwrap_or_default();
    let (name, namespace) = (text("name"), text("namespace"));
    let port = service.get("port").and_then(Value::as_u64).unwrap_or(443);
    let server = format!("{name}.{namespace}.svc");
    let path = text("path").trim_start_matches('/');
    let url = format!("https://{server}:{port}/{path}");
    let url = url.parse().map_err(|error| format!("its service makes no URL: {error}"))?;
    let (host, port) = address(registry, namespace, name, port)?;
    Ok(Place { url, server, host, port })
}

/// Where a service is: at one of its endpoints, else at its own address.
fn address(registry: &Registry, namespace: &str, name: &str, port: u64) -> Result<(String, u16), String> {
    let found = registry.peek("services", namespace, name).map_err(|status| status.message)?;
    let service = found.ok_or_else(|| format!("service \"{name}\" not found"))?;
    let ports = service.at(&["spec", "ports"]).and_then(Value::as_array).into_iter().flatten();
    let asked = ports.into_iter().find(|entry| entry["port"] == port);
    let asked = asked.ok_or_else(|| format!("no service port {port} found for service \"{name}\""))?;
    let number = |value: &Value| value.as_u64().and_then(|port| u16::try_from(port).ok());
    let slices = registry
        .every("endpointslices.discovery.k8s.io", Some(namespace))
        .map_err(|status| status.message)?;
    for slice in slices.iter().filter(|slice| slice.label("kubernetes.io/service-name") == Some(name)) {
        let ports = slice.0.get("ports").and_then(Value::as_array).into_iter().flatten();
        let wanted = asked.get("name").and_then(Value::as_str).unwrap_or_default();
        let target = ports
            .into_iter()
            .find(|entry| entry.get("name").and_then(Value::as_str).unwrap_or_default() == wanted)
            .and_then(|entry| number(&entry["port"]));
        let endpoints = slice.0.get("endpoints").and_then(Value::as_array).into_iter().flatten();
        let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] != false);
        let mut addresses = ready.filter_map(|endpoint| endpoint["addresses"][0].as_str());
        if let (Some(address), Some(target)) = (addresses.next(), target) {
            return Ok((address.to_owned(), target));
        }
    }
    let own = service.text(&["spec", "clusterIP"]);
    match (own.parse::<IpAddr>(), u16::try_from(port)) {
        (Ok(_), Ok(port)) => Ok((own.to_owned(), port)),
        _ => Err(format!("no endpoints available for service \"{name}\"")),
    }
}
