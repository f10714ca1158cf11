use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use control::cloud::Controllers;
use cpi::contract::{Cidr, ProviderId};

use super::OutputArgs;

/// What the controllers of clouds take. Names and defaults are those of cloud-controller-manager and kube-controller-manager.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of clouds")]
pub(crate) struct CloudArgs {
    /// Look after nodes, load balancers and routes with this cloud provider: metal, aws, or the socket of another, unix:///PATH
    #[arg(long, value_name = "NAME|ENDPOINT", value_parser = provider)]
    pub(crate) cloud_provider: Option<Provider>,
    /// What the provider goes by: of metal pools of addresses and an inventory of machines, of aws settings
    #[arg(long, value_name = "FILE", requires = "cloud_provider")]
    pub(crate) cloud_config: Option<PathBuf>,
    /// Which controllers of clouds run, by Kubernetes' names: cloud-node-controller, cloud-node-lifecycle-controller,
    /// service-lb-controller, node-route-controller, node-ipam-controller; `*` is all of them, -NAME all but that one
    #[arg(long, value_name = "NAME,...", default_value = "*", value_parser = controllers, allow_hyphen_values = true)]
    pub(crate) controllers: Controllers,
    /// What the provider knows the cluster by
    #[arg(long, value_name = "NAME", default_value = "kubernetes")]
    pub(crate) cluster_name: String,
    /// Addresses of all pods: a range, or one of IPv4 and one of IPv6
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(crate) cluster_cidr: Vec<Cidr>,
    /// Give each node its part of --cluster-cidr
    #[arg(long, requires = "cluster_cidr")]
    pub(crate) allocate_node_cidrs: bool,
    /// How large a node's part of IPv4 is
    #[arg(long, value_name = "BITS", default_value_t = 24, visible_alias = "node-cidr-mask-size")]
    pub(crate) node_cidr_mask_size_ipv4: u8,
    /// The same of IPv6
    #[arg(long, value_name = "BITS", default_value_t = 64)]
    pub(crate) node_cidr_mask_size_ipv6: u8,
    /// Addresses of Services, which no node gets
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(crate) service_cluster_ip_range: Vec<Cidr>,
    /// Have routes to nodes' pods in the cloud's network, if the provider has any
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) configure_cloud_routes: bool,
    /// Take a provider that does not mark what it makes with the cluster's id
    #[arg(long)]
    pub(crate) allow_untagged_cloud: bool,
    /// How often the instances of nodes that are not ready are asked for
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub(crate) node_monitor_period: Duration,
    /// How often nodes' addresses are
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub(crate) node_status_update_frequency: Duration,
    /// How often routes are
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub(crate) route_reconciliation_period: Duration,
    /// How many Services are looked at at the same time
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = count)]
    pub(crate) concurrent_service_syncs: usize,
    /// How many nodes are
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = count)]
    pub(crate) concurrent_node_syncs: usize,
    /// Answer http://ADDRESS/metrics with what the controllers of clouds count
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics_listen: Option<SocketAddr>,
}

/// A provider that controllers go by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Provider {
    /// That of machines without a cloud, in this process.
    Metal,
    /// That of Amazon's EC2, in this process.
    Aws,
    /// One that is a program of its own, at its socket.
    At(PathBuf),
}

fn provider(text: &str) -> Result<Provider, String> {
    if text == metal::NAME {
        return Ok(Provider::Metal);
    }
    if text == aws::NAME {
        return Ok(Provider::Aws);
    }
    let at = super::csi::socket(text).map(Provider::At);
    at.map_err(|_| "write metal, aws, or the socket of a provider that runs: unix:///PATH".to_owned())
}

fn controllers(text: &str) -> Result<Controllers, String> {
    text.parse()
}

/// Where a provider is that is a program of its own.
fn endpoint(text: &str) -> Result<PathBuf, String> {
    super::csi::socket(text).map_err(|_| "name the socket of a provider that runs: unix:///PATH".to_owned())
}

/// As Go writes it, in one unit: `10s`, `500ms`, `5m`, `1h`. It is not nothing.
fn duration(text: &str) -> Result<Duration, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let millis = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let read = number.parse::<u64>().ok().zip(millis).and_then(|(number, millis)| number.checked_mul(millis));
    let read = read.filter(|millis| (1..=86_400_000).contains(millis));
    read.map(Duration::from_millis).ok_or_else(|| "write 10s, 500ms, 5m or 1h; a day at most".into())
}

fn count(text: &str) -> Result<usize, String> {
    let read = text.parse().ok().filter(|count| (1..=1000).contains(count));
    read.ok_or_else(|| "write a number from 1 to 1000".into())
}

/// `sextant check`
#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(subcommand)]
    pub(crate) contract: Contract,
}

/// What can be checked.
#[derive(Debug, Subcommand)]
pub(crate) enum Contract {
    /// Ask a cloud provider for all that controllers rely on
    Cpi(CheckCpiArgs),
}

/// `sextant check cpi`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sextant check cpi unix:///run/cloud.sock
  sextant check cpi unix:///run/cloud.sock --node node-1=10.0.0.1 --route 10.255.0.0/24

Without nodes it asks for nothing that would be made. With some, it makes a load balancer, with --route a route too, and takes both
away again. It exits with 1 if anything is not as it must be.")]
pub(crate) struct CheckCpiArgs {
    /// The provider's socket
    #[arg(value_name = "ENDPOINT", value_parser = endpoint)]
    pub(crate) endpoint: PathBuf,
    /// A node whose instance is there, with its provider id or an address of it, if the provider needs one to find it
    #[arg(long = "node", value_name = "NAME[=ID|ADDRESS]", value_parser = node)]
    pub(crate) nodes: Vec<CheckedNode>,
    /// A range that nobody uses: a route to the first node leads there for a moment
    #[arg(long, value_name = "CIDR", requires = "nodes")]
    pub(crate) route: Option<Cidr>,
    /// What the provider knows the cluster by
    #[arg(long, value_name = "NAME", default_value = "kubernetes")]
    pub(crate) cluster_name: String,
    /// How long the provider may take for a call
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// A node that a provider is asked about.
#[derive(Clone, Debug)]
pub(crate) struct CheckedNode {
    pub(crate) name: String,
    pub(crate) id: Option<ProviderId>,
    pub(crate) address: Option<IpAddr>,
}

fn node(text: &str) -> Result<CheckedNode, String> {
    let (name, rest) = text.split_once('=').map_or((text, None), |(name, rest)| (name, Some(rest)));
    if name.is_empty() {
        return Err("write NAME, NAME=PROVIDER-ID or NAME=ADDRESS".into());
    }
    let address = rest.and_then(|rest| rest.parse().ok());
    let id =
        rest.filter(|_| address.is_none()).map(|rest| rest.parse().map_err(|e: grpc::Failure| e.to_string()));
    Ok(CheckedNode { name: name.into(), id: id.transpose()?, address })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, millis) in [("10s", 10_000), ("500ms", 500), ("5m", 300_000), ("24h", 86_400_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in
            ["", "10", "s", "0s", "-1s", "1.5s", "1d", "25h", "99999999999999999999s", "9999999999999999h"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn providers_are_read() {
        assert_eq!(provider("metal"), Ok(Provider::Metal));
        assert_eq!(provider("aws"), Ok(Provider::Aws));
        assert_eq!(provider("unix:///run/cloud.sock"), Ok(Provider::At("/run/cloud.sock".into())));
        for text in ["", "Metal", "AWS", "run/cloud.sock", "tcp://127.0.0.1:1"] {
            assert!(provider(text).unwrap_err().contains("write metal, aws, or the socket"), "{text}");
        }
    }

    #[test]
    fn nodes_are_read() {
        assert_eq!(node("a").unwrap().name, "a");
        assert_eq!(node("a=10.0.0.1").unwrap().address, Some([10, 0, 0, 1].into()));
        assert_eq!(node("a=aws:///b/i-1").unwrap().id.unwrap().to_string(), "aws:///b/i-1");
        assert!(node("=x").is_err() && node("a=x").is_err());
    }
}
