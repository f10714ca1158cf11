//! A node's side.

mod calls;
mod tls;

use std::path::Path;
use std::time::Duration;

pub use tls::Unusable;

/// A client of the service. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    channel: grpc::Channel,
}

impl Client {
    /// Connects to a socket's file, which root alone may do.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn connect(socket: &Path) -> Result<Self, grpc::Error> {
        Ok(Self { channel: grpc::Channel::connect(socket).await? })
    }

    /// Connects to `HOST:PORT`, where somebody must be whom one of `roots` (in DER) has signed as the control plane.
    ///
    /// # Errors
    /// Nobody is there, or somebody else, or none of the roots is one.
    pub async fn connect_tls(address: &str, roots: &[Vec<u8>]) -> Result<Self, Unusable> {
        Ok(Self { channel: tls::connect(address, roots).await? })
    }

    /// The same connection; calls end after this long.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { channel: self.channel.with_deadline(Some(deadline)) }
    }

    /// Whether the connection is gone: further calls would fail.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.channel.is_closed()
    }
}
