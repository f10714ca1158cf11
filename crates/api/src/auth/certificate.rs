//! Who a client's certificate says it is.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::contract::{Result, Status};
use crate::resource::Asker;

/// Whom a certificate names that TLS has verified, and until when it is good.
#[derive(Clone, Debug)]
pub struct Certified {
    asker: Asker,
    /// Seconds since 1970.
    ends: i64,
}

impl Certified {
    /// The user (common name) and groups (organizations) of a certificate. `None` where it names no user.
    #[must_use]
    pub fn read(certificate: &CertificateDer<'_>) -> Option<Certified> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let subject = parsed.subject();
        let user = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
        if user.is_empty() {
            return None;
        }
        let groups = subject.iter_organization().filter_map(|name| name.as_str().ok()).map(str::to_owned);
        let asker = Asker { user, groups: groups.collect(), ..Asker::default() };
        Some(Certified { asker, ends: parsed.validity().not_after.timestamp() })
    }

    /// Who asks. A connection may outlive the certificate with which it began, and so may a session that is taken up again.
    ///
    /// # Errors
    /// 401 when the certificate is no longer good.
    pub fn asker(&self) -> Result<&Asker> {
        if jiff::Timestamp::now().as_second() > self.ends {
            return Err(Status::unauthorized());
        }
        Ok(&self.asker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_good_until_it_ends() {
        let of = |year| {
            let mut params = rcgen::CertificateParams::default();
            params.distinguished_name.push(rcgen::DnType::CommonName, "jane");
            params.distinguished_name.push(rcgen::DnType::OrganizationName, "dev");
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
            Certified::read(params.self_signed(&key).unwrap().der()).unwrap()
        };
        let asker = of(4000).asker().unwrap().clone();
        assert_eq!((asker.user.as_str(), asker.groups.as_slice()), ("jane", &["dev".to_owned()][..]));
        assert_eq!(of(2001).asker().unwrap_err().code, 401);
    }
}
