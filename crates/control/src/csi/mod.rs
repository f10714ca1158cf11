//! Volumes of any CSI driver: what claims, attachments and snapshots ask for is asked of the driver, and what it says is written
//! down.

mod attach;
pub(crate) mod bind;
mod capacity;
mod claims;
pub mod drivers;
mod failure;
pub(crate) mod finalizers;
mod health;
mod here;
mod modify;
pub(crate) mod names;
mod provision;
pub(crate) mod reach;
mod resize;
pub mod secrets;
mod snapshot;
mod volume;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::cache::Cache;
use client::causes;
use client::events::Events;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Secret};
use k8s_openapi::api::storage::v1::{
    CSIDriver, CSINode, StorageClass, VolumeAttachment, VolumeAttributesClass,
};
use kube::{Api, Client};

pub use drivers::{Drivers, Place};

/// How the controllers of volumes behave.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where drivers listen.
    pub places: Vec<Place>,
    /// What this process is called in events and leases: the host's name.
    pub host: String,
    /// Only on this node: for drivers whose controller part is on each node (`--node` of the command). `None` for the controllers of a
    /// whole cluster.
    pub node: Option<String>,
    /// How long a driver may take for a call.
    pub deadline: Duration,
    /// Whether claims are bound to volumes here, too: where no kube-controller-manager does it.
    pub bind: bool,
    /// Whether VolumeSnapshots and VolumeGroupSnapshots are looked after here, and not only their contents: not where the cluster has a
    /// snapshot-controller already, of which there must be one for all drivers.
    pub snapshot_controller: bool,
}

/// What all controllers of volumes have in common.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// What was asked for at the start.
    pub setup: Setup,
    /// The drivers there are.
    pub drivers: Arc<Drivers>,
    /// Events of the controllers.
    pub events: Events,
    /// All claims.
    pub claims: Arc<Cache<PersistentVolumeClaim>>,
    /// All volumes.
    pub volumes: Arc<Cache<PersistentVolume>>,
    /// All storage classes.
    pub classes: Arc<Cache<StorageClass>>,
    /// All classes of volume attributes.
    pub attributes: Arc<Cache<VolumeAttributesClass>>,
    /// All nodes.
    pub nodes: Arc<Cache<Node>>,
    /// What the cluster is told of drivers.
    pub csi_drivers: Arc<Cache<CSIDriver>>,
    /// The drivers on all nodes.
    pub csi_nodes: Arc<Cache<CSINode>>,
    /// All attachments.
    pub attachments: Arc<Cache<VolumeAttachment>>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("setup", &self.setup).finish_non_exhaustive()
    }
}

impl Context {
    /// Connects caches and drivers. Everything runs as tasks of the current runtime.
    #[must_use]
    pub fn start(client: Client, setup: Setup) -> Arc<Self> {
        let events = Events::new(&client, "sextant-control", &setup.host);
        Arc::new(Self {
            drivers: Drivers::start(setup.places.clone(), setup.deadline),
            events,
            claims: Cache::start(&client),
            volumes: Cache::start(&client),
            classes: Cache::start(&client),
            attributes: Cache::start(&client),
            nodes: Cache::start(&client),
            csi_drivers: Cache::start(&client),
            csi_nodes: Cache::start(&client),
            attachments: Cache::start(&client),
            client,
            setup,
        })
    }

    /// Resolves once what was there at the start is known; of classes of attributes nothing need be: a cluster may know no such kind.
    pub async fn filled(&self) {
        self.claims.filled().await;
        self.volumes.filled().await;
        self.classes.filled().await;
        self.nodes.filled().await;
        self.csi_nodes.filled().await;
        self.attachments.filled().await;
    }

    /// What a secret holds, as a driver gets it.
    ///
    /// # Errors
    /// It is not there, or cannot be read; or a value is not UTF-8, which no driver could be given.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<BTreeMap<String, String>, String> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = api
            .get(name)
            .await
            .map_err(|error| format!("cannot read secret {namespace}/{name}: {}", causes(&error)))?;
        let mut values = BTreeMap::new();
        for (key, value) in secret.data.unwrap_or_default() {
            let value = String::from_utf8(value.0)
                .map_err(|_| format!("secret {namespace}/{name}: the value of {key} is not UTF-8"))?;
            values.insert(key, value);
        }
        Ok(values)
    }
}

/// Runs the controllers of volumes until it is dropped.
pub async fn run(context: Arc<Context>) {
    context.filled().await;
    let binder = async {
        if context.setup.bind {
            bind::run(context.clone()).await;
        }
    };
    tokio::join!(
        provision::run(context.clone()),
        capacity::run(context.clone()),
        attach::run(context.clone()),
        resize::run(context.clone()),
        modify::run(context.clone()),
        health::run(context.clone()),
        snapshot::run(&context),
        binder,
    );
}
