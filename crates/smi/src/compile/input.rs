//! What a cluster has, as far as a mesh goes by it. Who watches the API server makes these of its objects.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::contract::specs::Transport;
use crate::contract::{Id, Name, Read};

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// How it is reached.
    pub kind: ServiceKind,
    /// Its ports, those of TCP and UDP.
    pub ports: Vec<ServicePort>,
}

/// How a Service is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceKind {
    /// By these addresses (`clusterIPs`): ClusterIP, NodePort and LoadBalancer, with a selector or without.
    ClusterIp(Vec<IpAddr>),
    /// By its pods' addresses: `clusterIP: None`.
    Headless,
    /// It is another name for something outside.
    ExternalName,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; may be empty.
    pub name: String,
    /// Its number.
    pub port: u16,
    /// TCP or UDP.
    pub transport: Transport,
    /// `appProtocol`.
    pub app_protocol: Option<String>,
}

/// An EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Its Service, by the label `kubernetes.io/service-name`.
    pub service: String,
    /// Its ports.
    pub ports: Vec<SlicePort>,
    /// Its endpoints.
    pub endpoints: Vec<SliceEndpoint>,
}

/// A port of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicePort {
    /// Its name, by which a Service's port is found.
    pub name: String,
    /// Its number.
    pub port: u16,
    /// TCP or UDP.
    pub transport: Transport,
}

/// An endpoint of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Its first address, which is the one that counts.
    pub address: IpAddr,
    /// Condition `ready`, which is so where it is not told.
    pub ready: bool,
    /// Condition `serving`, which is as `ready` where it is not told.
    pub serving: bool,
    /// `targetRef`, if that is a Pod.
    pub pod: Option<String>,
    /// Its node.
    pub node: Option<String>,
    /// Its zone.
    pub zone: Option<String>,
}

/// A pod that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its service account.
    pub service_account: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// `podIPs`.
    pub addresses: Vec<IpAddr>,
    /// Its node.
    pub node: Option<String>,
    /// It has its node's network.
    pub host_network: bool,
}

/// Something is as it is now; `None` where it is gone.
#[derive(Debug, Clone)]
pub enum Change {
    /// A Service.
    Service(Name, Option<Service>),
    /// An EndpointSlice.
    Slice(Name, Option<Slice>),
    /// A pod; one that has ended is gone.
    Pod(Name, Option<Pod>),
    /// A namespace's labels.
    Namespace(String, Option<BTreeMap<String, String>>),
    /// An object of the mesh. What [`read`](crate::contract::read) refuses is gone.
    Object(Id, Option<Read>),
}
