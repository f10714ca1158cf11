//! The file with which a client finds and trusts this server.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::authority::{Error, Identity, replace};

/// Writes a kubeconfig in one step, readable by its owner alone. Everything is inside the file, so it can be moved.
///
/// # Errors
/// A file that cannot be written.
pub fn write(path: &Path, server: &str, authority: &str, identity: &Identity) -> Result<(), Error> {
    replace(path, text(server, authority, identity).as_bytes(), 0o600)
}

fn text(server: &str, authority: &str, identity: &Identity) -> String {
    format!(
        "\
apiVersion: v1
kind: Config
clusters:
- name: sextant
  cluster:
    server: {server}
    certificate-authority-data: {}
users:
- name: admin
  user:
    client-certificate-data: {}
    client-key-data: {}
contexts:
- name: sextant
  context:
    cluster: sextant
    user: admin
current-context: sextant
",
        STANDARD.encode(authority),
        STANDARD.encode(&identity.certificate),
        STANDARD.encode(&identity.key),
    )
}
