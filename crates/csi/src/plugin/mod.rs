//! A driver for volumes of this machine.
//!
//! [`run`] serves all of CSI's services on one socket; [`Services`] is for drivers of others. `driver` is what the calls work on: `pool`s, which keep what there is, and
//! what of it is in use on this node (`node`). A `backend` is a kind of storage; `controller`, `group` and `node` bring requests
//! to it. Calls that block run on threads of their own, never two on the same volume (`turns`).

mod backend;
mod config;
mod controller;
mod dispatch;
mod driver;
mod group;
mod hold;
mod identity;
mod metadata;
mod node;
mod parameters;
mod pool;
pub mod process;
mod services;
mod text;
mod turns;

use std::path::PathBuf;
use std::sync::Arc;

use grpc::{Failure, Status};
use serde::{Deserialize, Serialize};

pub use config::{Config, PoolConfig};
use driver::Driver;
pub use identity::NAME;
pub use services::Services;

/// Any bytes where the driver keeps or finds some: what the fuzz targets feed. No panic, whatever they are.
#[doc(hidden)]
pub mod fuzz {
    /// Records in a pool at `path`, which is empty; what is in use; an image's superblock.
    pub fn records(bytes: &[u8], path: &std::path::Path) {
        super::pool::exercise(bytes, &path.join("pool")).expect("the machine has room for a pool");
        super::node::exercise(bytes, &path.join("run"));
        super::backend::filesystem::exercise(bytes);
    }
}

/// What a driver is made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    let socket = setup.socket.clone();
    let opened = tokio::task::spawn_blocking(move || Driver::open(&setup)).await;
    let driver = opened.map_err(|e| Failure::internal(format!("cannot open the pools: {e}")))??;
    let service = Arc::new(Service(Arc::new(driver)));
    Services::new()
        .identity(Arc::clone(&service))
        .controller(Arc::clone(&service))
        .group_controller(Arc::clone(&service))
        .snapshot_metadata(Arc::clone(&service))
        .node(service)
        .serve(&socket, stop, ready)
        .await
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
