//! Any bytes as requests to our registry: it answers with HTTP, says of nobody's request that it is the server's fault,
//! and lives. Needs root, for a network namespace of its own.
#![no_main]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

use kernel::netlink::{Batch, Protocol, SetLink, Socket};
use libfuzzer_sys::fuzz_target;
use oci_image::registry::server::{Config, Handle, Server};

static SERVER: OnceLock<Handle> = OnceLock::new();

fn begin() {
    kernel::namespace::unshare(rustix::thread::UnshareFlags::NEWNET).expect("fuzzing the server needs root");
    let mut batch = Batch::new();
    batch.set_link(&SetLink::named("lo").up(true));
    Socket::open(Protocol::Route).and_then(|mut socket| socket.run(&batch)).expect("lo comes up");
    let dir = std::env::temp_dir().join(format!("registry-{}", std::process::id()));
    let listen = "127.0.0.1:0".parse().expect("an address");
    SERVER.get_or_init(|| Server::start(Config { dir, listen, user: None }).expect("it starts"));
}

fuzz_target!(init: begin(), |bytes: &[u8]| {
    let Some(server) = SERVER.get() else { return };
    let mut stream = TcpStream::connect(server.addr()).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    // It may hang up before it has read all.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer);
    assert!(!ended.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock), "it neither answers nor hangs up");
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{answer:?}");
    assert!(!answer.starts_with(b"HTTP/1.1 500"), "{}", String::from_utf8_lossy(&answer));
});
