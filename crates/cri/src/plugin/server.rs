//! Both services on one socket.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;

use super::dispatch;
use crate::contract::v1::{ImageService, RuntimeService};

/// Serves both services until `stop` resolves; then running calls have `grace` to end, and streams end at once.
///
/// Handlers run on the runtime this is called from, which may have a single thread: what blocks (files, mounts, waiting
/// for a process) goes through [`tokio::task::spawn_blocking`]. A handler is dropped at an await when its caller goes
/// away or runs out of time; what must be brought to an end runs in a task or thread of its own.
///
/// # Errors
/// The listener's, where it cannot go on.
pub async fn serve(
    listener: UnixListener,
    runtime: Arc<impl RuntimeService>,
    images: Arc<impl ImageService>,
    stop: impl Future<Output = ()>,
    grace: Duration,
) -> std::io::Result<()> {
    let server = grpc::Server::new()
        .service(dispatch::RuntimeService(runtime))
        .service(dispatch::ImageService(images));
    server.serve(listener, stop, grace).await
}
