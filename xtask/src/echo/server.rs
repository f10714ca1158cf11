//! The servers: each answers with what it was asked, a line for each thing.

use std::convert::Infallible;
use std::future::ready;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::WithTrailers;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kernel::signal::Signals;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::message::frame;
use crate::Result;

/// What is spoken at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Http,
    /// HTTP with a certificate that nobody has signed, made at the start.
    Https,
    Grpc,
    /// Lines.
    Tcp,
}

/// What it serves where nothing is said: as the suite's pods that say it.
const USUAL: [&str; 5] = ["--port=8080", "--port=8443", "--tls=8443", "--tcp=9090", "--grpc=7070"];

/// Serves until it is told to end.
pub(super) fn run(words: &[String]) -> Result<()> {
    let usual: Vec<String> = USUAL.map(String::from).to_vec();
    let ports = ports(if words.is_empty() { &usual } else { words })?;
    end_when_told()?;
    let acceptor = TlsAcceptor::from(Arc::new(tls()?));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        for (port, speaks) in ports {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await;
            let listener = listener.map_err(|e| format!("cannot listen at port {port}: {e}"))?;
            println!("{speaks:?} at port {port}");
            tokio::spawn(accept(listener, port, speaks, acceptor.clone()));
        }
        // Until the process ends.
        std::future::pending().await
    })
}

/// The ports that words tell.
fn ports(words: &[String]) -> Result<Vec<(u16, Speaks)>> {
    let (mut ports, mut secure) = (Vec::new(), Vec::new());
    for word in words {
        let (name, value) = word.split_once('=').ok_or_else(|| format!("{word} is no --NAME=VALUE"))?;
        // The certificate is its own, whatever files there are.
        if matches!(name, "--crt" | "--key") {
            continue;
        }
        let port = value.parse::<u16>().map_err(|e| format!("{word}: {value} is no port: {e}"))?;
        match name {
            "--port" => ports.push((port, Speaks::Http)),
            "--grpc" => ports.push((port, Speaks::Grpc)),
            "--tcp" => ports.push((port, Speaks::Tcp)),
            "--tls" => secure.push(port),
            _ => return Err(format!("{name} is none of --port, --tls, --grpc, --tcp, --crt, --key").into()),
        }
    }
    for (port, speaks) in &mut ports {
        if *speaks == Speaks::Http && secure.contains(port) {
            *speaks = Speaks::Https;
        }
    }
    Ok(ports)
}

/// A first process of a container has to say itself that SIGTERM ends it.
fn end_when_told() -> Result<()> {
    // Threads that are started later take no such signal either.
    let signals = Signals::receive(&[Signal::TERM.as_raw()])?;
    std::thread::spawn(move || {
        let mut fds = [PollFd::new(&signals, PollFlags::IN)];
        let _told = rustix::io::retry_on_intr(|| poll(&mut fds, None));
        std::process::exit(0);
    });
    Ok(())
}

fn tls() -> Result<ServerConfig> {
    let made = rcgen::generate_simple_self_signed(vec!["echo".to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key)?)
}

async fn accept(listener: TcpListener, port: u16, speaks: Speaks, acceptor: TlsAcceptor) {
    loop {
        // A connection that is gone before it was taken is its client's matter.
        let Ok((stream, peer)) = listener.accept().await else { continue };
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            match speaks {
                Speaks::Http => http(stream, peer, port).await,
                Speaks::Https => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        http(stream, peer, port).await;
                    }
                }
                Speaks::Grpc => grpc(stream, peer, port).await,
                Speaks::Tcp => drop(lines(stream, peer, port).await),
            }
        });
    }
}

async fn http(stream: impl AsyncRead + AsyncWrite + Unpin, peer: SocketAddr, port: u16) {
    let service = service_fn(move |request: Request<Incoming>| answer(request, peer, port));
    let _gone = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    port: u16,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let said = said(&request, peer, port);
    request.into_body().collect().await?;
    Ok(Response::new(Full::new(Bytes::from(said))))
}

type Answered = WithTrailers<Full<Bytes>, std::future::Ready<Option<Result<HeaderMap, Infallible>>>>;

async fn grpc(stream: TcpStream, peer: SocketAddr, port: u16) {
    let service = service_fn(move |request: Request<Incoming>| call(request, peer, port));
    let connection =
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
    let _gone = connection.await;
}

async fn call(
    request: Request<Incoming>,
    peer: SocketAddr,
    port: u16,
) -> Result<Response<Answered>, hyper::Error> {
    let said = said(&request, peer, port);
    request.into_body().collect().await?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let mut response = Response::new(Full::new(frame(&said)).with_trailers(ready(Some(Ok(trailers)))));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}

/// Answers each line with itself and with who has it.
async fn lines(stream: TcpStream, peer: SocketAddr, port: u16) -> std::io::Result<()> {
    let (mut stream, mut line) = (BufReader::new(stream), String::new());
    while stream.read_line(&mut line).await? > 0 {
        let said = format!("StatusCode=200\n{}Echo={}\n", who(peer, port), line.trim_end());
        stream.write_all(said.as_bytes()).await?;
        line.clear();
    }
    Ok(())
}

/// Who has been asked, and by whom.
fn who(peer: SocketAddr, port: u16) -> String {
    let name = rustix::system::uname();
    let (name, peer) = (name.nodename().to_string_lossy(), peer.ip().to_canonical());
    format!("ServicePort={port}\nIP={peer}\nHostname={name}\n")
}

/// What has been asked.
fn said<B>(request: &Request<B>, peer: SocketAddr, port: u16) -> String {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let host = request.headers().get("host").map(text);
    let host = host.or_else(|| Some(request.uri().authority()?.to_string())).unwrap_or_default();
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let mut said = format!(
        "Host={host}\nMethod={}\nURL={path}\nProto={:?}\n{}",
        request.method(),
        request.version(),
        who(peer, port)
    );
    for (name, value) in request.headers() {
        said.push_str(&format!("RequestHeader={name}:{}\n", text(value)));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_ports() {
        let of = |words: &[&str]| ports(&words.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(
            of(&[
                "--tcp=9090",
                "--port=8080",
                "--grpc=7070",
                "--port=8443",
                "--tls=8443",
                "--crt=/a",
                "--key=/b"
            ])
            .unwrap(),
            [(9090, Speaks::Tcp), (8080, Speaks::Http), (7070, Speaks::Grpc), (8443, Speaks::Https)]
        );
        for wrong in ["--port", "--port=", "--port=70000", "--udp=1", "serve"] {
            assert!(of(&[wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_request_is_told_line_by_line() {
        let request = Request::post("/a?b=c").header("host", "echo").header("x-a", "1").header("x-a", "2");
        let said = said(&request.body(()).unwrap(), "10.0.0.9:4000".parse().unwrap(), 8080);
        for line in [
            "Host=echo",
            "Method=POST",
            "URL=/a?b=c",
            "Proto=HTTP/1.1",
            "ServicePort=8080",
            "IP=10.0.0.9",
            "RequestHeader=x-a:1",
            "RequestHeader=x-a:2",
        ] {
            assert!(said.lines().any(|has| has == line), "{line}: {said}");
        }
        assert!(said.contains("\nHostname=") && !said.contains("\n\n"), "{said}");
    }
}
