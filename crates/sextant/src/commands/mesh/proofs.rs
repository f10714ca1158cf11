//! What proves who this node's members are, as the data path has it.

use std::sync::Arc;
use std::time::SystemTime;

use mesh::identity::{Certificates, Identity};
use tokio::sync::Notify;

use super::identities::Keep;

/// Certificates, and who waits for them. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Proofs {
    certificates: Arc<Certificates>,
    news: Arc<Notify>,
}

impl Proofs {
    /// None yet, and nobody to believe, in a trust domain.
    pub(super) fn new(trust_domain: &str) -> Self {
        let certificates = Certificates::new(trust_domain);
        Self { certificates, news: Arc::new(Notify::new()) }
    }

    pub(super) fn certificates(&self) -> Arc<Certificates> {
        self.certificates.clone()
    }

    /// Waits for a certificate that was not there when this was asked last.
    pub(super) async fn changed(&self) {
        self.news.notified().await;
    }
}

impl Keep for Proofs {
    fn set(
        &self,
        identity: &str,
        chain: &[Vec<u8>],
        key: &[u8],
        not_after: SystemTime,
    ) -> Result<(), String> {
        let identity = Identity::parse(identity).map_err(|error| error.to_string())?;
        self.certificates.set(&identity, chain, key, not_after).map_err(|error| error.to_string())?;
        // A pod may wait for it.
        self.news.notify_one();
        Ok(())
    }

    fn set_roots(&self, roots: &[Vec<u8>]) -> Result<(), String> {
        self.certificates.set_roots(roots).map_err(|error| error.to_string())?;
        eprintln!("sextant mesh: peers are to be signed by one of {} roots", roots.len());
        Ok(())
    }

    fn remove(&self, identity: &str) {
        // What is no identity has no certificate.
        let Ok(identity) = Identity::parse(identity) else { return };
        if self.certificates.not_after(&identity).is_some() {
            self.certificates.remove(&identity);
            eprintln!("sextant mesh: needs no certificate for {identity} any more");
        }
    }
}
