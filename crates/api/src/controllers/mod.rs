//! What keeps the objects themselves in order: nothing here runs a pod or speaks to a node.
//!
//! - [`Controllers::start`] makes what has to be there from the beginning (namespaces, priority classes, the service
//!   `kubernetes`) and starts the rest.
//! - `garbage` deletes what nobody owns any more, `namespaces` empties namespaces that are deleted, `accounts` gives each
//!   namespace its default service account and the authority's certificate, `events` forgets events after an hour,
//!   `definitions` serves what custom resource definitions say, `quotas` counts what resource quotas limit.
//! - `api_services` says who serves which group and asks those who are others, `addresses` says which address is whose,
//!   `endpoints` where the server is.

mod accounts;
mod addresses;
mod api_services;
mod beginning;
pub(crate) mod definitions;
mod endpoints;
mod events;
mod garbage;
mod health;
mod namespaces;
mod quotas;

use crate::auth::Check;
use crate::contract::Result;
use crate::registry::Registry;
use crate::registry::client::Client;
use std::net::IpAddr;
use tokio::task::JoinSet;

pub(crate) use health::is_of_the_start;

/// What controllers are told once.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The authority's certificate (PEM), for the config map `kube-root-ca.crt` in each namespace.
    pub authority: Option<String>,
    /// The certificate of the authority that the front proxy has its own from (PEM), for servers of other groups.
    pub front_proxy: Option<String>,
    /// The address on which the server listens, told by the endpoints of the service `kubernetes`.
    pub address: Option<IpAddr>,
    /// The port on which the server listens, told by the service `kubernetes`.
    pub port: u16,
}

impl Settings {
    /// The port that is told where none is known yet.
    fn port(&self) -> u16 {
        if self.port == 0 { 6443 } else { self.port }
    }
}

/// Running controllers; they stop when it is dropped.
pub struct Controllers {
    tasks: JoinSet<()>,
    checks: Vec<Check>,
}

impl std::fmt::Debug for Controllers {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Controllers").field("tasks", &self.tasks).finish_non_exhaustive()
    }
}

impl Controllers {
    /// Makes what has to be there, and starts the controllers on the current runtime.
    ///
    /// # Errors
    /// Where the store cannot be read, or a namespace is missing that has to be there and cannot be made.
    pub async fn start(registry: &Registry, settings: Settings) -> Result<Controllers> {
        beginning::make(&Client::new(registry.clone(), "kube-apiserver"), &settings).await?;
        api_services::load(registry)?;
        let mut tasks = JoinSet::new();
        let server = Client::new(registry.clone(), "kube-apiserver");
        let api_services = tasks.spawn(api_services::run(server.clone()));
        let addresses = tasks.spawn(addresses::run(server.clone()));
        let endpoints = tasks.spawn(endpoints::run(server, settings.clone()));
        let client = Client::new(registry.clone(), "kube-controller-manager");
        accounts::give_all(&client, &settings).await?;
        tasks.spawn(accounts::run(client.clone(), settings));
        tasks.spawn(namespaces::run(client.clone()));
        let definitions = definitions::Definitions::serve_all(&client).await?;
        let definitions = tasks.spawn(definitions.run());
        tasks.spawn(garbage::run(client.clone()));
        tasks.spawn(quotas::run(client.clone()));
        tasks.spawn(events::run(client));
        let running = health::Running { api_services, addresses, endpoints, definitions };
        Ok(Controllers { tasks, checks: running.checks(registry) })
    }

    /// The checks of their health, which are whoever's who answers for them.
    pub fn take_checks(&mut self) -> Vec<Check> {
        std::mem::take(&mut self.checks)
    }

    /// Stops them, and waits until the store is let go.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// What tests put into a store as it stands.
#[cfg(test)]
mod kept {
    use crate::store::{Document, Expect, Key, Options, Store, Write};

    pub(super) fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path(), Options::default()).expect("a store");
        (folder, store)
    }

    /// The write of a text that has an empty `resourceVersion`.
    pub(super) fn write(resource: &str, namespace: &str, name: &str, json: &str) -> Write {
        const EMPTY: &str = r#""resourceVersion":""#;
        let revision_at = json.find(EMPTY).expect("it has a version") + EMPTY.len();
        let key =
            Key { resource: resource.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() };
        Write { key, expect: Expect::Any, value: Some(Document { json: json.into(), revision_at }) }
    }
}
