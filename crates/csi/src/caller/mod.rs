//! Calls any driver.

mod access;
mod calls;
mod driver;
pub mod health;
pub mod registration;

use std::path::Path;
use std::time::Duration;

use crate::contract::v1::ProbeRequest;

pub use access::access_mode;
pub use driver::Driver;

/// A client of all services, with a method for each call. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    channel: grpc::Channel,
}

impl Client {
    /// Connects to a driver's socket.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn connect(socket: &Path) -> Result<Self, grpc::Error> {
        Ok(Self { channel: grpc::Channel::connect(socket).await? })
    }

    /// The same connection; calls end after this long with [`grpc::Code::DeadlineExceeded`], streams included.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { channel: self.channel.with_deadline(Some(deadline)) }
    }

    /// Whether the connection is gone: further calls would fail.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.channel.is_closed()
    }

    /// Whether the driver is ready: it says so, or nothing of it (spec, Probe).
    ///
    /// # Errors
    /// It is not healthy, or does not answer.
    pub async fn is_ready(&self) -> Result<bool, grpc::Error> {
        Ok(self.probe(ProbeRequest {}).await?.ready.is_none_or(|ready| ready.value))
    }
}
