//! The authority's folder.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rcgen::{Issuer, KeyPair};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

use super::{Error, Identity, issue};

/// Files of the authority are a few KiB.
const FILE_MAX: u64 = 64 * 1024;

/// Makes the folder, for its owner alone.
pub(super) fn make_folder(folder: &Path) -> Result<(), Error> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(folder).map_err(|source| file("make the folder", folder, source))
}

/// The certificate of the authority of that name and what it issues with: those that are there, or new ones.
pub(super) fn authority(folder: &Path, name: &str) -> Result<(String, Issuer<'static, KeyPair>), Error> {
    let (certificate_path, key_path) = (folder.join("ca.crt"), folder.join("ca.key"));
    // The same at every start, for certificates are issued in its name.
    let params = issue::authority(name);
    // The certificate is written last: one without a key never comes to be.
    if certificate_path.exists() {
        let key = KeyPair::from_pem(&read(&key_path)?).map_err(|e| unusable(&key_path, folder, &e))?;
        let certificate = read(&certificate_path)?;
        check_pair(&certificate_path, folder, &certificate, &key)?;
        return Ok((certificate, Issuer::new(params, key)));
    }
    let key = issue::key()?;
    let certificate = params
        .self_signed(&key)
        .map_err(|e| Error::Issue { subject: "the authority".to_owned(), cause: e.to_string() })?
        .pem();
    replace(&key_path, key.serialize_pem().as_bytes(), 0o600)?;
    replace(&certificate_path, certificate.as_bytes(), 0o644)?;
    Ok((certificate, Issuer::new(params, key)))
}

/// The server's certificate: the one that is there if it is for the same hosts and lasts, or a new one.
pub(super) fn server(
    folder: &Path,
    issuer: &Issuer<'static, KeyPair>,
    hosts: &[String],
) -> Result<Identity, Error> {
    let (certificate_path, key_path) = (folder.join("server.crt"), folder.join("server.key"));
    if let (Ok(certificate), Ok(key)) = (read(&certificate_path), read(&key_path))
        && is_good(&certificate, &key, issuer.key(), hosts)
    {
        return Ok(Identity { certificate, key });
    }
    let identity = issue::server(issuer, hosts)?;
    replace(&key_path, identity.key.as_bytes(), 0o600)?;
    replace(&certificate_path, identity.certificate.as_bytes(), 0o644)?;
    Ok(identity)
}

/// Whether a certificate has its key, is of this authority, for these hosts, and has a third of its life before it.
fn is_good(certificate: &str, key: &str, authority: &KeyPair, hosts: &[String]) -> bool {
    let (Ok((_, pem)), Ok(key)) = (parse_x509_pem(certificate.as_bytes()), KeyPair::from_pem(key)) else {
        return false;
    };
    let Ok(parsed) = pem.parse_x509() else {
        return false;
    };
    let validity = parsed.validity();
    let (from, to) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let left = to - jiff::Timestamp::now().as_second();
    let Ok(Some(names)) = parsed.subject_alternative_name() else {
        return false;
    };
    let mut told: Vec<String> = names.value.general_names.iter().filter_map(host).collect();
    told.sort();
    left > (to - from) / 3
        && told == hosts
        && parsed.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
        && signed_by(&parsed, authority)
}

fn signed_by(certificate: &x509_parser::certificate::X509Certificate<'_>, authority: &KeyPair) -> bool {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, authority.public_key_raw())
        .verify(certificate.tbs_certificate.as_ref(), certificate.signature_value.data.as_ref())
        .is_ok()
}

fn host(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let four: Option<[u8; 4]> = (*bytes).try_into().ok();
            let sixteen: Option<[u8; 16]> = (*bytes).try_into().ok();
            four.map(|b| std::net::Ipv4Addr::from(b).to_string())
                .or(sixteen.map(|b| std::net::Ipv6Addr::from(b).to_string()))
        }
        _ => None,
    }
}

fn check_pair(path: &Path, folder: &Path, certificate: &str, key: &KeyPair) -> Result<(), Error> {
    let (_, pem) = parse_x509_pem(certificate.as_bytes()).map_err(|e| unusable(path, folder, &e))?;
    let parsed = pem.parse_x509().map_err(|e| unusable(path, folder, &e))?;
    if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
        return Err(unusable(path, folder, &"it is of another key than ca.key"));
    }
    Ok(())
}

/// The text in a file of the authority.
pub(in crate::auth) fn read(path: &Path) -> Result<String, Error> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(FILE_MAX).read_to_string(&mut text))
        .map_err(|source| file("read", path, source))?;
    Ok(text)
}

/// Writes a file in one step: after a crash it is the old one or the new one.
///
/// # Errors
/// What the file system says.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let write = || -> io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.map_or_else(|| PathBuf::from("."), Path::to_owned);
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}", std::process::id()));
        let beside = folder.join(name);
        // Of an earlier process with the same number, which was killed here.
        let _ = std::fs::remove_file(&beside);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        let written = file
            .write_all(content)
            .and_then(|()| file.sync_all())
            .and_then(|()| std::fs::rename(&beside, path))
            .and_then(|()| File::open(&folder)?.sync_all());
        if written.is_err() {
            let _ = std::fs::remove_file(&beside);
        }
        written
    };
    write().map_err(|source| file("write", path, source))
}

fn file(act: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { act, path: path.to_owned(), source }
}

fn unusable(path: &Path, folder: &Path, cause: &dyn std::fmt::Display) -> Error {
    Error::Unusable { path: path.to_owned(), folder: folder.to_owned(), cause: cause.to_string() }
}
