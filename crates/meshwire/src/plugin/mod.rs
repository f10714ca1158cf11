//! The control plane's side: a service on unix sockets, and on any connection that is encrypted already.

mod dispatch;

use std::sync::Arc;

use crate::contract::v1::MeshControl;

/// A server of the one service. Whom it believes is for the service to decide: two kinds of callers have two services.
pub fn server(service: Arc<impl MeshControl>) -> grpc::Server {
    grpc::Server::new().service(dispatch::MeshControl(service))
}
