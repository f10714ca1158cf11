use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1::SendRequest;
use rustls::pki_types::ServerName;

use super::address::Address;
use crate::auth::{Authority, MASTERS};
use crate::dial::{self, Proof};

/// How this server is called by kubelets, as `kubeadm` calls it.
const NAME: &str = "kube-apiserver-kubelet-client";

/// Opens connections to kubelets.
pub(super) struct Dialer(Proof<()>);

impl Dialer {
    pub(super) fn new(authority: Arc<Authority>) -> Dialer {
        Dialer(Proof::new(move || authority.issue_client(NAME, &[MASTERS])))
    }

    /// A connection of its own for one request, or why there is none.
    pub(super) async fn open(&self, address: &Address) -> Result<SendRequest<Empty<Bytes>>, String> {
        let config = self.0.config(&(), |trusting| Ok(dial::blind(trusting)))?;
        let name = ServerName::try_from(address.host.clone()).map_err(|error| error.to_string())?;
        dial::open(config, &address.host, address.port, name).await
    }
}
