//! Any bytes as requests to our registry: it answers with HTTP, says of nobody's request that it is the server's fault,
//! and lives. Needs root, for a network namespace of its own.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::LazyLock;
use std::time::Duration;

use oci_image::registry::server::{Config, Handle, Server};

use crate::alone::alone;

static SERVER: LazyLock<Handle> = LazyLock::new(serve);

fn serve() -> Handle {
    alone();
    let dir = std::env::temp_dir().join(format!("registry-{}", std::process::id()));
    let listen = "127.0.0.1:0".parse().expect("an address");
    Server::start(Config { dir, listen, user: None }).expect("it starts")
}

pub fn run(bytes: &[u8]) {
    let mut stream = TcpStream::connect(SERVER.addr()).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    // It may hang up before it has read all.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer);
    assert!(
        !ended.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock),
        "it neither answers nor hangs up"
    );
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{answer:?}");
    assert!(!answer.starts_with(b"HTTP/1.1 500"), "{}", String::from_utf8_lossy(&answer));
}
