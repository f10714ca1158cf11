//! The control plane of a mesh: it follows the cluster, compiles what each node has to know, and tells nodes what changes; it has the certificate authority of
//! the members' identities, and tells the authors of objects what is wrong with them.
//!
//! Several processes may do the first part at once. What is written (the authority, statuses, events) is written by the one that leads.

mod authority;
mod callers;
mod hub;
mod keeper;
mod listen;
mod service;
mod statuses;
#[cfg(test)]
mod tests;
mod told;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use smi::compile::{Outcome, Settings};
use smi::contract::Name;
use tokio::time::timeout;

use super::definitions;
use super::metrics::Metrics;
use callers::{Callers, Tokens};
use hub::Hub;
use keeper::Keeper;
use listen::{OF_NODE, Places};
use service::Calls;
use statuses::Statuses;

/// Where the authority is kept.
const NAMESPACE: &str = "kube-system";
/// The Secret with its roots and their keys.
const SECRET: &str = "sextant-mesh-ca";
/// The ConfigMap with the certificates of those that are to be trusted.
const ROOTS: &str = "sextant-mesh-roots";

/// Where the certificates of those are that sign for a mesh: namespace, name and entry of a ConfigMap.
pub const TRUSTED: [&str; 3] = [NAMESPACE, ROOTS, "roots.pem"];

/// Where nodes call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A socket's file: who may connect to it may do everything.
    Unix(PathBuf),
    /// An address, over TLS, for nodes that show a token.
    Tcp(SocketAddr),
}

/// The control plane.
pub struct Plane {
    client: Client,
    settings: Settings,
    hub: Arc<Hub>,
    keeper: Keeper,
    statuses: Arc<Statuses>,
    /// Service accounts whose tokens are those of nodes' proxies.
    accounts: Vec<Name>,
    /// What nodes say of traffic, where somebody may ask for it.
    metrics: Option<Arc<Metrics>>,
}

impl std::fmt::Debug for Plane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plane").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Plane {
    /// Begins to follow the authority. Calls over TCP are taken from proxies that run as one of `accounts`. With `metrics` nodes tell what traffic there
    /// was, and API servers may ask for it at that address.
    #[must_use]
    pub fn start(
        client: &Client,
        settings: Settings,
        accounts: Vec<Name>,
        metrics: Option<SocketAddr>,
    ) -> Arc<Self> {
        Arc::new(Self {
            metrics: metrics.map(|address| Arc::new(Metrics::new(client, address))),
            keeper: Keeper::start(client),
            statuses: Arc::new(Statuses::default()),
            hub: Arc::new(Hub::default()),
            client: client.clone(),
            settings,
            accounts,
        })
    }

    /// Follows the cluster and answers nodes at these addresses, for as long as it is polled. With `defines` it sees that the cluster has the definitions
    /// of SMI's kinds, and gives that a while before it follows anything.
    ///
    /// # Errors
    /// A text for people: one of the addresses, or that of metrics, cannot be listened on.
    pub async fn serve(&self, addresses: &[Address], defines: bool) -> Result<(), String> {
        let (hub, statuses) = (self.hub.clone(), self.statuses.clone());
        let told = move |outcome: Outcome| {
            statuses.take(outcome.reports);
            if let Err(error) = hub.take(outcome.delta) {
                eprintln!("sextant control: warning: mesh: cannot write what nodes are to be told: {error}");
            }
        };
        let following = async {
            let mut defining = pin!(async {
                if defines {
                    definitions::ensure(&self.client).await;
                }
            });
            // A kind that comes later is found later.
            let is_done = timeout(definitions::PATIENCE, defining.as_mut()).await.is_ok();
            let late = async move {
                if !is_done {
                    defining.await;
                }
            };
            let metrics = self.metrics.clone();
            let seen = move |name: &Name, pod: Option<&Pod>| {
                if let Some(metrics) = &metrics {
                    metrics.sees(name, pod);
                }
            };
            let following = super::follow_pods(&self.client, self.settings.clone(), None, told, seen);
            tokio::join!(following, late);
        };
        let answering = async {
            match &self.metrics {
                Some(metrics) => metrics.serve().await,
                None => std::future::pending().await,
            }
        };
        let serving =
            futures_util::future::try_join_all(addresses.iter().map(|address| self.listen(address)));
        tokio::select! {
            () = following => Ok(()),
            served = serving => served.map(drop),
            never = answering => never.map(|never| match never {}),
        }
    }

    async fn listen(&self, address: &Address) -> Result<(), String> {
        let calls = |callers: Callers| {
            let (hub, authority) = (self.hub.clone(), self.keeper.authority());
            let (following, metrics) = (Arc::new(Places::new(OF_NODE)), self.metrics.clone());
            Arc::new(Calls { hub, authority, callers, following, metrics })
        };
        match address {
            Address::Unix(path) => listen::unix(calls(Callers::Root), Path::new(path)).await,
            Address::Tcp(address) => {
                let tokens = Box::new(Tokens::new(&self.client, self.accounts.clone()));
                listen::tcp(calls(Callers::Tokens(tokens)), *address).await
            }
        }
    }

    /// What one process does: it keeps the authority, tells the authors of objects what there is to say, and has the API server ask this process for metrics
    /// if it has any, for as long as it is polled. `host` is what it is
    /// called in events.
    pub async fn lead(&self, host: &str) {
        let offering = async {
            if let Some(metrics) = &self.metrics {
                metrics.offer().await;
            }
        };
        tokio::join!(self.keeper.lead(), self.statuses.tell(&self.client, host), offering);
    }
}

/// Any bytes where a node's request for a certificate is read: what the fuzz target feeds.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    authority::exercise(bytes);
}
