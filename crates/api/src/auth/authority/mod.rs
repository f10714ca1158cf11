//! The certificate authority of one server: its own certificate, and those of whom it lets in.
//!
//! Everything is ECDSA on P-256. The folder holds `ca.crt`, `ca.key`, `server.crt`, `server.key`; keys are readable by
//! their owner alone. The authority lives ten years; what it issues lives one and is issued anew at a start, or by
//! [`Authority::renew`], when less than a third is left.

mod files;
mod front_proxy;
mod issue;
#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use rcgen::{Issuer, KeyPair};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

pub(in crate::auth) use files::read;
pub use files::replace;
pub use front_proxy::{FRONT_PROXY, FrontProxy};

/// Names under which a server is reached from inside a cluster.
const CLUSTER_NAMES: [&str; 5] = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
];

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file.
    #[error("cannot {act} {}: {source}", path.display())]
    File {
        /// What was tried.
        act: &'static str,
        /// With which file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// What is in a file is no certificate or key of this authority.
    #[error("cannot use {}: {cause}; move {} away to have a new authority", path.display(), folder.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The folder of the authority.
        folder: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// A certificate could not be made.
    #[error("cannot issue a certificate for {subject:?}: {cause}")]
    Issue {
        /// For whom.
        subject: String,
        /// The cause.
        cause: String,
    },
    /// TLS as a whole.
    #[error("cannot prepare TLS: {0}")]
    Tls(String),
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// The key (PKCS #8).
    pub key: String,
}

/// The authority of one server.
pub struct Authority {
    folder: PathBuf,
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
    hosts: Vec<String>,
    served: Arc<Served>,
}

/// The server's certificate, which may be renewed while it is served.
struct Served(RwLock<Arc<CertifiedKey>>);

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Served")
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().ok().map(|key| Arc::clone(&key))
    }
}

impl Authority {
    /// Opens the authority in `folder`, or makes one there, and has a certificate for a server that is reached at
    /// `addresses`, under `names` and under the names that clients inside a cluster use.
    ///
    /// # Errors
    /// Files that cannot be read or written, or that hold something else.
    pub fn open(folder: &Path, addresses: &[IpAddr], names: &[String]) -> Result<Authority, Error> {
        files::make_folder(folder)?;
        let (certificate, issuer) = files::authority(folder, issue::AUTHORITY)?;
        let mut hosts: Vec<String> = CLUSTER_NAMES.iter().map(|name| (*name).to_owned()).collect();
        hosts.extend(names.iter().cloned());
        hosts.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
        hosts.extend(addresses.iter().filter(|address| !address.is_unspecified()).map(IpAddr::to_string));
        hosts.sort();
        hosts.dedup();
        let identity = files::server(folder, &issuer, &hosts)?;
        let served = Arc::new(Served(RwLock::new(Arc::new(certified(folder, &identity)?))));
        Ok(Authority { folder: folder.to_owned(), certificate, issuer, hosts, served })
    }

    /// The authority's own certificate in PEM, for clients to trust.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Issues a certificate for a client: `user` becomes its user name, `groups` its groups.
    ///
    /// # Errors
    /// Names that fit in no certificate.
    pub fn issue_client(&self, user: &str, groups: &[&str]) -> Result<Identity, Error> {
        issue::client(&self.issuer, user, groups)
    }

    /// Issues the server's certificate anew when it nears its end. True when it did.
    ///
    /// # Errors
    /// As [`open`](Authority::open).
    pub fn renew(&self) -> Result<bool, Error> {
        let before = read(&self.folder.join("server.crt"))?;
        let identity = files::server(&self.folder, &self.issuer, &self.hosts)?;
        let renewed = identity.certificate != before;
        if renewed && let Ok(mut served) = self.served.0.write() {
            *served = Arc::new(certified(&self.folder, &identity)?);
        }
        Ok(renewed)
    }

    /// TLS for a server: HTTP/2 and HTTP/1.1, clients may show a certificate of this authority.
    ///
    /// # Errors
    /// Where the authority's certificate cannot be trusted.
    pub fn server_config(&self) -> Result<ServerConfig, Error> {
        let tls = |error: &dyn std::fmt::Display| Error::Tls(error.to_string());
        let mut roots = RootCertStore::empty();
        let own = CertificateDer::from_pem_slice(self.certificate.as_bytes()).map_err(|e| tls(&e))?;
        roots.add(own).map_err(|e| tls(&e))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .allow_unauthenticated()
            .build()
            .map_err(|e| tls(&e))?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| tls(&e))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::clone(&self.served) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// The one cryptography of the program.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())))
}

fn certified(folder: &Path, identity: &Identity) -> Result<CertifiedKey, Error> {
    let unusable = |name: &str, cause: &dyn std::fmt::Display| Error::Unusable {
        path: folder.join(name),
        folder: folder.to_owned(),
        cause: cause.to_string(),
    };
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes())
        .map_err(|e| unusable("server.crt", &e))?;
    let key =
        PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(|e| unusable("server.key", &e))?;
    CertifiedKey::from_der(vec![certificate], key, &provider()).map_err(|e| unusable("server.key", &e))
}
