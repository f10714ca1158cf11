use super::*;
use std::os::unix::fs::PermissionsExt as _;

fn open(folder: &Path, names: &[&str]) -> Authority {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    Authority::open(folder, &["10.1.2.3".parse().unwrap()], &names).unwrap()
}

#[test]
fn an_authority_stays_and_its_keys_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("pki");
    let first = open(&folder, &[]);
    let server = std::fs::read_to_string(folder.join("server.crt")).unwrap();
    let second = open(&folder, &[]);
    assert_eq!(first.certificate(), second.certificate());
    assert_eq!(server, std::fs::read_to_string(folder.join("server.crt")).unwrap());
    assert!(!second.renew().unwrap());
    for (name, mode) in [("ca.key", 0o600), ("server.key", 0o600), ("ca.crt", 0o644)] {
        let found = std::fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{name}");
    }
    assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn another_name_needs_another_certificate_of_the_same_authority() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), &[]);
    let server = std::fs::read_to_string(dir.path().join("server.crt")).unwrap();
    let second = open(dir.path(), &["api.example"]);
    assert_eq!(first.certificate(), second.certificate());
    assert_ne!(server, std::fs::read_to_string(dir.path().join("server.crt")).unwrap());
    second.server_config().unwrap();
}

#[test]
fn a_foreign_key_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), &[]);
    let other = issue::key().unwrap();
    std::fs::write(dir.path().join("ca.key"), other.serialize_pem()).unwrap();
    let error = Authority::open(dir.path(), &[], &[]).err().unwrap().to_string();
    assert!(error.contains("it is of another key than ca.key; move"), "{error}");
}

#[test]
fn a_client_is_named_with_all_its_groups() {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(dir.path(), &[]);
    let identity = authority.issue_client("jane", &["system:masters", "dev"]).unwrap();
    let der = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
    let asker = super::super::certificate::Certified::read(&der).unwrap().asker().unwrap().clone();
    assert_eq!(asker.user, "jane");
    assert_eq!(asker.groups, ["system:masters", "dev"]);
}
