//! Clouds of any provider: what a cloud controller manager does, and the ranges of addresses that nodes' pods get, which Kubernetes'
//! own kube-controller-manager gives out.
//!
//! Each controller decides in a pure function (`plan`). Names, labels, taints, conditions, events and back-off are Kubernetes' own,
//! so that either can go on where the other stopped.

mod controllers;
mod ipam;
mod lifecycle;
mod metrics;
mod node;
mod route;
mod service;
#[cfg(test)]
mod tests;
mod trouble;

use std::sync::Arc;
use std::time::Duration;

use client::cache::Cache;
use client::events::Events;
use client::queue::{Next, Pace, Rate};
use cpi::contract::{Cidr, CloudProvider};
use k8s_openapi::api::core::v1::{Node, NodeCondition, Service, Taint};
use kube::{Client, Error};

pub use controllers::Controllers;
pub use ipam::Masks;
pub use metrics::Metrics;
pub use trouble::tell_unusable;

use trouble::{OfNodes, Trouble, Waiting};

/// A node that no cloud controller has seen yet has this taint.
const UNINITIALIZED: &str = "node.cloudprovider.kubernetes.io/uninitialized";
/// Nodes that failed are looked at again after this long first: client-go's usual pace.
const NODES: Duration = Duration::from_millis(5);
/// The longest of these waits.
const NODES_LONGEST: Duration = Duration::from_secs(1000);
/// A provider that does not initialize is asked again after this long, and then twice as long each time.
const FIRST: Duration = Duration::from_secs(1);
/// The longest of these waits.
const LONGEST: Duration = Duration::from_secs(60);

/// How the controllers of clouds behave. Defaults are Kubernetes'.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What this process is called in events: the host's name.
    pub host: String,
    /// Which of them run.
    pub controllers: Controllers,
    /// What the provider knows the cluster by.
    pub cluster_name: String,
    /// Addresses of all pods: one range, or one of each family.
    pub cluster_cidrs: Vec<Cidr>,
    /// Addresses of services, which no node gets.
    pub service_cidrs: Vec<Cidr>,
    /// How large a node's part of them is; `None`: nodes get none here.
    pub masks: Option<Masks>,
    /// Whether routes are made, if the provider has any.
    pub routes: bool,
    /// Whether a provider may do without marking what it makes.
    pub allow_untagged: bool,
    /// How often nodes that are not ready are asked about.
    pub node_monitor: Duration,
    /// How often nodes' addresses are asked for.
    pub node_status: Duration,
    /// How often routes are looked at.
    pub route_period: Duration,
    /// How many services are looked at at the same time.
    pub service_syncs: usize,
    /// How many nodes are.
    pub node_syncs: usize,
}

/// What the controllers of clouds have in common.
pub struct Context {
    client: Client,
    setup: Setup,
    nodes: Arc<Cache<Node>>,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("setup", &self.setup).finish_non_exhaustive()
    }
}

impl Context {
    /// Over the cache of nodes that the controllers of volumes have.
    #[must_use]
    pub fn start(volumes: &crate::csi::Context, setup: Setup, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { client: volumes.client.clone(), setup, nodes: volumes.nodes.clone(), metrics })
    }

    /// Events of a controller that Kubernetes calls `component`.
    fn events(&self, component: &str) -> Events {
        Events::new(&self.client, component, &format!("{component}-{}", self.setup.host))
    }

    /// How nodes are looked at that failed.
    fn node_pace(&self) -> Pace {
        of_client_go(self.setup.node_syncs)
    }
}

/// The pace of client-go's usual queue.
fn of_client_go(workers: usize) -> Pace {
    Pace { workers, first: NODES, longest: NODES_LONGEST, spread: 0, rate: Some(Rate::OF_CLIENT_GO) }
}

/// Runs the controller of nodes' ranges, and once the provider is found, those that it makes possible, until it is dropped. `find`
/// finds the provider; where it does not it is asked again, and who waits is told why.
///
/// # Errors
/// A text for people: the provider cannot be used as it is, or the ranges cannot.
pub async fn run(
    context: Arc<Context>,
    find: Option<impl AsyncFnMut() -> Result<Arc<dyn CloudProvider>, String>>,
) -> Result<(), String> {
    context.nodes.filled().await;
    let ranges = ipam::Ipam::new(context.clone())?;
    let ranges = async {
        if let Some(ranges) = ranges {
            ranges.run().await;
        }
        Ok(())
    };
    let clouds = async {
        match find {
            Some(find) => run_with(&context, find).await,
            None => Ok(()),
        }
    };
    tokio::try_join!(ranges, clouds).map(drop)
}

/// Runs what a provider makes possible, once it is found.
async fn run_with(
    context: &Arc<Context>,
    find: impl AsyncFnMut() -> Result<Arc<dyn CloudProvider>, String>,
) -> Result<(), String> {
    let trouble = Trouble::start(&context.client, &context.setup.host);
    let (trouble, of_nodes) = &tokio::join!(trouble, OfNodes::start(context));
    let services: Arc<Cache<Service>> = Cache::start(&context.client);
    let on = context.setup.controllers;
    let provider = {
        let waiting = Waiting::new(context, trouble, &services, &of_nodes.sync);
        let provider = waiting.until_done((on.node, on.service), (FIRST, FIRST), find).await;
        if let Err(why) = check(&*provider, &context.setup) {
            trouble.provider_fails(&why).await;
            trouble.told().await;
            return Err(why);
        }
        let (name, cluster) = (provider.name(), &context.setup.cluster_name);
        let has =
            (on.node && provider.instances().is_some(), on.service && provider.load_balancers().is_some());
        let initialize = async || {
            let done = provider.initialize(cluster).await;
            done.map_err(|error| format!("cannot initialize cloud provider {name}: {error}"))
        };
        waiting.until_done(has, (FIRST, LONGEST), initialize).await;
        trouble.provider_works(name).await;
        provider
    };
    let nodes = async {
        if provider.instances().is_some() {
            let initialize = async {
                if on.node {
                    node::run(context.clone(), provider.clone(), of_nodes.sync.clone()).await;
                }
            };
            let check = async {
                if on.lifecycle {
                    lifecycle::run(context.clone(), provider.clone(), of_nodes.check.clone()).await;
                }
            };
            tokio::join!(initialize, check);
        }
    };
    let services = async {
        if on.service && provider.load_balancers().is_some() {
            service::run(context.clone(), provider.clone(), services).await;
        } else {
            // Nobody asks for them any more.
            drop(services);
        }
    };
    let routes = async {
        let are_wanted = context.setup.routes && !context.setup.cluster_cidrs.is_empty();
        match (on.route, are_wanted) {
            // What is told of them may be another process' affair.
            (false, _) => {}
            (true, true) => route::run(context.clone(), provider.clone(), trouble).await,
            (true, false) => trouble.no_routes().await,
        }
    };
    tokio::join!(nodes, services, routes, trouble::follow(context, &*provider, trouble));
    Ok(())
}

/// Whether a provider can be used so; what it has not is told.
fn check(provider: &dyn CloudProvider, setup: &Setup) -> Result<(), String> {
    let name = provider.name();
    if !provider.has_cluster_id() && !setup.allow_untagged {
        return Err(format!(
            "cannot use cloud provider {name}: it does not mark what it makes with the cluster's id; name the id in its \
             configuration, or accept this by --allow-untagged-cloud"
        ));
    }
    if provider.instances().is_none() {
        eprintln!(
            "sextant control: warning: cloud provider {name} has no instances: nodes are not initialized"
        );
    }
    if setup.routes && provider.routes().is_some() && setup.cluster_cidrs.is_empty() {
        eprintln!("sextant control: warning: no routes are made, as no --cluster-cidr is named");
    }
    Ok(())
}

/// The condition of a node of this type.
fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// A node's taints.
fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

/// The ranges of a node's pods.
fn pod_cidrs(node: &Node) -> &[String] {
    node.spec.as_ref().and_then(|spec| spec.pod_cidrs.as_deref()).unwrap_or_default()
}

/// What comes of a look at a node that failed: what has changed on the way comes, and is looked at soon.
fn told(act: &str, name: &str, looked: Result<Next, Failed>) -> Next {
    match looked {
        Ok(next) => return next,
        Err(Failed::Server(Error::Api(status))) if status.code == 404 => return Next::Done,
        Err(Failed::Server(Error::Api(status))) if status.code == 409 => {}
        Err(error) => eprintln!("sextant control: warning: cannot {act} {name}: {error}"),
    }
    Next::Again
}

/// Why a look failed.
#[derive(Debug, thiserror::Error)]
enum Failed {
    /// The API server's error.
    #[error("{}", client::causes(.0))]
    Server(#[from] Error),
    /// What the provider said, or what is wrong with it.
    #[error("{0}")]
    Cloud(String),
}
