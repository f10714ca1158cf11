//! Controllers of clouds within `sextant control`: the provider is found, and what they count can be read.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use control::cloud::{self, Masks, Metrics, Setup};
use cpi::caller::Remote;
use cpi::contract::CloudProvider;
use grpc::page::Page;

use crate::cli::CloudArgs;
use crate::failure::{Failure, Result};

/// A provider that is not there yet is looked for again after this long.
const PAUSE: Duration = Duration::from_secs(1);

/// How the controllers are to behave; `None` where nothing of clouds is asked for.
pub(super) fn setup(args: &CloudArgs, host: &str) -> Option<Setup> {
    if args.cloud_provider.is_none() && !args.allocate_node_cidrs {
        return None;
    }
    let masks = Masks { v4: args.node_cidr_mask_size_ipv4, v6: args.node_cidr_mask_size_ipv6 };
    Some(Setup {
        host: host.into(),
        cluster_name: args.cluster_name.clone(),
        cluster_cidrs: args.cluster_cidr.clone(),
        service_cidrs: args.service_cluster_ip_range.clone(),
        masks: args.allocate_node_cidrs.then_some(masks),
        routes: args.configure_cloud_routes,
        allow_untagged: args.allow_untagged_cloud,
        node_monitor: args.node_monitor_period,
        node_status: args.node_status_update_frequency,
        route_period: args.route_reconciliation_period,
        service_syncs: args.concurrent_service_syncs,
        node_syncs: args.concurrent_node_syncs,
    })
}

/// Works until it is dropped.
///
/// # Errors
/// The provider, or the ranges of addresses, cannot be used as they are.
pub(super) async fn run(
    volumes: &control::csi::Context,
    setup: Setup,
    socket: Option<&Path>,
    deadline: Duration,
    metrics: Arc<Metrics>,
) -> Result<()> {
    let provider = socket.map(async |socket| {
        let provider = find(socket, deadline).await;
        eprintln!("sextant control: has cloud provider {}", provider.name());
        provider
    });
    let context = cloud::Context::start(volumes, setup, metrics);
    cloud::run(context, provider).await.map_err(Failure::new)
}

/// The provider at a socket, once it is there: nobody says which of both is started first.
async fn find(socket: &Path, deadline: Duration) -> Arc<dyn CloudProvider> {
    let mut told = String::new();
    loop {
        match Remote::connect(socket, deadline).await {
            Ok(provider) => return Arc::new(provider),
            Err(error) => {
                let words = error.to_string();
                if words != told {
                    eprintln!("sextant control: warning: {words}; it is looked for again");
                    told = words;
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Where metrics are asked for; nowhere, if nobody wants to.
pub(super) async fn page(address: Option<SocketAddr>) -> Result<Page> {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    Ok(Page::listen(address, ("control", "--metrics-listen"), "/metrics", kind).await?)
}
