//! HTTP/1.1 over our own resolver and TLS: one ureq agent for each way of connecting.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ureq::http::{Request, Response, Uri};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver as ResolverHook};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, NextTimeout, TcpConnector};
use ureq::{Agent, AsSendBody, Body, Proxy, Timeout};

use super::tls::{TlsConnector, TlsError};
use super::{Config, Patience};
use crate::registry::hosts::TlsFiles;
use crate::registry::proxy::ProxyEnv;
use crate::registry::resolver::{LookupError, Resolver};

/// Larger reads than ureq's default: a layer is read in few of them.
const INPUT_BUFFER: usize = 256 * 1024;
const HEADERS_MAX: usize = 64 * 1024;
/// Layers in parallel, and the connections of pushes.
const IDLE_CONNECTIONS: usize = 16;

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The host's name has no address.
    #[error(transparent)]
    Lookup(LookupError),
    /// TLS was not agreed on.
    #[error(transparent)]
    Tls(TlsError),
    /// It took too long.
    #[error("{0}")]
    Timeout(String),
    /// What came is not HTTP.
    #[error("the answer is not HTTP: {0}")]
    NotHttp(String),
    /// The proxy cannot be used.
    #[error("proxy: {0}")]
    Proxy(String),
    /// The connection failed.
    #[error("{0}")]
    Io(io::Error),
    /// What was to be sent cannot be read.
    #[error("cannot read what is to be sent: {0}")]
    Content(io::Error),
    /// The request itself cannot be sent.
    #[error("{0}")]
    Request(String),
}

impl TransportError {
    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Lookup(LookupError::Unanswered { .. }) | Self::Timeout(_) | Self::NotHttp(_) => true,
            Self::Io(_) | Self::Proxy(_) => true,
            Self::Lookup(_) | Self::Tls(_) | Self::Request(_) | Self::Content(_) => false,
        }
    }

    /// Whether plain http may work where TLS did not.
    pub(super) fn suggests_plain_http(&self) -> bool {
        match self {
            Self::Tls(TlsError::NotTls) => true,
            // Some servers hang up on what they do not understand.
            Self::Io(error) => matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::UnexpectedEof
            ),
            _ => false,
        }
    }

    /// A refused connection is not worth waiting for again and again.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused)
    }

    fn of(error: ureq::Error) -> Self {
        match error {
            ureq::Error::Other(inner) => match inner.downcast::<TlsError>() {
                Ok(tls) => Self::Tls(*tls),
                Err(inner) => match inner.downcast::<LookupError>() {
                    Ok(lookup) => Self::Lookup(*lookup),
                    Err(inner) => Self::Request(inner.to_string()),
                },
            },
            ureq::Error::Io(error) => Self::of_io(error),
            ureq::Error::Timeout(timeout) => Self::Timeout(match timeout {
                Timeout::Resolve => "looking the name up took too long".into(),
                Timeout::Connect => "connecting took too long".into(),
                Timeout::RecvResponse => "no answer within the time allowed".into(),
                Timeout::PerRead | Timeout::RecvBody => "the transfer made no progress".into(),
                Timeout::PerWrite | Timeout::SendBody => "the server stopped reading".into(),
                other => format!("it took too long ({other})"),
            }),
            ureq::Error::ConnectProxyFailed(cause) => Self::Proxy(cause),
            ureq::Error::InvalidProxyUrl => Self::Proxy("its URL cannot be used".into()),
            ureq::Error::Protocol(error) => Self::NotHttp(error.to_string()),
            ureq::Error::LargeResponseHeader(..) => Self::NotHttp(error.to_string()),
            other => Self::Request(other.to_string()),
        }
    }

    fn of_io(error: io::Error) -> Self {
        if let Some(fault) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Self::Tls(TlsError::Rustls(fault.clone()));
        }
        match error.downcast::<ContentError>() {
            Ok(ContentError(content)) => Self::Content(content),
            Err(error) => Self::Io(error),
        }
    }
}

/// Marks an error of reading what we send, among errors of the connection.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct ContentError(pub(super) io::Error);

/// How a connection is made: what two requests must share to share one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Route {
    tls: TlsFiles,
    proxy: Option<String>,
    dial_timeout: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Transport {
    agents: Mutex<HashMap<Route, Agent>>,
    resolver: Arc<Resolver>,
    proxy: ProxyEnv,
    patience: Patience,
    user_agent: String,
}

impl Transport {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            agents: Mutex::new(HashMap::new()),
            resolver: config.resolver.clone(),
            proxy: config.proxy.clone(),
            patience: config.patience,
            user_agent: config.user_agent.clone(),
        }
    }

    /// Sends one request, without following redirects; every status is an `Ok`.
    pub(super) fn send(
        &self,
        tls: &TlsFiles,
        dial_timeout: Option<Duration>,
        request: Request<impl AsSendBody>,
        headers_within: Duration,
    ) -> Result<Response<Body>, TransportError> {
        let proxy = self.proxy_for(request.uri()).map(str::to_owned);
        let route = Route { tls: tls.clone(), proxy, dial_timeout };
        let agent = self.agent(&route)?;
        let mut request = agent.configure_request(request);
        if headers_within != self.patience.headers {
            request =
                request.timeout_recv_response(Some(headers_within)).timeout_per_read(Some(headers_within));
        }
        agent.run(request.build()).map_err(TransportError::of)
    }

    /// The proxy that requests to `uri` go through.
    pub(super) fn proxy_for(&self, uri: &Uri) -> Option<&str> {
        let tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        self.proxy.proxy_for(tls, uri.host()?, port)
    }

    fn agent(&self, route: &Route) -> Result<Agent, TransportError> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(route) {
            return Ok(agent.clone());
        }
        let proxy = match &route.proxy {
            Some(url) => Some(http_proxy(url)?),
            None => None,
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(proxy)
            .user_agent(self.user_agent.as_str())
            .accept_encoding("identity")
            .input_buffer_size(INPUT_BUFFER)
            .max_response_header_size(HEADERS_MAX)
            .max_idle_connections(IDLE_CONNECTIONS)
            .max_idle_connections_per_host(IDLE_CONNECTIONS)
            .timeout_resolve(Some(self.patience.resolve))
            .timeout_connect(Some(route.dial_timeout.unwrap_or(self.patience.connect)))
            .timeout_recv_response(Some(self.patience.headers))
            .timeout_per_read(Some(self.patience.stall))
            .timeout_per_write(Some(self.patience.stall))
            .build();
        let connector = ().chain(ConnectProxyConnector::default()).chain(TcpConnector::default());
        let connector = connector.chain(TlsConnector::new(route.tls.clone()));
        let agent = Agent::with_parts(config, connector, Hook(self.resolver.clone()));
        agents.insert(route.clone(), agent.clone());
        Ok(agent)
    }
}

fn http_proxy(url: &str) -> Result<Proxy, TransportError> {
    if url.contains("://") && !url.starts_with("http://") && !url.starts_with("https://") {
        let scheme = url.split("://").next().unwrap_or_default();
        return Err(TransportError::Proxy(format!(
            "{scheme}:// is not supported, only http:// and https://"
        )));
    }
    Proxy::new(url).map_err(TransportError::of)
}

/// Our resolver in ureq's place for one: `getaddrinfo` is never called.
#[derive(Debug)]
struct Hook(Arc<Resolver>);

impl ResolverHook for Hook {
    fn resolve(
        &self,
        uri: &Uri,
        _: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let deadline = timeout.not_zero().map(|left| Instant::now() + *left);
        let addresses = self.0.lookup(host, deadline).map_err(|error| ureq::Error::Other(Box::new(error)))?;
        let mut resolved = self.empty();
        // The array holds sixteen.
        for address in addresses.into_iter().take(16) {
            resolved.push(SocketAddr::new(address, port));
        }
        Ok(resolved)
    }
}
