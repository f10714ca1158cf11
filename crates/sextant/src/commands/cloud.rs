//! Controllers of clouds within `sextant control`: the provider is found, and what they count can be read.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use control::cloud::{self, Masks, Metrics, Setup};
use cpi::caller::Remote;
use cpi::contract::CloudProvider;
use grpc::page::Page;
use metal::Metal;

use crate::cli::{CloudArgs, Provider};
use crate::failure::{Failure, Result};

/// A provider, before it is asked for anything.
#[derive(Clone)]
pub(super) enum Found {
    /// None was named.
    Nobody,
    /// It is in this process.
    Here(Arc<dyn CloudProvider>),
    /// It is to be looked for at this socket.
    At(PathBuf),
}

/// The provider that was named. What is wrong with its file is told before anything works.
///
/// # Errors
/// Its file cannot be used, or it has none.
pub(super) fn provider(args: &CloudArgs) -> Result<Found> {
    Ok(match &args.cloud_provider {
        None => Found::Nobody,
        Some(Provider::Metal) => {
            let metal = Metal::open(args.cloud_config.as_deref());
            Found::Here(Arc::new(metal.map_err(|e| Failure::new(e.to_string()))?))
        }
        Some(Provider::Aws) => {
            let aws = aws::provider(args.cloud_config.as_deref());
            Found::Here(Arc::new(aws.map_err(|e| Failure::new(e.to_string()))?))
        }
        Some(Provider::At(_)) if args.cloud_config.is_some() => {
            return Err(Failure::new(
                "cannot use --cloud-config: a provider behind a socket reads its own files; leave it out"
                    .to_owned(),
            ));
        }
        Some(Provider::At(socket)) => Found::At(socket.clone()),
    })
}

/// How the controllers are to behave; `None` where nothing of clouds is asked for.
pub(super) fn setup(args: &CloudArgs, host: &str) -> Option<Setup> {
    if args.cloud_provider.is_none() && !args.allocate_node_cidrs {
        return None;
    }
    let masks = Masks { v4: args.node_cidr_mask_size_ipv4, v6: args.node_cidr_mask_size_ipv6 };
    Some(Setup {
        host: host.into(),
        controllers: args.controllers,
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
    found: Found,
    deadline: Duration,
    metrics: Arc<Metrics>,
) -> Result<()> {
    let is_named = !matches!(found, Found::Nobody);
    let find = async || {
        let provider: Arc<dyn CloudProvider> = match &found {
            Found::Here(provider) => provider.clone(),
            // Nobody says which of both is started first.
            Found::At(socket) => {
                Arc::new(Remote::connect(socket, deadline).await.map_err(|e| e.to_string())?)
            }
            Found::Nobody => std::future::pending().await,
        };
        eprintln!("sextant control: has cloud provider {}", provider.name());
        Ok(provider)
    };
    let context = cloud::Context::start(volumes, setup, metrics);
    cloud::run(context, is_named.then_some(find)).await.map_err(Failure::new)
}

/// Where metrics are asked for; nowhere, if nobody wants to.
pub(super) async fn page(address: Option<SocketAddr>) -> Result<Page> {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    Ok(Page::listen(address, ("control", "--metrics-listen"), "/metrics", kind).await?)
}
