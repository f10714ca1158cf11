//! A server: where it listens, and how it ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::api::Api;
use super::budget::Budget;
use super::connection;
use super::hooks::Node;
use super::metrics::Metrics;
use super::openapi;
use crate::auth::audit::Audit;
use crate::auth::{self, Access, Authority};
use crate::registry::Registry;

/// Reads that are answered at a time.
const READS: usize = 400;
/// Writes that are answered at a time.
const WRITES: usize = 200;
/// Bytes of bodies that are held at a time, of all users and of one.
const BODIES: (usize, usize) = (64 << 20, 16 << 20);
/// KiB of large bodies that are worked on at a time: what is made of them in memory is a multiple of that.
const LARGE_KIB: usize = 8 * 1024;
/// Bytes of large answers that wait for their clients, of all users and of one.
const ANSWERS: (usize, usize) = (128 << 20, 32 << 20);
/// How often the server's certificate is looked at.
const RENEWAL: Duration = Duration::from_secs(12 * 3600);

/// What a server is made of.
pub struct Setup {
    /// The objects.
    pub registry: Registry,
    /// Who asks and what they may.
    pub access: Access,
    /// TLS; without it the server speaks plain HTTP, and on loopback alone.
    pub authority: Option<Arc<Authority>>,
    /// Where it listens; port 0 takes any.
    pub listen: Vec<SocketAddr>,
    /// Where it listens, too, although the machine may not have the address yet.
    pub listen_ahead: Vec<SocketAddr>,
    /// Who runs pods.
    pub node: Option<Arc<dyn Node>>,
    /// Who did what.
    pub audit: Option<Audit>,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// Passwords and tokens would go over the wire in the clear.
    #[error("cannot serve plain HTTP on {0}: without TLS only loopback addresses are listened on")]
    Plain(SocketAddr),
    /// No address was told.
    #[error("cannot serve: no address to listen on")]
    Nowhere,
    /// TLS.
    #[error(transparent)]
    Tls(#[from] auth::Error),
}

/// As [`TcpListener::bind`] does it; `is_ahead` where the machine may get the address later.
fn listen_on(address: SocketAddr, is_ahead: bool) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    if is_ahead {
        kernel::socket::bind_ahead(&socket)?;
    }
    socket.bind(address)?;
    socket.listen(1024)
}

/// A server that runs. Dropped, it ends at once.
pub struct Server {
    addresses: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Server {
    /// Listens, and answers from now on.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(setup: Setup) -> Result<Server, StartError> {
        if setup.listen.is_empty() {
            return Err(StartError::Nowhere);
        }
        let is_plain = setup.authority.is_none();
        let all =
            setup.listen.iter().map(|at| (at, false)).chain(setup.listen_ahead.iter().map(|at| (at, true)));
        if let Some((open, _)) = all.clone().find(|(address, _)| is_plain && !address.ip().is_loopback()) {
            return Err(StartError::Plain(*open));
        }
        let tls = setup.authority.as_ref().map(|authority| authority.server_config()).transpose()?;
        let tls = tls.map(|config| tokio_rustls::TlsAcceptor::from(Arc::new(config)));
        let mut listeners = Vec::with_capacity(setup.listen.len());
        for (address, is_ahead) in all {
            let listen = |source| StartError::Listen { address: *address, source };
            let listener = listen_on(*address, is_ahead).map_err(listen)?;
            let address = listener.local_addr().map_err(listen)?;
            listeners.push((listener, address));
        }
        let (stop, stopped) = watch::channel(false);
        let api = Arc::new(Api {
            registry: setup.registry,
            access: Arc::new(setup.access),
            node: setup.node,
            audit: setup.audit,
            metrics: Metrics::default(),
            openapi: openapi::Cache::default(),
            stop: stopped.clone(),
            reads: Semaphore::new(READS),
            writes: Arc::new(Semaphore::new(WRITES)),
            bodies: Budget::new(BODIES.0, BODIES.1),
            large: Semaphore::new(LARGE_KIB),
            answers: Budget::new(ANSWERS.0, ANSWERS.1),
        });
        let addresses = listeners.iter().map(|(_, address)| *address).collect();
        let mut tasks = JoinSet::new();
        let places = Arc::new(Semaphore::new(connection::MOST));
        for (listener, address) in listeners {
            let at =
                connection::Listening { listener, address, tls: tls.clone(), places: Arc::clone(&places) };
            tasks.spawn(connection::accept(at, Arc::clone(&api), stopped.clone()));
        }
        if let Some(authority) = setup.authority {
            tasks.spawn(renew(authority, stopped));
        }
        Ok(Server { addresses, stop, tasks })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Takes no more connections, ends watches, and waits `grace` for what is being answered.
    pub async fn stop(mut self, grace: Duration) {
        self.stop.send_replace(true);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        // Who is not done by then is cut off.
        let _ = tokio::time::timeout(grace, ended).await;
        self.tasks.shutdown().await;
    }
}

async fn renew(authority: Arc<Authority>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(RENEWAL) => {
                if let Err(error) = authority.renew() {
                    eprintln!("sextant api: warning: {error}");
                }
            }
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}
