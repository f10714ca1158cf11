//! `sextant csi-driver`: volumes of this machine, for whoever speaks CSI.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use csi::caller::registration::Offer;
use csi::plugin::{Config, PoolConfig, Setup};
use tokio::sync::Notify;

use super::daemon;
use super::health::Health;
use crate::cli::CsiDriverArgs;
use crate::failure::{Context, Failure, Result};

/// Calls that block at the same time: disks and processors have no more to give.
const BLOCKING: usize = 16;
/// When the kubelet is offered again a driver that it has refused; twice as long each time.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(60);

/// Serves until it is told to end. Volumes in use stay in use.
pub(crate) fn run(data_dir: &Path, run_dir: &Path, args: &CsiDriverArgs) -> Result<()> {
    kernel::memory::share_one_arena();
    let failed = |e: grpc::Failure| Failure::new(e.to_string());
    let config = match &args.config {
        Some(path) => Config::read(path).map_err(failed)?,
        None if args.pool.is_empty() => {
            Config { pools: vec![PoolConfig::new("default", data_dir.join("csi"))] }
        }
        None => Config { pools: args.pool.clone() },
    };
    let node = match &args.node_id {
        Some(node) => node.clone(),
        None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
    };
    let socket = args.socket.clone().unwrap_or_else(|| run_dir.join("csi.sock"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING)
        .thread_keep_alive(Duration::from_secs(2))
        .build()
        .context(|| "start the CSI driver".into())?;
    let offer = match &args.registration_dir {
        None => None,
        Some(folder) => {
            let endpoint = args.registration_endpoint.clone();
            // The kubelet works elsewhere.
            let endpoint = endpoint.map_or_else(|| std::path::absolute(&socket), Ok)?;
            Some(Offer { driver: csi::plugin::NAME.into(), endpoint, folder: folder.clone() })
        }
    };
    let setup = Setup { config, node, run: run_dir.join("csi"), socket };
    runtime.block_on(serve(setup, offer, args))
}

async fn serve(setup: Setup, offer: Option<Offer>, args: &CsiDriverArgs) -> Result<()> {
    let shown = setup.socket.clone();
    let health = Health::listen(&args.health, "csi-driver").await?;
    let asked = BTreeMap::from([(shown.clone(), true)]);
    let up = Notify::new();
    let ready = || {
        eprintln!("sextant csi-driver: serves {} on {}", csi::plugin::NAME, shown.display());
        daemon::tell_ready("csi-driver");
        up.notify_one();
    };
    let registered = async {
        match &offer {
            None => std::future::pending().await,
            Some(offer) => {
                up.notified().await;
                keep_registered(offer).await
            }
        }
    };
    tokio::select! {
        served = csi::plugin::run(setup, daemon::told_to_end(), ready) => {
            served.map_err(|e| Failure::new(e.to_string()))
        }
        never = registered => never,
        never = health.serve(|| asked.clone()) => never,
        never = daemon::rest() => never,
    }
}

/// Offers the driver to the kubelet, again and again where that fails: volumes are served meanwhile, which a process that ends, as
/// node-driver-registrar does, would not go on with.
async fn keep_registered(offer: &Offer) -> ! {
    let mut wait = AGAIN;
    loop {
        let began = Instant::now();
        let registered = || eprintln!("sextant csi-driver: the kubelet has registered it");
        if let Err(error) = offer.serve(std::future::pending(), registered).await {
            eprintln!("sextant csi-driver: warning: {error}; it is offered again");
        }
        if began.elapsed() > LONGEST {
            wait = AGAIN;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST);
    }
}
