use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ::agent::{Limits, Threshold};
use clap::Args;

/// `sextant agent`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sextant agent                                   # beside `sextant api` and `sextant node`
  sextant agent --socket /run/containerd/containerd.sock --kubeconfig /etc/kubernetes/admin.conf
  sextant agent --cluster-dns 10.96.0.10 --listen 10.1.1.1:10250 --node-ip 10.1.1.1

It does a kubelet's work for the pods that are bound to its node. End it at any moment, and start it again: pods run on.")]
pub(crate) struct AgentArgs {
    /// How to reach the API server [default: KUBECONFIG; in a pod, the pod's service account; else what `sextant api` has written
    /// into the data directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The runtime's socket, of any runtime that serves CRI [default: cri.sock in the run directory]
    #[arg(long, value_name = "PATH", env = "CONTAINER_RUNTIME_ENDPOINT", value_parser = super::csi::socket)]
    pub(crate) socket: Option<PathBuf>,
    /// The node's name [default: this machine's, in lower case]
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// The node's address, at which the API server finds this agent's server [default: where it listens, or else the address that
    /// the machine's default route begins at]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) node_ip: Option<IpAddr>,
    /// Another program describes the machine, a provider's controllers (`sextant control --cloud-provider`, or a cloud controller
    /// manager): a new node is tainted until they have, and its addresses are theirs; --node-ip says which of them it is to have
    #[arg(long, value_name = "WHERE", value_parser = ["external"])]
    pub(crate) cloud_provider: Option<String>,
    /// The machine's id as its cloud provider has it, which a new node is registered with [default: the provider says it]
    #[arg(long, value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) provider_id: Option<String>,
    /// Another label of the node; give it more than once for more
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    pub(crate) label: Vec<(String, String)>,
    /// Where its server listens, for logs, exec, attach and port-forward
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:10250")]
    pub(crate) listen: SocketAddr,
    /// Whom clients of that server have their certificate from, in PEM [default: the authority that the kubeconfig names]
    #[arg(long, value_name = "FILE")]
    pub(crate) client_ca: Option<PathBuf>,
    /// A server of the cluster's DNS, which pods ask; give it more than once for more [default: the machine's own servers]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) cluster_dns: Vec<IpAddr>,
    /// The cluster's domain
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub(crate) cluster_domain: String,
    /// Where logs of containers are written
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/log/pods")]
    pub(crate) logs: PathBuf,
    /// Where links to these logs are made, POD_NAMESPACE_CONTAINER-ID.log, as collectors of logs look for them [default: the folder
    /// `containers` beside that of the logs]
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) log_links: Option<PathBuf>,
    /// How many pods the node takes
    #[arg(long, value_name = "NUMBER", default_value_t = 110)]
    pub(crate) max_pods: u32,
    /// How many process ids each pod may have, threads among them [default: no limit but the machine's]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pod_pids_limit: Option<u32>,
    /// A file with a pod, or a folder of such: they run on this node whatever the API server says, and also without one
    #[arg(long, value_name = "PATH")]
    pub(crate) pod_manifest_path: Option<PathBuf>,
    /// Offer the API server to answer for metrics.k8s.io (`kubectl top`, autoscalers): for this node alone
    #[arg(long)]
    pub(crate) offer_metrics: bool,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
}

/// What pods may fill. The names are a kubelet's, and so is what they are by default.
#[derive(Debug, Args)]
#[command(next_help_heading = "What pods may fill")]
pub(crate) struct LimitArgs {
    /// How large a container's log may be before it is rotated
    #[arg(long, value_name = "BYTES", default_value = "10Mi", value_parser = ::agent::bytes)]
    pub(crate) container_log_max_size: u64,
    /// How many files a container's log has at most
    #[arg(long, value_name = "NUMBER", default_value_t = 5, value_parser = clap::value_parser!(u16).range(2..))]
    pub(crate) container_log_max_files: u16,
    /// Images that nobody uses go once so many percent of their disk are taken; none where it is 100
    #[arg(long, value_name = "PERCENT", default_value_t = 85, value_parser = clap::value_parser!(u8).range(..=100))]
    pub(crate) image_gc_high_threshold: u8,
    /// ... until no more than so many are
    #[arg(long, value_name = "PERCENT", default_value_t = 80, value_parser = clap::value_parser!(u8).range(..=100))]
    pub(crate) image_gc_low_threshold: u8,
    /// An image that was there for less time stays
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub(crate) minimum_image_ttl_duration: u64,
    /// With less of the machine left, pods go [default:
    /// memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%,imagefs.inodesFree<5%]
    #[arg(long, value_name = "SIGNAL<AMOUNT,...", value_delimiter = ',')]
    pub(crate) eviction_hard: Option<Vec<Threshold>>,
    /// How long a shortage is told of after it has ended
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) eviction_pressure_transition_period: u64,
    /// How often it is looked what pods fill
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) housekeeping_interval: u64,
}

impl LimitArgs {
    /// As the agent takes them.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            log_size: self.container_log_max_size,
            log_files: self.container_log_max_files.into(),
            images_high: self.image_gc_high_threshold,
            images_low: self.image_gc_low_threshold.min(self.image_gc_high_threshold),
            image_age: Duration::from_secs(self.minimum_image_ttl_duration),
            eviction: self.eviction_hard.clone().unwrap_or_else(|| Limits::default().eviction),
            pressure: Duration::from_secs(self.eviction_pressure_transition_period),
            look: Duration::from_secs(self.housekeeping_interval),
        }
    }
}

fn label(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("give NAME=VALUE")?;
    if name.is_empty() { Err("give NAME=VALUE") } else { Ok((name.to_owned(), value.to_owned())) }
}
