//! A light client: HTTP/2, over TLS where the server has it, one connection for each who asks. What it reads it does not
//! look into.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::Result;

/// Where a server is, and how one is let in.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(super) address: SocketAddr,
    /// None: without TLS.
    tls: Option<Arc<ClientConfig>>,
    token: Option<String>,
}

impl Endpoint {
    /// A server without TLS.
    pub(in crate::bench) fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None, token: None }
    }

    /// A server whose certificate is in a file, which knows a token.
    pub(super) fn with_token(address: SocketAddr, certificate: &Path, token: &str) -> Result<Self> {
        let pem = std::fs::read(certificate)?;
        let roots = CertificateDer::pem_slice_iter(&pem).collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(Self { address, tls: Some(tls(roots, None)?), token: Some(token.to_owned()) })
    }

    /// What a kubeconfig of ours says.
    pub(crate) fn of_kubeconfig(address: SocketAddr, kubeconfig: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(kubeconfig)?;
        let held = |key: &str| -> Result<Vec<u8>> {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(key)?.trim().strip_prefix(": "));
            let line = line.ok_or_else(|| format!("{} has no {key}", kubeconfig.display()))?;
            Ok(base64::engine::general_purpose::STANDARD.decode(line.trim())?)
        };
        let root = CertificateDer::from_pem_slice(&held("certificate-authority-data")?)?;
        let own = CertificateDer::from_pem_slice(&held("client-certificate-data")?)?;
        let key = PrivateKeyDer::from_pem_slice(&held("client-key-data")?)?;
        Ok(Self { address, tls: Some(tls(vec![root], Some((own, key)))?), token: None })
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let sender = match &self.tls {
            None => greet(stream).await?,
            Some(tls) => {
                let connector = tokio_rustls::TlsConnector::from(Arc::clone(tls));
                greet(connector.connect(ServerName::from(self.address.ip()), stream).await?).await?
            }
        };
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let token = self.token.as_ref().map(|token| format!("Bearer {token}"));
        Ok(Connection { sender, origin: format!("{scheme}://{}", self.address), token })
    }

    /// Waits until a path answers with 200; milliseconds since `began`.
    pub(crate) async fn until_ready(&self, path: &str, began: Instant) -> Result<f64> {
        loop {
            let asked = async { self.connect().await?.call(Method::GET, path, "", Bytes::new()).await };
            match asked.await {
                Ok((200, _)) => return Ok(began.elapsed().as_secs_f64() * 1e3),
                Ok((code, _)) if began.elapsed() > READY => return Err(format!("{path}: {code}").into()),
                Err(e) if began.elapsed() > READY => return Err(e),
                _ => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }
}

/// How long a server may take to its start.
const READY: Duration = Duration::from_secs(60);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn tls(
    roots: Vec<CertificateDer<'static>>,
    own: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
) -> Result<Arc<ClientConfig>> {
    let mut trusted = RootCertStore::empty();
    roots.into_iter().try_for_each(|root| trusted.add(root))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(trusted);
    let mut config = match own {
        Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

async fn greet<S>(stream: S) -> Result<SendRequest<Full<Bytes>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(4 << 20).initial_connection_window_size(8 << 20);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// A connection to a server.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    origin: String,
    token: Option<String>,
}

impl Connection {
    async fn start(
        &mut self,
        method: Method,
        path: &str,
        media: &str,
        body: Bytes,
    ) -> Result<hyper::Response<Incoming>> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.origin));
        if !media.is_empty() {
            request = request.header("content-type", media);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", token);
        }
        self.sender.ready().await?;
        Ok(self.sender.send_request(request.body(Full::new(body))?).await?)
    }

    /// Asks, and reads the answer to its end.
    pub(crate) async fn call(
        &mut self,
        method: Method,
        path: &str,
        media: &str,
        body: Bytes,
    ) -> Result<(u16, Bytes)> {
        let asked = async {
            let response = self.start(method, path, media, body).await?;
            let code = response.status().as_u16();
            Ok((code, response.into_body().collect().await?.to_bytes()))
        };
        tokio::time::timeout(PATIENCE, asked).await.map_err(|_| format!("{path}: no answer"))?
    }

    /// The same, of which anything but 200 and 201 is an error.
    pub(crate) async fn done(
        &mut self,
        method: Method,
        path: &str,
        media: &str,
        body: Bytes,
    ) -> Result<Bytes> {
        match self.call(method, path, media, body).await? {
            (200 | 201, body) => Ok(body),
            (code, body) => Err(format!("{path}: {code} {}", String::from_utf8_lossy(&body)).into()),
        }
    }

    /// Opens a stream; the connection has to live as long.
    pub(in crate::bench) async fn stream(&mut self, path: &str) -> Result<Incoming> {
        let response = self.start(Method::GET, path, "", Bytes::new()).await?;
        match response.status().as_u16() {
            200 => Ok(response.into_body()),
            code => Err(format!("{path}: {code}").into()),
        }
    }
}
