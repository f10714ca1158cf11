//! Addresses that work once.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::client::{PortForward, Protocol};

/// Sends a request's head and gives the answer's.
async fn ask(server: &TokenServer<Rig>, head: &str) -> String {
    let mut stream = TcpStream::connect(server.address()).await.expect("a connection");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    within(stream.read_to_end(&mut answer)).await.expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

fn nothing() -> Work {
    work(|_| async { Ok(Exit(0)) })
}

#[tokio::test]
async fn an_address_works_once_and_for_its_kind() {
    let server = server().await;
    let wanted = requested(true, true, false, false);
    let url = server.exec(nothing(), wanted).expect("an address");
    assert!(url.starts_with(&format!("http://{}/exec/", server.address())), "{url}");
    let other = url.replace("/exec/", "/attach/");
    let target = |url: &str| Target::parse(url).expect("a target");
    for url in
        [&other, &url.replace("/exec/", "/"), &format!("{url}x"), &url.replace("/exec/", "/portforward/")]
    {
        match Command::start(&target(url), wanted, Protocol::Spdy).await {
            Err(Error::Refused { status: 404, .. }) => {}
            other => panic!("{url}: {:?}", other.map(|_| ())),
        }
    }
    let command = Command::start(&target(&url), wanted, Protocol::Auto).await.expect("streams");
    assert_eq!(within(command.wait()).await.expect("success"), Exit(0));
    match Command::start(&target(&url), wanted, Protocol::Auto).await {
        Err(Error::Refused { status: 404, .. }) => {}
        other => panic!("{:?}", other.map(|_| ())),
    }
}

#[tokio::test]
async fn a_refused_protocol_leaves_the_address_valid() {
    let server = server().await;
    let wanted = requested(true, true, false, false);
    let url = server.exec(nothing(), wanted).expect("an address");
    let target = Target::parse(&url).expect("a target");
    match Command::websocket(&target, wanted, &["v9.channel.k8s.io"]).await {
        Err(Error::Refused { status: 403, .. }) => {}
        other => panic!("{:?}", other.map(|_| ())),
    }
    let path = url.strip_prefix(&format!("http://{}", server.address())).expect("its own address");
    let answer = ask(&server, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let command = Command::start(&target, wanted, Protocol::Spdy).await.expect("streams");
    assert_eq!(within(command.wait()).await.expect("success"), Exit(0));
}

#[tokio::test]
async fn heads_that_are_too_long_or_none_are_refused() {
    let server = server().await;
    let long = format!("GET /exec/x HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(20_000));
    let answer = ask(&server, &long).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer:?}");
    let answer = ask(&server, "this is no HTTP\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer:?}");
}

#[tokio::test]
async fn without_tls_only_loopback_is_listened_on() {
    let config = Config { listen: ([0, 0, 0, 0], 0).into(), ..Config::default() };
    let refused = TokenServer::start(config, Arc::new(Rig)).await.err().expect("refused").to_string();
    assert!(refused.contains("without TLS"), "{refused}");
}

#[tokio::test]
async fn stopping_waits_for_sessions_then_ends_them() {
    let server = server().await;
    let wanted = requested(true, true, false, false);
    let start = |act: Work| WAYS[0].exec(&server, wanted, act);
    let short = start(work(|_| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(Exit(4))
    }))
    .await;
    let long = start(work(|_| std::future::pending())).await;
    let address = server.address();
    // So long that the short one has ended and has said so, whoever else has the processor.
    let stopped = tokio::spawn(server.stop(Duration::from_secs(5)));
    assert_eq!(within(short.wait()).await.expect("its own end"), Exit(4));
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
    assert!(matches!(within(long.wait()).await, Err(Error::Lost)));
    within(stopped).await.expect("stopped");
}

#[tokio::test]
async fn over_tls_with_client_certificates() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/certificates");
    let (ca, certificate, key) = (dir.join("ca.pem"), dir.join("server.pem"), dir.join("server.key"));
    let tls = crate::server::Tls::from_pem_files(&certificate, &key, Some(&ca)).expect("certificates");
    let config = Config {
        listen: ([0, 0, 0, 0], 0).into(),
        host: Some("127.0.0.1".into()),
        tls: Some(tls),
        ..Config::default()
    };
    let server = TokenServer::start(config, Arc::new(Rig)).await.expect("a server");
    let wanted = requested(true, true, false, false);
    let start = |with_certificate: bool| {
        let act = work(|mut streams: RemoteCommand| async move {
            let read = all(&mut streams.stdin).await;
            say(&mut streams.stdout, &read).await;
            Ok(Exit(6))
        });
        let url = server.exec(act, wanted).expect("an address");
        assert!(url.starts_with("https://127.0.0.1:"), "{url}");
        Target::parse(&url).expect("a target").with_tls(client_config(&dir, with_certificate))
    };
    for protocol in [Protocol::Spdy, Protocol::WebSocket] {
        let mut command = Command::start(&start(true), wanted, protocol).await.expect("streams");
        let sent = pattern(2_000_000);
        say(&mut command.stdin, &sent).await;
        command.stdin = None;
        assert!(all(&mut command.stdout).await == sent);
        assert_eq!(within(command.wait()).await.expect("an end"), Exit(6));
    }
    assert!(
        Command::start(&start(false), wanted, Protocol::Spdy).await.is_err(),
        "who shows no certificate gets nothing"
    );
    let forward = PortForward::start(&start(false), Protocol::Auto).await;
    assert!(forward.is_err());
}

fn client_config(dir: &std::path::Path, with_certificate: bool) -> Arc<rustls::ClientConfig> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(dir.join("ca.pem")).expect("a certificate"))
        .expect("an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("versions").with_root_certificates(roots);
    let config = if with_certificate {
        let chain = vec![CertificateDer::from_pem_file(dir.join("client.pem")).expect("a certificate")];
        let key = PrivateKeyDer::from_pem_file(dir.join("client.key")).expect("a key");
        builder.with_client_auth_cert(chain, key).expect("they fit")
    } else {
        builder.with_no_client_auth()
    };
    Arc::new(config)
}
