use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ::agent::Threshold;
use clap::Args;

/// `sextant up`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sextant up                                      # stays in the foreground; ^C ends the programs, and pods run on
  sextant up -d && export KUBECONFIG=/var/lib/sextant/kubeconfig && kubectl get nodes
  sextant --data-dir /tmp/a/data --run-dir /tmp/a/run up -d --listen 127.0.0.1:7443      # another one beside it
  sextant up -d --cloud-config metal.yaml         # Services of type LoadBalancer get addresses of its pools
  sextant up -d --mesh                            # and a service mesh for pods that are members of it
  sextant up -d --apply shop/                     # and what these files have is applied, and ready a moment later
  sextant status
  sextant down

It starts node, api, services, control and agent (with --mesh, mesh, too) as programs of their own, and starts again what ends. Killed itself and started anew
it takes over what still runs. What each program has to say is in the folder `log` of the data directory.

Two on one machine have the same addresses for Services: the second needs a network namespace of its own, or --without services.")]
pub(crate) struct UpArgs {
    /// Return once everything is up; `sextant down` ends it
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Where the Kubernetes API listens; give it more than once for more addresses
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:6443")]
    pub(crate) listen: Vec<SocketAddr>,
    /// What the node is called [default: the machine's host name]
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// The node's configuration (`sextant node --print-config`)
    #[arg(long, value_name = "FILE", default_value = "/etc/sextant/node.toml")]
    pub(crate) node_config: PathBuf,
    /// Attach pods by the networks in /etc/cni/net.d where there are some, and not always to the node's own bridge
    #[arg(long)]
    pub(crate) cni: bool,
    /// The node's address, as pods and other machines know it [default: the one that the machine's default route begins at, or else
    /// that of the pods' bridge]
    #[arg(long, value_name = "IP")]
    pub(crate) node_ip: Option<IpAddr>,
    /// Where the server of the node's agent listens, for logs, exec, attach and port-forward [default: port 10250 of the node's
    /// address]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) agent_listen: Option<SocketAddr>,
    /// Where pods ask for names; this machine's loopback gets the address
    #[arg(long, value_name = "IP", default_value = "10.96.0.10")]
    pub(crate) dns_address: IpAddr,
    /// Pools of addresses for Services of type LoadBalancer, and an inventory of machines (docs/metal.md); without it these Services
    /// have the node's own address
    #[arg(long, value_name = "FILE")]
    pub(crate) cloud_config: Option<PathBuf>,
    /// With less of the machine left, pods go and none begin, as `sextant agent --eviction-hard` has it [default: memory.available<100Mi and
    /// 5 % of each disk and of its inodes, or 2 Gi of a large disk]
    #[arg(long, value_name = "SIGNAL<AMOUNT,...", value_delimiter = ',')]
    pub(crate) eviction_hard: Option<Vec<Threshold>>,
    /// Have a service mesh: the kinds of SMI, a control plane in `control`, and a program that serves the pods with the label
    /// mesh.sextant.dev/member=true, or of namespaces that have it; no other pod is touched (docs/mesh.md)
    #[arg(long)]
    pub(crate) mesh: bool,
    /// Let members of the mesh send from any address, as `sextant mesh --no-source-check` does: pods that send on for others need it
    #[arg(long, requires = "mesh")]
    pub(crate) no_source_check: bool,
    /// Leave a program out, as somebody else's does its work; give it more than once for more
    #[arg(long, value_name = "PROGRAM", value_parser = ["services", "control", "agent"])]
    pub(crate) without: Vec<String>,
    /// Apply the objects of this file or folder once everything is up; give it more than once for more
    #[arg(long, value_name = "FILE|DIR")]
    pub(crate) apply: Vec<PathBuf>,
    /// This is what `--detach` has started
    #[arg(long, hide = true, conflicts_with = "detach")]
    pub(crate) detached: bool,
}

impl UpArgs {
    /// What the node is called: lower case, as names of Kubernetes are.
    pub(crate) fn node_name(&self) -> String {
        let host = || rustix::system::uname().nodename().to_string_lossy().to_lowercase();
        self.node_name.clone().unwrap_or_else(host)
    }
}

/// `sextant down`
#[derive(Debug, Args)]
#[command(
    after_help = "Pods are taken down and the programs ended. Objects, volumes and images stay: the next `sextant up` has the pods \
that its objects ask for made again."
)]
pub(crate) struct DownArgs {
    /// Only end the programs: pods run on
    #[arg(long)]
    pub(crate) keep_pods: bool,
    /// The node's configuration, as `sextant up` was told
    #[arg(long, value_name = "FILE", default_value = "/etc/sextant/node.toml")]
    pub(crate) node_config: PathBuf,
}

/// `sextant reset`
#[derive(Debug, Args)]
#[command(
    after_help = "What `sextant up` has made goes: its programs, pods, objects, volumes with what is in them, logs and the kubeconfig. Images stay \
(`--images` has them go, too), and so do containers of `sextant run`."
)]
pub(crate) struct ResetArgs {
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Images, too
    #[arg(long)]
    pub(crate) images: bool,
    /// The node's configuration, as `sextant up` was told
    #[arg(long, value_name = "FILE", default_value = "/etc/sextant/node.toml")]
    pub(crate) node_config: PathBuf,
}

/// `sextant status`
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) output: super::OutputArgs,
}
