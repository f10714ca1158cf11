//! What keeps the objects themselves in order: nothing here runs a pod or speaks to a node.
//!
//! - [`Controllers::start`] makes what has to be there from the beginning (namespaces, priority classes, the service
//!   `kubernetes`) and starts the rest.
//! - `garbage` deletes what nobody owns any more, `namespaces` empties namespaces that are deleted, `accounts` gives each
//!   namespace its default service account and the authority's certificate, `events` forgets events after an hour,
//!   `definitions` serves what custom resource definitions say, `quotas` counts what resource quotas limit.

mod accounts;
mod beginning;
pub(crate) mod definitions;
mod events;
mod garbage;
mod namespaces;
mod quotas;

use crate::contract::Result;
use crate::registry::Registry;
use crate::registry::client::Client;
use tokio::task::JoinSet;

/// What controllers are told once.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The authority's certificate (PEM), for the config map `kube-root-ca.crt` in each namespace.
    pub authority: Option<String>,
    /// The port on which the server listens, told by the service `kubernetes`.
    pub port: u16,
}

/// Running controllers; they stop when it is dropped.
#[derive(Debug)]
pub struct Controllers {
    tasks: JoinSet<()>,
}

impl Controllers {
    /// Makes what has to be there, and starts the controllers on the current runtime.
    ///
    /// # Errors
    /// Where what has to be there cannot be made.
    pub async fn start(registry: &Registry, settings: Settings) -> Result<Controllers> {
        beginning::make(&Client::new(registry.clone(), "kube-apiserver"), &settings).await?;
        let mut tasks = JoinSet::new();
        let client = Client::new(registry.clone(), "kube-controller-manager");
        accounts::give_all(&client, &settings).await?;
        tasks.spawn(accounts::run(client.clone(), settings));
        tasks.spawn(namespaces::run(client.clone()));
        let definitions = definitions::Definitions::serve_all(&client).await?;
        tasks.spawn(definitions.run());
        tasks.spawn(garbage::run(client.clone()));
        tasks.spawn(quotas::run(client.clone()));
        tasks.spawn(events::run(client));
        Ok(Controllers { tasks })
    }

    /// Stops them, and waits until the store is let go.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}
