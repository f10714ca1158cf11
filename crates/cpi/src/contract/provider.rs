//! What a provider implements.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use super::{Error, LoadBalancerStatus, Node, NodeAddress, Service};

/// What a call comes to: `Box::pin(async move { ... })`.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// A cloud that a cluster runs in.
///
/// ```
/// use cpi::contract::{Answer, CloudProvider, InstanceMetadata, Instances, Node};
///
/// /// A rack: what is plugged in is there.
/// struct Rack(Vec<String>);
///
/// impl CloudProvider for Rack {
///     fn name(&self) -> &str {
///         "rack"
///     }
///
///     fn instances(&self) -> Option<&dyn Instances> {
///         Some(self)
///     }
/// }
///
/// impl Instances for Rack {
///     fn instance_exists<'a>(&'a self, node: &'a Node) -> Answer<'a, bool> {
///         Box::pin(async move { Ok(node.metadata.name.as_ref().is_some_and(|name| self.0.contains(name))) })
///     }
///
///     fn instance_shutdown<'a>(&'a self, _: &'a Node) -> Answer<'a, bool> {
///         Box::pin(async move { Ok(false) })
///     }
///
///     fn instance_metadata<'a>(&'a self, node: &'a Node) -> Answer<'a, Option<InstanceMetadata>> {
///         Box::pin(async move {
///             let provider_id = format!("rack://{}", node.metadata.name.as_deref().unwrap_or_default());
///             Ok(Some(InstanceMetadata { provider_id, ..Default::default() }))
///         })
///     }
/// }
/// ```
///
/// # What holds for every call
/// - Nodes and services are as the API server has them, and are not changed by a call. A program of its own gets nodes without
///   managed fields, images and volumes, which would fill its messages.
/// - A call may come again after it was done, as the process that asked may have been killed before it heard of that: each does what
///   is missing, and what it makes is found again though nobody was told of it (by a name or a mark made of the service's or node's
///   uid and the cluster's name).
/// - Calls come at the same time, but never two for the same service.
/// - A call that takes longer than the controllers wait (a minute) is dropped at an await, and counts as failed.
pub trait CloudProvider: Send + Sync + 'static {
    /// The scheme of its instances' provider ids, `<name>://<id>`: lower-case letters, digits, dashes and dots.
    fn name(&self) -> &str;

    /// Whether what it makes is marked with the cluster's id, so that two clusters in one account do not get in each other's way. If
    /// not, the controllers start only when they are told that this is known (`--allow-untagged-cloud`).
    fn has_cluster_id(&self) -> bool {
        true
    }

    /// Comes before all other calls, with what the cluster is called in them, and again whenever controllers start. After an error it
    /// comes again.
    fn initialize<'a>(&'a self, cluster: &'a str) -> Answer<'a, ()> {
        let _unread = cluster;
        Box::pin(std::future::ready(Ok(())))
    }

    /// Comes before the first call for a service, and again whenever controllers start, with all services as the controllers know
    /// them: for who hands out what services keep in their status (Kubernetes' `InformerUser`). Only a provider in the controllers'
    /// process is shown them; one behind a socket is not.
    fn see_services(&self, services: Arc<dyn Services>) {
        let _unread = services;
    }

    /// What is wrong with what the provider goes by, a file that cannot be used as it is, for people: what was to be done, and why it
    /// was not. `None` where nothing is. It is asked for every few seconds while controllers run (`--node-monitor-period`), and becomes
    /// an event when it changes. A provider behind a socket says so when it is asked for its state, every two seconds.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Another number than before when something has changed, beside Services and Nodes, for which load balancers that failed may be
    /// made now. It is asked for as often as [`trouble`](Self::trouble).
    fn revision(&self) -> u64 {
        0
    }

    /// The machines behind nodes; `None`: the controllers of nodes do not run.
    fn instances(&self) -> Option<&dyn Instances> {
        None
    }

    /// Load balancers of services; `None`: that controller does not run.
    fn load_balancers(&self) -> Option<&dyn LoadBalancers> {
        None
    }

    /// Routes to nodes' pods; `None`: there are none. It is asked for at each look of that controller: a provider whose file changes may come
    /// to have them, or not. One behind a socket has said so at the start.
    fn routes(&self) -> Option<&dyn Routes> {
        None
    }

    /// Clusters in the cloud. No controller asks.
    fn clusters(&self) -> Option<&dyn Clusters> {
        None
    }
}

/// All services of the cluster, and what else is seen of it by who hands out addresses.
pub trait Services: Send + Sync {
    /// As the API server last told, and each no older than what the controllers have written of it: a status that a call has led to is
    /// here before the next call for the same service.
    fn all(&self) -> Vec<Arc<Service>>;

    /// All nodes, also those that load balancers are not led to.
    fn nodes(&self) -> Vec<Arc<Node>>;
}

/// What is known of an instance. What is empty gives no label and no address.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InstanceMetadata {
    /// `<name>://<id>`, unique in the cloud; written into the node once, and never changed. Must be set.
    pub provider_id: String,
    /// The kind of machine: label `node.kubernetes.io/instance-type`.
    pub instance_type: String,
    /// The node's addresses; none leaves those that its kubelet has told.
    pub node_addresses: Vec<NodeAddress>,
    /// Where it is, as to failures: label `topology.kubernetes.io/zone`.
    pub zone: String,
    /// Where zones are: label `topology.kubernetes.io/region`.
    pub region: String,
    /// More labels. Those below `kubernetes.io` and `k8s.io` are not taken, and none that the node has is changed.
    pub additional_labels: BTreeMap<String, String>,
}

/// The machines behind nodes: Kubernetes' `InstancesV2`.
///
/// A node's instance is found by its `spec.providerID`, or where that is not set, by its name, labels or annotations.
pub trait Instances: Send + Sync {
    /// Whether the node's instance is there, stopped or not. **A node of which this says no is deleted at once**; an error leaves it.
    fn instance_exists<'a>(&'a self, node: &'a Node) -> Answer<'a, bool>;

    /// Whether it is stopped. Asked only of those that are there and not ready.
    fn instance_shutdown<'a>(&'a self, node: &'a Node) -> Answer<'a, bool>;

    /// What is known of it. `None` where that is nothing yet: the node is left as it is, unscheduled, until it changes.
    fn instance_metadata<'a>(&'a self, node: &'a Node) -> Answer<'a, Option<InstanceMetadata>>;
}

/// What clients outside reach services by. Which services it gets is the controller's affair.
pub trait LoadBalancers: Send + Sync {
    /// What the load balancer of a service is called, whether or not there is one.
    fn load_balancer_name(&self, cluster: &str, service: &Service) -> String {
        let _unread = cluster;
        super::load_balancer_name(service)
    }

    /// Whether a load balancer's status is made of its nodes' addresses: where these or the nodes change, it is then not led to other
    /// nodes, but made as wanted again, so that the status follows. Where this itself becomes another, all are made as wanted again; it
    /// is asked for as often as [`CloudProvider::trouble`].
    fn is_of_nodes(&self) -> bool {
        false
    }

    /// The same of one service, for a provider of which some load balancers are of their nodes' addresses and others are not; else what
    /// [`LoadBalancers::is_of_nodes`] says holds for all. It is asked for as often, and before the load balancer is made. A provider
    /// behind a socket is not asked.
    fn follows_nodes(&self, service: &Service) -> bool {
        let _unread = service;
        self.is_of_nodes()
    }

    /// The load balancer as it is; `None` where there is none.
    fn get_load_balancer<'a>(
        &'a self,
        cluster: &'a str,
        service: &'a Service,
    ) -> Answer<'a, Option<LoadBalancerStatus>>;

    /// Makes it, or makes it as wanted: ports, nodes, source ranges ([`source_ranges`](super::source_ranges)), health checks
    /// ([`health_check`](super::health_check)), and what its annotations say.
    ///
    /// What takes its time answers [`Error::RetryAfter`], and is asked again.
    fn ensure_load_balancer<'a>(
        &'a self,
        cluster: &'a str,
        service: &'a Service,
        nodes: &'a [Node],
    ) -> Answer<'a, LoadBalancerStatus>;

    /// Has it lead to these nodes. Nothing else has changed.
    fn update_load_balancer<'a>(
        &'a self,
        cluster: &'a str,
        service: &'a Service,
        nodes: &'a [Node],
    ) -> Answer<'a, ()>;

    /// Takes it away, with all that belongs to it, also what an earlier call has left half done. One that is not there is taken away.
    fn ensure_load_balancer_deleted<'a>(&'a self, cluster: &'a str, service: &'a Service) -> Answer<'a, ()>;
}

/// A way to the pods of a node, in the cloud's network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Route {
    /// What the cloud calls it; empty in one that is to be made.
    pub name: String,
    /// The node's name; empty where nobody knows it any more.
    pub target_node: String,
    /// Whether `target_node_addresses` tells anything.
    pub enable_node_addresses: bool,
    /// The node's addresses, to which it leads.
    pub target_node_addresses: Vec<NodeAddress>,
    /// The pods' addresses, `10.64.1.0/24`.
    pub destination_cidr: String,
    /// It leads nowhere, as its instance is gone.
    pub blackhole: bool,
}

/// Routes to the pods of each node.
pub trait Routes: Send + Sync {
    /// All that are the cluster's, and only those: what is within its ranges and has no node is deleted.
    fn list_routes<'a>(&'a self, cluster: &'a str) -> Answer<'a, Vec<Route>>;

    /// Makes one. `hint` is part of a good name for it: the node's uid.
    fn create_route<'a>(&'a self, cluster: &'a str, hint: &'a str, route: &'a Route) -> Answer<'a, ()>;

    /// Takes away one as it was listed. One that is not there is taken away.
    fn delete_route<'a>(&'a self, cluster: &'a str, route: &'a Route) -> Answer<'a, ()>;
}

/// Clusters in the cloud.
pub trait Clusters: Send + Sync {
    /// Their names.
    fn list_clusters(&self) -> Answer<'_, Vec<String>>;

    /// Where one's API server is: an address or a name.
    fn master<'a>(&'a self, cluster: &'a str) -> Answer<'a, String>;
}
