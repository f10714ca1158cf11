//! Where streams come from.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hyper::Uri;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::Error;

/// A server's address, and what it must be shown.
#[derive(Debug, Clone)]
pub struct Target {
    pub(super) uri: Uri,
    pub(super) host: String,
    pub(super) address: SocketAddr,
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    pub(super) headers: HeaderMap,
}

impl Target {
    /// From an address of the scheme http or https. Its host must be an IP address or `localhost`: nothing here looks
    /// names up. For others use [`Target::at`].
    ///
    /// # Errors
    /// It is no such address.
    pub fn parse(url: &str) -> Result<Target, Error> {
        Target::new(url, None)
    }

    /// As [`parse`](Target::parse), for a host whose address the caller has found.
    ///
    /// # Errors
    /// It is no address of the scheme http or https.
    pub fn at(url: &str, address: SocketAddr) -> Result<Target, Error> {
        Target::new(url, Some(address))
    }

    fn new(url: &str, known: Option<SocketAddr>) -> Result<Target, Error> {
        let wrong = |why| Error::Address { url: url.to_owned(), why };
        let uri: Uri = url.parse().map_err(|_| wrong("it is no URL"))?;
        let port = match uri.scheme_str() {
            Some("http") => 80,
            Some("https") => 443,
            _ => return Err(wrong("its scheme must be http or https")),
        };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(port);
        let address = match (known, host.as_str()) {
            (Some(address), _) => address,
            (None, "localhost") => (Ipv4Addr::LOCALHOST, port).into(),
            (None, host) => {
                (host.parse::<IpAddr>().map_err(|_| wrong("its host is no IP address"))?, port).into()
            }
        };
        Ok(Target { uri, host, address, tls: None, headers: HeaderMap::new() })
    }

    /// Whom to trust, and what to show them; needed for https. Its ALPN must not offer h2.
    #[must_use]
    pub fn with_tls(mut self, config: Arc<rustls::ClientConfig>) -> Target {
        self.tls = Some(config);
        self
    }

    /// A header that the request is to have: an authorization.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Target {
        self.headers.insert(name, value);
        self
    }

    /// Host and port, for messages.
    pub(super) fn server(&self) -> String {
        self.uri.authority().map_or_else(|| self.address.to_string(), ToString::to_string)
    }
}
