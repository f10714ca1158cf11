//! An authority of a test's own, which signs whatever it is asked to.
#![allow(dead_code, reason = "tests of the crate and beside it use parts of it")]

use std::time::{Duration, SystemTime};

use mesh::identity::{Certificates, Identity};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

/// Signs certificates.
pub(crate) struct Authority {
    pub(crate) root: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

/// What is unusual about a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quirk {
    None,
    Expired,
    NotYet,
    /// It names a second identity.
    Second(&'static str),
    NoName,
    /// It is for servers alone.
    ServersOnly,
}

/// A certificate and its key, DER.
pub(crate) struct Issued {
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

pub(crate) fn identity(account: &str) -> Identity {
    Identity::parse(&format!("spiffe://cluster.local/ns/shop/sa/{account}")).unwrap()
}

/// A day from now.
pub(crate) fn tomorrow() -> SystemTime {
    SystemTime::now() + Duration::from_secs(86_400)
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().to_vec();
        Self { root, issuer: Issuer::new(params, key) }
    }

    /// A certificate for what is to be an identity.
    pub(crate) fn issue(&self, identity: &str, quirk: Quirk) -> Issued {
        let mut params = CertificateParams::default();
        let mut name = |text: &str| params.subject_alt_names.push(SanType::URI(text.try_into().unwrap()));
        match quirk {
            Quirk::NoName => {}
            Quirk::Second(second) => {
                name(identity);
                name(second);
            }
            _ => name(identity),
        }
        params.extended_key_usages = match quirk {
            Quirk::ServersOnly => vec![ExtendedKeyUsagePurpose::ServerAuth],
            _ => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        };
        (params.not_before, params.not_after) = match quirk {
            Quirk::Expired => (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1)),
            Quirk::NotYet => (date_time_ymd(2090, 1, 1), date_time_ymd(2091, 1, 1)),
            _ => (date_time_ymd(2020, 1, 1), date_time_ymd(2090, 1, 1)),
        };
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        Issued { certificate, key: key.serialize_der() }
    }

    /// Has these proved, by certificates of this authority.
    pub(crate) fn prove(&self, certificates: &Certificates, identities: &[&Identity]) {
        for identity in identities {
            let Issued { certificate, key } = self.issue(identity.as_str(), Quirk::None);
            certificates.set(identity, &[certificate], &key, tomorrow()).unwrap();
        }
    }
}
