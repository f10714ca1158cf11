//! The client for programs that wait.

use std::path::Path;

use tokio::runtime::{Builder, Runtime};

use super::Client;

/// A client and the runtime that drives it, on the calling thread.
#[derive(Debug)]
pub struct Blocking {
    runtime: Runtime,
    client: Client,
}

impl Blocking {
    /// Connects to a runtime's socket.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(socket: &Path) -> Result<Self, grpc::Error> {
        let failed = |source| grpc::Error::Connect { path: socket.to_owned(), source };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let client = runtime.block_on(Client::connect(socket))?;
        Ok(Self { runtime, client })
    }

    /// Waits for what is done with the client: `cri.wait(async |client| client.version(request).await)`.
    ///
    /// # Panics
    /// Within an asynchronous task.
    pub fn wait<T>(&self, call: impl AsyncFnOnce(&Client) -> T) -> T {
        self.runtime.block_on(call(&self.client))
    }
}
