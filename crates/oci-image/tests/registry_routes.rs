//! How a registry is reached: mirrors, TLS with one's own CA and client certificate, proxies, plain http.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use oci_image::reference::Reference;
use oci_image::registry::client::{Client, Config, Patience};
use oci_image::registry::credentials::{Credential, CredentialFiles};
use oci_image::registry::proxy::ProxyEnv;
use oci_image::registry::resolver::{ResolvConf, Resolver};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use testkit::faulty::{Faulty, answer};

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#;

/// A folder with certs.d, a hosts file in which reg.test is loopback, and credentials.
struct Setting {
    dir: tempfile::TempDir,
}

impl Setting {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("hosts"), "127.0.0.1 reg.test mirror.test\n").unwrap();
        Self { dir }
    }

    fn hosts_toml(&self, registry: &str, text: &str) -> &Self {
        let folder = self.dir.path().join("certs.d").join(registry);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("hosts.toml"), text).unwrap();
        self
    }

    fn config(&self) -> Config {
        let servers = ResolvConf { nameservers: Vec::new(), ..ResolvConf::default() };
        Config {
            hosts_dirs: vec![self.dir.path().join("certs.d")],
            credentials: CredentialFiles::at(&self.dir.path().join("config.json")),
            proxy: ProxyEnv::default(),
            resolver: Arc::new(Resolver::with(self.dir.path().join("hosts"), servers)),
            patience: Patience { attempts: 1, connect: Duration::from_secs(5), ..Patience::default() },
            ..Config::default()
        }
    }

    fn client(&self) -> Client {
        Client::new(self.config())
    }
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn ok(stream: &mut impl Write) {
    answer(stream, 200, "content-type: application/vnd.oci.image.manifest.v1+json\r\n", MANIFEST);
}

fn reference(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

/// `reg.test` over TLS; with `mutual` it wants a certificate of the test CA.
fn tls_registry(mutual: bool) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = vec![CertificateDer::from_pem_file(data("reg.test.crt")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(data("reg.test.key")).unwrap();
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = if mutual {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(data("ca.crt")).unwrap()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let config = Arc::new(builder.with_single_cert(chain, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream =
                StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream.unwrap());
            // A client that does not trust us says so and goes.
            if let Ok(count) = stream.read(&mut [0; 4096])
                && count > 0
            {
                ok(&mut stream);
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    addr
}

#[test]
fn our_own_ca_and_nothing_else_is_trusted() {
    let port = tls_registry(false).port();
    let registry = format!("reg.test:{port}");
    let image = reference(&format!("{registry}/x:1"));
    let setting = Setting::new();
    let error = setting.client().manifest(&image).unwrap_err().to_string();
    assert!(error.contains("UnknownIssuer") && error.contains("`ca` in hosts.toml"), "{error}");
    setting.hosts_toml(&registry, &format!("ca = {:?}\n", data("ca.crt")));
    setting.client().manifest(&image).unwrap();
    let by_address = format!("127.0.0.1:{port}");
    setting.hosts_toml(&by_address, &format!("ca = {:?}\n", data("ca.crt")));
    let error = setting.client().manifest(&reference(&format!("{by_address}/x:1"))).unwrap_err().to_string();
    assert!(error.contains("not valid for name"), "{error}");
    setting.hosts_toml(&by_address, "skip_verify = true\n");
    setting.client().manifest(&reference(&format!("{by_address}/x:1"))).unwrap();
}

#[test]
fn client_certificates_are_shown() {
    let registry = format!("reg.test:{}", tls_registry(true).port());
    let image = reference(&format!("{registry}/x:1"));
    let setting = Setting::new();
    setting.hosts_toml(&registry, &format!("ca = {:?}\n", data("ca.crt")));
    assert!(setting.client().manifest(&image).is_err());
    let pair = format!("client = [[{:?}, {:?}]]\n", data("reg.test.crt"), data("reg.test.key"));
    setting.hosts_toml(&registry, &format!("ca = {:?}\n{pair}", data("ca.crt")));
    setting.client().manifest(&image).unwrap();
    let mismatch = format!("client = [[{:?}, {:?}]]\n", data("ca.crt"), data("reg.test.key"));
    setting.hosts_toml(&registry, &format!("ca = {:?}\n{mismatch}", data("ca.crt")));
    let error = setting.client().manifest(&image).unwrap_err().to_string();
    assert!(error.contains("reg.test.key"), "{error}");
    setting.hosts_toml(&registry, "ca = \"missing.crt\"\n");
    let error = setting.client().manifest(&image).unwrap_err().to_string();
    assert!(error.contains("missing.crt"), "{error}");
}

#[test]
fn plain_http_only_where_it_may_be() {
    let server = Faulty::start(|_, _, stream| ok(stream));
    let setting = Setting::new();
    let named = format!("reg.test:{}", server.addr.port());
    let image = reference(&format!("{named}/x:1"));
    let error = setting.client().manifest(&image).unwrap_err().to_string();
    assert!(error.contains("--plain-http") && server.requests() == 0, "{error}");
    Client::new(Config { plain_http: true, ..setting.config() }).manifest(&image).unwrap();
    setting.hosts_toml(&named, &format!("server = \"http://{named}\"\n"));
    setting.client().manifest(&image).unwrap();
    let client = setting.client();
    for _ in 0..2 {
        client.manifest(&reference(&format!("{}/x:1", server.addr))).unwrap();
    }
    assert_eq!(server.requests(), 4, "loopback falls back by itself");
}

#[test]
fn mirrors_come_first_and_the_registry_last() {
    let setting = Setting::new();
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let missing = Faulty::start(|_, request, stream| {
        assert!(request.starts_with("GET /v2/x/manifests/1?ns=reg.test%3A1 "), "{request}");
        assert!(request.contains("x-team: a") && !request.contains("authorization"), "{request}");
        answer(stream, 404, "", br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"not cached"}]}"#);
    });
    let origin = Faulty::start(|_, request, stream| {
        assert!(
            request.starts_with("GET /v2/x/manifests/1?ns=reg.test%3A1 ") && !request.contains("x-team"),
            "{request}"
        );
        match request.contains("authorization: Basic") {
            true => ok(stream),
            false => answer(stream, 401, "www-authenticate: Basic realm=\"r\"\r\n", b""),
        }
    });
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{dead}\"]\n[host.\"http://{}\"]\n[host.\"http://{}\".header]\nx-team = \"a\"\n",
        origin.addr, missing.addr, missing.addr
    );
    setting.hosts_toml("reg.test:1", &text.replacen(&format!("[host.\"http://{}\"]\n", missing.addr), "", 1));
    let image = reference("reg.test:1/x:1");
    let shown = setting.client().explain(&image).unwrap();
    let urls: Vec<_> = shown.steps.iter().map(|step| step.endpoint.authority.clone()).collect();
    assert_eq!(urls, [dead.to_string(), missing.addr.to_string(), origin.addr.to_string()]);
    assert!(shown.to_string().contains("?ns=reg.test:1"), "{shown}");
    let me = Credential::Basic { username: "me".into(), password: "p".into() };
    setting.client().with_credential(me).manifest(&image).unwrap();
    assert_eq!((missing.requests(), origin.requests()), (1, 2));
    drop(origin);
    setting.hosts_toml(
        "reg.test:1",
        &format!("server = \"http://{dead}\"\n[host.\"http://{}\".header]\nx-team = \"a\"\n", missing.addr),
    );
    let error = setting.client().manifest(&image).unwrap_err().to_string();
    assert!(
        error.contains("not cached") && error.contains(&dead.to_string()) && error.contains("refused"),
        "{error}"
    );
}

#[test]
fn capabilities_are_kept_to() {
    let setting = Setting::new();
    setting.hosts_toml("reg.test:1", "capabilities = [\"push\"]\n");
    let error = setting.client().manifest(&reference("reg.test:1/x:1")).unwrap_err().to_string();
    assert!(error.contains("`resolve`"), "{error}");
    setting.hosts_toml("reg.test:1", "capabilities = [\"pul\"]\n");
    let error = setting.client().manifest(&reference("reg.test:1/x:1")).unwrap_err().to_string();
    assert!(error.contains("hosts.toml line 1: capabilities = "), "{error}");
}

/// A proxy that knows CONNECT alone; says which hosts were asked for.
fn proxy(to: SocketAddr) -> (SocketAddr, Arc<std::sync::Mutex<Vec<String>>>) {
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (log, listener) = (asked.clone(), TcpListener::bind("127.0.0.1:0").unwrap());
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let head = testkit::faulty::head(&mut client).unwrap();
            log.lock().unwrap().push(head);
            client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
            let mut server = TcpStream::connect(to).unwrap();
            let (mut from, mut into) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from, &mut into));
            thread::spawn(move || std::io::copy(&mut server, &mut client));
        }
    });
    (addr, asked)
}

#[test]
fn proxies_are_used_and_spared() {
    let setting = Setting::new();
    let registry = tls_registry(false);
    let (proxy, asked) = proxy(registry);
    // The registry's name does not resolve here: only the proxy knows it.
    fs::write(setting.dir.path().join("hosts"), "127.0.0.1 proxy.test\n").unwrap();
    setting.hosts_toml("reg.test", &format!("ca = {:?}\n", data("ca.crt")));
    let url = format!("http://user:pa%20ss@proxy.test:{}", proxy.port());
    let environment = |no_proxy: &'static str| {
        let url = url.clone();
        ProxyEnv::from_variables(move |name| match name {
            "https_proxy" => Some(url.clone()),
            "no_proxy" => Some(no_proxy.into()),
            _ => None,
        })
    };
    let client = Client::new(Config { proxy: environment("other.test"), ..setting.config() });
    client.manifest(&reference("reg.test/x:1")).unwrap();
    let heads = asked.lock().unwrap().join("");
    assert!(heads.starts_with("CONNECT reg.test:443 HTTP/1.1\r\n"), "{heads}");
    assert!(heads.contains("Proxy-Authorization: Basic dXNlcjpwYSBzcw=="), "{heads}");
    let shown = client.explain(&reference("reg.test/x:1")).unwrap().to_string();
    assert!(shown.contains("proxy: http://proxy.test:") && !shown.contains("pa%20ss"), "{shown}");
    let client = Client::new(Config { proxy: environment(".test"), ..setting.config() });
    let error = client.manifest(&reference("reg.test/x:1")).unwrap_err().to_string();
    assert!(error.contains("reg.test") && error.contains("no nameserver"), "{error}");
    assert_eq!(asked.lock().unwrap().len(), 1);
}
