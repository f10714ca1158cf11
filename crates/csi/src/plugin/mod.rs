//! A driver for volumes of this machine.
//!
//! [`run`] serves all of CSI's services on one socket. `driver` is what the calls work on: `pool`s, which keep what there is, and
//! what of it is in use on this node (`node`). A `backend` is a kind of storage; `controller`, `group` and `node` bring requests
//! to it. Calls that block run on threads of their own, never two on the same volume (`turns`).

mod backend;
mod config;
mod controller;
mod dispatch;
mod driver;
mod group;
mod identity;
mod metadata;
mod node;
mod parameters;
mod pool;
mod text;
mod turns;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use grpc::{Failure, Status};

pub use config::{Config, PoolConfig};
use driver::Driver;
pub use identity::NAME;

/// How long calls that run have to end when the driver ends.
const GRACE: Duration = Duration::from_secs(10);

/// What a driver is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its pools.
    pub config: Config,
    /// What it calls this node, at most 256 bytes: what Kubernetes calls it.
    pub node: String,
    /// Where it remembers what is in use until the next boot.
    pub run: PathBuf,
    /// The socket it serves on.
    pub socket: PathBuf,
}

/// All services, on one driver.
#[derive(Clone)]
struct Service(Arc<Driver>);

/// Serves until `stop` resolves. Volumes in use stay in use. `ready` is called once calls are answered.
///
/// # Errors
/// Another driver has the socket or a pool, or the machine refuses one.
pub async fn run(setup: Setup, stop: impl Future<Output = ()>, ready: impl FnOnce()) -> Result<(), Failure> {
    let taken = format!(
        "another driver serves on {}: stop it, or give this one its own --socket",
        setup.socket.display()
    );
    let socket = setup.socket.clone();
    let (listener, _bound) = grpc::listen(&socket, &taken).await?;
    let opened = tokio::task::spawn_blocking(move || Driver::open(&setup)).await;
    let driver = opened.map_err(|e| Failure::internal(format!("cannot open the pools: {e}")))??;
    let service = Arc::new(Service(Arc::new(driver)));
    let server = grpc::Server::new()
        .service(dispatch::Identity(Arc::clone(&service)))
        .service(dispatch::Controller(Arc::clone(&service)))
        .service(dispatch::GroupController(Arc::clone(&service)))
        .service(dispatch::SnapshotMetadata(Arc::clone(&service)))
        .service(dispatch::Node(service));
    ready();
    server
        .serve(listener, stop, GRACE)
        .await
        .map_err(|e| Failure::internal(format!("cannot serve on {}: {e}", socket.display())))
}

/// Runs what blocks on a thread that may. It goes on to its end when the caller goes away.
async fn block<T: Send + 'static>(
    service: &Service,
    work: impl FnOnce(&Driver) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let driver = Arc::clone(&service.0);
    tokio::task::spawn_blocking(move || work(&driver))
        .await
        .map_err(|e| Failure::internal(format!("a call broke off: {e}")))?
}

/// The same as an answer.
async fn answer<T: Send + 'static>(
    service: &Service,
    work: impl FnOnce(&Driver) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Status> {
    Ok(block(service, work).await?)
}
