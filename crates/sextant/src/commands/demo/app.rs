//! The demo's payload: this program, inside the image, by another name.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kernel::signal::Signals;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;

use super::{load, shop};

/// What the payload is called in the image.
const NAME: &str = "sextant-demo-app";
/// Where it is there.
pub(super) const PATH: &str = "/bin/sextant-demo-app";
/// Where its servers listen.
pub(super) const PORT: u16 = 8080;
/// Where one that has a version answers with it, however often.
pub(super) const VERSION: &str = "/version";
/// How long a peer may say nothing.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one may take to accept; who has more patience asks again.
const ACCEPTING: Duration = Duration::from_secs(5);

/// What a server answers: a code, and a text.
pub(super) type Answer = (u16, String);

/// `serve` answers every HTTP request, with a version where it has one; `load ADDRESS` asks for that again and again, and tells what was answered; `get
/// ADDRESS` sends one request and prints the answer's body, again and again for so long if need be; the others are the parts of the shop in `examples/`.
pub(crate) fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve"] => serve(|_, _, _| (200, hello())),
        ["serve", version] => {
            let version = version.to_owned();
            serve(move |_, _, _| (200, version.clone()))
        }
        ["load", address] => load::load(address),
        ["get", address] => get(address).map(|body| println!("{body}")),
        ["get", address, seconds] => patiently(address, seconds).map(|body| println!("{body}")),
        ["true"] => Ok(()),
        ["database", folder] => shop::database(folder),
        ["api", database] => shop::api(database),
        ["web", api] => shop::web(api),
        ["order", web, count] => shop::order(web, count),
        _ => Err(Error::other(format!(
            "usage: {NAME} serve [VERSION] | load ADDRESS | get ADDRESS [SECONDS] | true | database DIR | api DATABASE | web API | order WEB COUNT"
        ))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{NAME}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn hello() -> String {
    format!("this is {} as process {}", host(), std::process::id())
}

/// What this machine, or pod, is called.
pub(super) fn host() -> String {
    std::fs::read_to_string("/etc/hostname").unwrap_or_default().trim().to_owned()
}

/// Answers requests, by method, path and body, for as long as it lives.
pub(super) fn serve(answer: impl Fn(&str, &str, &str) -> Answer + Send + Sync + 'static) -> Result<()> {
    end_when_told()?;
    listen(answer)
}

/// The same, for who has seen to its end.
pub(super) fn listen(answer: impl Fn(&str, &str, &str) -> Answer + Send + Sync + 'static) -> Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", PORT))?;
    println!("listening on port {PORT}");
    let answer = Arc::new(answer);
    for connection in listener.incoming() {
        let answer = Arc::clone(&answer);
        // One client's trouble is not another's.
        std::thread::spawn(move || {
            if let Err(error) = connection.and_then(|client| converse(client, &*answer)) {
                eprintln!("{NAME}: {error}");
            }
        });
    }
    Ok(())
}

/// A first process of a container has to say itself that SIGTERM ends it.
pub(super) fn end_when_told() -> Result<()> {
    // Threads that are started later take no such signal either.
    let signals = Signals::receive(&[Signal::TERM.as_raw()]).map_err(Error::other)?;
    std::thread::spawn(move || {
        let mut fds = [PollFd::new(&signals, PollFlags::IN)];
        let _ = rustix::io::retry_on_intr(|| poll(&mut fds, None));
        std::process::exit(0);
    });
    Ok(())
}

fn converse(mut client: TcpStream, answer: &dyn Fn(&str, &str, &str) -> Answer) -> Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    // To its end: closing with bytes unread would reset the connection.
    let mut request = String::new();
    let mut piece = [0; 1024];
    while !is_whole(&request) && request.len() < 16 << 10 {
        match client.read(&mut piece)? {
            0 => break,
            n => request += &String::from_utf8_lossy(&piece[..n]),
        }
    }
    let mut words = request.lines().next().unwrap_or_default().split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let body = request.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let peer = client.peer_addr()?.ip();
    let (code, mut text) = answer(method, path, body);
    if code == 200 && method == "GET" && path == "/" {
        text = format!("hello {peer}, {text}");
    }
    // Who asks all the time would fill the log.
    if !["/healthz", VERSION].contains(&path) {
        println!("{peer} asked \"{method} {path}\": {code}");
    }
    let head = format!("HTTP/1.1 {code} Answer\r\ncontent-type: text/plain\r\nconnection: close");
    client.write_all(format!("{head}\r\ncontent-length: {}\r\n\r\n{text}", text.len()).as_bytes())
}

/// What is answered for a path that a server has not.
pub(super) fn missing(path: &str) -> Answer {
    (404, format!("nothing is at {path}"))
}

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let length = head
        .lines()
        .find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    body.len() >= length.unwrap_or(0_usize)
}

/// The body of the answer to `GET /` at `address`, or of another path that stands behind it.
pub(super) fn get(address: &str) -> Result<String> {
    let (address, path) = address.split_once('/').map_or((address, ""), |(address, path)| (address, path));
    ask("GET", address, &format!("/{path}"), "")
}

/// The same, as soon as somebody answers.
fn patiently(address: &str, seconds: &str) -> Result<String> {
    let until = Instant::now() + Duration::from_secs(seconds.parse().map_err(Error::other)?);
    loop {
        match get(address) {
            Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(100)),
            answer => return answer,
        }
    }
}

/// To the first of an address's, or a name's, where somebody accepts within this time.
fn connect(address: &str, patience: Duration) -> Result<TcpStream> {
    let at = if address.contains(':') { address.to_owned() } else { format!("{address}:80") };
    let mut failed = Error::new(ErrorKind::NotFound, format!("{at} has no address"));
    for address in at.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(server) => return Ok(server),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// The body of the answer to a request; a name is looked up.
pub(super) fn ask(method: &str, address: &str, path: &str, body: &str) -> Result<String> {
    let server = connect(address, ACCEPTING)?;
    server.set_read_timeout(Some(PATIENCE))?;
    send(server, method, address, path, body)
}

/// The same of a request without a body; a server may take as long as this to accept, and to say something.
pub(super) fn ask_within(method: &str, address: &str, path: &str, patience: Duration) -> Result<String> {
    let server = connect(address, patience)?;
    server.set_read_timeout(Some(patience))?;
    send(server, method, address, path, "")
}

fn send(mut server: TcpStream, method: &str, address: &str, path: &str, body: &str) -> Result<String> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}"
    );
    server.write_all(format!("{head}\r\n\r\n{body}").as_bytes())?;
    let mut answer = String::new();
    server.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
        _ => Err(Error::other(format!("{address} answered {answer:?}"))),
    }
}
