//! The node agent: what a kubelet does for the pods of a node, over any CRI socket and against any API server.
//!
//! [`run`] registers the node ([`Setup::node`]), keeps its lease and its status, and follows the pods that are bound to it. Each pod has
//! one worker (a key of a [`client::queue`]) that is level-triggered: it compares the pod's spec with what the runtime holds, does the
//! next thing, and writes the pod's status. It is woken by the API server's watch, by the runtime's events, by probes and by time; only a
//! runtime that tells no events is asked, each second.
//!
//! **Nothing but the API server and the runtime knows what is**: which containers belong to a pod is in their labels, how often they
//! were started in their annotations. So the agent may be killed at any moment, and goes on with the containers that run. What it makes
//! itself (folders, mounts, cgroups) is called after the pod's uid, and goes when no pod has that uid any more. What drivers of volumes
//! have made for a pod they alone take back: that is written down before they are asked (`volumes::csi`). So are pods of files, which nobody
//! else knows once their file is gone (`statics::record`).
//!
//! It never: starts a process or mounts a container's file system itself (the runtime does), reads a container's state from anywhere but
//! the runtime, or touches a pod of the runtime that bears another agent's label.

mod agent;
mod cgroups;
mod collect;
mod events;
mod evict;
mod limits;
mod names;
mod node;
mod objects;
mod observed;
mod pod;
mod runtime;
mod server;
mod statics;
mod stats;
mod usage;
mod volumes;

pub use agent::{clear, run};
pub use limits::{Amount, Limits, Signal, Threshold, bytes};
pub use names::AGENT as LABEL;
pub use volumes::csi::drivers::REGISTRY;
pub use volumes::csi::{has_volumes, release_all as release, users};

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// What a node says of its machine where a cloud provider, of another program, is to say the rest.
#[derive(Clone, Debug, Default)]
pub struct Cloud {
    /// Whether there is one: the node waits for it, tainted, and has its addresses from it.
    pub is_external: bool,
    /// The machine's id as its provider has it, where it is known: `metal://rack-1/7`.
    pub provider_id: Option<String>,
    /// Which of the machine's addresses the provider is to say, where one was named.
    pub address: Option<IpAddr>,
}

/// What an agent is told at its start.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The node's name.
    pub node: String,
    /// The runtime's socket.
    pub socket: PathBuf,
    /// The agent's own folder: volumes and what else pods need of files.
    pub folder: PathBuf,
    /// Where logs are: `NAMESPACE_NAME_UID/CONTAINER/N.log`.
    pub logs: PathBuf,
    /// Where links to them are: `POD_NAMESPACE_CONTAINER-ID.log`.
    pub log_links: PathBuf,
    /// The cgroup above `kubepods`: the agent's own, as what is found there of pods that it does not know is ended.
    pub cgroup_root: String,
    /// The node's address, as the API server and pods see it.
    pub address: IpAddr,
    /// Where the agent's own server listens; its port is what the node tells.
    pub listen: SocketAddr,
    /// Whom clients of that server must have their certificate from, in DER; nobody is let in without.
    pub client_authorities: Vec<Vec<u8>>,
    /// Servers of the cluster's DNS, which pods ask.
    pub cluster_dns: Vec<IpAddr>,
    /// The cluster's domain.
    pub cluster_domain: String,
    /// What is said of the machine where a cloud provider describes it.
    pub cloud: Cloud,
    /// More labels of the node.
    pub labels: Vec<(String, String)>,
    /// How many pods the node takes.
    pub pods: u32,
    /// How many process ids each pod may have, threads among them; as many as there are where there is no limit.
    pub pod_pids: Option<u32>,
    /// A file with a pod, or a folder of such, that runs here whatever the API server says.
    pub manifests: Option<PathBuf>,
    /// Whether it offers the API server to answer for `metrics.k8s.io`: it knows its own node alone.
    pub offers_metrics: bool,
    /// What pods may fill before something of theirs goes.
    pub limits: Limits,
    /// How often the lease is renewed; it is four times as long.
    pub renew: Duration,
}
