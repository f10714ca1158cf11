//! A member who may ask something tries to get more in than that, and to keep others out: within its streams, and with those.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use mesh::h2::frame::{Frame, read, write};
use mesh::h2::{Code, Connection, Event, Field, Limits, Side};
use rustls::{ClientConnection, StreamOwned};

use crate::authority::{Quirk, identity};
use crate::member::greet;
use crate::site::{Site, WEB, WEB_PORT, at, until};
use crate::{SERVICE, asked};

/// Where somebody listens who remembers all that he was told.
const PORT: u16 = 9000;
/// More than a flood takes.
const FLOOD: u32 = 3000;

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// As `client`, whose certificate is real, from where nobody captures what is sent.
fn secured(site: &Site) -> Tls {
    let issued = site.authority.issue(identity("client").as_str(), Quirk::None);
    greet(site.other.run(|| TcpStream::connect(at(WEB, mesh::hbone::PORT)).unwrap()), Some(&issued))
}

/// One stream to a port of the pod.
struct Tunnel {
    tls: Tls,
    connection: Connection,
    stream: u32,
    came: Vec<u8>,
    /// What has come over the stream.
    said: Vec<u8>,
    is_open: bool,
    is_over: bool,
}

impl Tunnel {
    fn new(site: &Site, port: u16) -> Self {
        Self::reach(site, port).expect("a stream")
    }

    /// None where it ends before it is answered: what is allowed may have changed meanwhile.
    fn reach(site: &Site, port: u16) -> Option<Self> {
        let tls = secured(site);
        let mut connection = Connection::new(Side::Client, Limits::default());
        let authority = format!("{WEB}:{port}");
        let fields = [Field::new(":method", "CONNECT"), Field::new(":authority", &authority)];
        let stream = connection.open(fields.iter().copied(), false).unwrap();
        let (came, said) = (Vec::new(), Vec::new());
        let mut tunnel = Self { tls, connection, stream, came, said, is_open: false, is_over: false };
        while !tunnel.is_open && tunnel.hear() {}
        tunnel.is_open.then_some(tunnel)
    }

    /// Sends what waits to be sent.
    fn flush(&mut self) -> std::io::Result<()> {
        let count = self.connection.output().len();
        self.tls.write_all(self.connection.output())?;
        self.tls.flush()?;
        self.connection.sent(count);
        Ok(())
    }

    /// Takes what comes next; false where nothing does any more.
    fn hear(&mut self) -> bool {
        let mut piece = [0; 4096];
        if self.is_over || self.flush().is_err() {
            return false;
        }
        let Ok(count @ 1..) = self.tls.read(&mut piece) else { return false };
        self.came.extend_from_slice(&piece[..count]);
        while let Ok((used @ 1.., event)) = self.connection.receive(Instant::now(), &self.came) {
            match event {
                Some(Event::Head { end, .. }) => {
                    self.is_open = self.connection.fields().get(b":status").unwrap() == b"200";
                    assert!(self.is_open, "the stream is refused");
                    self.is_over |= end;
                }
                Some(Event::Data { bytes, end, .. }) => {
                    self.said.extend_from_slice(bytes);
                    self.is_over |= end;
                    self.connection.consumed(self.stream, u32::try_from(bytes.len()).unwrap());
                }
                Some(Event::Reset { .. } | Event::GoAway { .. }) => self.is_over = true,
                _ => {}
            }
            self.came.drain(..used);
        }
        true
    }

    /// Sends bytes within the stream, as far as somebody takes them.
    fn send(&mut self, text: &str) {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let Ok(count) = self.connection.data(self.stream, rest, false) else { return };
            rest = &rest[count..];
            if self.flush().is_err() || (count == 0 && !self.hear()) {
                return;
            }
        }
    }

    /// What has come once there are so many answers, or nothing comes any more.
    fn answers(&mut self, count: usize) -> String {
        let text = |said: &[u8]| String::from_utf8_lossy(said).into_owned();
        while text(&self.said).matches("HTTP/1.1 ").count() < count && self.hear() {}
        text(&self.said)
    }
}

/// Answers each head, and remembers all that comes.
fn remember(listener: TcpListener) -> Arc<Mutex<Vec<u8>>> {
    let heard: Arc<Mutex<Vec<u8>>> = Arc::default();
    let all = heard.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, all) = (stream.unwrap(), all.clone());
            std::thread::spawn(move || {
                let (mut held, mut piece) = (Vec::new(), [0; 4096]);
                while let Ok(count @ 1..) = stream.read(&mut piece) {
                    all.lock().unwrap().extend_from_slice(&piece[..count]);
                    held.extend_from_slice(&piece[..count]);
                    while let Some(end) = held.windows(4).position(|part| part == b"\r\n\r\n") {
                        held.drain(..end + 4);
                        // Whoever is gone does not hear it.
                        let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                    }
                }
            });
        }
    });
    heard
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: web\r\n\r\n")
}

#[test]
fn what_two_could_read_in_two_ways_gets_no_further() {
    let mut site = Site::new();
    let heard = remember(site.listen(PORT));
    let allowed = site.cluster.get("/allowed");
    site.cluster.target("client", &allowed);
    site.swap();
    until("requests are judged", || {
        Tunnel::reach(&site, PORT).is_some_and(|mut tunnel| {
            tunnel.send(&get("/other"));
            tunnel.answers(1).starts_with("HTTP/1.1 403 ")
        })
    });
    heard.lock().unwrap().clear();
    let (smuggled, large) = (get("/smuggled"), "b".repeat(70_000));
    let lines = "A: b\r\n".repeat(200);
    let whole = |head: &str| format!("GET /allowed HTTP/1.1\r\nHost: web\r\n{head}\r\n{smuggled}");
    for text in [
        whole("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"),
        whole("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n"),
        whole("Content-Length: 0\r\nContent-Length: 5\r\n"),
        whole("Content-Length: 5\r\nContent-Length: 5\r\n"),
        whole("Content-Length: +5\r\n"),
        whole("Content-Length: 5, 5\r\n"),
        whole("Transfer-Encoding: gzip\r\n"),
        whole("Transfer-Encoding: identity\r\n"),
        whole("Transfer-Encoding: chunked, identity\r\n"),
        whole("Transfer-Encoding : chunked\r\n"),
        whole("A: b\r\n folded\r\n"),
        whole("A: b\nContent-Length: 5\r\n"),
        whole("A: \0\r\n"),
        whole("Host: other\r\n"),
        whole("Connection: content-length\r\nContent-Length: 0\r\n"),
        whole(&format!("A: {large}\r\n")),
        whole(&lines),
        format!("GET /allowed HTTP/1.1\r\n\r\n{smuggled}"),
        format!("GET /allowed HTTP/1.1\nHost: web\n\n{smuggled}"),
        format!("GET /allowed HTTP/1.1 HTTP/1.1\r\nHost: web\r\n\r\n{smuggled}"),
        format!("GET /allowed\\..\\other HTTP/1.1\r\nHost: web\r\n\r\n{smuggled}"),
    ] {
        let mut tunnel = Tunnel::new(&site, PORT);
        tunnel.send(&text);
        // What comes behind is no request any more.
        let answer = tunnel.answers(2);
        assert!(!answer.contains("HTTP/1.1 200 "), "{text:.80}: {answer}");
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{text:.80}: {answer}");
    }
    assert_eq!(String::from_utf8_lossy(&heard.lock().unwrap()), "");
    // A body that breaks the rules, of whose head the server may have heard already.
    for text in [
        whole("Transfer-Encoding: chunked\r\n\r\n0x5\r\n"),
        whole("Transfer-Encoding: chunked\r\n\r\n1\nb\r\n0\r\n"),
        whole("Transfer-Encoding: chunked\r\n\r\n-1\r\n"),
    ] {
        let mut tunnel = Tunnel::new(&site, PORT);
        tunnel.send(&text);
        let answer = tunnel.answers(2);
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{text:.80}: {answer}");
        assert!(!String::from_utf8_lossy(&heard.lock().unwrap()).contains("/smuggled"), "{text:.80}");
    }
    heard.lock().unwrap().clear();
    // Requests behind each other are judged each by itself.
    let mut tunnel = Tunnel::new(&site, PORT);
    tunnel.send(&(get("/allowed") + &get("/other")));
    let answers = tunnel.answers(2);
    assert!(answers.starts_with("HTTP/1.1 200 ") && answers.contains("HTTP/1.1 403 "), "{answers}");
    let heard = String::from_utf8_lossy(&heard.lock().unwrap()).into_owned();
    assert!(heard.starts_with("GET /allowed HTTP/1.1\r\n") && !heard.contains("/other"), "{heard}");
}

/// A CONNECT to the server, as a block of headers without tables.
fn connect() -> Vec<u8> {
    let authority = format!("{WEB}:{WEB_PORT}");
    let literal = |name: u8, value: &str| {
        let length = u8::try_from(value.len()).unwrap();
        [&[name, length][..], value.as_bytes()].concat()
    };
    // :method and :authority of the static table (RFC 7541, appendix A).
    [literal(2, "CONNECT"), literal(1, &authority)].concat()
}

/// Sends a flood, and takes what comes until the connection ends; why it was ended, if that was told.
fn flooded(mut tls: Tls, flood: &[u8]) -> Option<Code> {
    let hello = Connection::new(Side::Client, Limits::default());
    // It may end before all is sent.
    let _ended = tls.write_all(hello.output()).and_then(|()| tls.write_all(flood)).and_then(|()| tls.flush());
    let (mut came, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match tls.read(&mut piece) {
            Ok(count @ 1..) => came.extend_from_slice(&piece[..count]),
            Ok(_) => break,
            Err(error) => {
                let goes_on = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                assert!(!goes_on, "the connection goes on");
                break;
            }
        }
    }
    let (mut rest, mut why) = (came.as_slice(), None);
    while let Ok(Some((frame, used))) = read(rest, 16384) {
        if let Frame::GoAway { code, .. } = frame {
            why = Some(code);
        }
        rest = &rest[used..];
    }
    why
}

/// Writes a piece of a flood: which one it is, and where to.
type Flood<'a> = &'a dyn Fn(u32, &mut Vec<u8>);

#[test]
fn a_flood_ends_its_connection_and_no_other() {
    let site = Site::new();
    let mut other = Tunnel::new(&site, WEB_PORT);
    let block = connect();
    let floods: [(&str, Flood<'_>); 4] = [
        ("streams that are reset", &|n, out| {
            write::headers(out, 2 * n + 1, &block, false, 16384);
            write::reset(out, 2 * n + 1, Code::CANCEL);
        }),
        ("settings", &|_, out| write::settings(out, &[])),
        ("pings", &|_, out| write::ping(out, [0; 8], false)),
        ("windows", &|_, out| write::window(out, 0, 1)),
    ];
    for (number, (what, flood)) in (1..).zip(floods) {
        let mut bytes = Vec::new();
        (0..FLOOD).for_each(|n| flood(n, &mut bytes));
        let why = flooded(secured(&site), &bytes);
        // Where it has not heard why, the kernel has told it first that nobody reads any more.
        assert!(why.is_none_or(|code| code == Code::ENHANCE_YOUR_CALM), "{what}: {why:?}");
        other.send(&get("/"));
        let answers = other.answers(number);
        assert_eq!(answers.matches("HTTP/1.1 200 ").count(), number, "{what}: {answers}");
        assert_eq!(asked(&site.client, SERVICE).who, "web", "{what}");
    }
}
