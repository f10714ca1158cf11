//! A server that answers each connection's one request as a test says.
#![allow(clippy::unwrap_used, dead_code, reason = "a test's tool, which each test uses in part")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

type Once = (usize, fn(&mut TcpStream));

/// A running server; it ends with the process.
pub(crate) struct Faulty {
    pub(crate) addr: SocketAddr,
    count: Arc<AtomicUsize>,
    first: Arc<Mutex<Once>>,
}

impl Faulty {
    /// `handle` gets the server's address, the request's head (lower-case header names) and the connection.
    pub(crate) fn start(handle: impl Fn(SocketAddr, &str, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let first: Arc<Mutex<Once>> = Arc::new(Mutex::new((0, |_| ())));
        let server = Self { addr, count: Arc::default(), first: first.clone() };
        let (count, handle) = (server.count.clone(), Arc::new(handle));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (count, handle, first) = (count.clone(), handle.clone(), first.clone());
                thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let Some(request) = head(&mut stream) else { return };
                    count.fetch_add(1, Ordering::Relaxed);
                    let instead = {
                        let mut first = first.lock().unwrap();
                        let instead = (first.0 > 0).then_some(first.1);
                        first.0 = first.0.saturating_sub(1);
                        instead
                    };
                    match instead {
                        Some(instead) => instead(&mut stream),
                        None => handle(addr, &request, &mut stream),
                    }
                });
            }
        });
        server
    }

    /// The first `count` requests are answered otherwise.
    pub(crate) fn first(&self, count: usize, answer: fn(&mut TcpStream)) {
        *self.first.lock().unwrap() = (count, answer);
    }

    /// How many requests came.
    pub(crate) fn requests(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// The request's head, and for a form its body too.
pub(crate) fn head(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 || bytes.len() > 1 << 16 {
            return None;
        }
        bytes.push(byte[0]);
        if bytes == [0x16] {
            // The beginning of a TLS handshake: this is what web servers say then.
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
            return None;
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    let form = text.contains("x-www-form-urlencoded");
    let length =
        text.lines().find_map(|line| line.strip_prefix("content-length: ")).map(|text| text.parse().unwrap());
    let mut body = vec![0; length.filter(|_| form).unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    Some(text + &String::from_utf8(body).ok()?)
}

/// A whole answer, after which the connection ends.
pub(crate) fn answer(stream: &mut impl Write, status: u16, headers: &str, body: &[u8]) {
    // The client may have what it wants already.
    let _ = write!(
        stream,
        "HTTP/1.1 {status} X\r\n{headers}connection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(body);
}
