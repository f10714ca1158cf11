//! The certificate authority of a mesh: roots that sign by turns, and what they sign. Nothing here asks or writes anything.
//!
//! A root signs for half its life. Then the next one is made and told to everybody, signs a day later, and the one before is trusted until the last
//! certificate that it has signed has ended.

use std::fmt;
use std::time::Duration;

use grpc::Failure;
use meshwire::contract::SERVER;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SignatureAlgorithm,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer as _;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// How long a certificate is.
pub(super) const LEAF: i64 = DAY;
/// How long a root that was made here is.
const ROOT: i64 = 365 * DAY;
/// How long a root is told before it signs: whoever has a certificate by then has asked for it, and was told, since.
pub(super) const TOLD: i64 = DAY;
/// Clocks of machines differ by so much at most.
const SKEW: i64 = HOUR;
/// The name of roots that are made here.
const NAME: &str = "sextant-mesh-ca";

/// A root with its key, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// Nobody is shown a key.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// All that is kept of an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Roots {
    /// The one that signs.
    pub(super) signing: Pair,
    /// The one that will, and since when it is told.
    pub(super) next: Option<(Pair, i64)>,
    /// The certificate of the one that has, and until when it is trusted.
    pub(super) old: Option<(String, i64)>,
}

/// When a certificate begins and ends, in seconds since 1970.
fn last(params: &mut CertificateParams, from: i64, to: i64) {
    let at =
        |seconds: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds.max(0).unsigned_abs());
    params.not_before = at(from);
    params.not_after = at(to);
}

fn new_key() -> Result<KeyPair, String> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| format!("cannot make a key: {error}"))
}

impl Pair {
    /// A new root.
    pub(super) fn new(now: i64) -> Result<Self, String> {
        let key = new_key()?;
        let mut params = CertificateParams::default();
        last(&mut params, now - SKEW, now + ROOT);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, NAME);
        // It signs no other authority.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate =
            params.self_signed(&key).map_err(|error| format!("cannot make a root of the mesh: {error}"))?;
        Ok(Self { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// A certificate that was read.
struct Read {
    der: Vec<u8>,
    not_before: i64,
    not_after: i64,
    /// Its public key, as it stands there.
    public: Vec<u8>,
}

fn read(pem: &str) -> Result<Read, String> {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).map_err(|error| format!("it is no PEM: {error}"))?;
    let parsed = pem.parse_x509().map_err(|error| format!("it is no certificate: {error}"))?;
    if !parsed.is_ca() {
        return Err("it is no authority's (basicConstraints)".into());
    }
    let validity = parsed.validity();
    Ok(Read {
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
        public: parsed.public_key().subject_public_key.data.to_vec(),
        der: pem.contents.clone(),
    })
}

impl Roots {
    /// With one new root.
    pub(super) fn new(now: i64) -> Result<Self, String> {
        Ok(Self { signing: Pair::new(now)?, next: None, old: None })
    }

    /// What is to be kept instead, if something is due.
    pub(super) fn step(&self, now: i64) -> Result<Option<Self>, String> {
        if self.old.as_ref().is_some_and(|(_, until)| now >= *until) {
            return Ok(Some(Self { old: None, ..self.clone() }));
        }
        let signing = read(&self.signing.certificate)?;
        match &self.next {
            // Of one that has ended nobody has anything that is good, and nothing is signed meanwhile: there is no use in waiting.
            Some((next, since)) if now >= since + TOLD || now >= signing.not_after => {
                let old = (self.signing.certificate.clone(), now + LEAF + SKEW);
                Ok(Some(Self { signing: next.clone(), next: None, old: Some(old) }))
            }
            Some(_) => Ok(None),
            None => {
                let half = signing.not_before + (signing.not_after - signing.not_before) / 2;
                if now < half {
                    return Ok(None);
                }
                Ok(Some(Self { next: Some((Pair::new(now)?, now)), ..self.clone() }))
            }
        }
    }

    /// All certificates that are to be trusted, in PEM.
    pub(super) fn trusted(&self) -> String {
        let next = self.next.iter().map(|(pair, _)| pair.certificate.as_str());
        let old = self.old.iter().map(|(certificate, _)| certificate.as_str());
        std::iter::once(self.signing.certificate.as_str())
            .chain(next)
            .chain(old)
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// The authority as it signs.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    not_after: i64,
    /// Whom to trust, in DER; the first is the one that signs.
    pub(super) roots: Vec<Vec<u8>>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// What was signed.
#[derive(Debug)]
pub(super) struct Signed {
    /// The certificate, in DER.
    pub(super) certificate: Vec<u8>,
    /// When it ends.
    pub(super) not_after: i64,
}

/// A key that somebody has shown to have.
struct Proved(Vec<u8>);

impl PublicKeyData for Proved {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl Authority {
    /// Of what is kept.
    ///
    /// # Errors
    /// Which part of it is none, and why.
    pub(super) fn of(roots: &Roots) -> Result<Self, String> {
        let signing =
            read(&roots.signing.certificate).map_err(|why| format!("the certificate that signs: {why}"))?;
        let key =
            KeyPair::from_pem(&roots.signing.key).map_err(|error| format!("the key that signs: {error}"))?;
        if key.public_key_raw() != signing.public {
            return Err("the key that signs is not its certificate's".into());
        }
        let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(signing.der.as_slice()), key)
            .map_err(|error| format!("the certificate that signs: {error}"))?;
        let mut all = vec![signing.der];
        if let Some((next, _)) = &roots.next {
            all.push(
                read(&next.certificate).map_err(|why| format!("the certificate that signs next: {why}"))?.der,
            );
        }
        if let Some((old, _)) = &roots.old {
            all.push(read(old).map_err(|why| format!("the certificate that has signed: {why}"))?.der);
        }
        Ok(Self { issuer, not_after: signing.not_after, roots: all })
    }

    /// How long something that is signed now lasts.
    fn lasting(&self, now: i64) -> Result<(CertificateParams, i64), Failure> {
        let not_after = self.not_after.min(now + LEAF);
        if not_after <= now {
            return Err(Failure::unavailable(
                "the mesh's root has ended; a new one is to be put into its secret",
            ));
        }
        let mut params = CertificateParams::default();
        last(&mut params, now - SKEW, not_after);
        params.distinguished_name = DistinguishedName::new();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        Ok((params, not_after))
    }

    /// Signs for an identity whose key a request proves. What else is in the request means nothing, but that it may name no other identity.
    pub(super) fn sign(&self, identity: &str, request: &[u8], now: i64) -> Result<Signed, Failure> {
        let key = proved(identity, request)?;
        let (mut params, not_after) = self.lasting(now)?;
        let uri = Ia5String::try_from(identity);
        let uri = uri.map_err(|_| Failure::invalid("identity", "is not a text of ASCII"))?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer);
        let certificate = certificate.map_err(|error| Failure::internal(format!("cannot sign: {error}")))?;
        Ok(Signed { certificate: certificate.der().to_vec(), not_after })
    }

    /// The control plane's own certificate, with a new key, for TLS.
    pub(super) fn own(&self, now: i64) -> Result<(CertifiedKey, i64), String> {
        let failed = |why: String| format!("cannot make the control plane's certificate: {why}");
        let (mut params, not_after) = self.lasting(now).map_err(|why| failed(why.message))?;
        let name = Ia5String::try_from(SERVER).map_err(|error| failed(error.to_string()))?;
        params.subject_alt_names = vec![SanType::DnsName(name)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = new_key().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(|error| failed(error.to_string()))?;
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = aws_lc_rs::default_provider();
        let own = CertifiedKey::from_der(vec![certificate.der().clone()], private, &provider);
        Ok((own.map_err(|error| failed(error.to_string()))?, not_after))
    }
}

/// The key of a request, if its owner has signed it, it is on P-256, and it is for nobody else.
fn proved(identity: &str, request: &[u8]) -> Result<Proved, Failure> {
    let invalid = |why: String| Failure::invalid("csr_der", why);
    let (rest, parsed) = X509CertificationRequest::from_der(request)
        .map_err(|error| invalid(format!("is no request for a certificate: {error}")))?;
    if !rest.is_empty() {
        return Err(invalid(format!("has {} bytes behind it", rest.len())));
    }
    let info = &parsed.certification_request_info;
    let key = Proved(info.subject_pki.subject_public_key.data.to_vec());
    // Byte for byte: of this algorithm, with these parameters, and nothing else in it.
    if key.0.len() != 65 || key.subject_public_key_info() != info.subject_pki.raw {
        return Err(invalid("is of another kind of key than one on P-256".into()));
    }
    parsed.verify_signature().map_err(|error| invalid(format!("is not signed by its own key: {error}")))?;
    for extension in parsed.requested_extensions().into_iter().flatten() {
        if let ParsedExtension::SubjectAlternativeName(names) = extension {
            let is_ours = |name: &GeneralName<'_>| matches!(name, GeneralName::URI(uri) if *uri == identity);
            if !names.general_names.iter().all(is_ours) {
                return Err(invalid(format!("names somebody else than {identity}")));
            }
        }
    }
    Ok(key)
}

/// Any bytes where a request for a certificate is read. No panic, whatever they are, and no key of another kind.
pub(super) fn exercise(bytes: &[u8]) {
    if let Ok(key) = proved("spiffe://cluster.local/ns/a/sa/b", bytes) {
        assert_eq!(key.0.len(), 65);
    }
}
