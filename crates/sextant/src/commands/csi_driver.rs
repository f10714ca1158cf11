//! `sextant csi-driver`: volumes of this machine, for whoever speaks CSI.

use std::path::Path;

use csi::plugin::{Config, PoolConfig, Setup};

use super::daemon;
use crate::cli::CsiDriverArgs;
use crate::failure::{Context, Failure, Result};

/// Calls that block at the same time: disks and processors have no more to give.
const BLOCKING: usize = 16;

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
    let shown = socket.clone();
    let setup = Setup { config, node, run: run_dir.join("csi"), socket };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING)
        .thread_keep_alive(std::time::Duration::from_secs(2))
        .build()
        .context(|| "start the CSI driver".into())?;
    let ready = move || {
        eprintln!("sextant csi-driver: serves {} on {}", csi::plugin::NAME, shown.display());
        daemon::tell_ready("csi-driver");
    };
    runtime.block_on(csi::plugin::run(setup, daemon::told_to_end(), ready)).map_err(failed)
}
