use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use kernel::netlink::IpNet;

/// `sextant services`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sextant services                                 # beside `sextant api`
  sextant services --kubeconfig /etc/kubernetes/admin.conf --node node-1
  sextant services --dns-address 10.43.0.10 --cluster-domain example.internal --upstream 9.9.9.9
  sextant services --no-dns --node-port-addresses 192.0.2.0/24
  sextant services --announce cloud.yaml           # answer for addresses of load balancers, too
  sextant services --remove                        # Services are reached no longer

It may end and be started again at any moment: connections go on, and Services are reached meanwhile. Names are not answered then.")]
pub(crate) struct ServicesArgs {
    /// How to reach the API server [default: KUBECONFIG; in a pod, the pod's service account; else what `sextant api` has written
    /// into the data directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The name of this node: endpoints that name it are local [default: the machine's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// A network of pods; give it more than once for more. Those behind bridges of this machine are known
    #[arg(long, value_name = "CIDR")]
    pub(crate) pod_network: Vec<IpNet>,
    /// A network of Services, and of nothing else; give it more than once for more. Programs of this machine get a way there, and what no
    /// Service has is refused
    #[arg(long, value_name = "CIDR", default_value = "10.96.0.0/16")]
    pub(crate) service_network: Vec<IpNet>,
    /// Addresses of this machine at which node ports are; give it more than once for more [default: all but loopback]
    #[arg(long, value_name = "CIDR")]
    pub(crate) node_port_addresses: Vec<IpNet>,
    /// An address at which names are answered; give it more than once for more. One that this machine does not have, the cluster's
    /// address of DNS above all, is given to its loopback
    #[arg(long, value_name = "IP", default_value = "10.96.0.10")]
    pub(crate) dns_address: Vec<IpAddr>,
    /// Another address that this machine is to have, of a network that comes later; one that no link has is given to its loopback
    #[arg(long, value_name = "IP")]
    pub(crate) own_address: Vec<IpAddr>,
    /// The port at which names are answered
    #[arg(long, value_name = "PORT", default_value = "53")]
    pub(crate) dns_port: u16,
    /// Do not answer for names
    #[arg(long, conflicts_with_all = ["dns_address", "dns_port", "cluster_domain", "upstream", "resolv_conf"])]
    pub(crate) no_dns: bool,
    /// The domain that the names of Services are in
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub(crate) cluster_domain: String,
    /// Who is asked for other names, an address or ADDRESS:PORT; give it more than once for more [default: those of --resolv-conf]
    #[arg(long, value_name = "ADDRESS", value_parser = server)]
    pub(crate) upstream: Vec<SocketAddr>,
    /// Whose nameservers are asked for other names
    #[arg(long, value_name = "FILE", default_value = "/etc/resolv.conf", conflicts_with = "upstream")]
    pub(crate) resolv_conf: PathBuf,
    /// Answer on this node's links for the addresses of load balancers that are in the pools of this file, which is that of the cloud
    /// provider `metal`; one of the cluster's nodes does for each. Where it says `nodeRoutes: true`, routes lead from here to the pods of
    /// other nodes
    #[arg(long, value_name = "FILE")]
    pub(crate) announce: Option<PathBuf>,
    /// Take all that this has made on the machine away, and end
    #[arg(long, exclusive = true)]
    pub(crate) remove: bool,
}

/// `sextant announce`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sextant announce cloud.yaml
  sextant announce /etc/sextant/cloud.yaml --kubeconfig /etc/kubernetes/admin.conf --node node-1
  sextant announce --remove                        # no routes lead to other nodes' pods

It is for nodes where another proxy makes Services reachable. `sextant services --announce FILE` does the same in one process. When it
ends, another node answers at once, and routes stay.")]
pub(crate) struct AnnounceArgs {
    /// The file of the cloud provider `metal`: its pools say which addresses are answered for, and on which links; with
    /// `nodeRoutes: true` routes lead from here to the pods of other nodes
    #[arg(value_name = "FILE", required_unless_present = "remove")]
    pub(crate) file: Option<PathBuf>,
    /// How to reach the API server [default: KUBECONFIG; in a pod, the pod's service account; else what `sextant api` has written
    /// into the data directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The name of this node [default: the machine's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// Take away the routes that were made on this machine, and end
    #[arg(long, exclusive = true)]
    pub(crate) remove: bool,
}

fn server(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
    address.or_else(|_| text.parse()).map_err(|_| format!("{text:?} is no address, and no ADDRESS:PORT"))
}
