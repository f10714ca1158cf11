//! Services of any driver, on one socket: what an author of another driver begins with.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use grpc::Failure;

use super::dispatch;
use crate::contract::v1;

/// How long calls that run have to end when the driver ends.
const GRACE: Duration = Duration::from_secs(10);

/// What a driver serves. Requests are checked ([`Validate`](crate::contract::Validate)) before they reach a handler; calls that a
/// service does not have answer Unimplemented.
pub struct Services(grpc::Server);

impl Default for Services {
    fn default() -> Services {
        Services(grpc::Server::new().any_authority())
    }
}

impl Services {
    /// None yet.
    #[must_use]
    pub fn new() -> Services {
        Services::default()
    }

    /// Who the driver is: every driver has this.
    #[must_use]
    pub fn identity(self, service: Arc<impl v1::Identity>) -> Services {
        Services(self.0.service(dispatch::Identity(service)))
    }

    /// Volumes and snapshots.
    #[must_use]
    pub fn controller(self, service: Arc<impl v1::Controller>) -> Services {
        Services(self.0.service(dispatch::Controller(service)))
    }

    /// Snapshots of several volumes.
    #[must_use]
    pub fn group_controller(self, service: Arc<impl v1::GroupController>) -> Services {
        Services(self.0.service(dispatch::GroupController(service)))
    }

    /// Blocks of snapshots.
    #[must_use]
    pub fn snapshot_metadata(self, service: Arc<impl v1::SnapshotMetadata>) -> Services {
        Services(self.0.service(dispatch::SnapshotMetadata(service)))
    }

    /// Volumes where they are used.
    #[must_use]
    pub fn node(self, service: Arc<impl v1::Node>) -> Services {
        Services(self.0.service(dispatch::Node(service)))
    }

    /// Serves on a socket until `stop` resolves; calls that run then have ten seconds to end. `ready` is called once calls are
    /// answered.
    ///
    /// # Errors
    /// Somebody else serves there, or the machine refuses it.
    pub async fn serve(
        self,
        socket: &Path,
        stop: impl Future<Output = ()>,
        ready: impl FnOnce(),
    ) -> Result<(), Failure> {
        let taken = format!(
            "another driver serves on {}: stop it, or give this one its own socket",
            socket.display()
        );
        let (listener, _bound) = grpc::listen(socket, &taken).await?;
        ready();
        let served = self.0.serve(listener, stop, GRACE).await;
        served.map_err(|e| Failure::internal(format!("cannot serve on {}: {e}", socket.display())))
    }
}
