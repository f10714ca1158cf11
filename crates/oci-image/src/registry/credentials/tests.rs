use std::os::unix::fs::PermissionsExt;

use super::*;

fn basic(username: &str, password: &str) -> Option<Credential> {
    Some(Credential::Basic { username: username.into(), password: password.into() })
}

#[test]
fn store_find_erase() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/config.json");
    let files = CredentialFiles::at(&path);
    assert_eq!(files.find("r.example:5000", "a/b").unwrap(), None);
    assert!(!files.erase("r.example:5000").unwrap());
    files.store("r.example:5000", "me", "pass:word").unwrap();
    files.store("docker.io", "hub", "x").unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("https://index.docker.io/v1/") && !text.contains("pass:word"));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(files.find("r.example:5000", "a/b").unwrap(), basic("me", "pass:word"));
    assert_eq!(files.find("docker.io", "library/x").unwrap(), basic("hub", "x"));
    assert_eq!(files.find("r.example", "a/b").unwrap(), None);
    assert!(files.erase("docker.io").unwrap());
    assert_eq!(files.find("docker.io", "library/x").unwrap(), None);
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file stays");
}

#[test]
fn the_longest_key_wins_and_unknown_fields_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("auth.json");
    let text = r#"{"detachKeys":"ctrl-q","auths":{
        "r.example":{"username":"all","password":"1"},
        "r.example/team":{"auth":"dGVhbToy"},
        "r.example/team/app":{"identitytoken":"t"},
        "r.example/tea":{"auth":"eDp5"},
        "https://old.example/v1/":{"auth":"b2xkOjM="},
        "empty.example":{}}}"#;
    std::fs::write(&path, text).unwrap();
    let files = CredentialFiles::at(&path);
    assert_eq!(files.find("r.example", "other").unwrap(), basic("all", "1"));
    assert_eq!(files.find("r.example", "team/x").unwrap(), basic("team", "2"));
    assert_eq!(files.find("r.example", "team/app").unwrap(), Some(Credential::Identity("t".into())));
    assert_eq!(files.find("old.example", "x").unwrap(), basic("old", "3"));
    assert_eq!(files.find("empty.example", "x").unwrap(), None);
    files.store("n.example", "u", "p").unwrap();
    assert!(std::fs::read_to_string(&path).unwrap().contains("ctrl-q"));
}

#[test]
fn faults_name_the_field_and_hide_the_secret() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    for (text, part) in [
        (r#"{"auths":{"r.example":{"auth":"hunter2!"}}}"#, "auths[\"r.example\"].auth"),
        (r#"{"auths":{"r.example":{"auth":["hunter2"]}}}"#, "auth must be a string"),
        (r#"{"auths":["hunter2"]}"#, "auths must be an object"),
        (r#"{"auths":{"r.example":"hunter2"}}"#, "must be an object"),
        (r#"{"auths":{"r.example":{"auth":"hunter2"}"#, "no JSON at line 1"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = CredentialFiles::at(&path).find("r.example", "x").unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("config.json"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    assert!(!format!("{:?}", basic("u", "hunter2")).contains("hunter2"));
}

#[test]
fn the_environment_names_the_files() {
    let env = |name: &str| match name {
        "HOME" => Some("/h".into()),
        "XDG_RUNTIME_DIR" => Some("/run/user/7".into()),
        _ => None,
    };
    let files = CredentialFiles::from_variables(env, 7);
    let shown: Vec<_> = files.read.iter().map(|path| path.display().to_string()).collect();
    assert_eq!(
        shown,
        ["/h/.docker/config.json", "/run/user/7/containers/auth.json", "/h/.config/containers/auth.json"]
    );
    let files =
        CredentialFiles::from_variables(|name| (name == "REGISTRY_AUTH_FILE").then(|| "/a".into()), 0);
    assert_eq!(files.write, Some("/a".into()));
    assert_eq!(files.read, [PathBuf::from("/a"), "/run/containers/0/auth.json".into()]);
}

#[test]
fn helpers_are_asked_told_and_feared() {
    let dir = tempfile::tempdir().unwrap();
    let script = |name: &str, text: &str| {
        let path = dir.path().join(format!("docker-credential-{name}"));
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let kept = dir.path().join("kept");
    let store = format!(
        "read -r line; case $1-$line in store-*) echo \"$line\" >{k};; erase-*) : >{k};; \
         get-r.example) if test -s {k}; then read -r a <{k}; echo \"$a\"; else echo credentials not found in native keychain; exit 1; fi;; \
         get-t.example) echo '{{\"Username\":\"<token>\",\"Secret\":\"idt\"}}';; *) echo locked; exit 2;; esac",
        k = kept.display()
    );
    script("good", &store);
    script("silly", "echo hello");
    let path = dir.path().join("config.json");
    let text = r#"{"credsStore":"good","credHelpers":{"s.example":"silly","m.example":"missing","p.example":"a/../b"},
        "auths":{"r.example":{"auth":"b2xkOjM="}}}"#;
    std::fs::write(&path, text).unwrap();
    let path_variable = std::env::join_paths([dir.path(), Path::new("/bin"), Path::new("/usr/bin")]).unwrap();
    let files = CredentialFiles::at(&path).with_helper_path(path_variable);
    assert_eq!(
        files.find("r.example", "x").unwrap(),
        basic("old", "3"),
        "the file answers for a helper without one"
    );
    assert_eq!(files.store("r.example", "me", "new").unwrap(), "docker-credential-good");
    assert_eq!(files.find("r.example", "x").unwrap(), basic("me", "new"));
    assert!(files.erase("r.example").unwrap());
    assert_eq!(files.find("r.example", "x").unwrap(), None);
    assert_eq!(files.find("t.example", "x").unwrap(), Some(Credential::Identity("idt".into())));
    for (registry, part) in [
        ("u.example", "docker-credential-good: locked"),
        ("s.example", "no JSON"),
        ("m.example", "installed"),
        ("p.example", "without a path"),
    ] {
        let error = files.find(registry, "x").unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}
