//! Certificates: the server's own, whom it lets in, and servers whose certificate nobody looks at.

use std::sync::Arc;

use hyper::Uri;
use k8s_openapi::api::authentication::v1::UserInfo;
use k8s_openapi::jiff::{Timestamp, tz::TimeZone};
use kube::Config;
use kube::client::ConfigExt as _;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{Setup, stats};

/// The group whose members may do everything: the API server's own.
const MASTERS: &str = "system:masters";

/// A certificate and its key.
#[derive(Debug)]
pub(super) struct Identity {
    /// The certificate.
    pub(super) certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

/// The server's own, signed by itself, as a kubelet's.
pub(super) fn identity(setup: &Setup) -> Result<Identity, String> {
    let failed =
        |why: &dyn std::fmt::Display| format!("cannot make the certificate of the agent's server: {why}");
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|e| failed(&e))?;
    let hosts = vec![setup.address.to_string(), setup.node.clone(), "localhost".into(), stats::host()];
    let mut params = CertificateParams::new(hosts).map_err(|e| failed(&e))?;
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let yesterday = today.yesterday().unwrap_or(today);
    let day = |year: i16, month: i8, day: i8| {
        rcgen::date_time_ymd(i32::from(year), month.unsigned_abs(), day.unsigned_abs())
    };
    params.not_before = day(yesterday.year(), yesterday.month(), yesterday.day());
    // The 29th of February is no day of every year.
    params.not_after = day(today.year() + 10, today.month(), today.day().min(28));
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{}", setup.node));
    let certificate = params.self_signed(&key).map_err(|e| failed(&e))?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    Ok(Identity { certificate: certificate.der().clone(), key })
}

/// Lets those in who show a certificate of one of these authorities (in DER), or none at all.
pub(super) fn verifier(authorities: &[Vec<u8>]) -> Result<Arc<dyn ClientCertVerifier>, String> {
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

/// A server for clients that this lets in.
pub(super) fn server(
    identity: &Identity,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<Arc<ServerConfig>, String> {
    let failed =
        |why: &dyn std::fmt::Display| format!("cannot use the certificate of the agent's server: {why}");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let private = PrivateKeyDer::from(identity.key.clone_key());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| failed(&e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![identity.certificate.clone()], private)
        .map_err(|e| failed(&e))?;
    // Streams need HTTP/1.1.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Whether a certificate that TLS has verified is of somebody who may do everything.
pub(super) fn is_master(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| {
        parsed.subject().iter_organization().any(|name| name.as_str() == Ok(MASTERS))
    })
}

/// Whom a certificate that TLS has verified names: by its common name, and its groups by its organizations.
pub(super) fn user(certificate: &CertificateDer<'_>) -> Option<UserInfo> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed.subject().iter_common_name().find_map(|name| name.as_str().ok())?.to_owned();
    let groups = parsed.subject().iter_organization().filter_map(|name| name.as_str().ok());
    let groups = groups.chain(["system:authenticated"]).map(str::to_owned).collect();
    Some(UserInfo { username: Some(name), groups: Some(groups), ..UserInfo::default() })
}

/// Whether a certificate that TLS has verified bears one of these names.
pub(super) fn is_named(certificate: &CertificateDer<'_>, names: &[String]) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| {
        let mut its = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        its.any(|its| names.iter().any(|name| name == its))
    })
}

/// Whether this one would let a client in that shows these certificates, its own first: TLS may have let it in for another authority.
pub(super) fn is_of(shown: &[CertificateDer<'_>], verifier: &dyn ClientCertVerifier) -> bool {
    let Some((own, others)) = shown.split_first() else { return false };
    verifier.verify_client_cert(own, others, UnixTime::now()).is_ok()
}

/// TLS that takes any certificate: a probe asks whether something answers, and not who.
pub(crate) fn of_anybody() -> Result<ClientConfig, String> {
    // The library that asks the API server can do so, too; whom it would ask is nothing to that.
    let mut anybody = Config::new(Uri::from_static("https://localhost"));
    (anybody.accept_invalid_certs, anybody.root_cert) = (true, Some(Vec::new()));
    let mut config = anybody.rustls_client_config().map_err(|error| client::causes(&error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
