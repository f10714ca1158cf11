//! Docker's certificate folder: `*.crt` are CAs, `*.cert` with the `*.key` of the same name client certificates.

use std::path::Path;

use super::{HostsError, TlsFiles};

pub(super) fn from_folder(folder: &Path) -> Result<TlsFiles, HostsError> {
    let failed = |source| HostsError::Read { path: folder.to_owned(), source };
    let mut tls = TlsFiles::default();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => tls.ca.push(path),
            Some("cert") => {
                let key = path.with_extension("key");
                if !key.exists() {
                    return Err(HostsError::Pair { path, missing: key });
                }
                tls.client.push((path, Some(key)));
            }
            Some("key") if !path.with_extension("cert").exists() => {
                let missing = path.with_extension("cert");
                return Err(HostsError::Pair { path, missing });
            }
            _ => {}
        }
    }
    tls.ca.sort();
    tls.client.sort();
    Ok(tls)
}
