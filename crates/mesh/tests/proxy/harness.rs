//! A proxy on a thread of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mesh::proxy::{Builder, Counts, Origin, Proxy, Remote, Settings};
use mesh::reactor::Reactor;
use mesh::telemetry::{Line, Snapshot};
use smi::model::Delta;

use crate::backend::{Wire, header};

/// What does not happen within this time does not happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// So many lines about requests are kept for who asks for them.
pub(crate) const LINES: usize = 8;

/// The address that clients of these tests ask for.
pub(crate) const FRONTEND: &str = "10.96.0.1:80";

/// Of clients in this namespace, next to nothing is on its way to them that they have not taken.
pub(crate) const NARROW: &str = "narrow";

struct Fixed(Option<SocketAddr>, Option<&'static str>);

impl Origin for Fixed {
    fn destination(&self, connection: BorrowedFd<'_>) -> std::io::Result<SocketAddr> {
        assert!(rustix::net::sockopt::socket_keepalive(connection).unwrap());
        if self.1 == Some(NARROW) {
            rustix::net::sockopt::set_socket_send_buffer_size(connection, 4096).unwrap();
        }
        self.0.ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }

    fn namespace(&self) -> Option<&str> {
        self.1
    }
}

pub(crate) struct Harness {
    address: SocketAddr,
    remote: Remote,
    builder: Mutex<Builder>,
    /// Its end ends the proxy; `d` drains it, `s` has it give a snapshot.
    wire: Option<TcpStream>,
    ended: Option<JoinHandle<()>>,
    counts: Mutex<Receiver<Counts>>,
    snapshots: Mutex<Receiver<Snapshot>>,
    /// Of requests and connections that ended since the first snapshot.
    pub(crate) lines: Mutex<Receiver<Line>>,
}

impl Harness {
    pub(crate) fn new(delta: Delta) -> Self {
        Self::with(delta, Settings::default(), FRONTEND, None)
    }

    /// Where `to` is no address, no client's destination is known.
    pub(crate) fn with(delta: Delta, settings: Settings, to: &str, namespace: Option<&'static str>) -> Self {
        let to: Option<SocketAddr> = to.parse().ok();
        // What is drawn is the same each time.
        let settings = Settings { seed: 1, ..settings };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let pair = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let wire = TcpStream::connect(pair.local_addr().unwrap()).unwrap();
        let (theirs, _) = pair.accept().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut builder = Builder::default();
        let tables = builder.apply(delta);
        let (tell, told) = channel();
        let (tell_counts, counts) = channel();
        let (tell_snapshot, snapshots) = channel();
        let (tell_line, lines) = sync_channel(LINES);
        let ended = std::thread::spawn(move || {
            let reactor = Reactor::new().unwrap();
            let proxy = Proxy::new(&reactor, settings);
            proxy.swap(tables);
            tell.send(proxy.remote().unwrap()).unwrap();
            let origin = Rc::new(Fixed(to, namespace));
            let accepting = reactor.socket(OwnedFd::from(listener)).unwrap();
            reactor.spawn(proxy.clone().accept(accepting, origin));
            let control = reactor.socket(theirs.into()).unwrap();
            let (running, drained) = (reactor.clone(), proxy.clone());
            reactor
                .run(async move {
                    let mut buffer = running.buffer();
                    while let Ok(1..) = control.read(&mut buffer).await {
                        for byte in buffer.data() {
                            if *byte == b's' {
                                tell_snapshot.send(drained.snapshot()).unwrap();
                                drained.watch(Some(tell_line.clone()));
                            } else {
                                drained.drain();
                            }
                        }
                        buffer.consume(buffer.data().len());
                    }
                })
                .unwrap();
            tell_counts.send(proxy.counts()).unwrap();
        });
        let remote = told.recv().unwrap();
        Self {
            address,
            remote,
            builder: Mutex::new(builder),
            wire: Some(wire),
            ended: Some(ended),
            counts: Mutex::new(counts),
            snapshots: Mutex::new(snapshots),
            lines: Mutex::new(lines),
        }
    }

    pub(crate) fn swap(&self, delta: Delta) {
        let tables: Arc<_> = self.builder.lock().unwrap().apply(delta);
        self.remote.swap(tables).unwrap();
    }

    /// What was counted until now.
    pub(crate) fn look(&self) -> Snapshot {
        use std::io::Write as _;
        self.wire.as_ref().unwrap().write_all(b"s").unwrap();
        self.snapshots.lock().unwrap().recv_timeout(PATIENCE).unwrap()
    }

    pub(crate) fn drain(&self) {
        use std::io::Write as _;
        self.wire.as_ref().unwrap().write_all(b"d").unwrap();
    }

    pub(crate) fn connect(&self) -> Wire {
        Wire::new(TcpStream::connect(self.address).unwrap())
    }

    /// Status, head and body of the answer to this request, over a connection of its own.
    pub(crate) fn ask(&self, request: &str) -> (u16, String, String) {
        let mut wire = self.connect();
        wire.send(request);
        answer(&mut wire)
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String, String) {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: web\r\n\r\n"))
    }

    /// Ends it and says what it did.
    pub(crate) fn end(mut self) -> Counts {
        self.stop();
        self.counts.lock().unwrap().recv().unwrap()
    }

    fn stop(&mut self) {
        drop(self.wire.take());
        if let Some(ended) = self.ended.take() {
            ended.join().unwrap();
        }
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

/// The next answer with a length.
pub(crate) fn answer(wire: &mut Wire) -> (u16, String, String) {
    let head = wire.head().expect("there is an answer");
    let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
    let body = String::from_utf8(wire.exactly(length)).unwrap();
    (head[9..12].parse().unwrap(), head, body)
}

/// Waits until it is so.
pub(crate) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Resets a connection.
pub(crate) fn reset(wire: Wire) {
    rustix::net::sockopt::set_socket_linger(wire.stream().as_fd(), Some(Duration::ZERO)).unwrap();
}
