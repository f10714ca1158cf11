//! Certificates: a server's own, and whom it lets in.

use std::sync::Arc;

use k8s_openapi::jiff::{Timestamp, tz::TimeZone};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Proxies;

/// A server's certificate and its key.
pub struct Identity {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Identity {
    /// One for these names and addresses, signed by itself, for ten years.
    ///
    /// # Errors
    /// A text for people: a name that none can have, or no key.
    pub fn new(hosts: Vec<String>, common_name: &str) -> Result<Self, String> {
        let failed = |why: &dyn std::fmt::Display| format!("cannot make the server's certificate: {why}");
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|e| failed(&e))?;
        let mut params = CertificateParams::new(hosts).map_err(|e| failed(&e))?;
        let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
        let yesterday = today.yesterday().unwrap_or(today);
        let day = |year: i16, month: i8, day: i8| {
            rcgen::date_time_ymd(i32::from(year), month.unsigned_abs(), day.unsigned_abs())
        };
        params.not_before = day(yesterday.year(), yesterday.month(), yesterday.day());
        // The 29th of February is no day of every year.
        params.not_after = day(today.year() + 10, today.month(), today.day().min(28));
        params.distinguished_name.push(DnType::CommonName, common_name);
        let certificate = params.self_signed(&key).map_err(|e| failed(&e))?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Ok(Self { certificate: certificate.der().clone(), key })
    }
}

/// Lets those in who show a certificate of one of these authorities (in DER), or none at all.
///
/// # Errors
/// A text for people: one of them is none, or there is none.
pub fn verifier(authorities: &[Vec<u8>]) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        let added = roots.add(CertificateDer::from(authority.clone()));
        added.map_err(|e| format!("cannot use the authority of the server's clients: {e}"))?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = builder.allow_unauthenticated().build();
    verifier
        .map(|verifier| verifier as _)
        .map_err(|e| format!("cannot use the authority of the server's clients: {e}"))
}

/// A server of HTTP/1.1 for clients that this lets in.
///
/// # Errors
/// A text for people: the certificate is none that TLS can show.
pub fn config(
    identity: &Identity,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<Arc<ServerConfig>, String> {
    let failed = |why: &dyn std::fmt::Display| format!("cannot use the server's certificate: {why}");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let private = PrivateKeyDer::from(identity.key.clone_key());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| failed(&e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![identity.certificate.clone()], private)
        .map_err(|e| failed(&e))?;
    // Streams need it.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Whether this one would let a client in that shows these certificates, its own first: TLS may have let it in for another authority.
#[must_use]
pub fn is_of(shown: &[CertificateDer<'_>], verifier: &dyn ClientCertVerifier) -> bool {
    let Some((own, others)) = shown.split_first() else { return false };
    verifier.verify_client_cert(own, others, UnixTime::now()).is_ok()
}

/// Those who hand on what others ask, as their certificates are looked at.
#[derive(Debug)]
pub struct Front {
    verifier: Arc<dyn ClientCertVerifier>,
    /// The names that they may bear; any, where there are none.
    names: Vec<String>,
}

impl Front {
    /// Of what the API server says; nobody where it names no authority.
    ///
    /// # Errors
    /// As those of [`verifier`].
    pub fn of(proxies: &Proxies) -> Result<Option<Self>, String> {
        if proxies.authorities.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self { verifier: verifier(&proxies.authorities)?, names: proxies.names.clone() }))
    }

    /// Whether who shows these certificates, its own first, is one of them.
    #[must_use]
    pub fn hands_on(&self, shown: &[CertificateDer<'_>]) -> bool {
        let is_named = |own| self.names.is_empty() || is_named(own, &self.names);
        shown.first().is_some_and(is_named) && is_of(shown, &*self.verifier)
    }

    /// Lets in whoever hands on, or shows nothing.
    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        self.verifier.clone()
    }
}

/// Whether a certificate that TLS has verified bears one of these names.
fn is_named(certificate: &CertificateDer<'_>, names: &[String]) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| {
        let mut its = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        its.any(|its| names.iter().any(|name| name == its))
    })
}
