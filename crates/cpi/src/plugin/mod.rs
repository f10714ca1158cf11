//! A provider as a program of its own.

mod dispatch;
mod served;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use grpc::Failure;

use crate::contract::CloudProvider;
use served::Served;

/// How long calls that run have to end when the provider ends.
const GRACE: Duration = Duration::from_secs(10);

/// Serves a provider on a socket until `stop` resolves. `ready` is called once calls are answered.
///
/// # Errors
/// Somebody else serves there, the machine refuses it, or the provider has no name that it may have.
pub async fn serve(
    provider: Arc<dyn CloudProvider>,
    socket: &Path,
    stop: impl Future<Output = ()>,
    ready: impl FnOnce(),
) -> Result<(), Failure> {
    crate::contract::wire::provider_name(provider.name())?;
    let taken =
        format!("another provider serves on {}: stop it, or give this one its own socket", socket.display());
    let (listener, _bound) = grpc::listen(socket, &taken).await?;
    ready();
    let served = Arc::new(Served(provider));
    // Other languages' clients name a socket's path as authority.
    let server = grpc::Server::new()
        .any_authority()
        .service(dispatch::Provider(Arc::clone(&served)))
        .service(dispatch::Instances(Arc::clone(&served)))
        .service(dispatch::LoadBalancers(Arc::clone(&served)))
        .service(dispatch::Routes(Arc::clone(&served)))
        .service(dispatch::Clusters(served));
    let done = server.serve(listener, stop, GRACE).await;
    done.map_err(|e| Failure::internal(format!("cannot serve on {}: {e}", socket.display())))
}
