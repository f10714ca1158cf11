//! A provider that is a program of its own, as one of this process.

mod calls;
pub mod check;
mod remote;

use std::path::Path;
use std::time::Duration;

pub use remote::Remote;

/// A client of all services, with a method for each call. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    channel: grpc::Channel,
}

impl Client {
    /// Connects to a provider's socket. Calls end after `deadline`.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn connect(socket: &Path, deadline: Duration) -> Result<Self, grpc::Error> {
        let channel = grpc::Channel::connect(socket).await?;
        Ok(Self { channel: channel.with_deadline(Some(deadline)) })
    }

    /// Whether the connection is gone: further calls would fail.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.channel.is_closed()
    }
}

/// Any bytes where a provider's answers are read: what the fuzz target feeds. No panic, whatever they are.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    crate::contract::wire::exercise(bytes);
}
