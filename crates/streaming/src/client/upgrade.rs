//! From a target to a connection that streams.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderValue, UPGRADE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Error, Target};
use crate::mux::Transport;
use crate::negotiate::{
    STREAM_PROTOCOL, WEBSOCKET_ACCEPT, WEBSOCKET_KEY, WEBSOCKET_PROTOCOL, WEBSOCKET_VERSION,
};
use crate::remote_command::status;
use crate::{spdy, websocket};

/// What a refusal's text may have.
const TEXT_MAX: usize = 4096;

/// A connection, and the version that the server chose from those it was offered.
pub(super) struct Upgraded {
    pub(super) transport: Box<dyn Transport>,
    pub(super) version: &'static str,
}

/// Asks for SPDY, in one of these versions, best first.
pub(super) async fn spdy(target: &Target, versions: &[&'static str]) -> Result<Upgraded, Error> {
    let mut headers = HeaderMap::new();
    headers.insert(UPGRADE, HeaderValue::from_static(spdy::UPGRADE));
    for version in versions {
        headers.append(STREAM_PROTOCOL, HeaderValue::from_static(version));
    }
    let response = request(target, Method::POST, headers).await?;
    upgraded(target, response, STREAM_PROTOCOL, versions).await
}

/// Asks for a WebSocket, with one of these protocols, best first.
pub(super) async fn websocket(target: &Target, versions: &[&'static str]) -> Result<Upgraded, Error> {
    let local = |source| Error::Connect { server: target.server(), source };
    let key = websocket::new_key().map_err(local)?;
    let value = |text: &str| HeaderValue::from_str(text).map_err(|error| local(std::io::Error::other(error)));
    let mut headers = HeaderMap::new();
    headers.insert(UPGRADE, HeaderValue::from_static(websocket::UPGRADE));
    headers.insert(WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(WEBSOCKET_KEY, value(&key)?);
    headers.insert(WEBSOCKET_PROTOCOL, value(&versions.join(", "))?);
    let response = request(target, Method::GET, headers).await?;
    let answer = response.headers().get(WEBSOCKET_ACCEPT).and_then(|answer| answer.to_str().ok());
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && answer != Some(&websocket::accept_key(&key)) {
        return Err(Error::Protocol { server: target.server(), protocol: "no WebSocket".to_owned() });
    }
    upgraded(target, response, WEBSOCKET_PROTOCOL, versions).await
}

async fn request(
    target: &Target,
    method: Method,
    headers: HeaderMap,
) -> Result<Response<hyper::body::Incoming>, Error> {
    let transport = connect(target).await?;
    let http = |source| Error::Http { server: target.server(), source };
    let (mut sender, connection) = http1::handshake(TokioIo::new(transport)).await.map_err(http)?;
    // It ends with the upgrade, or with the server's refusal.
    tokio::spawn(connection.with_upgrades());
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = method;
    *request.uri_mut() =
        target.uri.path_and_query().map_or_else(|| "/".parse(), |path| path.as_str().parse()).map_err(
            |_| Error::Address { url: target.uri.to_string(), why: "its path cannot stand in a request" },
        )?;
    request.headers_mut().extend(target.headers.clone());
    request.headers_mut().extend(headers);
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Some(host) = target.uri.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok()) {
        request.headers_mut().insert(HOST, host);
    }
    sender.send_request(request).await.map_err(http)
}

async fn connect(target: &Target) -> Result<Box<dyn Transport>, Error> {
    let failed = |source| Error::Connect { server: target.server(), source };
    let stream = TcpStream::connect(target.address).await.map_err(failed)?;
    crate::socket::tune(&stream);
    if target.uri.scheme_str() != Some("https") {
        return Ok(Box::new(stream));
    }
    let wrong = |why| Error::Address { url: target.uri.to_string(), why };
    let config =
        target.tls.clone().ok_or_else(|| wrong("it needs TLS, and there is no configuration for it"))?;
    let name = ServerName::try_from(target.host.clone())
        .map_err(|_| wrong("its host cannot be in a certificate"))?;
    let stream = TlsConnector::from(config).connect(name, stream).await.map_err(failed)?;
    Ok(Box::new(stream))
}

async fn upgraded(
    target: &Target,
    response: Response<hyper::body::Incoming>,
    header: &str,
    versions: &[&'static str],
) -> Result<Upgraded, Error> {
    let code = response.status();
    if code != StatusCode::SWITCHING_PROTOCOLS {
        let body = Limited::new(response.into_body(), TEXT_MAX).collect().await;
        let text = body.map(|body| status::why(&body.to_bytes())).unwrap_or_default();
        return Err(Error::Refused { server: target.server(), status: code.as_u16(), text });
    }
    let protocol =
        response.headers().get(header).and_then(|name| name.to_str().ok()).unwrap_or_default().to_owned();
    let Some(version) = versions.iter().find(|version| **version == protocol).copied() else {
        return Err(Error::Protocol { server: target.server(), protocol });
    };
    let upgraded = hyper::upgrade::on(response).await;
    let upgraded = upgraded.map_err(|source| Error::Http { server: target.server(), source })?;
    Ok(Upgraded { transport: Box::new(TokioIo::new(upgraded)), version })
}
