//! Certificates: the server's own, whom it lets in, and servers whose certificate nobody looks at.

use std::sync::Arc;

use k8s_openapi::jiff::{Timestamp, tz::TimeZone};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::Setup;

/// The group whose members may do everything: the API server's own.
const MASTERS: &str = "system:masters";

/// A server that signs its own certificate, as kubelets do, and demands one of its clients.
pub(super) fn server(setup: &Setup) -> Result<Arc<ServerConfig>, String> {
    let failed =
        |why: &dyn std::fmt::Display| format!("cannot make the certificate of the agent's server: {why}");
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|e| failed(&e))?;
    let hosts = vec![setup.address.to_string(), setup.node.clone(), "localhost".into()];
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
    let mut roots = RootCertStore::empty();
    for authority in &setup.client_authorities {
        let added = roots.add(CertificateDer::from(authority.clone()));
        added.map_err(|e| format!("cannot use the authority of the server's clients: {e}"))?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let verifier = verifier.map_err(|e| format!("cannot use the authority of the server's clients: {e}"))?;
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| failed(&e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate.der().clone()], private)
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

/// Takes any certificate: a probe asks whether something answers, and not who.
#[derive(Debug)]
pub(crate) struct Anybody(Arc<CryptoProvider>);

impl Anybody {
    /// A client that does so.
    pub(crate) fn client() -> Result<ClientConfig, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let mut config = builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Self(provider)))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
