//! Any bytes as the answers of a registry, one for each request: the client ends, with an error or a verified document,
//! and never panics. Answers are separated by a line of `===`.
//!
//! Everything happens in a network namespace without a way out, so that no redirect leads anywhere. Needs root.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use oci_image::contract::{Descriptor, Digest, MediaType};
use oci_image::reference::Reference;
use oci_image::registry::client::{Client, Config, Patience};
use oci_image::registry::credentials::{Credential, CredentialFiles};
use oci_image::registry::proxy::ProxyEnv;

use crate::alone::alone;

static ANSWERS: Mutex<VecDeque<Vec<u8>>> = Mutex::new(VecDeque::new());
static ADDRESS: LazyLock<SocketAddr> = LazyLock::new(serve);

fn next() -> Vec<u8> {
    ANSWERS.lock().unwrap_or_else(PoisonError::into_inner).pop_front().unwrap_or_default()
}

fn serve() -> SocketAddr {
    alone();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
                head.push(byte[0]);
            }
            // The client may have seen enough.
            let _ = stream.write_all(&next());
        }
    });
    address
}

fn split(bytes: &[u8]) -> VecDeque<Vec<u8>> {
    let mut answers = VecDeque::from([Vec::new()]);
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        match (line, answers.back_mut()) {
            (b"===\n", _) | (_, None) => answers.push_back(Vec::new()),
            (line, Some(last)) => last.extend(line),
        }
    }
    answers
}

pub fn run(bytes: &[u8]) {
    let address = *ADDRESS;
    *ANSWERS.lock().unwrap_or_else(PoisonError::into_inner) = split(bytes);
    let short = Duration::from_millis(300);
    let patience =
        Patience { headers: short, stall: short, connect: short, attempts: 1, ..Patience::default() };
    let config = Config {
        hosts_dirs: Vec::new(),
        plain_http: true,
        credentials: CredentialFiles::default(),
        proxy: ProxyEnv::default(),
        patience,
        ..Config::default()
    };
    let me = Credential::Basic { username: "me".into(), password: "s3cret".into() };
    let client = Client::new(config).with_credential(me);
    let Ok(reference) = Reference::parse(&format!("{address}/team/tool:v1")) else { return };
    if let Ok((descriptor, document)) = client.manifest(&reference) {
        assert_eq!(Digest::of(descriptor.digest.algorithm(), &document), descriptor.digest);
    }
    let blob = Descriptor::of(MediaType::OCI_LAYER, b"0123456789");
    let mut read = Vec::new();
    if let Ok(reader) = client.blob(&reference, &blob, 4) {
        let _ = reader.take(1 << 10).read_to_end(&mut read);
    }
    assert!(read.len() <= 6, "no more than the descriptor says");
    let _ = client.tags(&reference);
    let _ = client.resolve(&reference);
}
