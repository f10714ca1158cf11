//! A registry: distribution-spec 1.1, push and pull, in a folder.
//!
//! [`Server::start`] listens on threads of its own until its [`Handle`] is dropped. Uploads go to disk as they
//! arrive, and get their digest as a name only once it is verified; memory does not grow with their size.
//!
//! **What it never does**: TLS (put it on loopback, or behind a proxy), users other than one, replication, or
//! garbage collection of layers that no manifest names (deleting is explicit). One process serves a folder.

mod access;
mod blobs;
mod connection;
mod manifests;
mod referrers;
mod reply;
mod route;
mod storage;
mod tags;
mod upload;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::watch;

use storage::Storage;
use upload::Uploads;

/// Requests are short and the disk is one: a few threads are enough.
const THREADS_MAX: usize = 4;

/// What to serve, and where.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder that holds everything; made if missing.
    pub dir: PathBuf,
    /// Port 0 means any that is free.
    pub listen: SocketAddr,
    /// A user and password to ask for (Basic); nobody is asked without.
    pub user: Option<(String, String)>,
}

/// Why the registry does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The folder cannot be used.
    #[error("cannot use {} for a registry: {source}", dir.display())]
    Folder {
        /// The folder.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// A registry server.
#[derive(Debug)]
pub struct Server;

/// A running registry; dropping it stops the registry.
#[derive(Debug)]
pub struct Handle {
    addr: SocketAddr,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

/// What all connections share.
struct Shared {
    storage: Storage,
    uploads: Uploads,
    user: Option<(String, String)>,
}

impl Server {
    /// Listens and serves on threads of its own; when this returns, connections are accepted.
    pub fn start(config: Config) -> Result<Handle, ServerError> {
        let folder = |source| ServerError::Folder { dir: config.dir.clone(), source };
        let listen = |source| ServerError::Listen { address: config.listen, source };
        let storage = Storage::open(&config.dir).map_err(folder)?;
        let uploads = Uploads::new(storage.uploads_dir()).map_err(folder)?;
        let listener = TcpListener::bind(config.listen).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;
        let shared = Arc::new(Shared { storage, uploads, user: config.user });
        let (stop, stopped) = watch::channel(false);
        let mut handle = Handle { addr, stop, threads: Vec::new() };
        let count = thread::available_parallelism().map_or(1, |count| count.get().min(THREADS_MAX));
        for _ in 0..count {
            let listener = listener.try_clone().map_err(listen)?;
            let (shared, stopped) = (shared.clone(), stopped.clone());
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(listen)?;
            let serve = move || runtime.block_on(connection::accept(listener, shared, stopped));
            handle.threads.push(thread::Builder::new().name("registry".into()).spawn(serve).map_err(listen)?);
        }
        Ok(handle)
    }
}

impl Handle {
    /// Where it listens, the port chosen included.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops accepting, ends open connections, waits for the threads.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Threads that ended already do not hear it.
        _ = self.stop.send(true);
        for thread in self.threads.drain(..) {
            // A panic there was printed there.
            _ = thread.join();
        }
    }
}
