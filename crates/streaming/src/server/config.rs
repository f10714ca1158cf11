//! Where a streaming server listens, and with which certificates.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

use crate::Limits;

/// What a [`TokenServer`](super::TokenServer) is started with. The default is a free port of 127.0.0.1, without TLS.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 means any that is free. Without TLS it must be a loopback address: whoever reads the
    /// token on the wire has the container.
    pub listen: SocketAddr,
    /// The name or address that clients are given, where it is not the one listened on (a server on all addresses).
    pub host: Option<String>,
    /// Certificates. With them addresses begin with https.
    pub tls: Option<Tls>,
    /// The patience of sessions.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Config {
        Config { listen: (Ipv4Addr::LOCALHOST, 0).into(), host: None, tls: None, limits: Limits::default() }
    }
}

/// A server's certificate, and whom it talks to.
#[derive(Debug, Clone)]
pub struct Tls(pub(super) Arc<rustls::ServerConfig>);

impl Tls {
    /// From files in PEM: the certificate with what signed it, its key, and, if clients must show a certificate of their
    /// own, the authorities that may have signed it.
    ///
    /// # Errors
    /// A file cannot be read, has not what it must have, or does not fit the others.
    pub fn from_pem_files(certificate: &Path, key: &Path, client_ca: Option<&Path>) -> Result<Tls, TlsError> {
        let chain = certificates(certificate)?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| TlsError::file(key, error))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions();
        let builder = versions.map_err(|error| TlsError::unusable(certificate, error))?;
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| TlsError::unusable(path, error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| TlsError::unusable(path, error))?)
            }
        };
        let mut config = builder
            .with_single_cert(chain, private)
            .map_err(|error| TlsError::unusable(certificate, error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Tls(Arc::new(config)))
    }
}

impl From<Arc<rustls::ServerConfig>> for Tls {
    /// For one that was made elsewhere. Its ALPN must not offer h2: streams need HTTP/1.1.
    fn from(config: Arc<rustls::ServerConfig>) -> Tls {
        Tls(config)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(|found| found.collect::<Result<Vec<_>, _>>());
    let found = read.map_err(|error| TlsError::file(path, error))?;
    if found.is_empty() { Err(TlsError::unusable(path, "it holds no certificate")) } else { Ok(found) }
}

/// A certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It cannot be read.
    #[error("cannot read {}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// It is not what it must be.
    #[error("cannot use {} for TLS: {why}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

impl TlsError {
    fn file(path: &Path, why: rustls::pki_types::pem::Error) -> TlsError {
        TlsError::File { path: path.to_owned(), why: why.to_string() }
    }

    fn unusable(path: &Path, why: impl ToString) -> TlsError {
        TlsError::Unusable { path: path.to_owned(), why: why.to_string() }
    }
}

/// Why a streaming server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address} for streams: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Tokens would travel in the clear.
    #[error(
        "cannot listen on {address} for streams without TLS: use a loopback address, or set a certificate and key"
    )]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
}
