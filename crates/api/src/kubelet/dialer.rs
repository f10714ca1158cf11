use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1::SendRequest;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::address::Address;
use crate::auth::{Authority, MASTERS, provider};
use crate::dial::{self, Blind};

/// How this server is called by kubelets, as `kubeadm` calls it.
const NAME: &str = "kube-apiserver-kubelet-client";
/// How long a certificate is used; it lives for a year.
const USED: Duration = Duration::from_secs(100 * 24 * 3600);

/// Opens connections to kubelets, with a client certificate that is made when it is first needed.
pub(super) struct Dialer {
    authority: Arc<Authority>,
    held: Mutex<Option<(Instant, Arc<ClientConfig>)>>,
}

impl Dialer {
    pub(super) fn new(authority: Arc<Authority>) -> Dialer {
        Dialer { authority, held: Mutex::new(None) }
    }

    /// A connection of its own for one request, or why there is none.
    pub(super) async fn open(&self, address: &Address) -> Result<SendRequest<Empty<Bytes>>, String> {
        let config = self.config()?;
        let name = ServerName::try_from(address.host.clone()).map_err(|error| error.to_string())?;
        dial::open(config, &address.host, address.port, name).await
    }

    fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, config)) = &*held
            && since.elapsed() < USED
        {
            return Ok(Arc::clone(config));
        }
        let identity = self.authority.issue_client(NAME, &[MASTERS]).map_err(|error| error.to_string())?;
        let (chain, key) = dial::certified(&identity)?;
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let config = builder
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Blind::default()))
            .with_client_auth_cert(chain, key)
            .map_err(|error| error.to_string())?;
        let config = Arc::new(config);
        *held = Some((Instant::now(), Arc::clone(&config)));
        Ok(config)
    }
}
