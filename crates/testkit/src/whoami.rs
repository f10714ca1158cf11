//! A backend of HTTP/1.1 that says who it is and who has asked, and its clients.
#![allow(clippy::unwrap_used, reason = "a test's tool: what fails here fails the test")]

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// What does not come within this time does not come.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a backend said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its name.
    pub who: String,
    /// The address that it was asked from.
    pub peer: String,
}

/// Answers every request to `listener`, on threads that last as long as the process.
pub fn serve(who: &'static str, listener: TcpListener) {
    std::thread::spawn(move || {
        while let Ok((stream, peer)) = listener.accept() {
            let body = format!("{who} {}", peer.ip());
            std::thread::spawn(move || answer(BufReader::new(stream), &body));
        }
    });
}

/// Answers requests without a body until the client goes.
fn answer(mut stream: BufReader<TcpStream>, body: &str) {
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let mut line = String::new();
    loop {
        line.clear();
        if !matches!(stream.read_line(&mut line), Ok(1..)) {
            return;
        }
        if line == "\r\n" && stream.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// A connection from the network that the calling thread is in.
///
/// # Panics
/// There is none.
pub fn connect(to: impl ToSocketAddrs) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Asks over a connection, which can be asked over again.
///
/// # Panics
/// The answer is no 200 of a backend.
pub fn ask(stream: &mut TcpStream) -> Answer {
    ask_with(stream, "GET", "/", &[])
}

/// The same with another method and target, and more headers. There is no body, so HEAD and CONNECT are none of the methods.
///
/// # Panics
/// The answer is no 200 of a backend.
pub fn ask_with(stream: &mut TcpStream, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!("{method} {target} HTTP/1.1\r\nHost: web\r\n{headers}\r\n");
    let (head, body) = asked(stream, &request).expect("an answer");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let (who, peer) = body.split_once(' ').unwrap();
    Answer { who: who.into(), peer: peer.into() }
}

/// Asks for the status alone; `None` without a whole answer.
pub fn status(stream: &mut TcpStream) -> Option<u16> {
    asked(stream, "GET / HTTP/1.1\r\nHost: web\r\n\r\n")?.0.get(9..12)?.parse().ok()
}

/// Whether a connection ends, or is reset, and nothing more comes. That it only rests is neither.
pub fn has_ended(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 1]) {
        Ok(count) => count == 0,
        Err(e) => e.kind() == ErrorKind::ConnectionReset,
    }
}

/// The head and the body of an answer. No byte behind it is read.
fn asked(stream: &mut TcpStream, request: &str) -> Option<(String, String)> {
    stream.write_all(request.as_bytes()).ok()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.extend(byte);
    }
    let head = String::from_utf8(head).ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let mut body = vec![0; length?];
    stream.read_exact(&mut body).ok()?;
    Some((head, String::from_utf8(body).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_who_it_is_for_as_long_as_it_is_asked() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        serve("first", listener);
        let mut stream = connect(at);
        let first = Answer { who: "first".into(), peer: "127.0.0.1".into() };
        assert_eq!((ask(&mut stream), ask(&mut stream)), (first.clone(), first.clone()));
        assert_eq!(ask_with(&mut stream, "POST", "/cart?a=b", &[("x-a", "b"), ("x-b", "c")]), first);
        assert_eq!(status(&mut stream), Some(200));
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(has_ended(&mut stream));
        assert_eq!(status(&mut stream), None);
    }
}
