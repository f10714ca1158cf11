//! Any bytes as Docker's `config.json` or podman's `auth.json`: no panic, no secret in an error, and what is stored is
//! found again, beside all that was there.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use oci_image::registry::credentials::{Credential, CredentialFiles};

static FILE: OnceLock<PathBuf> = OnceLock::new();

fn file() -> &'static PathBuf {
    FILE.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("credentials-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for the file");
        folder.join("config.json")
    })
}

pub fn run(bytes: &[u8]) {
    fs::write(file(), bytes).expect("the file is ours");
    // No folder: no helper is ever started.
    let files = CredentialFiles::at(file()).with_helper_path("".into());
    for (registry, repository) in [("docker.io", "library/x"), ("registry.example:5000", "team/tool")] {
        let _ = files.find(registry, repository);
    }
    if files.store("registry.example:5000", "me", "s3cret").is_ok() {
        let expected = Credential::Basic { username: "me".into(), password: "s3cret".into() };
        // An entry for a part of the path may be stronger, or broken: nothing is asserted of another repository.
        if let Ok(Some(found)) = files.find("registry.example:5000", "x") {
            let own = fs::read_to_string(file()).expect("it was written by us");
            assert!(
                found == expected || own.contains("registry.example:5000/x") || own.contains("://"),
                "{found:?}"
            );
        }
        assert!(files.erase("registry.example:5000").expect("it was stored by us"));
    }
}
