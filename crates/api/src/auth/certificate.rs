//! Who a client's certificate says it is.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::resource::Asker;

/// The user (common name) and groups (organizations) of a certificate that TLS has verified. `None` where it names no
/// user.
#[must_use]
pub fn asker(certificate: &CertificateDer<'_>) -> Option<Asker> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject();
    let user = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    if user.is_empty() {
        return None;
    }
    let groups = subject.iter_organization().filter_map(|name| name.as_str().ok()).map(str::to_owned);
    Some(Asker { user, groups: groups.collect(), ..Asker::default() })
}
