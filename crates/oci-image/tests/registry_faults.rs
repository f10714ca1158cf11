//! Registries that misbehave: each fault ends in success where it can, else in an error that says what happened.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oci_image::contract::{Descriptor, Digest, MediaType};
use oci_image::reference::Reference;
use oci_image::registry::client::{Client, Config, Patience};
use oci_image::registry::credentials::{Credential, CredentialFiles};
use oci_image::registry::proxy::ProxyEnv;
use testkit::faulty::{Faulty, answer};

const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#;
const TYPE: &str = "content-type: application/vnd.oci.image.manifest.v1+json\r\n";

fn config() -> Config {
    // Who answers has begun by then, whoever else has the processors.
    let moment = Duration::from_secs(5);
    let patience = Patience {
        headers: moment,
        stall: moment,
        connect: moment,
        attempts: 3,
        backoff: Duration::from_millis(5),
        retry_after_max: Duration::from_secs(2),
        ..Patience::default()
    };
    Config {
        hosts_dirs: Vec::new(),
        plain_http: true,
        credentials: CredentialFiles::default(),
        proxy: ProxyEnv::default(),
        patience,
        ..Config::default()
    }
}

fn me() -> Credential {
    Credential::Basic { username: "me".into(), password: "secret".into() }
}

fn tag(server: &Faulty, name: &str) -> Reference {
    Reference::parse(&format!("{}/{name}", server.addr)).unwrap()
}

fn manifest_error(server: &Faulty) -> String {
    Client::new(config()).manifest(&tag(server, "x:1")).unwrap_err().to_string()
}

fn read_blob(client: &Client, server: &Faulty, content: &[u8]) -> Result<Vec<u8>, String> {
    let blob = Descriptor::of(MediaType::OCI_LAYER, content);
    let mut read = Vec::new();
    let mut reader = client.blob(&tag(server, "x:1"), &blob, 0).map_err(|error| error.to_string())?;
    reader.read_to_end(&mut read).map_err(|error| error.to_string())?;
    Ok(read)
}

#[test]
fn a_token_is_fetched_once_and_used_for_its_scope() {
    let tokens = Arc::new(AtomicUsize::new(0));
    let count = tokens.clone();
    let server = Faulty::start(move |server, request, stream| {
        let head = request.lines().next().unwrap_or_default().to_owned();
        if head.starts_with("GET /token") {
            count.fetch_add(1, Ordering::Relaxed);
            assert!(head.contains("service=reg%20service") && head.contains("account=me"), "{head}");
            assert!(request.contains("authorization: Basic bWU6c2VjcmV0"), "{request}");
            let scope = head.split("scope=repository%3A").nth(1).unwrap().split("%3A").next().unwrap();
            return answer(
                stream,
                200,
                "",
                format!(r#"{{"token":"for-{scope}","expires_in":300}}"#).as_bytes(),
            );
        }
        let name = head.split('/').nth(2).unwrap().to_owned();
        if request.contains(&format!("authorization: Bearer for-{name}")) {
            return answer(stream, 200, TYPE, MANIFEST.as_bytes());
        }
        let realm = format!("http://{server}/token");
        let ask = format!(
            "www-authenticate: Bearer realm=\"{realm}\",service=\"reg service\",scope=\"repository:{name}:pull\"\r\n"
        );
        answer(stream, 401, &ask, b"");
    });
    let client = Client::new(config()).with_credential(me());
    for _ in 0..2 {
        client.manifest(&tag(&server, "one:1")).unwrap();
    }
    assert_eq!((tokens.load(Ordering::Relaxed), server.requests()), (1, 4));
    client.manifest(&tag(&server, "two:1")).unwrap();
    assert_eq!((tokens.load(Ordering::Relaxed), server.requests()), (2, 6), "the next scope needs no 401");
}

#[test]
fn an_identity_token_is_posted_and_a_refusal_is_told() {
    let server = Faulty::start(|server, request, stream| {
        if request.starts_with("POST /token") {
            assert!(request.contains("grant_type=refresh_token&refresh_token=id%2Ftoken"), "{request}");
            let errors = br#"{"errors":[{"code":"DENIED","message":"account locked"}]}"#;
            return answer(stream, 403, "", errors);
        }
        let ask = format!("www-authenticate: Bearer realm=\"http://{server}/token\"\r\n");
        answer(stream, 401, &ask, b"");
    });
    let client = Client::new(config()).with_credential(Credential::Identity("id/token".into()));
    let error = client.manifest(&tag(&server, "x:1")).unwrap_err().to_string();
    assert!(error.contains("cannot get a token") && error.contains("account locked"), "{error}");
    assert!(!error.contains("id/token"), "{error}");
}

#[test]
fn credentials_do_not_go_to_a_plain_token_service_elsewhere() {
    let server = Faulty::start(|_, _, stream| {
        answer(stream, 401, "www-authenticate: Bearer realm=\"ftp://evil.test/token\"\r\n", b"");
    });
    let error =
        Client::new(config()).with_credential(me()).manifest(&tag(&server, "x:1")).unwrap_err().to_string();
    assert!(error.contains("cannot get a token"), "{error}");
}

#[test]
fn too_many_requests_are_waited_out() {
    let server = Faulty::start(|_, _, stream| answer(stream, 200, TYPE, MANIFEST.as_bytes()));
    server.first(2, |stream| answer(stream, 429, "retry-after: 0\r\n", b""));
    Client::new(config()).manifest(&tag(&server, "x:1")).unwrap();
    assert_eq!(server.requests(), 3);
    let server = Faulty::start(|_, _, stream| answer(stream, 429, "retry-after: 3600\r\n", b"slow down"));
    let error = manifest_error(&server);
    assert!(error.contains("429") && error.contains("wait 3600 s") && error.contains("slow down"), "{error}");
    assert_eq!(server.requests(), 1, "an hour is not waited");
}

#[test]
fn server_errors_are_tried_again_and_then_told() {
    let server = Faulty::start(|_, _, stream| answer(stream, 200, TYPE, MANIFEST.as_bytes()));
    server.first(2, |stream| answer(stream, 500, "", b""));
    Client::new(config()).manifest(&tag(&server, "x:1")).unwrap();
    let server = Faulty::start(|_, _, stream| answer(stream, 503, "", b"<html>\x1b[31mgone fishing</html>"));
    let error = manifest_error(&server);
    assert!(error.contains("503") && error.contains("gone fishing") && !error.contains('\x1b'), "{error}");
    assert_eq!(server.requests(), 3);
    let server = Faulty::start(|_, _, stream| answer(stream, 403, "", b""));
    let error = manifest_error(&server);
    assert!(error.contains("403") && error.contains("do not allow"), "{error}");
    assert_eq!(server.requests(), 1);
}

#[test]
fn silence_is_an_error() {
    let server = Faulty::start(|_, _, stream| {
        // Until the client hangs up.
        let _ = stream.read(&mut [0]);
    });
    let error = manifest_error(&server);
    assert!(error.contains("no answer") || error.contains("no progress"), "{error}");
}

#[test]
fn a_body_that_stalls_is_gone_on_with_elsewhere_or_told() {
    let content = vec![7; 100_000];
    let body = content.clone();
    let server = Faulty::start(move |_, _, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).unwrap();
        stream.write_all(&body[..10]).unwrap();
        let _ = stream.read(&mut [0]);
    });
    let error = read_blob(&Client::new(config()), &server, &content).unwrap_err();
    assert!(error.contains("no progress") && error.contains("/blobs/sha256:"), "{error}");
}

#[test]
fn a_cut_blob_goes_on_where_it_ended() {
    let content: Vec<u8> = (0..200_000u32).map(|n| (n / 3) as u8).collect();
    for ranges in [true, false] {
        let (body, seen) = (content.clone(), Arc::new(Mutex::new(Vec::new())));
        let ranges_seen = seen.clone();
        let server = Faulty::start(move |_, request, stream| {
            let start = request.lines().find_map(|line| line.strip_prefix("range: bytes="));
            let start: usize = start.map_or(0, |range| range.trim_end_matches('-').parse().unwrap());
            ranges_seen.lock().unwrap().push(start);
            let from = if ranges { start } else { 0 };
            let status = if ranges && start > 0 { "206 Partial Content" } else { "200 OK" };
            let range = format!("content-range: bytes {from}-{}/{}\r\n", body.len() - 1, body.len());
            let length = body.len() - from;
            write!(stream, "HTTP/1.1 {status}\r\n{range}content-length: {length}\r\n\r\n").unwrap();
            // The client hangs up when it has what it wants.
            let _ = stream.write_all(&body[from..(start + 70_000).min(body.len())]);
        });
        assert_eq!(read_blob(&Client::new(config()), &server, &content).unwrap(), content);
        let seen = seen.lock().unwrap();
        assert!(seen.len() >= 3 && seen.windows(2).all(|pair| pair[0] < pair[1]), "{seen:?}");
    }
}

#[test]
fn a_server_without_ranges_may_say_416() {
    let content = b"0123456789".to_vec();
    let body = content.clone();
    let server = Faulty::start(move |_, request, stream| match request.contains("range: ") {
        true => answer(stream, 416, "", b""),
        false => answer(stream, 200, "", &body),
    });
    let blob = Descriptor::of(MediaType::OCI_LAYER, &content);
    let mut read = String::new();
    let client = Client::new(config());
    client.blob(&tag(&server, "x:1"), &blob, 4).unwrap().read_to_string(&mut read).unwrap();
    assert_eq!(read, "456789");
}

#[test]
fn a_range_that_is_not_the_one_asked_for_is_refused() {
    let server =
        Faulty::start(|_, _, stream| answer(stream, 206, "content-range: bytes 0-9/10\r\n", b"0123456789"));
    let blob = Descriptor::of(MediaType::OCI_LAYER, b"0123456789");
    let error = Client::new(config()).blob(&tag(&server, "x:1"), &blob, 4).err().unwrap().to_string();
    assert!(error.contains("does not answer bytes=4-"), "{error}");
}

#[test]
fn wrong_digests_are_refused() {
    let lie = Digest::sha256(b"something else");
    let server = Faulty::start({
        let lie = lie.clone();
        move |_, _, stream| {
            answer(stream, 200, &format!("{TYPE}docker-content-digest: {lie}\r\n"), MANIFEST.as_bytes());
        }
    });
    assert!(manifest_error(&server).contains(&format!("not {lie}")));
    let server = Faulty::start(|_, _, stream| answer(stream, 200, TYPE, MANIFEST.as_bytes()));
    let pinned = tag(&server, "x").with_digest(lie.clone());
    let error = Client::new(config()).manifest(&pinned).unwrap_err().to_string();
    assert!(error.contains(&format!("not {lie}")), "{error}");
    let server = Faulty::start(|_, _, stream| {
        answer(stream, 200, &format!("{TYPE}docker-content-digest: x\r\n"), b"{}")
    });
    assert!(manifest_error(&server).contains("Docker-Content-Digest"));
}

#[test]
fn a_manifest_of_50_mb_is_not_read() {
    let server = Faulty::start(|_, _, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\n{TYPE}content-length: 52428800\r\n\r\n").unwrap();
        let _ = stream.write_all(&[b' '; 1 << 16]);
    });
    assert!(manifest_error(&server).contains("larger than 4194304 bytes"));
    let server = Faulty::start(|_, _, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\n{TYPE}transfer-encoding: chunked\r\n\r\n").unwrap();
        // The client hangs up long before the end.
        while stream.write_all(format!("10000\r\n{}\r\n", " ".repeat(0x10000)).as_bytes()).is_ok() {}
    });
    assert!(manifest_error(&server).contains("larger than 4194304 bytes"));
}

#[test]
fn lengths_that_do_not_fit_are_told() {
    let content = b"0123456789";
    let server = Faulty::start(|_, _, stream| answer(stream, 200, "", b"01234567890"));
    let error = read_blob(&Client::new(config()), &server, content).unwrap_err();
    assert!(error.contains("11 bytes where 10"), "{error}");
    let server = Faulty::start(|_, _, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nb\r\n01234567890\r\n0\r\n\r\n")
            .unwrap();
    });
    let error = read_blob(&Client::new(config()), &server, content).unwrap_err();
    assert!(error.contains("longer than its descriptor"), "{error}");
    let server = Faulty::start(|_, _, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\n{TYPE}content-length: 5000\r\n\r\n{MANIFEST}").unwrap();
    });
    let error = manifest_error(&server);
    assert!(error.contains("to its end"), "{error}");
}

#[test]
fn credentials_stay_behind_on_a_redirect_to_another_host() {
    let content = b"layer".to_vec();
    let body = content.clone();
    let other = Faulty::start(move |_, request, stream| {
        assert!(!request.contains("authorization"), "{request}");
        answer(stream, 200, "", &body);
    });
    let elsewhere = other.addr;
    let server = Faulty::start(move |_, request, stream| {
        let head = request.lines().next().unwrap_or_default();
        match (request.contains("authorization: Basic"), head.contains("/again/")) {
            (false, _) => answer(stream, 401, "www-authenticate: Basic realm=\"r\"\r\n", b""),
            (true, false) => answer(stream, 307, "location: /again/?x=1\r\n", b""),
            (true, true) => answer(stream, 302, &format!("location: http://{elsewhere}/cdn?sig=1\r\n"), b""),
        }
    });
    let client = Client::new(config()).with_credential(me());
    assert_eq!(read_blob(&client, &server, &content).unwrap(), content);
    assert_eq!((server.requests(), other.requests()), (3, 1));
    let server = Faulty::start(|_, _, stream| answer(stream, 302, "location: /v2/loop\r\n", b""));
    assert!(manifest_error(&server).contains("redirects"));
}

#[test]
fn garbage_is_not_http() {
    for garbage in [&b"\x00\x01\x02 what is this\r\n\r\n"[..], b"SSH-2.0-OpenSSH_9.2\r\n", b""] {
        let server = Faulty::start(move |_, _, stream| stream.write_all(garbage).unwrap());
        let error = manifest_error(&server);
        assert!(error.contains("cannot reach http://127.0.0.1:"), "{error}");
    }
    let server = Faulty::start(|_, _, stream| {
        answer(stream, 200, "content-type: text/html\r\n", b"<html>Wi-Fi login</html>")
    });
    let error = manifest_error(&server);
    assert!(error.contains("neither Content-Type nor mediaType"), "{error}");
}

#[test]
fn nobody_listening_is_told_at_once() {
    let addr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let reference = Reference::parse(&format!("{addr}/x:1")).unwrap();
    let error = Client::new(config()).manifest(&reference).unwrap_err().to_string();
    assert!(error.contains("refused"), "{error}");
}

#[test]
fn warnings_are_heard() {
    let server = Faulty::start(|_, _, stream| {
        let warnings = format!(
            "{TYPE}warning: 299 - \"this \\\"tag\\\" goes away\"\r\nwarning: 199 - \"not for us\"\r\n"
        );
        answer(stream, 200, &warnings, MANIFEST.as_bytes());
    });
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = heard.clone();
    let warnings: oci_image::registry::client::WarningSink =
        Arc::new(move |_: &str, text: &str| ear.lock().unwrap().push(text.to_owned()));
    Client::new(Config { warnings: Some(warnings), ..config() }).manifest(&tag(&server, "x:1")).unwrap();
    assert_eq!(*heard.lock().unwrap(), ["this \"tag\" goes away"]);
}

#[test]
fn an_upload_that_is_cut_goes_on() {
    let received = Arc::new(Mutex::new((Vec::<u8>::new(), 0)));
    let state = received.clone();
    let server = Faulty::start(move |_, request, stream| {
        let mut state = state.lock().unwrap();
        let so_far =
            |have: usize| format!("location: /up?n={have}\r\nrange: 0-{}\r\n", have.saturating_sub(1));
        match request.split(' ').next().unwrap_or_default() {
            "HEAD" => answer(stream, 404, "", b""),
            "POST" => answer(stream, 202, "location: /up?n=0\r\n", b""),
            "GET" => answer(stream, 204, &so_far(state.0.len()), b""),
            "PATCH" => {
                let length = request.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                let mut chunk = vec![0; length.parse().unwrap()];
                state.1 += 1;
                if state.1 == 2 {
                    // Half of the second chunk arrives, then the line is cut.
                    let half = chunk.len() / 2;
                    stream.read_exact(&mut chunk[..half]).unwrap();
                    return state.0.extend(&chunk[..half]);
                }
                stream.read_exact(&mut chunk).unwrap();
                state.0.extend(&chunk);
                answer(stream, 202, &so_far(state.0.len()), b"");
            }
            _ => answer(stream, 201, "", b""),
        }
    });
    let content: Vec<u8> = (0..10_000u32).map(|n| (n / 5) as u8).collect();
    let blob = Descriptor::of(MediaType::OCI_LAYER, &content);
    let open =
        |at: u64| Ok(Box::new(std::io::Cursor::new(content[at as usize..].to_vec())) as Box<dyn Read + Send>);
    let client = Client::new(Config { chunk: 3000, ..config() });
    client.push_blob(&tag(&server, "x:1"), &blob, None, &open).unwrap();
    assert_eq!(received.lock().unwrap().0, content);
}

#[test]
fn a_layer_that_is_not_distributed_comes_from_its_own_place() {
    let content = b"foreign layer".to_vec();
    let body = content.clone();
    let maker = Faulty::start(move |_, request, stream| {
        assert!(request.starts_with("GET /layer?v=1 ") && !request.contains("authorization"), "{request}");
        answer(stream, 200, "", &body);
    });
    let server = Faulty::start(|_, request, stream| match request.contains("authorization") {
        true => answer(stream, 404, "", b""),
        false => answer(stream, 401, "www-authenticate: Basic realm=\"r\"\r\n", b""),
    });
    let mut blob = Descriptor::of(MediaType::DOCKER_FOREIGN_GZIP, &content);
    blob.urls = vec!["file:///etc/passwd".into(), format!("http://{}/layer?v=1", maker.addr)];
    let client = Client::new(config()).with_credential(me());
    let mut read = Vec::new();
    client.blob(&tag(&server, "x:1"), &blob, 0).unwrap().read_to_end(&mut read).unwrap();
    assert_eq!(read, content);
    blob.media_type = MediaType::OCI_LAYER;
    assert!(client.blob(&tag(&server, "x:1"), &blob, 0).is_err());
}
