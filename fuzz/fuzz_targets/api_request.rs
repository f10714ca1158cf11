//! Whole requests to a whole server over HTTP/1.1: a method and a path with its query on the first line, headers on those
//! after it (`authorization` with tokens among them), a body behind the empty one. Every request has a whole answer, and
//! what says that it is JSON is. Needs root, for a network namespace of its own.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use api::auth::{Access, AllowAll, Tokens};
use api::registry::{Registry, Settings};
use api::resource::Asker;
use api::serve::{Server, Setup};
use api::store::{Options, Store};

use crate::alone::alone;

/// Longer than anything may take that is no stream.
const PATIENCE: Duration = Duration::from_secs(15);

struct Rig {
    _runtime: tokio::runtime::Runtime,
    _server: Server,
    tokens: Arc<Tokens>,
    address: SocketAddr,
}

static RIG: LazyLock<Rig> = LazyLock::new(|| {
    // Webhooks may be configured, with addresses.
    alone();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let place = std::env::temp_dir().join(format!("api_request-{}", std::process::id()));
    // Many objects of many inputs: what is forgotten early takes no memory.
    let options = Options { history_bytes: 1 << 20, ..Options::default() };
    let store = Store::open(&place.join("store"), options).expect("an empty folder");
    let tokens = Arc::new(Tokens::open(&place, "https://fuzz", store.clone()).expect("a key is made"));
    let registry =
        Registry::new(store, api::kinds::builtin(), api::admission::builtin(None), Settings::default());
    let admin =
        Asker { user: "admin".to_owned(), groups: vec!["system:masters".to_owned()], ..Asker::default() };
    let access = Access {
        authorizer: Arc::new(AllowAll),
        tokens: Some(Arc::clone(&tokens)),
        trusted: Some(admin),
        health: Vec::new(),
    };
    let listen = vec!["127.0.0.1:0".parse().expect("an address")];
    let setup =
        Setup { registry, access, authority: None, listen, listen_ahead: Vec::new(), node: None, audit: None };
    let server = runtime.block_on(Server::start(setup)).expect("a port is free");
    let address = server.addresses()[0];
    Rig { _runtime: runtime, _server: server, tokens, address }
});

/// The request of an input: whole, with its length, the last one of its connection.
fn request(bytes: &[u8]) -> Option<Vec<u8>> {
    let at = bytes.windows(2).position(|two| two == b"\n\n").unwrap_or(bytes.len());
    let (head, body) = (std::str::from_utf8(&bytes[..at]).ok()?, bytes.get(at + 2..).unwrap_or_default());
    let (first, headers) = head.split_once('\n').unwrap_or((head, ""));
    if first.chars().any(char::is_control) {
        return None;
    }
    let mut request = format!("{first} HTTP/1.1\r\nhost: fuzz\r\nconnection: close\r\n").into_bytes();
    for line in headers.lines() {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        let framing = ["content-length", "transfer-encoding", "connection", "upgrade", "expect", "host"];
        if !framing.contains(&name.trim()) && !line.chars().any(char::is_control) {
            request.extend_from_slice(line.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
    }
    request.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    request.extend_from_slice(body);
    Some(request)
}

/// The head of the answer, and its body, which is as long as the head says; a stream is left at its head. Nothing where the
/// connection was reset: the server had answered, and closed on what it did not read.
fn answer(request: &[u8], address: SocketAddr, has_body: bool) -> Option<(String, Option<Vec<u8>>)> {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    // It may have answered and closed before all of a bad request is sent.
    let _ = stream.write_all(request);
    let (mut read, mut buffer) = (Vec::new(), [0; 16 << 10]);
    let end = loop {
        if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        match stream.read(&mut buffer) {
            Ok(0) => panic!("it closed after {:?}", String::from_utf8_lossy(&read)),
            Ok(length) => read.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("no answer: {error}"),
        }
    };
    let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    let mut body = read.split_off(end);
    while has_body && length.is_some_and(|length| body.len() < length) {
        match stream.read(&mut buffer) {
            Ok(0) => panic!("it closed after {} bytes of {length:?}", body.len()),
            Ok(length) => body.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("no whole answer: {error}"),
        }
    }
    Some((head, length.filter(|_| has_body).map(|_| body)))
}

pub fn run(bytes: &[u8]) {
    let Some(request) = request(bytes) else { return };
    let rig = &*RIG;
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = rig.tokens.verify(text.lines().last().unwrap_or_default(), &[]);
    }
    let is_head = bytes.starts_with(b"HEAD ");
    let Some((head, body)) = answer(&request, rig.address, !is_head) else { return };
    assert!(head.starts_with("http/1.1 "), "{head}");
    let plain = head.contains("content-type: application/json\r\n") && !head.contains("content-encoding");
    if let Some(body) = body.filter(|body| plain && !body.is_empty()) {
        assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok(), "{head}");
    }
}
