//! Controllers of clouds within `sextant control`: the provider is found, and what they count can be read.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use control::cloud::{self, Masks, Metrics, Setup};
use cpi::caller::Remote;
use cpi::contract::CloudProvider;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::cli::CloudArgs;
use crate::failure::{Context, Failure, Result};

/// A provider that is not there yet is looked for again after this long.
const PAUSE: Duration = Duration::from_secs(1);
/// How long who asks for metrics may take.
const QUESTION: Duration = Duration::from_secs(5);
/// So much of a question is read.
const HEAD: usize = 8192;

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
pub(super) struct Asked(Option<TcpListener>);

impl Asked {
    /// Listens, if that is asked for.
    pub(super) async fn listen(address: Option<SocketAddr>) -> Result<Self> {
        let Some(address) = address else { return Ok(Self(None)) };
        let listener = TcpListener::bind(address).await;
        let listener = listener.context(|| format!("listen on {address} (--metrics-listen)"))?;
        let address = listener.local_addr().unwrap_or(address);
        eprintln!("sextant control: answers http://{address}/metrics");
        Ok(Self(Some(listener)))
    }

    /// Answers until it is dropped, one after the other.
    pub(super) async fn serve<T>(self, metrics: &Metrics) -> T {
        let Some(listener) = self.0 else { return std::future::pending().await };
        loop {
            match listener.accept().await {
                // Whoever goes away does not want to know.
                Ok((stream, _)) => drop(tokio::time::timeout(QUESTION, answer(stream, metrics)).await),
                // It passes, or nothing here would help.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

async fn answer(mut stream: TcpStream, metrics: &Metrics) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > HEAD || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let (status, text) = if head.starts_with(b"GET /metrics ") || head.starts_with(b"GET /metrics?") {
        ("200 OK", metrics.render())
    } else {
        ("404 Not Found", "ask for /metrics\n".into())
    };
    let length = text.len();
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    let whole = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}"
    );
    stream.write_all(whole.as_bytes()).await?;
    stream.shutdown().await
}
