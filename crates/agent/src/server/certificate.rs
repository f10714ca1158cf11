//! Certificates: the server's own, whom others name, and servers whose certificate nobody looks at.

use client::aggregation::Identity;
use hyper::Uri;
use k8s_openapi::api::authentication::v1::UserInfo;
use kube::Config;
use kube::client::ConfigExt as _;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{Setup, stats};

/// The group whose members may do everything: the API server's own.
const MASTERS: &str = "system:masters";

/// The server's own, signed by itself, as a kubelet's.
pub(super) fn identity(setup: &Setup) -> Result<Identity, String> {
    let hosts = vec![setup.address.to_string(), setup.node.clone(), "localhost".into(), stats::host()];
    Identity::new(hosts, &format!("system:node:{}", setup.node))
}

/// Whether a certificate that TLS has verified is of somebody who may do everything.
pub(super) fn is_master(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| {
        parsed.subject().iter_organization().any(|name| name.as_str() == Ok(MASTERS))
    })
}

/// Whom a certificate that TLS has verified names: by its common name, and its groups by its organizations.
pub(super) fn user(certificate: &CertificateDer<'_>) -> Option<UserInfo> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed.subject().iter_common_name().find_map(|name| name.as_str().ok())?.to_owned();
    let groups = parsed.subject().iter_organization().filter_map(|name| name.as_str().ok());
    let groups = groups.chain(["system:authenticated"]).map(str::to_owned).collect();
    Some(UserInfo { username: Some(name), groups: Some(groups), ..UserInfo::default() })
}

/// TLS that takes any certificate: a probe asks whether something answers, and not who.
pub(crate) fn of_anybody() -> Result<ClientConfig, String> {
    // The library that asks the API server can do so, too; whom it would ask is nothing to that.
    let mut anybody = Config::new(Uri::from_static("https://localhost"));
    (anybody.accept_invalid_certs, anybody.root_cert) = (true, Some(Vec::new()));
    let mut config = anybody.rustls_client_config().map_err(|error| client::causes(&error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
