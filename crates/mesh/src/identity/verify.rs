//! Whether a peer's certificate proves an identity of this mesh.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use super::{Identity, NoIdentity};

/// What a certificate says of who has it. Whether it is true is for the [`Verifier`] to say.
#[derive(Debug, Clone)]
pub(crate) struct Proved {
    pub(crate) identity: Identity,
    pub(crate) not_after: SystemTime,
}

/// Why a certificate proves no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unproved {
    #[error("it is no certificate")]
    NoCertificate,
    #[error("it has no name of a workload (an alternative name that is a URI)")]
    NoName,
    #[error("it has more than one alternative name that is a URI")]
    TwoNames,
    #[error(transparent)]
    NoIdentity(#[from] NoIdentity),
    #[error("it is of trust domain {0}, which is not this mesh's")]
    OtherDomain(String),
}

/// Reads a certificate's identity: the one URI among its alternative names (X509-SVID, 2 and 5).
///
/// # Errors
/// There is not exactly one, or it is none of a service account.
pub(crate) fn proved(certificate: &CertificateDer<'_>) -> Result<Proved, Unproved> {
    let (_, read) = X509Certificate::from_der(certificate).map_err(|_| Unproved::NoCertificate)?;
    let names = read.subject_alternative_name().map_err(|_| Unproved::NoCertificate)?;
    let mut uri = None;
    for name in names.iter().flat_map(|names| names.value.general_names.iter()) {
        match name {
            GeneralName::URI(found) if uri.replace(*found).is_some() => return Err(Unproved::TwoNames),
            // It may be a URI that others can read.
            GeneralName::Invalid(..) => return Err(Unproved::NoCertificate),
            _ => {}
        }
    }
    let uri = uri.ok_or(Unproved::NoName)?;
    let seconds = u64::try_from(read.validity().not_after.timestamp()).unwrap_or(0);
    let not_after = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    Ok(Proved { identity: Identity::parse(uri)?, not_after })
}

/// Believes certificates that a root of the mesh has signed, that hold now, and that prove an identity of its trust domain. What host they name is
/// of no interest.
pub(super) struct Verifier {
    domain: String,
    roots: RwLock<Arc<RootCertStore>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("domain", &self.domain).finish_non_exhaustive()
    }
}

impl Verifier {
    pub(super) fn new(domain: &str, algorithms: WebPkiSupportedAlgorithms) -> Self {
        let roots = RwLock::new(Arc::new(RootCertStore::empty()));
        Self { domain: domain.to_owned(), roots, algorithms }
    }

    pub(super) fn domain(&self) -> &str {
        &self.domain
    }

    pub(super) fn believe(&self, roots: RootCertStore) {
        *self.roots.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(roots);
    }

    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), Error> {
        let roots = self.roots.read().unwrap_or_else(PoisonError::into_inner).clone();
        let end = EndEntityCert::try_from(certificate).map_err(wrong)?;
        end.verify_for_usage(self.algorithms.all, &roots.roots, between, now, usage, None, None)
            .map_err(wrong)?;
        let unproved = |e: Unproved| CertificateError::Other(OtherError(Arc::new(e)));
        let proved = proved(certificate).map_err(unproved)?;
        if proved.identity.domain() != self.domain {
            return Err(unproved(Unproved::OtherDomain(proved.identity.domain().to_owned())).into());
        }
        Ok(())
    }
}

/// What TLS tells the peer of it.
fn wrong(error: webpki::Error) -> Error {
    let certificate = match error {
        webpki::Error::BadDer | webpki::Error::BadDerTime | webpki::Error::TrailingData(_) => {
            CertificateError::BadEncoding
        }
        webpki::Error::CertExpired { .. } | webpki::Error::InvalidCertValidity => CertificateError::Expired,
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    };
    certificate.into()
}

fn no_tls12() -> Error {
    Error::General("TLS 1.2 is not spoken here".into())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates, now, KeyUsage::server_auth())?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // All in a mesh have one certificate, and need no hint which to show.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity, intermediates, now, KeyUsage::client_auth())?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
