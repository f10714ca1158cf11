//! What a kubeconfig of the server's administrator holds, for whoever reaches it over HTTP/2.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// TLS with the certificate of the administrator.
pub(crate) fn tls(kubeconfig: &Path) -> Result<ClientConfig, Box<dyn Error + Send + Sync>> {
    let text = std::fs::read_to_string(kubeconfig)?;
    let held = |key: &str| -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": "));
        let line = line.ok_or_else(|| format!("a kubeconfig without {key}"))?;
        Ok(base64::engine::general_purpose::STANDARD.decode(line)?)
    };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&held("certificate-authority-data")?)?)?;
    let own = CertificateDer::from_pem_slice(&held("client-certificate-data")?)?;
    let key = PrivateKeyDer::from_pem_slice(&held("client-key-data")?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![own], key)?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(tls)
}
