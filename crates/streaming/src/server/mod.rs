//! A streaming server for CRI: Exec, Attach and PortForward answer with an address that works once.
//!
//! [`TokenServer::start`] listens; [`TokenServer::exec`], [`attach`](TokenServer::attach) and
//! [`port_forward`](TokenServer::port_forward) remember a call under a random token and give the address. Whoever comes
//! with the token within a minute gets the streams; the [`Runtime`] does what was called for.
//!
//! A token is 128 random bits, works once, for one minute, and for the kind of call it was made for. At most 1,000 are
//! outstanding. A request that is refused before anything started (a protocol nobody speaks) leaves its token in place,
//! so that a client which tries WebSocket first can come again with SPDY.

mod accept;
mod config;
mod runtime;
mod sessions;
mod tokens;

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

pub use config::{Config, StartError, Tls, TlsError};
pub use runtime::Runtime;
pub use tokens::NoAddress;

use crate::remote_command::Requested;
use accept::{Call, Shared};

/// A streaming server that runs. It ends when it is dropped, and its sessions with it; [`TokenServer::stop`] lets them
/// finish first.
pub struct TokenServer<R: Runtime> {
    shared: Arc<Shared<R>>,
    address: SocketAddr,
    base: String,
}

impl<R: Runtime> TokenServer<R> {
    /// Listens, and serves what comes on tasks of the Tokio runtime it is called in.
    ///
    /// # Errors
    /// The address cannot be listened on, or is not loopback and there is no TLS.
    pub async fn start(config: Config, runtime: Arc<R>) -> Result<TokenServer<R>, StartError> {
        let (shared, address) = accept::start(config, runtime).await?;
        let scheme = if shared.config.tls.is_some() { "https" } else { "http" };
        let base = match &shared.config.host {
            Some(host) if host.parse::<Ipv6Addr>().is_ok() => {
                format!("{scheme}://[{host}]:{}", address.port())
            }
            Some(host) => format!("{scheme}://{host}:{}", address.port()),
            None => format!("{scheme}://{address}"),
        };
        Ok(TokenServer { shared, address, base })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address at which `call` is run: CRI's ExecResponse.url.
    ///
    /// # Errors
    /// Too many calls wait for their client already; CRI's code for that is ResourceExhausted.
    pub fn exec(&self, call: R::Exec, streams: Requested) -> Result<String, NoAddress> {
        self.url("exec", Call::Exec(call, streams))
    }

    /// The address at which `call` is attached to: CRI's AttachResponse.url.
    ///
    /// # Errors
    /// As [`exec`](TokenServer::exec).
    pub fn attach(&self, call: R::Attach, streams: Requested) -> Result<String, NoAddress> {
        self.url("attach", Call::Attach(call, streams))
    }

    /// The address at which ports are forwarded: CRI's PortForwardResponse.url. `ports` is the request's list, which
    /// only WebSocket's version 4 reads: with SPDY the client names them as it goes.
    ///
    /// # Errors
    /// As [`exec`](TokenServer::exec).
    pub fn port_forward(&self, call: R::PortForward, ports: Vec<u16>) -> Result<String, NoAddress> {
        self.url("portforward", Call::PortForward(call, ports))
    }

    /// How many sessions run.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.shared.sessions.count()
    }

    /// Takes no more connections and waits for the sessions to end; those that have not within `grace` are dropped,
    /// and their handlers with them.
    pub async fn stop(self, grace: Duration) {
        self.shared.sessions.refuse();
        if tokio::time::timeout(grace, self.shared.sessions.ended()).await.is_err() {
            self.shared.sessions.end();
            self.shared.sessions.ended().await;
        }
    }

    fn url(&self, kind: &str, call: Call<R>) -> Result<String, NoAddress> {
        let token = self.shared.tokens.insert(call)?;
        Ok(format!("{}/{kind}/{token}", self.base))
    }
}

impl<R: Runtime> Drop for TokenServer<R> {
    fn drop(&mut self) {
        self.shared.sessions.end();
    }
}
