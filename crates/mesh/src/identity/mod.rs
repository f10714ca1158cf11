//! Who is who: SPIFFE identities, and the certificates that prove them (docs/adr/0030-hbone-and-how-identities-are-kept.md).
//!
//! [`Certificates`] is what whoever gets certificates hands over to the data path: of each identity a chain and its key, and the mesh's roots. It is
//! shared between threads, and what is put into it holds for the next handshake. Nothing is written anywhere: keys live in memory.
//!
//! TLS is 1.3 alone, both sides prove who they are, and no session is resumed: each connection is checked against the roots and the time that
//! hold then.

mod verify;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use verify::Verifier;
pub(crate) use verify::proved;

/// The protocol within TLS (RFC 9113, 3.1).
pub(crate) const ALPN: &[u8] = b"h2";
/// No identity is longer (SPIFFE-ID, 2.3).
const LONGEST: usize = 2048;

/// Who a workload is: `spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(Arc<str>);

impl Identity {
    /// Reads one.
    ///
    /// # Errors
    /// It is none; what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, NoIdentity> {
        let rest = text.strip_prefix("spiffe://").ok_or(NoIdentity("it does not begin with spiffe://"))?;
        if text.len() > LONGEST {
            return Err(NoIdentity("it is longer than 2048 bytes"));
        }
        let (domain, path) = rest.split_once('/').ok_or(NoIdentity("it has no path"))?;
        let of_domain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
        if domain.is_empty() || !domain.bytes().all(of_domain) {
            return Err(NoIdentity("its trust domain is empty or has a character that none has"));
        }
        let mut parts = path.split('/');
        let mut next = || parts.next().unwrap_or_default();
        let (ns, namespace, sa, account) = (next(), next(), next(), next());
        if (ns, sa, parts.next()) != ("ns", "sa", None) {
            return Err(NoIdentity("its path is not ns/NAMESPACE/sa/ACCOUNT"));
        }
        let of_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        for name in [namespace, account] {
            if name.is_empty() || matches!(name, "." | "..") || !name.bytes().all(of_name) {
                return Err(NoIdentity("a name in its path is empty or has a character that none has"));
            }
        }
        Ok(Self(text.into()))
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its trust domain.
    #[must_use]
    pub fn domain(&self) -> &str {
        let rest = self.0.strip_prefix("spiffe://").unwrap_or_default();
        rest.split_once('/').map_or("", |(domain, _)| domain)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no SPIFFE identity of a service account: {0}")]
pub struct NoIdentity(&'static str);

/// Why a certificate or roots are not taken.
#[derive(Debug, thiserror::Error)]
pub enum Untaken {
    /// What it says of an identity is none, another's, or of another trust domain.
    #[error("cannot use the certificate for {identity}: {why}")]
    Other {
        /// Whose it should be.
        identity: Identity,
        /// What is wrong.
        why: String,
    },
    /// It cannot be read, or its key is another's.
    #[error("cannot use the certificate for {identity}: {source}")]
    Tls {
        /// Whose it should be.
        identity: Identity,
        /// What TLS says.
        #[source]
        source: rustls::Error,
    },
    /// Its key cannot be read.
    #[error("cannot use the key for {identity}: {why}")]
    Key {
        /// Whose it should be.
        identity: Identity,
        /// What is wrong.
        why: &'static str,
    },
    /// A root cannot be read.
    #[error("cannot use root certificate {place}: {source}")]
    Root {
        /// Its place in the list, from 0.
        place: usize,
        /// What TLS says.
        #[source]
        source: rustls::Error,
    },
    /// There is none.
    #[error("cannot use an empty list of root certificates: nobody could be believed")]
    NoRoot,
}

/// What one identity is proved with.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) not_after: SystemTime,
    /// Another number for each that was ever set.
    pub(crate) serial: u64,
}

/// The certificates of a node's pods, and whom they believe.
#[derive(Debug)]
pub struct Certificates {
    provider: Arc<CryptoProvider>,
    verifier: Arc<Verifier>,
    held: RwLock<BTreeMap<Identity, Arc<Held>>>,
    serials: AtomicU64,
}

impl Certificates {
    /// Of this trust domain, with no certificate, and no root to believe.
    #[must_use]
    pub fn new(trust_domain: &str) -> Arc<Self> {
        let default = aws_lc_rs::default_provider();
        // One mesh speaks to itself: there is nobody for whom a choice would be needed. AES is what processors have instructions for.
        let suites = [
            aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
            aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
        ];
        let provider = CryptoProvider { cipher_suites: suites.to_vec(), ..default };
        let verifier = Verifier::new(trust_domain, provider.signature_verification_algorithms);
        Arc::new(Self {
            provider: Arc::new(provider),
            verifier: Arc::new(verifier),
            held: RwLock::default(),
            serials: AtomicU64::new(1),
        })
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        self.verifier.domain()
    }

    /// Whom to believe from now on, DER. Connections that are open go on.
    ///
    /// # Errors
    /// There is none, or one cannot be read; those from before stay.
    pub fn set_roots(&self, roots: &[Vec<u8>]) -> Result<(), Untaken> {
        let mut store = RootCertStore::empty();
        for (place, root) in roots.iter().enumerate() {
            let added = store.add(CertificateDer::from(root.clone()));
            added.map_err(|source| Untaken::Root { place, source })?;
        }
        if store.is_empty() {
            return Err(Untaken::NoRoot);
        }
        self.verifier.believe(store);
        Ok(())
    }

    /// What proves an identity from now on: its certificate first and then those that lead to a root, and the key of the first (PKCS #8, SEC1
    /// or PKCS #1), all DER. Connections that are open keep what they have; new streams go over new ones.
    ///
    /// # Errors
    /// They cannot be read, do not belong together, or prove something else. What was there before stays.
    pub fn set(
        &self,
        identity: &Identity,
        chain: &[Vec<u8>],
        key: &[u8],
        not_after: SystemTime,
    ) -> Result<(), Untaken> {
        let other = |why: String| Untaken::Other { identity: identity.clone(), why };
        let tls = |source| Untaken::Tls { identity: identity.clone(), source };
        let chain: Vec<CertificateDer<'static>> = chain.iter().cloned().map(CertificateDer::from).collect();
        let first = chain.first().ok_or_else(|| other("there is none".into()))?;
        let proved = proved(first).map_err(|e| other(e.to_string()))?;
        if proved.identity != *identity {
            return Err(other(format!("it proves {}", proved.identity)));
        }
        if identity.domain() != self.trust_domain() {
            return Err(other(format!("the trust domain here is {}", self.trust_domain())));
        }
        let key = PrivateKeyDer::try_from(key.to_vec());
        let key = key.map_err(|why| Untaken::Key { identity: identity.clone(), why })?;
        self.keep(identity, chain, key, not_after.min(proved.not_after)).map_err(tls)
    }

    /// Keeps what was looked at.
    fn keep(
        &self,
        identity: &Identity,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        not_after: SystemTime,
    ) -> Result<(), rustls::Error> {
        let mut client = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier.clone())
            .with_client_auth_cert(chain.clone(), key.clone_key())?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = Resumption::disabled();
        client.enable_sni = false;
        // Records are protected by `tls`.
        client.enable_secret_extraction = true;
        let mut server = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(self.verifier.clone())
            .with_single_cert(chain, key)?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.enable_secret_extraction = true;
        let held = Held {
            client: Arc::new(client),
            server: Arc::new(server),
            not_after,
            serial: self.serials.fetch_add(1, Ordering::Relaxed),
        };
        let mut all = self.held.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(identity.clone(), Arc::new(held));
        Ok(())
    }

    /// Keeps what nobody has looked at, as an attacker would.
    #[cfg(test)]
    fn set_unseen(&self, identity: &Identity, chain: &[Vec<u8>], key: &[u8]) {
        let chain = chain.iter().cloned().map(CertificateDer::from).collect();
        let key = PrivateKeyDer::try_from(key.to_vec()).unwrap();
        let long = SystemTime::now() + std::time::Duration::from_secs(86_400);
        self.keep(identity, chain, key, long).unwrap();
    }

    /// Forgets what proves an identity: no pod of this node has it any more.
    pub fn remove(&self, identity: &Identity) {
        self.held.write().unwrap_or_else(PoisonError::into_inner).remove(identity);
    }

    /// Whether an identity can be proved at this time.
    #[must_use]
    pub fn has(&self, identity: &Identity, now: SystemTime) -> bool {
        self.held(identity.as_str(), now).is_some()
    }

    /// The end of what proves an identity, if there is something.
    #[must_use]
    pub fn not_after(&self, identity: &Identity) -> Option<SystemTime> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.get(identity).map(|held| held.not_after)
    }

    /// What proves an identity, unless it has expired.
    pub(crate) fn held(&self, identity: &str, now: SystemTime) -> Option<Arc<Held>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.get(identity).filter(|held| now < held.not_after).cloned()
    }
}

impl std::borrow::Borrow<str> for Identity {
    fn borrow(&self) -> &str {
        &self.0
    }
}
