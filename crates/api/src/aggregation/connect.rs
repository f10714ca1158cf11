//! How a service is asked: TLS, with the certificate of a front proxy.

use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::SendRequest;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use super::place::{Found, Place, Trust};
use crate::auth::FrontProxy;
use crate::dial::{self, Proof};
use crate::resource::Asker;

/// What is read of an answer to a question of the server itself.
const LONGEST: usize = 8 << 20;

/// The authorities that this machine trusts, read once, as Go's programs read them; where there were none, again.
static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();

/// Reaches services, as the front proxy that it has certificates of.
pub struct Connector(Proof<Trust>);

/// Who a service is told that asks.
pub(crate) struct Asked<'a>(pub(crate) &'a Asker);

impl Connector {
    /// Reaches services with certificates of `proxy`.
    #[must_use]
    pub fn new(proxy: FrontProxy) -> Connector {
        Connector(Proof::new(move || proxy.issue()))
    }

    /// A connection to a service that has been found.
    pub(crate) async fn open<B>(&self, place: &Place, found: &Found) -> Result<SendRequest<B>, String>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let config = self.config(&place.trust)?;
        let name = ServerName::try_from(place.server()).map_err(|error| error.to_string())?;
        dial::open(config, &found.host, found.port, name).await
    }

    /// What a service answers to a question of this server itself: the status and the whole body.
    pub(crate) async fn get(
        &self,
        place: &Place,
        found: &Found,
        path: &str,
    ) -> Result<(http::StatusCode, Bytes), String> {
        let asker = Asker {
            user: "system:kube-aggregator".to_owned(),
            groups: vec![crate::auth::MASTERS.to_owned()],
            ..Asker::default()
        };
        self.ask(place, found, http::Method::GET, path, &Asked(&asker)).await
    }

    /// The same of a part of this server, with a method and without a body.
    pub(crate) async fn ask(
        &self,
        place: &Place,
        found: &Found,
        method: http::Method,
        path: &str,
        asked: &Asked<'_>,
    ) -> Result<(http::StatusCode, Bytes), String> {
        let mut sender = self.open::<Empty<Bytes>>(place, found).await?;
        let mut request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, place.server())
            .header(http::header::ACCEPT, "application/json")
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        asked.tell(request.headers_mut());
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST).collect().await;
        Ok((status, body.map_err(|error| error.to_string())?.to_bytes()))
    }

    /// TLS for a way of trusting.
    fn config(&self, trust: &Trust) -> Result<Arc<ClientConfig>, String> {
        // Read from files, which others must not wait for behind the lock.
        if *trust == Trust::System {
            authorities(&SYSTEM, native)?;
        }
        self.0.config(trust, |trusting| {
            Ok(match trust {
                Trust::Blind => dial::blind(trusting),
                Trust::Bundle(bundle) => trusting.with_root_certificates(bundled(bundle)?),
                Trust::System => trusting.with_root_certificates(authorities(&SYSTEM, native)?),
            })
        })
    }
}

impl Asked<'_> {
    /// Tells who asks; what the client itself said of that is forgotten.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        let claimed: Vec<HeaderName> =
            headers.keys().filter(|name| name.as_str().starts_with("x-remote-")).cloned().collect();
        for name in claimed {
            headers.remove(name);
        }
        let asker = self.0;
        let mut tell = |name: &str, value: &str| {
            // Names of users are text; what no header can hold names nobody whom a service could know.
            let name = HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
                headers.append(name, value);
            }
        };
        tell("x-remote-user", &asker.user);
        if !asker.uid.is_empty() {
            tell("x-remote-uid", &asker.uid);
        }
        asker.groups.iter().for_each(|group| tell("x-remote-group", group));
        for (key, values) in &asker.extra {
            let name = format!("x-remote-extra-{}", escaped(key));
            values.iter().for_each(|value| tell(&name, value));
        }
    }
}

/// A key of `extra` as a part of a header's name.
fn escaped(key: &str) -> String {
    let mut text = String::with_capacity(key.len());
    for byte in key.bytes() {
        let is_plain = byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
        if is_plain {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// The authorities that are kept, or else those that `read` finds, which are kept from then on.
fn authorities(
    kept: &OnceLock<Arc<RootCertStore>>,
    read: impl FnOnce() -> RootCertStore,
) -> Result<Arc<RootCertStore>, String> {
    if let Some(roots) = kept.get() {
        return Ok(Arc::clone(roots));
    }
    let roots = read();
    if roots.is_empty() {
        return Err("this machine trusts no authority: set spec.caBundle".to_owned());
    }
    Ok(Arc::clone(kept.get_or_init(|| Arc::new(roots))))
}

fn native() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// What a service that is not reached says, as clients of Kubernetes know it.
pub(crate) fn said(cause: &str) -> String {
    format!("error trying to reach service: {cause}")
}

fn bundled(bundle: &str) -> Result<RootCertStore, String> {
    let pem = STANDARD.decode(bundle).map_err(|error| format!("spec.caBundle is no base64: {error}"))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| format!("spec.caBundle is no PEM: {error}"))?;
        roots.add(certificate).map_err(|error| format!("spec.caBundle is no authority: {error}"))?;
    }
    if roots.is_empty() { Err("spec.caBundle holds no certificate".to_owned()) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_kept_when_there_are_some() {
        let kept = OnceLock::new();
        let cause = authorities(&kept, RootCertStore::empty).unwrap_err();
        assert_eq!(cause, "this machine trusts no authority: set spec.caBundle");
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::default();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).unwrap();
        let some = || {
            let mut roots = RootCertStore::empty();
            roots.add(certificate.der().clone()).unwrap();
            roots
        };
        assert_eq!(authorities(&kept, some).unwrap().len(), 1);
        assert_eq!(authorities(&kept, || panic!("they are read once")).unwrap().len(), 1);
    }

    #[test]
    fn what_a_client_says_of_itself_is_replaced() {
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-user", HeaderValue::from_static("root"));
        headers.insert("x-remote-extra-scope", HeaderValue::from_static("all"));
        headers.insert("accept", HeaderValue::from_static("*/*"));
        let asker = Asker {
            user: "jane".to_owned(),
            groups: vec!["dev".to_owned(), "ops".to_owned()],
            extra: vec![("example.com/team".to_owned(), vec!["a".to_owned(), "b".to_owned()])],
            uid: String::new(),
        };
        Asked(&asker).tell(&mut headers);
        let all = |name: &str| -> Vec<&str> {
            headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default()).collect()
        };
        assert_eq!(all("x-remote-user"), ["jane"]);
        assert_eq!(all("x-remote-group"), ["dev", "ops"]);
        assert_eq!(all("x-remote-extra-example.com%2fteam"), ["a", "b"]);
        assert_eq!(all("x-remote-extra-scope"), [""; 0]);
        assert_eq!(all("accept"), ["*/*"]);
    }
}
