use super::*;

fn read(text: &str, registry: &str) -> Result<Vec<Endpoint>, HostsError> {
    parse(text, Path::new("/d/hosts.toml"), Endpoint::default_for(registry, false))
}

#[test]
fn mirrors_keep_their_order_and_settings() {
    let endpoints = read(
        r#"
server = "https://upstream.example"
ca = "/abs/root.crt"

[host."https://z-mirror.example/prefix"]
  capabilities = ["pull", "resolve"]
  ca = ["a.crt", "/b.crt"]
  client = [["c.cert", "c.key"], ["both.pem", ""]]
  dial_timeout = "1m30s"
  future_key = 1
  [host."https://z-mirror.example/prefix".header]
    x-one = "1"
    x-two = ["2", "3"]

[host."http://a-mirror.example:5000/v2/proj"]
  override_path = true
  skip_verify = true
"#,
        "upstream.example",
    )
    .unwrap();
    let [first, second, last] = endpoints.as_slice() else { panic!("{endpoints:?}") };
    assert_eq!(first.url(), "https://z-mirror.example/prefix/v2");
    assert_eq!(first.capabilities, Capabilities { pull: true, resolve: true, push: false });
    assert_eq!(first.tls.ca, [PathBuf::from("/d/a.crt"), PathBuf::from("/b.crt")]);
    assert_eq!(
        first.tls.client,
        [(PathBuf::from("/d/c.cert"), Some(PathBuf::from("/d/c.key"))), (PathBuf::from("/d/both.pem"), None)]
    );
    assert_eq!(first.dial_timeout, Some(Duration::from_secs(90)));
    assert_eq!(first.headers.len(), 3);
    assert_eq!(second.url(), "http://a-mirror.example:5000/v2/proj");
    assert!(second.tls.skip_verify && second.capabilities == Capabilities::ALL);
    assert_eq!(last.url(), "https://upstream.example/v2");
    assert_eq!(last.tls.ca, [PathBuf::from("/abs/root.crt")]);
}

#[test]
fn without_a_server_the_registry_itself_comes_last() {
    let endpoints = read("[host.\"mirror.example\"]\n", "docker.io").unwrap();
    let urls: Vec<_> = endpoints.iter().map(Endpoint::url).collect();
    assert_eq!(urls, ["https://mirror.example/v2", "https://registry-1.docker.io/v2"]);
    assert!(endpoints[1].is_named("docker.io") && !endpoints[0].is_named("docker.io"));
    assert!(!endpoints[1].mirror && endpoints[0].mirror);
    assert_eq!(read("", "a.example").unwrap()[0].url(), "https://a.example/v2");
}

#[test]
fn errors_name_file_line_key_and_value() {
    for (text, parts) in [
        ("server = 5", &["/d/hosts.toml", "line 1", "server = 5", "string"][..]),
        ("\n[host.\"ftp://x\"]\n", &["line 2", "ftp://x", "http or https"]),
        ("[host.\"https://\"]\n", &["with a host"]),
        (
            "[host.\"https://m\"]\ncapabilities = [\"pul\"]",
            &["line 2", "host.\"https://m\".capabilities", "pul", "knows"],
        ),
        ("[host.\"https://m\"]\nskip_verify = \"yes\"", &["skip_verify = \"yes\"", "true or false"]),
        ("[host.\"https://m\"]\ndial_timeout = \"10\"", &["dial_timeout", "duration"]),
        ("[host.\"https://m\".header]\n\"a b\" = \"c\"", &["\"a b\" cannot be sent"]),
        ("[host.\"https://m\"]\nclient = [[\"a\",\"b\",\"c\"]]", &["[certificate, key]"]),
        ("host = 1", &["host = 1", "table"]),
        ("a = \n", &["cannot parse /d/hosts.toml line 1"]),
        ("server = \"https://user@host\"", &["with a host"]),
    ] {
        let error = read(text, "x.example").unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{text:?}: {error} lacks {part}");
        }
    }
}

#[test]
fn plain_http_is_for_loopback_alone() {
    let fallback = |registry| Endpoint::default_for(registry, false).http_fallback;
    for registry in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"] {
        assert!(fallback(registry), "{registry}");
    }
    for registry in
        ["localhost:443", "128.0.0.1:5000", "a.localhost.example:5000", "[::2]:5000", "127.0.0.1.x:1"]
    {
        assert!(!fallback(registry), "{registry}");
    }
    assert_eq!(Endpoint::default_for("a.b", true).scheme, Scheme::Http);
}

#[test]
fn the_first_folder_that_matches_decides() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let put = |path: &Path, name: &str, text: &str| {
        std::fs::create_dir_all(path).unwrap();
        std::fs::write(path.join(name), text).unwrap();
    };
    put(&two.join("_default"), "hosts.toml", "[host.\"https://def\"]");
    put(&two.join("r.example_5000_"), "hosts.toml", "[host.\"https://esc\"]");
    put(&one.join("d.example:5000"), "ca.crt", "");
    put(&one.join("d.example:5000"), "c.cert", "");
    let dirs = [one.clone(), two];
    let first = |registry| endpoints(&dirs, registry, false).map(|all| all[0].clone());
    assert_eq!(first("r.example:5000").unwrap().authority, "esc");
    let mirror = first("other.example").unwrap();
    assert_eq!((mirror.authority.as_str(), mirror.namespace.as_deref()), ("def", Some("other.example")));
    let error = first("d.example:5000").unwrap_err().to_string();
    assert!(error.contains("c.key"), "{error}");
    put(&one.join("d.example:5000"), "c.key", "");
    let docker = first("d.example:5000").unwrap();
    assert_eq!((docker.tls.ca.len(), docker.tls.client.len()), (1, 1));
}

#[test]
fn nobody_is_asked_the_same_twice() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("r.example");
    std::fs::create_dir(&folder).unwrap();
    let text = "server = \"https://r.example\"\n[host.\"https://r.example\"]\ncapabilities = [\"pull\", \"resolve\"]\n";
    std::fs::write(folder.join("hosts.toml"), text).unwrap();
    let found = endpoints(&[dir.path().to_owned()], "r.example", false).unwrap();
    let may: Vec<_> = found.iter().map(|endpoint| endpoint.capabilities.to_string()).collect();
    assert_eq!(may, ["pull,resolve", "push"]);
    let text = "server = \"https://r.example\"\n[host.\"https://r.example\"]\n";
    std::fs::write(folder.join("hosts.toml"), text).unwrap();
    assert_eq!(endpoints(&[dir.path().to_owned()], "r.example", false).unwrap().len(), 1);
}
