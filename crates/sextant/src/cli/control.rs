use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use control::mesh::Address;
use mesh::identity::Identity;
use smi::contract::Name;

/// `sextant control`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sextant control                                  # beside `sextant api` and `sextant csi-driver`
  sextant control --workloads --bind               # the same, and all that pods need: scheduler, deployments, jobs, ...
  sextant control --kubeconfig /etc/kubernetes/admin.conf --csi-socket unix:///csi/csi.sock
  sextant control --csi-dir /var/lib/kubelet/plugins --node node-1
  sextant control --leader-elect --csi-socket /csi/csi.sock         # in a Deployment with several replicas
  sextant control --cloud-provider unix:///run/cloud.sock --cluster-cidr 10.64.0.0/16
  sextant control --mesh unix:/run/sextant/mesh.sock                # the control plane of a mesh

It does for every driver that it finds what the sidecars of Kubernetes do for one: it provisions, attaches, resizes and snapshots
volumes. It keeps nothing of its own: end it at any moment, and start it again.")]
pub(crate) struct ControlArgs {
    /// How to reach the API server [default: KUBECONFIG; in a pod, the pod's service account; else what `sextant api` has written
    /// into the data directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// A driver's socket; give it more than once for more drivers [default: csi.sock in the run directory, and all in
    /// /var/lib/kubelet/plugins]
    #[arg(long, value_name = "PATH", env = "CSI_ENDPOINT", value_parser = super::csi::socket)]
    pub(crate) csi_socket: Vec<PathBuf>,
    /// A directory with sockets of drivers, *.sock and */csi.sock; give it more than once for more
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) csi_dir: Vec<PathBuf>,
    /// Only for volumes of this node: for drivers whose controller part is on each node. VolumeSnapshots are left to one without it
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// Bind claims to volumes, too, and hold both while they are used: where there is no kube-controller-manager, as with `sextant api`
    #[arg(long)]
    pub(crate) bind: bool,
    /// Look after workloads, too: schedule pods, and do what Deployments, ReplicaSets, StatefulSets, DaemonSets, Jobs, CronJobs, Services
    /// and PodDisruptionBudgets ask for: where there is no kube-scheduler and no kube-controller-manager, as with `sextant api`
    #[arg(long, conflicts_with = "node")]
    pub(crate) workloads: bool,
    /// Leave VolumeSnapshots to the snapshot-controller that the cluster has already, and look after their contents alone
    #[arg(long)]
    pub(crate) no_snapshot_controller: bool,
    /// How long a driver, or a cloud provider, may take for a call
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) timeout: u64,
    #[command(flatten)]
    pub(crate) health: super::HealthArgs,
    /// Work only while this process holds the lease `sextant-control`: of several such processes one works, and another goes on when
    /// it is gone
    #[arg(long, conflicts_with = "node")]
    pub(crate) leader_elect: bool,
    /// The lease's namespace [default: the pod's, or that of the kubeconfig]
    #[arg(long, value_name = "NAMESPACE", requires = "leader_elect")]
    pub(crate) leader_elect_namespace: Option<String>,
    /// How long the lease is, and so how long nobody works after the leader was lost
    #[arg(long, value_name = "SECONDS", default_value = "15", requires = "leader_elect", value_parser = clap::value_parser!(u64).range(3..=3600))]
    pub(crate) leader_elect_lease: u64,
    #[command(flatten)]
    pub(crate) mesh: MeshPlaneArgs,
    #[command(flatten)]
    pub(crate) cloud: super::CloudArgs,
}

/// What the control plane of a mesh takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of meshes")]
pub(crate) struct MeshPlaneArgs {
    /// Be the control plane of a mesh for its proxies on nodes: at a socket that root alone may use, unix:PATH, or at an address, over
    /// TLS; give it more than once for more
    #[arg(long = "mesh", value_name = "ADDRESS|unix:PATH", value_parser = mesh, conflicts_with = "node")]
    pub(crate) addresses: Vec<Address>,
    /// Make the definitions of SMI's kinds where the server has none, and renew those that an older version of this has made; others' stay
    #[arg(long = "mesh-definitions", requires = "addresses")]
    pub(crate) definitions: bool,
    /// Answer metrics.smi-spec.io at this address, over TLS, for the API server, which is told to ask here: nodes tell what traffic their pods
    /// have. It is an address at which API servers reach this process
    #[arg(long = "mesh-metrics", value_name = "ADDRESS", requires = "addresses", value_parser = reachable)]
    pub(crate) metrics: Option<SocketAddr>,
    /// The service account that nodes' proxies run as, whose tokens are taken at an address; give it more than once for more
    #[arg(long = "mesh-account", value_name = "NAMESPACE/NAME", default_value = "kube-system/sextant-mesh", value_parser = account)]
    pub(crate) accounts: Vec<Name>,
    /// The trust domain of the mesh's identities (SPIFFE); nodes are to be given the same
    #[arg(long, value_name = "NAME", default_value = "cluster.local", value_parser = trust_domain)]
    pub(crate) trust_domain: String,
}

fn mesh(text: &str) -> Result<Address, String> {
    if text.starts_with("unix:") || text.starts_with('/') {
        return super::csi::socket(text).map(Address::Unix);
    }
    text.parse().map(Address::Tcp).map_err(|_| "write an address with a port, or unix:/PATH".into())
}

/// An address that API servers can be told: by a Service that names it, which no address of IPv6 can be.
fn reachable(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<SocketAddr>().ok();
    let address = address.filter(|address| address.is_ipv4() && !address.ip().is_unspecified());
    address.ok_or_else(|| "write an IPv4 address of this machine or pod, and a port".into())
}

/// A trust domain, as identities may have it.
pub(super) fn trust_domain(text: &str) -> Result<String, String> {
    let is_one = text.len() <= 255 && Identity::parse(&format!("spiffe://{text}/ns/a/sa/a")).is_ok();
    let why = "write a name of lower case letters, digits, dots, hyphens and underscores";
    if is_one { Ok(text.to_owned()) } else { Err(why.into()) }
}

fn account(text: &str) -> Result<Name, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(Name::new(namespace, name))
        }
        _ => Err("write NAMESPACE/NAME".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn definitions_are_those_of_a_mesh() {
        let is_read =
            |more: &[&str]| Cli::try_parse_from([&["sextant", "control"][..], more].concat()).is_ok();
        assert!(!is_read(&["--mesh-definitions"]));
        assert!(is_read(&["--mesh", "unix:/run/mesh.sock", "--mesh-definitions"]));
    }

    #[test]
    fn metrics_are_answered_where_api_servers_can_be_told_to_ask() {
        let is_read =
            |more: &[&str]| Cli::try_parse_from([&["sextant", "control"][..], more].concat()).is_ok();
        let with = |address: &str| is_read(&["--mesh", "unix:/run/mesh.sock", "--mesh-metrics", address]);
        assert!(with("127.0.0.1:0") && with("10.0.0.5:15013"));
        for bad in ["0.0.0.0:15013", "[::]:15013", "[2001:db8::1]:15013", "15013", "localhost:15013"] {
            assert!(!with(bad), "{bad}");
        }
        assert!(!is_read(&["--mesh-metrics", "127.0.0.1:0"]));
    }

    #[test]
    fn nodes_call_at_a_socket_or_an_address() {
        assert_eq!(mesh("unix:/run/mesh.sock"), Ok(Address::Unix("/run/mesh.sock".into())));
        assert_eq!(mesh("unix:///run/mesh.sock"), Ok(Address::Unix("/run/mesh.sock".into())));
        assert_eq!(mesh("[::]:8443"), Ok(Address::Tcp("[::]:8443".parse().unwrap())));
        for bad in ["", "unix:mesh.sock", "8443", "localhost:8443"] {
            assert!(mesh(bad).is_err(), "{bad}");
        }
        assert_eq!(trust_domain("prod.example-1.com"), Ok("prod.example-1.com".into()));
        for bad in ["", "Example.com", "a/b", "a b", "spiffe://a", &"a".repeat(256)] {
            assert!(trust_domain(bad).is_err(), "{bad}");
        }
        assert_eq!(account("a/b"), Ok(Name::new("a", "b")));
        for bad in ["", "a", "/b", "a/", "a/b/c"] {
            assert!(account(bad).is_err(), "{bad}");
        }
    }
}
