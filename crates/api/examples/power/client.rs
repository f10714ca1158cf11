//! The administrator of an API server in this process, over TLS and HTTP/2.

#[path = "../../tests/load/kubeconfig.rs"]
mod kubeconfig;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::serve::Instance;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use serde_json::Value;

use super::marks::Result;

/// An emulated machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection; its clones share it.
#[derive(Clone)]
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
    connector: tokio_rustls::TlsConnector,
    address: SocketAddr,
}

impl Client {
    /// By the kubeconfig that the instance has written.
    pub(crate) async fn connect(instance: &Instance) -> Result<Client> {
        let tls = kubeconfig::tls(instance.kubeconfig())?;
        let address = *instance.addresses().first().ok_or("it does not listen")?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
        let sender = open(&connector, address).await?;
        Ok(Client { sender, connector, address })
    }

    async fn start(&mut self, method: Method, path: &str, media: &str, body: Bytes) -> Result<Incoming> {
        let uri = format!("https://{}{path}", self.address);
        let request = Request::builder().method(method.clone()).uri(uri).header("content-type", media);
        // Where the guest got no processor for a while the server takes a connection for dead. Nothing was asked on it yet.
        if self.sender.ready().await.is_err() {
            self.sender = open(&self.connector, self.address).await?;
            self.sender.ready().await?;
        }
        let response = self.sender.send_request(request.body(Full::new(body))?).await?;
        let code = response.status();
        if code.is_success() {
            return Ok(response.into_body());
        }
        let told = response.into_body().collect().await?.to_bytes();
        Err(format!("{method} {path}: {code} {}", String::from_utf8_lossy(&told)).into())
    }

    /// The object that is answered; any other answer is an error.
    pub(crate) async fn call(
        &mut self,
        method: Method,
        path: &str,
        media: &str,
        body: &Value,
    ) -> Result<Value> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let asked = async {
            let body = self.start(method, path, media, body.into()).await?.collect().await?.to_bytes();
            Result::Ok(serde_json::from_slice(&body)?)
        };
        tokio::time::timeout(PATIENCE, asked).await.map_err(|_| format!("{path}: no answer"))?
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, "application/json", &Value::Null).await
    }

    /// The changes of a path that has `watch=1` in it.
    pub(crate) async fn watch(&mut self, path: &str) -> Result<Events> {
        let body = self.start(Method::GET, path, "application/json", Bytes::new()).await?;
        Ok(Events { body, read: Vec::new() })
    }
}

async fn open(
    connector: &tokio_rustls::TlsConnector,
    address: SocketAddr,
) -> Result<SendRequest<Full<Bytes>>> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let stream = connector.connect(ServerName::from(address.ip()), stream).await?;
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// What a watcher is told.
pub(crate) struct Events {
    body: Incoming,
    read: Vec<u8>,
}

impl Events {
    /// The next one; the end is an error.
    pub(crate) async fn next(&mut self) -> Result<Value> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                return Ok(serde_json::from_slice(&self.read.drain(..=end).collect::<Vec<_>>())?);
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await;
            let frame = frame.map_err(|_| "a watcher is not told what has happened")?;
            let frame = frame.ok_or("a watch ended too early")??;
            self.read.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        }
    }
}
