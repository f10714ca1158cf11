//! Workloads: what kube-scheduler and the controllers of pods in kube-controller-manager do, for an API server without them.
//!
//! Each controller decides in a pure function what is to be done next for one object as the caches show it, and does that. What it
//! makes and deletes is awaited (`awaited`) before it decides again. Names, labels, annotations, conditions and events are
//! Kubernetes' own, so that either can go on where the other stopped.

mod autoscaler;
mod awaited;
mod cron_job;
mod daemon_set;
mod deployment;
mod disruption;
mod endpoints;
mod ephemeral;
mod hands;
mod job;
mod leftovers;
mod nodes;
mod owned;
mod pods;
mod replica_set;
mod revisions;
mod scheduler;
mod share;
mod spared;
mod stateful_set;
mod status;
mod words;

use std::sync::Arc;
use std::time::Duration;

use client::cache::{Cache, Name};
use client::events::Events;
use client::queue::{Next, Pace};
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController,
};
use k8s_openapi::api::storage::v1::{CSIDriver, CSIStorageCapacity, StorageClass};
use kube::{Client, Error};

use crate::csi;

/// What fails is tried again soon, and not for ever as often.
const PACE: Pace = Pace {
    workers: 5,
    first: Duration::from_millis(100),
    longest: Duration::from_secs(60),
    spread: 25,
    rate: None,
};

/// The label by which pods of one template of a Deployment are told from those of another; the name of their ReplicaSet ends with it.
pub(crate) const TEMPLATE_HASH: &str = "pod-template-hash";

/// What has to come through the cache is asked about after this long, if nothing is heard.
const LATE: Duration = Duration::from_secs(1);

/// What the controllers of workloads have in common.
pub struct Context {
    client: Client,
    host: String,
    pods: Arc<Cache<Pod>>,
    nodes: Arc<Cache<Node>>,
    namespaces: Arc<Cache<Namespace>>,
    claims: Arc<Cache<PersistentVolumeClaim>>,
    volumes: Arc<Cache<PersistentVolume>>,
    classes: Arc<Cache<StorageClass>>,
    drivers: Arc<Cache<CSIDriver>>,
    capacities: Arc<Cache<CSIStorageCapacity>>,
    replica_sets: Arc<Cache<ReplicaSet>>,
    replication_controllers: Arc<Cache<ReplicationController>>,
    deployments: Arc<Cache<Deployment>>,
    stateful_sets: Arc<Cache<StatefulSet>>,
    daemon_sets: Arc<Cache<DaemonSet>>,
    revisions: Arc<Cache<ControllerRevision>>,
    jobs: Arc<Cache<Job>>,
    cron_jobs: Arc<Cache<CronJob>>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Context {
    /// Connects caches; those of volumes and nodes are those that the controllers of volumes have.
    #[must_use]
    pub fn start(volumes: &csi::Context) -> Arc<Self> {
        let client = volumes.client.clone();
        Arc::new(Self {
            host: volumes.setup.host.clone(),
            pods: Cache::start(&client),
            nodes: volumes.nodes.clone(),
            namespaces: Cache::start(&client),
            claims: volumes.claims.clone(),
            volumes: volumes.volumes.clone(),
            classes: volumes.classes.clone(),
            drivers: Cache::start(&client),
            capacities: Cache::start(&client),
            replica_sets: Cache::start(&client),
            replication_controllers: Cache::start(&client),
            deployments: Cache::start(&client),
            stateful_sets: Cache::start(&client),
            daemon_sets: Cache::start(&client),
            revisions: Cache::start(&client),
            jobs: Cache::start(&client),
            cron_jobs: Cache::start(&client),
            client,
        })
    }

    /// Events of a controller that Kubernetes calls `component`.
    fn events(&self, component: &str) -> Events {
        Events::new(&self.client, component, &format!("{component}-{}", self.host))
    }

    async fn filled(&self) {
        tokio::join!(
            self.pods.filled(),
            self.nodes.filled(),
            self.namespaces.filled(),
            self.claims.filled(),
            self.volumes.filled(),
            self.classes.filled(),
            self.drivers.filled(),
            self.capacities.filled(),
            self.replica_sets.filled(),
            self.replication_controllers.filled(),
            self.deployments.filled(),
            self.stateful_sets.filled(),
            self.daemon_sets.filled(),
            self.revisions.filled(),
            self.jobs.filled(),
            self.cron_jobs.filled(),
        );
    }
}

/// Runs the controllers of workloads until it is dropped.
pub async fn run(context: Arc<Context>) {
    context.filled().await;
    tokio::join!(
        scheduler::run(context.clone()),
        autoscaler::run(context.clone()),
        replica_set::run(context.clone()),
        deployment::run(context.clone()),
        endpoints::run(context.clone()),
        ephemeral::run(context.clone()),
        stateful_set::run(context.clone()),
        daemon_set::run(context.clone()),
        job::run(context.clone()),
        cron_job::run(context.clone()),
        disruption::run(context.clone()),
        spared::run(context.clone()),
        leftovers::run(context.clone()),
        nodes::run(context.clone()),
    );
}

/// What comes of a look. Conflicts are of the day: what has changed comes, and is looked at.
fn told(kind: &str, name: &Name, looked: Result<Next, Error>) -> Next {
    match looked {
        Ok(next) => return next,
        Err(Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Err(error) => {
            eprintln!("sextant control: warning: cannot look after {kind} {name}: {}", hands::says(&error));
        }
    }
    Next::Again
}
