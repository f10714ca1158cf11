//! What certificates say.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};

use super::{Error, Identity};

/// The name of the authority.
pub(super) const AUTHORITY: &str = "sextant-api-ca";

/// The authority's certificate, before it is signed.
pub(super) fn authority(name: &str) -> CertificateParams {
    let mut params = lasting(10);
    params.distinguished_name = named(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params
}

/// A key of the one kind that is used.
pub(super) fn key() -> Result<KeyPair, Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
        .map_err(|e| Error::Issue { subject: "a new key".to_owned(), cause: e.to_string() })
}

/// A certificate of a server that is reached as `hosts`: addresses or names.
pub(super) fn server(issuer: &Issuer<'static, KeyPair>, hosts: &[String]) -> Result<Identity, Error> {
    let subject = "sextant-api";
    let mut params = CertificateParams::new(hosts.to_vec()).map_err(|e| failed(subject, &e))?;
    let lasting = lasting(1);
    params.not_before = lasting.not_before;
    params.not_after = lasting.not_after;
    params.distinguished_name = named(subject, &[]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    sign(issuer, params, subject)
}

/// A certificate of a client.
pub(super) fn client(
    issuer: &Issuer<'static, KeyPair>,
    user: &str,
    groups: &[&str],
) -> Result<Identity, Error> {
    if groups.len() > 2 {
        let cause = format!("{} groups, where a certificate of this authority takes two", groups.len());
        return Err(Error::Issue { subject: user.to_owned(), cause });
    }
    let mut params = lasting(1);
    params.distinguished_name = named(user, groups);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    sign(issuer, params, user)
}

fn sign(
    issuer: &Issuer<'static, KeyPair>,
    mut params: CertificateParams,
    subject: &str,
) -> Result<Identity, Error> {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.use_authority_key_identifier_extension = true;
    let key = key()?;
    let certificate = params.signed_by(&key, issuer).map_err(|e| failed(subject, &e))?;
    Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn failed(subject: &str, cause: &rcgen::Error) -> Error {
    Error::Issue { subject: subject.to_owned(), cause: cause.to_string() }
}

/// `rcgen` keeps one value of a kind: the second group is written with a kind that has the same number.
fn named(user: &str, groups: &[&str]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for group in groups.iter().take(1) {
        name.push(DnType::OrganizationName, *group);
    }
    for group in groups.iter().skip(1) {
        name.push(DnType::CustomDnType(vec![2, 5, 4, 10]), *group);
    }
    name.push(DnType::CommonName, user);
    name
}

/// From yesterday, for clocks differ, for `years`.
fn lasting(years: i32) -> CertificateParams {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let yesterday = today.yesterday().unwrap_or(today);
    let day = |year: i16, month: i8, day: i8| {
        rcgen::date_time_ymd(i32::from(year), month.unsigned_abs(), day.unsigned_abs())
    };
    let mut params = CertificateParams::default();
    params.not_before = day(yesterday.year(), yesterday.month(), yesterday.day());
    let years = i16::try_from(years).unwrap_or(1);
    // The 29th of February is no day of every year.
    params.not_after = day(today.year() + years, today.month(), today.day().min(28));
    params
}
