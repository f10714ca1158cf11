//! What is done to a container from outside: by its hooks and its probes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cri::contract::v1::ExecSyncRequest;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::header::{HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{
    Container, GRPCAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction,
};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::containers::port;
use super::health;
use crate::runtime::{Runtime, cause};
use crate::server::certificate::of_anybody;

/// How much of an answer is looked at.
const ANSWER_MAX: usize = 10 << 10;

/// One thing that can be done.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// A command is run in the container.
    Exec(Vec<String>),
    /// Something is asked for over HTTP.
    Http(Box<HTTPGetAction>),
    /// A container's health is asked for over gRPC.
    Grpc(GRPCAction),
    /// A connection is made.
    Tcp(TCPSocketAction),
    /// Time passes.
    Sleep(Duration),
}

impl Act {
    /// What a hook does.
    pub(crate) fn of_hook(hook: &LifecycleHandler) -> Option<Self> {
        if let Some(sleep) = &hook.sleep {
            return Some(Self::Sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or_default())));
        }
        Self::of(hook.exec.as_ref(), hook.http_get.as_ref(), hook.tcp_socket.as_ref())
    }

    /// How it is told that a hook of a container has failed.
    pub(crate) fn failed(&self, container: &str, pod: &str, why: &str) -> String {
        let what = match self {
            Self::Exec(command) => format!("Exec lifecycle hook ([{}])", command.join(" ")),
            Self::Http(http) => format!("HTTP lifecycle hook ({})", path(http)),
            Self::Sleep(time) => format!("Sleep lifecycle hook ({})", time.as_secs()),
            Self::Grpc(_) | Self::Tcp(_) => "Lifecycle hook".into(),
        };
        format!("{what} for Container {container:?} in Pod {pod:?} failed - error: {why}")
    }

    /// What a probe does.
    pub(crate) fn of_probe(probe: &Probe) -> Option<Self> {
        if let Some(grpc) = &probe.grpc {
            return Some(Self::Grpc(grpc.clone()));
        }
        Self::of(probe.exec.as_ref(), probe.http_get.as_ref(), probe.tcp_socket.as_ref())
    }

    fn of(
        exec: Option<&k8s_openapi::api::core::v1::ExecAction>,
        http: Option<&HTTPGetAction>,
        tcp: Option<&TCPSocketAction>,
    ) -> Option<Self> {
        let exec = exec.map(|exec| Self::Exec(exec.command.clone().unwrap_or_default()));
        exec.or_else(|| http.map(|http| Self::Http(Box::new(http.clone()))))
            .or_else(|| tcp.cloned().map(Self::Tcp))
    }
}

/// Whom it is done to.
pub(crate) struct Whom<'a> {
    /// The runtime.
    pub(crate) runtime: &'a Runtime,
    /// The container.
    pub(crate) id: &'a str,
    /// Its spec, for the names of ports.
    pub(crate) container: &'a Container,
    /// The pod's address.
    pub(crate) address: &'a str,
}

/// Does it within `time`; what came of it, for people, is the error where it failed.
pub(crate) async fn act(whom: &Whom<'_>, act: &Act, time: Duration) -> Result<(), String> {
    match act {
        Act::Sleep(wait) => {
            tokio::time::sleep((*wait).min(time)).await;
            Ok(())
        }
        Act::Exec(command) => exec(whom, command, time).await,
        Act::Http(http) => {
            let words = format!(
                "Get {:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
                url(whom, http)?
            );
            tokio::time::timeout(time, get(whom, http)).await.unwrap_or(Err(words))
        }
        Act::Grpc(grpc) => {
            let port = u16::try_from(grpc.port).map_err(|_| format!("port {} is no port", grpc.port))?;
            let service = grpc.service.as_deref().unwrap_or_default();
            health::ask(address(whom, None, port)?, service, time).await
        }
        Act::Tcp(tcp) => {
            let address = address(whom, tcp.host.as_deref(), port(whom.container, &tcp.port)?)?;
            let words = format!("dial tcp {address}: i/o timeout");
            tokio::time::timeout(time, dial(address)).await.unwrap_or(Err(words)).map(drop)
        }
    }
}

async fn exec(whom: &Whom<'_>, command: &[String], time: Duration) -> Result<(), String> {
    let timeout = i64::try_from(time.as_secs().max(1)).unwrap_or(i64::MAX);
    let request = ExecSyncRequest { container_id: whom.id.into(), cmd: command.to_vec(), timeout };
    let client = whom.runtime.within(time).await.map_err(|error| cause(&error))?;
    let done = client.exec_sync(request).await.map_err(|error| match error.code() {
        grpc::Code::DeadlineExceeded => {
            format!("command timed out: {:?} timed out after {timeout}s", command.join(" "))
        }
        _ => cause(&error),
    })?;
    if done.exit_code == 0 {
        return Ok(());
    }
    let mut output = String::from_utf8_lossy(&done.stdout).into_owned();
    output.push_str(&String::from_utf8_lossy(&done.stderr));
    match output.trim() {
        "" => Err(format!("command {command:?} exited with {}", done.exit_code)),
        text => Err(text.to_owned()),
    }
}

fn address(whom: &Whom<'_>, host: Option<&str>, port: u16) -> Result<SocketAddr, String> {
    let host = host.filter(|host| !host.is_empty()).unwrap_or(whom.address);
    let host = if host == "localhost" { "127.0.0.1" } else { host };
    let ip = host.parse::<std::net::IpAddr>();
    ip.map(|ip| (ip, port).into()).map_err(|_| format!("dial tcp: lookup {host}: give an IP address"))
}

pub(super) async fn dial(address: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|error| {
        let why = match error.kind() {
            std::io::ErrorKind::ConnectionRefused => "connect: connection refused".into(),
            std::io::ErrorKind::HostUnreachable => "connect: no route to host".into(),
            _ => error.to_string(),
        };
        format!("dial tcp {address}: {why}")
    })
}

fn is_secure(http: &HTTPGetAction) -> bool {
    http.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
}

fn url(whom: &Whom<'_>, http: &HTTPGetAction) -> Result<String, String> {
    let address = address(whom, http.host.as_deref(), port(whom.container, &http.port)?)?;
    let scheme = if is_secure(http) { "https" } else { "http" };
    Ok(format!("{scheme}://{address}{}", path(http)))
}

fn path(http: &HTTPGetAction) -> String {
    let path = http.path.as_deref().unwrap_or("/");
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn get(whom: &Whom<'_>, http: &HTTPGetAction) -> Result<(), String> {
    let url = url(whom, http)?;
    let address = address(whom, http.host.as_deref(), port(whom.container, &http.port)?)?;
    let failed = |why: &dyn std::fmt::Display| format!("Get {url:?}: {why}");
    let plain = dial(address).await.map_err(|why| failed(&why))?;
    let stream: Box<dyn Stream> = match is_secure(http) {
        false => Box::new(plain),
        true => {
            let config = Arc::new(of_anybody().map_err(|why| failed(&why))?);
            let name = ServerName::IpAddress(address.ip().into());
            Box::new(TlsConnector::from(config).connect(name, plain).await.map_err(|why| failed(&why))?)
        }
    };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|why| failed(&why))?;
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = path(http).parse().map_err(|why| failed(&why))?;
    let value = |text: &str| HeaderValue::from_str(text).map_err(|why| failed(&why));
    request.headers_mut().insert(HOST, value(&address.to_string())?);
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("kube-probe/1.36"));
    for header in http.http_headers.iter().flatten() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|why| failed(&why))?;
        request.headers_mut().insert(name, value(&header.value)?);
    }
    let asked = async {
        let response = sender.send_request(request).await.map_err(|why| failed(&why))?;
        let status = response.status().as_u16();
        // A body that is too long is not read on.
        let _ = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        Ok::<u16, String>(status)
    };
    // The connection works while the request does, and ends with it.
    let mut asked = std::pin::pin!(asked);
    let status = tokio::select! {
        status = &mut asked => status,
        // A server that closes the connection behind its answer has given it; without one, asking ends with an error.
        _ = connection => asked.await,
    }?;
    match status {
        200..400 => Ok(()),
        status => Err(format!("HTTP probe failed with statuscode: {status}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    use rustls::ServerConfig;
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// Answers each request with these bytes, and closes the connection.
    fn serve(answer: &'static [u8]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let (mut asked, mut piece) = (Vec::new(), [0; 1024]);
                while !asked.ends_with(b"\r\n\r\n") {
                    let length = stream.read(&mut piece).unwrap();
                    assert!(length > 0, "the client has gone");
                    asked.extend_from_slice(&piece[..length]);
                }
                stream.write_all(answer).unwrap();
            }
        });
        port
    }

    #[tokio::test]
    async fn an_answer_counts_though_the_server_closes_the_connection_behind_it() {
        let runtime = Runtime::new("/nowhere".into(), "node".into());
        let container = Container::default();
        let whom = Whom { runtime: &runtime, id: "", container: &container, address: "127.0.0.1" };
        let ask = async |answer| {
            let http = HTTPGetAction { port: IntOrString::Int(serve(answer).into()), ..Default::default() };
            // Whether the answer or the end is seen first is chance.
            let mut last = Ok(());
            for _ in 0..20 {
                last = act(&whom, &Act::Http(Box::new(http.clone())), Duration::from_secs(30)).await;
                if last.is_err() {
                    break;
                }
            }
            last
        };
        assert_eq!(ask(b"HTTP/1.0 200 OK\r\n\r\nhello").await, Ok(()));
        assert_eq!(ask(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await, Ok(()));
        let failed = ask(b"HTTP/1.0 503 Busy\r\n\r\n").await.unwrap_err();
        assert_eq!(failed, "HTTP probe failed with statuscode: 503");
        let failed = ask(b"").await.unwrap_err();
        assert!(failed.starts_with("Get \"http://127.0.0.1:"), "{failed}");
    }

    #[tokio::test]
    async fn whoever_signed_its_certificate_a_server_answers() {
        let own = rcgen::generate_simple_self_signed(vec!["somebody.example".into()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()).into();
        let tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = async {
            let mut stream =
                TlsAcceptor::from(Arc::new(tls)).accept(listener.accept().await.unwrap().0).await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut asked).await.unwrap();
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        };
        let runtime = Runtime::new("/nowhere".into(), "node".into());
        let container = Container::default();
        let whom = Whom { runtime: &runtime, id: "", container: &container, address: "127.0.0.1" };
        let port = IntOrString::Int(port.into());
        let https = HTTPGetAction { port, scheme: Some("HTTPS".into()), ..Default::default() };
        let https = Act::Http(Box::new(https));
        let asking = act(&whom, &https, Duration::from_secs(30));
        assert_eq!(tokio::join!(asking, serving).0, Ok(()));
    }
}
