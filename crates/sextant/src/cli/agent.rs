use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

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
    /// How many pods the node takes
    #[arg(long, value_name = "NUMBER", default_value_t = 110)]
    pub(crate) max_pods: u32,
}

fn label(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("give NAME=VALUE")?;
    if name.is_empty() { Err("give NAME=VALUE") } else { Ok((name.to_owned(), value.to_owned())) }
}
