//! A connection over TLS 1.3.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::contract::SERVER;

/// How long a connection may take to be there.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// None of the roots can be used.
    #[error("cannot trust a control plane: {0}")]
    Roots(String),
    /// Nobody is there in time, or it is not the control plane.
    #[error("cannot connect to the control plane at {address}: {cause}")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        cause: String,
    },
}

pub(super) async fn connect(address: &str, roots: &[Vec<u8>]) -> Result<grpc::Channel, Unusable> {
    let failed = |cause: String| Unusable::Connect { address: address.to_owned(), cause };
    let mut store = RootCertStore::empty();
    let (usable, _) =
        store.add_parsable_certificates(roots.iter().map(|der| CertificateDer::from(der.clone())));
    if usable == 0 {
        return Err(Unusable::Roots(format!("none of {} certificates of roots is one", roots.len())));
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let config = config.map_err(|error| Unusable::Roots(error.to_string()))?;
    let mut config = config.with_root_certificates(store).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from(SERVER).map_err(|error| failed(error.to_string()))?;
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        crate::look_after(&stream)?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        grpc::Channel::over(stream).await
    };
    match timeout(PATIENCE, connecting).await {
        Ok(done) => done.map_err(|error| failed(error.to_string())),
        Err(_) => Err(failed(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}
