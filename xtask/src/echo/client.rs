//! The client: `client URL [--method=M] [-H NAME:VALUE]... [--count=N]`. It says what it was answered; redirects are not followed.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper::header::HeaderMap;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::message::{METHOD, frame, unframe};
use crate::Result;

/// Longer than any answer takes that comes at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    url: String,
    scheme: Scheme,
    /// As the URL has it: with its port, if it has one.
    authority: String,
    host: String,
    port: u16,
    /// Path and query.
    target: String,
    method: String,
    headers: Vec<(String, String)>,
    count: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Grpc,
    Tcp,
}

/// What was answered.
struct Answer {
    code: u16,
    headers: HeaderMap,
    body: String,
}

/// Asks as often as is wanted, one after another, each time over a connection of its own.
pub(super) fn run(words: &[String]) -> Result<()> {
    let wanted = wanted(words)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        for number in 0..wanted.count {
            let asking = tokio::time::timeout(PATIENCE, ask(&wanted));
            let answer = asking.await.map_err(|_| format!("{}: no answer in time", wanted.url))??;
            print!("{}", told(&wanted, number, &answer));
        }
        Ok(())
    })
}

fn wanted(words: &[String]) -> Result<Wanted> {
    let (mut url, mut method, mut count, mut headers) = (None, "GET".to_owned(), 1, Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.split_once('=') {
            Some(("--method", value)) => method = value.to_owned(),
            Some(("--count", value)) => {
                count = value.parse::<usize>().map_err(|e| format!("--count: {value} is no number: {e}"))?;
            }
            _ if word == "-H" => {
                let header = words.next().ok_or("-H wants NAME:VALUE")?;
                let (name, value) =
                    header.split_once(':').ok_or_else(|| format!("-H {header} is no NAME:VALUE"))?;
                headers.push((name.to_owned(), value.to_owned()));
            }
            _ if url.is_none() && !word.starts_with('-') => url = Some(word.clone()),
            _ => return Err(format!("{word} is none of --method=M, -H NAME:VALUE, --count=N").into()),
        }
    }
    let url = url.ok_or("there is no URL")?;
    let (scheme, rest) = url.split_once("://").ok_or_else(|| format!("{url} is no URL"))?;
    let (scheme, usual) = match scheme {
        "http" => (Scheme::Http, 80),
        "grpc" => (Scheme::Grpc, 7070),
        "tcp" => (Scheme::Tcp, 9090),
        _ => return Err(format!("{url}: {scheme} is none of http, grpc, tcp").into()),
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    // The colons of an address in brackets are no ports'.
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, port.parse::<u16>().map_err(|e| format!("{url}: {port} is no port: {e}"))?)
        }
        _ => (authority, usual),
    };
    let host = host.trim_matches(['[', ']']).to_owned();
    let authority = authority.to_owned();
    Ok(Wanted { scheme, authority, host, port, target, method, headers, count, url })
}

async fn ask(wanted: &Wanted) -> Result<Answer> {
    let address = (wanted.host.as_str(), wanted.port);
    let stream = TcpStream::connect(address).await;
    let stream = stream.map_err(|e| format!("{}: cannot connect: {e}", wanted.url))?;
    stream.set_nodelay(true)?;
    match wanted.scheme {
        Scheme::Http => http(wanted, stream).await,
        Scheme::Grpc => grpc(wanted, stream).await,
        Scheme::Tcp => tcp(stream).await,
    }
}

async fn http(wanted: &Wanted, stream: TcpStream) -> Result<Answer> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let running = tokio::spawn(connection);
    let mut request = Request::builder().method(wanted.method.as_str()).uri(&wanted.target);
    // A host that was said goes before the URL's.
    if !wanted.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request = request.header("host", &wanted.authority);
    }
    request = request.header("user-agent", "sextant-echo");
    for (name, value) in &wanted.headers {
        request = request.header(name, value);
    }
    let answer = sender.send_request(request.body(Full::new(Bytes::new()))?).await?;
    let (code, headers) = (answer.status().as_u16(), answer.headers().clone());
    let body = answer.into_body().collect().await?.to_bytes();
    running.abort();
    Ok(Answer { code, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

/// One call, which must be answered with a message.
async fn grpc(wanted: &Wanted, stream: TcpStream) -> Result<Answer> {
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let running = tokio::spawn(connection);
    let mut request = Request::post(format!("http://{}{METHOD}", wanted.authority))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "sextant-echo");
    for (name, value) in &wanted.headers {
        request = request.header(name, value);
    }
    let answer: Response<_> = sender.send_request(request.body(Full::new(frame("")))?).await?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = answer.into_body().collect().await?;
    let said = |name: &str| {
        let said = body.trailers().and_then(|trailers| trailers.get(name)).or_else(|| headers.get(name));
        said.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let (code, words) = (said("grpc-status"), said("grpc-message").unwrap_or_default());
    running.abort();
    if status != StatusCode::OK || code.as_deref() != Some("0") {
        return Err(format!("{}: status {status}, grpc-status {code:?} {words}", wanted.url).into());
    }
    let body = unframe(&body.to_bytes())?.to_owned();
    // The suite takes 200 for a call that is done.
    Ok(Answer { code: 200, headers, body })
}

/// A line, and the lines that answer it.
async fn tcp(stream: TcpStream) -> Result<Answer> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"hello\n").await?;
    stream.get_mut().shutdown().await?;
    let (mut body, mut line) = (String::new(), String::new());
    while stream.read_line(&mut line).await? > 0 {
        body.push_str(&line);
        line.clear();
    }
    if body.is_empty() {
        return Err("the connection ended without a word".into());
    }
    Ok(Answer { code: 200, headers: HeaderMap::new(), body })
}

/// An answer in the words that the suite reads, a blank line behind it.
fn told(wanted: &Wanted, number: usize, answer: &Answer) -> String {
    let mut told = format!("[{number}] Url={}\n[{number}] StatusCode={}\n", wanted.url, answer.code);
    for (name, value) in &answer.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        told.push_str(&format!("[{number}] ResponseHeader={name}:{value}\n"));
    }
    for line in answer.body.lines().filter(|line| !line.trim().is_empty()) {
        told.push_str(&format!("[{number} body] {line}\n"));
    }
    told.push('\n');
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Result<Wanted> {
        wanted(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn words_are_a_request() {
        let one = of(&["http://echo:8080/a?b=c", "--method=POST", "-H", "x-a:b:c", "--count=3"]).unwrap();
        assert_eq!((one.scheme, one.host.as_str(), one.port), (Scheme::Http, "echo", 8080));
        assert_eq!((one.authority.as_str(), one.target.as_str()), ("echo:8080", "/a?b=c"));
        assert_eq!((one.method.as_str(), one.count), ("POST", 3));
        assert_eq!(one.headers, [("x-a".to_owned(), "b:c".to_owned())]);
        let one = of(&["grpc://echo"]).unwrap();
        assert_eq!((one.scheme, one.port, one.target.as_str(), one.count), (Scheme::Grpc, 7070, "/", 1));
        let one = of(&["http://[fd00::1]:81?a=b"]).unwrap();
        assert_eq!((one.host.as_str(), one.port, one.target.as_str()), ("fd00::1", 81, "/?a=b"));
        let one = of(&["http://[fd00::1]"]).unwrap();
        assert_eq!((one.host.as_str(), one.port), ("fd00::1", 80));
        assert!(of(&[]).is_err());
        for wrong in [
            &["echo"][..],
            &["ftp://echo"],
            &["http://echo:x"],
            &["http://e", "-H"],
            &["http://e", "-H", "a"],
            &["http://e", "--qps=1"],
        ] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_answer_is_told_in_one_piece() {
        let headers = [("x-a", "1"), ("x-b", "2")].map(|(name, value)| {
            (
                name.parse::<hyper::header::HeaderName>().unwrap(),
                value.parse::<hyper::header::HeaderValue>().unwrap(),
            )
        });
        let answer = Answer {
            code: 404,
            headers: headers.into_iter().collect(),
            body: "Hostname=echo-v1\n\nRequestHeader=a:b".into(),
        };
        assert_eq!(
            told(&of(&["http://echo"]).unwrap(), 7, &answer),
            "[7] Url=http://echo\n[7] StatusCode=404\n[7] ResponseHeader=x-a:1\n[7] ResponseHeader=x-b:2\n\
             [7 body] Hostname=echo-v1\n[7 body] RequestHeader=a:b\n\n"
        );
    }
}
