//! A server on loopback that answers each connection's one request as a test says, however wrong that is.
#![allow(clippy::unwrap_used, reason = "a test's tool: what fails here fails the test")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How long who is to connect may take.
const PATIENCE: Duration = Duration::from_secs(180);

type Once = (usize, fn(&mut TcpStream));

/// A running server; it ends with the process.
#[derive(Debug)]
pub struct Faulty {
    /// Where it listens.
    pub addr: SocketAddr,
    count: Arc<AtomicUsize>,
    first: Arc<Mutex<Once>>,
    stopped: Arc<AtomicBool>,
}

impl Faulty {
    /// `handle` gets the server's address, the request's head (lower-case header names) and the connection.
    pub fn start(handle: impl Fn(SocketAddr, &str, &mut TcpStream) + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), handle)
    }

    /// The same on a port that was chosen before.
    pub fn on(
        listener: TcpListener,
        handle: impl Fn(SocketAddr, &str, &mut TcpStream) + Send + Sync + 'static,
    ) -> Self {
        let addr = listener.local_addr().unwrap();
        let first: Arc<Mutex<Once>> = Arc::new(Mutex::new((0, |_| ())));
        let stopped = Arc::<AtomicBool>::default();
        let server = Self { addr, count: Arc::default(), first: first.clone(), stopped: stopped.clone() };
        let (count, handle) = (server.count.clone(), Arc::new(handle));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Acquire) {
                    break;
                }
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

    /// Nobody listens there when this returns; what is being answered goes on.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        while TcpStream::connect(self.addr).is_ok() {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The first `count` requests are answered otherwise.
    pub fn first(&self, count: usize, answer: fn(&mut TcpStream)) {
        *self.first.lock().unwrap() = (count, answer);
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// A server of HTTP/2 that goes while it is written to: who connects is told what wants to be confirmed, and nothing is read any more, so that
/// the confirmation, at the latest, meets a broken pipe. The socket's file is gone when this many have connected; the thread ends then, and panics
/// where one of them does not come.
pub fn deaf(socket: &Path, count: usize) -> thread::JoinHandle<()> {
    let listener = UnixListener::bind(socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    let socket = socket.to_owned();
    thread::spawn(move || {
        let end = Instant::now() + PATIENCE;
        let mut held = Vec::new();
        for _ in 0..count {
            let mut stream = accept(&listener, end);
            stream.shutdown(Shutdown::Read).unwrap();
            let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
            let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
            // Who is gone by now has met it.
            let _ = stream.write_all(&[&settings[..], &ping].concat());
            held.push(stream);
        }
        std::fs::remove_file(socket).unwrap();
    })
}

/// The next one who connects, until `end`.
fn accept(listener: &UnixListener, end: Instant) -> UnixStream {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                return stream;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                assert!(
                    Instant::now() < end,
                    "nobody connects to {:?} in {PATIENCE:?}",
                    listener.local_addr()
                );
                thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("cannot accept at {:?}: {error}", listener.local_addr()),
        }
    }
}

/// The request's head, and for a form its body too.
pub fn head(stream: &mut (impl Read + Write)) -> Option<String> {
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
pub fn answer(stream: &mut impl Write, status: u16, headers: &str, body: &[u8]) {
    // The client may have what it wants already.
    let _ = write!(
        stream,
        "HTTP/1.1 {status} X\r\n{headers}connection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(body);
}
