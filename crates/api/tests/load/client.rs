//! A client that minds a server that goes away.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::kubeconfig::tls;
use crate::server::PATIENCE;

/// Why there is no answer: the connection is gone.
pub(crate) type Gone = Box<dyn std::error::Error + Send + Sync>;

/// How a server is reached by its administrator.
#[derive(Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
}

impl Client {
    /// The administrator that a kubeconfig is for.
    pub(crate) fn new(address: SocketAddr, kubeconfig: &Path) -> Client {
        let tls = tls(kubeconfig).unwrap();
        Client { address, tls: Arc::new(tls) }
    }

    /// A connection; streams of it are independent of each other.
    pub(crate) async fn connect(&self) -> Result<Connection, Gone> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.tls));
        let stream = connector.connect(ServerName::from(self.address.ip()), stream).await?;
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Connection { sender, address: self.address })
    }
}

/// A connection to the server.
#[derive(Clone)]
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    address: SocketAddr,
}

/// A status code and a body.
pub(crate) type Answer = (u16, Bytes);

impl Connection {
    async fn start(
        &mut self,
        method: Method,
        path: &str,
        media: &str,
        body: Bytes,
    ) -> Result<hyper::Response<Incoming>, Gone> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.address))
            .header("content-type", media)
            .body(Full::new(body))?;
        self.sender.ready().await?;
        Ok(self.sender.send_request(request).await?)
    }

    /// Asks, and reads the answer to its end.
    pub(crate) async fn call(
        &mut self,
        method: Method,
        path: &str,
        media: &str,
        body: impl Into<Bytes>,
    ) -> Result<Answer, Gone> {
        let asked = async {
            let response = self.start(method, path, media, body.into()).await?;
            let code = response.status().as_u16();
            Ok((code, response.into_body().collect().await?.to_bytes()))
        };
        tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("{path}: no answer"))
    }

    /// What is there.
    pub(crate) async fn get(&mut self, path: &str) -> Result<(u16, Value), Gone> {
        let (code, body) = self.call(Method::GET, path, "application/json", "").await?;
        Ok((code, serde_json::from_slice(&body)?))
    }

    /// Opens a watch.
    pub(crate) async fn watch(&mut self, path: &str) -> Result<Lines, Gone> {
        let response = self.start(Method::GET, path, "application/json", Bytes::new()).await?;
        let code = response.status().as_u16();
        let body = response.into_body();
        if code != 200 {
            let told = body.collect().await?.to_bytes();
            panic!("{path}: {code} {}", String::from_utf8_lossy(&told));
        }
        Ok(Lines { body, read: Vec::new(), at: 0 })
    }
}

/// The lines of a watch.
pub(crate) struct Lines {
    body: Incoming,
    read: Vec<u8>,
    at: usize,
}

impl Lines {
    /// The next event; `None` when the stream has ended or broken.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            let unread = self.read.get(self.at..).unwrap_or_default();
            if let Some(length) = unread.iter().position(|byte| *byte == b'\n') {
                let event = serde_json::from_slice(&unread[..length]).unwrap();
                self.at += length + 1;
                return Some(event);
            }
            self.read.drain(..std::mem::take(&mut self.at));
            let frame = self.body.frame().await?.ok()?;
            self.read.extend_from_slice(frame.data_ref()?);
        }
    }
}
