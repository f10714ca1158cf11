//! Our client against our registry: every endpoint of the distribution spec, and its refusals.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::{Cursor, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use oci_image::contract::{Algorithm, Descriptor, Digest, MediaType};
use oci_image::pull::Source;
use oci_image::reference::Reference;
use oci_image::registry::client::{Client, Config, Login, Patience, Pushed};
use oci_image::registry::credentials::{Credential, CredentialFiles};
use oci_image::registry::server::{Config as ServerConfig, Handle, Server};

struct Registry {
    handle: Handle,
    dir: tempfile::TempDir,
    client: Client,
}

fn start(user: Option<(&str, &str)>) -> Registry {
    let dir = tempfile::tempdir().unwrap();
    let user = user.map(|(user, password)| (user.to_owned(), password.to_owned()));
    let listen = "127.0.0.1:0".parse().unwrap();
    let handle = Server::start(ServerConfig { dir: dir.path().join("registry"), listen, user }).unwrap();
    let client = client(dir.path(), 64 << 20);
    Registry { handle, dir, client }
}

fn client(dir: &Path, chunk: u64) -> Client {
    Client::new(Config {
        hosts_dirs: vec![dir.join("certs.d")],
        credentials: CredentialFiles::at(&dir.join("config.json")),
        patience: Patience {
            attempts: 2,
            backoff: std::time::Duration::from_millis(10),
            ..Patience::default()
        },
        chunk,
        ..Config::default()
    })
}

impl Registry {
    fn reference(&self, name: &str) -> Reference {
        Reference::parse(&format!("{}/{name}", self.handle.addr())).unwrap()
    }

    fn push(&self, client: &Client, to: &Reference, bytes: &[u8]) -> Descriptor {
        let blob = Descriptor::of(MediaType::OCI_LAYER, bytes);
        let bytes = bytes.to_vec();
        client
            .push_blob(to, &blob, None, &|at| Ok(Box::new(Cursor::new(bytes[at as usize..].to_vec()))))
            .unwrap();
        blob
    }

    fn image(
        &self,
        to: &Reference,
        layers: Vec<Descriptor>,
        subject: Option<Descriptor>,
    ) -> (Descriptor, Vec<u8>) {
        let mut config = self.push(&self.client, to, b"{}");
        config.media_type = MediaType::OCI_CONFIG;
        let mut manifest = oci_image::contract::ImageManifest::new(config, layers);
        manifest.subject = subject;
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let digest = self.client.push_manifest(to, &MediaType::OCI_MANIFEST, &bytes).unwrap();
        (Descriptor::new(MediaType::OCI_MANIFEST, digest, bytes.len() as u64), bytes)
    }
}

/// One request as text; status and the whole answer.
fn raw(addr: SocketAddr, request: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).unwrap();
    let head = format!("{request}\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    // A server that refuses early may not read to the end.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    (answer[9..12].parse().unwrap(), answer)
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let lines = answer.split("\r\n\r\n").next()?.lines();
    lines.filter_map(|line| line.split_once(": ")).find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v)
}

#[test]
fn pushes_and_pulls_back() {
    let registry = start(None);
    let to = registry.reference("team/app:v1");
    let content: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
    let layer = registry.push(&registry.client, &to, &content);
    let (descriptor, bytes) = registry.image(&to, vec![layer.clone()], None);
    let source = registry.client.source(&to).unwrap();
    assert_eq!(source.manifest().unwrap(), (descriptor.clone(), bytes.clone()));
    assert_eq!(registry.client.resolve(&to).unwrap(), descriptor);
    assert_eq!(source.child_manifest(&descriptor).unwrap(), bytes);
    for offset in [0, 1, 2_999_999, 3_000_000] {
        let mut read = Vec::new();
        source.open(&layer, offset).unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read, content[offset as usize..]);
    }
    let pinned = to.with_digest(descriptor.digest.clone());
    assert_eq!(registry.client.manifest(&pinned).unwrap().1, bytes);
    let lie = Descriptor { size: 4_000_000, ..layer };
    let error = source.open(&lie, 0).err().unwrap().to_string();
    assert!(error.contains("3000000 bytes where 4000000"), "{error}");
}

#[test]
fn chunks_mounts_and_what_is_there_already() {
    let registry = start(None);
    let (to, other) = (registry.reference("a:1"), registry.reference("b:1"));
    let chunked = client(registry.dir.path(), 1000);
    let content: Vec<u8> = (0..10_500u32).map(|n| (n / 7) as u8).collect();
    let blob = registry.push(&chunked, &to, &content);
    let mut read = Vec::new();
    chunked.blob(&to, &blob, 0).unwrap().read_to_end(&mut read).unwrap();
    assert_eq!(read, content);
    let never = |_: u64| -> std::io::Result<Box<dyn Read + Send>> { panic!("nothing is to be sent") };
    assert_eq!(chunked.push_blob(&to, &blob, None, &never).unwrap(), Pushed::Existed);
    assert_eq!(chunked.push_blob(&other, &blob, Some("a"), &never).unwrap(), Pushed::Mounted);
    let sent = |at: u64| -> std::io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(Cursor::new(content[at as usize..].to_vec())))
    };
    let third = registry.reference("c:1");
    assert_eq!(chunked.push_blob(&third, &blob, Some("nowhere"), &sent).unwrap(), Pushed::Uploaded);
}

#[test]
fn a_blob_that_is_not_what_it_says_is_refused() {
    let registry = start(None);
    let to = registry.reference("a:1");
    let blob = Descriptor::of(MediaType::OCI_LAYER, b"right");
    let wrong = |_: u64| -> std::io::Result<Box<dyn Read + Send>> { Ok(Box::new(&b"wrong"[..])) };
    let error = registry.client.push_blob(&to, &blob, None, &wrong).unwrap_err().to_string();
    assert!(error.contains("400") && error.contains("DIGEST_INVALID"), "{error}");
    let short = |_: u64| -> std::io::Result<Box<dyn Read + Send>> { Ok(Box::new(&b"rig"[..])) };
    let error = registry.client.push_blob(&to, &blob, None, &short).unwrap_err().to_string();
    assert!(error.contains("2 bytes early"), "{error}");
    let uploads = registry.dir.path().join("registry/uploads");
    assert!(std::fs::read_dir(uploads).unwrap().count() <= 1, "the refused upload is gone");
}

#[test]
fn uploads_by_hand() {
    let registry = start(None);
    let addr = registry.handle.addr();
    let digest = Digest::sha256(b"hello world");
    let (status, answer) = raw(addr, "POST /v2/x/y/blobs/uploads/ HTTP/1.1", b"");
    let location = header(&answer, "location").unwrap().to_owned();
    assert_eq!((status, header(&answer, "range")), (202, Some("0-0")));
    let patch = |range: &str| format!("PATCH {location} HTTP/1.1\r\ncontent-range: {range}");
    assert_eq!(raw(addr, &patch("5-9"), b" worl").0, 416);
    let (status, answer) = raw(addr, &patch("0-4"), b"hello");
    assert_eq!((status, header(&answer, "range")), (202, Some("0-4")));
    let (status, answer) = raw(addr, &patch("0-4"), b"hello");
    assert_eq!((status, header(&answer, "range")), (416, Some("0-4")));
    let (status, answer) = raw(addr, &format!("GET {location} HTTP/1.1"), b"");
    assert_eq!((status, header(&answer, "range")), (204, Some("0-4")));
    let (status, answer) = raw(addr, &format!("PUT {location}?digest={digest} HTTP/1.1"), b" world");
    assert_eq!(
        (status, header(&answer, "location")),
        (201, Some(format!("/v2/x/y/blobs/{digest}").as_str()))
    );
    assert_eq!(raw(addr, &format!("GET {location} HTTP/1.1"), b"").0, 404);
    let sha512 = Digest::of(Algorithm::Sha512, b"one piece");
    let (status, _) =
        raw(addr, &format!("POST /v2/x/y/blobs/uploads/?digest={sha512} HTTP/1.1"), b"one piece");
    assert_eq!(status, 201);
    let (status, answer) =
        raw(addr, &format!("GET /v2/x/y/blobs/{sha512} HTTP/1.1\r\nrange: bytes=4-6"), b"");
    assert_eq!((status, header(&answer, "content-range")), (206, Some("bytes 4-6/9")));
    assert!(answer.ends_with("pie"));
    let (status, answer) = raw(addr, &format!("HEAD /v2/x/y/blobs/{sha512} HTTP/1.1"), b"");
    assert_eq!((status, header(&answer, "content-length")), (200, Some("9")));
    let (_, answer) = raw(addr, "POST /v2/x/y/blobs/uploads/ HTTP/1.1", b"");
    let location = header(&answer, "location").unwrap();
    assert_eq!(raw(addr, &format!("DELETE {location} HTTP/1.1"), b"").0, 204);
    assert_eq!(raw(addr, &format!("PATCH {location} HTTP/1.1"), b"x").0, 404);
}

#[test]
fn refusals_have_the_specs_codes() {
    let registry = start(None);
    let addr = registry.handle.addr();
    registry.push(&registry.client, &registry.reference("x:1"), b"blob");
    let none = Digest::sha256(b"none");
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"a/b","digest":"{none}","size":1}},"layers":[]}}"#
    );
    let large = vec![b' '; (4 << 20) + 1];
    let typed = "content-type: application/vnd.oci.image.manifest.v1+json";
    for (request, body, status, code) in [
        ("GET /v2/UP/tags/list HTTP/1.1".to_owned(), &b""[..], 400, "NAME_INVALID"),
        ("GET /v2/nowhere/tags/list HTTP/1.1".to_owned(), b"", 404, "NAME_UNKNOWN"),
        ("GET /v2/nowhere/manifests/v1 HTTP/1.1".to_owned(), b"", 404, "NAME_UNKNOWN"),
        ("GET /v2/x/manifests/v1 HTTP/1.1".to_owned(), b"", 404, "MANIFEST_UNKNOWN"),
        (format!("GET /v2/x/blobs/{none} HTTP/1.1"), b"", 404, "BLOB_UNKNOWN"),
        ("GET /v2/x/blobs/sha256:1 HTTP/1.1".to_owned(), b"", 400, "DIGEST_INVALID"),
        (
            format!("PUT /v2/x/manifests/v1 HTTP/1.1\r\n{typed}"),
            manifest.as_bytes(),
            400,
            "MANIFEST_BLOB_UNKNOWN",
        ),
        (format!("PUT /v2/x/manifests/v1 HTTP/1.1\r\n{typed}"), b"{", 400, "MANIFEST_INVALID"),
        (format!("PUT /v2/x/manifests/{none} HTTP/1.1\r\n{typed}"), b"{}", 400, "DIGEST_INVALID"),
        (format!("PUT /v2/x/manifests/v1 HTTP/1.1\r\n{typed}"), &large, 413, "SIZE_INVALID"),
        ("PUT /v2/x/manifests/v1 HTTP/1.1".to_owned(), b"{}", 400, "MANIFEST_INVALID"),
        ("PATCH /v2/x/blobs/uploads/nothing HTTP/1.1".to_owned(), b"x", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("PUT /v2/x/tags/list HTTP/1.1".to_owned(), b"", 405, "UNSUPPORTED"),
    ] {
        let (got, answer) = raw(addr, &request, body);
        assert_eq!(got, status, "{request}: {answer}");
        assert!(answer.contains(code), "{request}: {answer}");
    }
    assert_eq!(raw(addr, "GET /v2/ HTTP/1.1", b"").0, 200);
}

#[test]
fn tags_in_pages() {
    let registry = start(None);
    let addr = registry.handle.addr();
    for tag in ["c", "a", "e", "b", "d"] {
        registry.image(&registry.reference(&format!("x:{tag}")), Vec::new(), None);
    }
    assert_eq!(registry.client.tags(&registry.reference("x")).unwrap(), ["a", "b", "c", "d", "e"]);
    let (_, answer) = raw(addr, "GET /v2/x/tags/list?n=2&last=b HTTP/1.1", b"");
    assert!(answer.ends_with(r#"{"name":"x","tags":["c","d"]}"#), "{answer}");
    assert_eq!(header(&answer, "link"), Some("</v2/x/tags/list?n=2&last=d>; rel=\"next\""));
    let (_, answer) = raw(addr, "GET /v2/x/tags/list?n=2&last=d HTTP/1.1", b"");
    assert_eq!(header(&answer, "link"), None);
    assert_eq!(raw(addr, "GET /v2/x/tags/list?n=many HTTP/1.1", b"").0, 400);
}

#[test]
fn referrers_filters_and_deletion() {
    let registry = start(None);
    let addr = registry.handle.addr();
    let (image, _) = registry.image(&registry.reference("x:1"), Vec::new(), None);
    let (about, _) = registry.image(&registry.reference("x:about"), Vec::new(), Some(image.clone()));
    let name = registry.reference("x");
    let all = registry.client.referrers(&name, &image.digest, None).unwrap();
    assert_eq!((all.len(), &all[0].digest), (1, &about.digest));
    let config = MediaType::OCI_CONFIG;
    assert_eq!(registry.client.referrers(&name, &image.digest, Some(config.as_str())).unwrap().len(), 1);
    assert!(registry.client.referrers(&name, &image.digest, Some("a/b")).unwrap().is_empty());
    let path = format!("GET /v2/x/referrers/{}?artifactType=a%2Fb HTTP/1.1", image.digest);
    let (_, answer) = raw(addr, &path, b"");
    assert_eq!(header(&answer, "oci-filters-applied"), Some("artifactType"));
    registry.client.delete_manifest(&name.with_digest(about.digest.clone())).unwrap();
    assert!(registry.client.referrers(&name, &image.digest, None).unwrap().is_empty());
    assert_eq!(registry.client.tags(&name).unwrap(), ["1"], "its tag goes with it");
    registry.client.delete_manifest(&registry.reference("x:1")).unwrap();
    assert!(registry.client.tags(&name).unwrap().is_empty());
    let by_digest = name.with_digest(image.digest.clone());
    assert!(registry.client.manifest(&by_digest).is_ok(), "a tag's deletion leaves the manifest");
    registry.client.delete_manifest(&by_digest).unwrap();
    assert_eq!(registry.client.manifest(&by_digest).unwrap_err().status(), Some(404));
}

#[test]
fn a_blob_stays_while_another_repository_has_it() {
    let registry = start(None);
    let (one, two) = (registry.reference("one"), registry.reference("two/deep"));
    let blob = registry.push(&registry.client, &one, b"shared");
    let never = |_: u64| -> std::io::Result<Box<dyn Read + Send>> { panic!("nothing is to be sent") };
    registry.client.push_blob(&two, &blob, Some("one"), &never).unwrap();
    let file = registry.dir.path().join("registry").join(blob.digest.blob_path());
    registry.client.delete_blob(&one, &blob.digest).unwrap();
    assert_eq!(registry.client.delete_blob(&one, &blob.digest).unwrap_err().status(), Some(404));
    assert!(file.exists() && registry.client.blob(&two, &blob, 0).is_ok());
    registry.client.delete_blob(&two, &blob.digest).unwrap();
    assert!(!file.exists());
}

#[test]
fn a_user_is_asked_for_and_kept() {
    let registry = start(Some(("me", "secret")));
    let host = registry.handle.addr().to_string();
    let to = registry.reference("x:1");
    let error = registry.client.manifest(&to).unwrap_err();
    assert_eq!(error.status(), Some(401));
    assert!(error.to_string().contains("sextant login"), "{error}");
    assert_eq!(registry.client.login(&host, "me", "wrong").unwrap_err().status(), Some(401));
    let (login, place) = registry.client.login(&host, "me", "secret").unwrap();
    assert_eq!(
        (login, Path::new(&place)),
        (Login::Accepted, registry.dir.path().join("config.json").as_path())
    );
    let (_, bytes) = registry.image(&to, Vec::new(), None);
    assert_eq!(client(registry.dir.path(), 1).manifest(&to).unwrap().1, bytes);
    assert!(registry.client.explain(&to).unwrap().to_string().contains("user me"));
    assert!(registry.client.logout(&host).unwrap());
    let fresh = client(registry.dir.path(), 1);
    assert_eq!(fresh.manifest(&to).unwrap_err().status(), Some(401));
    let credential = Credential::Basic { username: "me".into(), password: "secret".into() };
    assert!(fresh.with_credential(credential).manifest(&to).is_ok());
    assert_eq!(
        fresh.manifest(&to).unwrap_err().status(),
        Some(401),
        "another caller's credential is not used"
    );
}

#[test]
fn login_wants_a_host() {
    let registry = start(None);
    let host = registry.handle.addr().to_string();
    assert_eq!(registry.client.ping_auth(&format!("http://{host}/")).unwrap(), Login::NotNeeded);
    assert!(registry.client.ping_auth("myhost").unwrap_err().to_string().contains("port"));
}
