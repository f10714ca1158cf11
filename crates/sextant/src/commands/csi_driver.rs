//! `sextant csi-driver`: volumes of this machine, for whoever speaks CSI.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use csi::caller::registration::Offer;
use csi::plugin::{Config, PoolConfig, Setup};
use tokio::sync::{Notify, oneshot};

use super::daemon;
use super::health::Health;
use crate::cli::{CsiDriver, CsiDriverArgs};
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
    let driver = Driver::prepare(data_dir, run_dir, &args.driver())?;
    let asked = BTreeMap::from([(driver.setup.socket.clone(), true)]);
    runtime()?.block_on(async {
        let health = Health::listen(&args.health, "csi-driver").await?;
        tokio::select! {
            served = driver.serve("csi-driver", daemon::told_to_end(), || daemon::tell_ready("csi-driver")) => served,
            never = health.serve(|| asked.clone()) => never,
            never = daemon::rest() => never,
        }
    })
}

/// Calls block on threads that come with them and go after them.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING)
        .thread_keep_alive(Duration::from_secs(2))
        .build()
        .context(|| "start the CSI driver".into())
}

/// A driver, and how a kubelet gets to know it.
struct Driver {
    setup: Setup,
    offer: Option<Offer>,
}

impl Driver {
    fn prepare(data_dir: &Path, run_dir: &Path, wanted: &CsiDriver) -> Result<Driver> {
        let config = match &wanted.config {
            Some(path) => Config::read(path).map_err(|e| Failure::new(e.to_string()))?,
            None if wanted.pool.is_empty() => {
                Config { pools: vec![PoolConfig::new("default", data_dir.join("csi"))] }
            }
            None => Config { pools: wanted.pool.clone() },
        };
        let node = match &wanted.node_id {
            Some(node) => node.clone(),
            None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        };
        let socket = wanted.socket.clone().unwrap_or_else(|| run_dir.join("csi.sock"));
        let offer = match &wanted.registration_dir {
            None => None,
            Some(folder) => {
                let endpoint = wanted.registration_endpoint.clone();
                // The kubelet works elsewhere.
                let endpoint = endpoint.map_or_else(|| std::path::absolute(&socket), Ok)?;
                Some(Offer { driver: csi::plugin::NAME.into(), endpoint, folder: folder.clone() })
            }
        };
        Ok(Driver { setup: Setup { config, node, run: run_dir.join("csi"), socket }, offer })
    }

    /// Serves until `stop` resolves; `ready` is called once calls are answered. `command` is whose driver it is.
    async fn serve(self, command: &str, stop: impl Future<Output = ()>, ready: impl FnOnce()) -> Result<()> {
        let Driver { setup, offer } = self;
        let shown = setup.socket.clone();
        let up = Notify::new();
        let ready = || {
            eprintln!("sextant {command}: serves {} on {}", csi::plugin::NAME, shown.display());
            ready();
            up.notify_one();
        };
        let registered = async {
            match &offer {
                None => std::future::pending().await,
                Some(offer) => {
                    up.notified().await;
                    keep_registered(offer, command).await
                }
            }
        };
        tokio::select! {
            served = csi::plugin::run(setup, stop, ready) => served.map_err(|e| Failure::new(e.to_string())),
            never = registered => never,
        }
    }
}

/// A driver on a thread of its own, in the process of another command: what its calls wait for nobody else waits for.
pub(super) struct Beside {
    thread: JoinHandle<Result<()>>,
    stop: oneshot::Sender<()>,
    ended: Option<oneshot::Receiver<()>>,
}

impl Beside {
    /// Starts it; it serves when this returns.
    ///
    /// # Errors
    /// Another driver has its socket or a pool, or the machine refuses one.
    pub(super) fn start(
        data_dir: &Path,
        run_dir: &Path,
        wanted: &CsiDriver,
        command: &'static str,
    ) -> Result<Beside> {
        let driver = Driver::prepare(data_dir, run_dir, wanted)?;
        let (stop, stopped) = oneshot::channel();
        let (ends, ended) = oneshot::channel();
        let (tell, is_up) = mpsc::channel();
        let serve = move || {
            // Told when it is dropped: however the thread ends.
            let _ends: oneshot::Sender<()> = ends;
            let stopped = async move { drop(stopped.await) };
            let ready = || {
                // Whoever waits for it is gone only when the whole process is.
                let _ = tell.send(());
            };
            runtime()?.block_on(driver.serve(command, stopped, ready))
        };
        let thread = std::thread::Builder::new()
            .name("csi".into())
            .spawn(serve)
            .context(|| "start the CSI driver".into())?;
        let beside = Beside { thread, stop, ended: Some(ended) };
        match is_up.recv() {
            Ok(()) => Ok(beside),
            Err(_) => Err(beside.end().err().unwrap_or_else(|| Failure::new("the CSI driver ended"))),
        }
    }

    /// Resolves when it has ended, by itself.
    pub(super) fn ended(&mut self) -> impl Future<Output = ()> + use<> {
        let ended = self.ended.take();
        async move {
            match ended {
                Some(ended) => drop(ended.await),
                None => std::future::pending().await,
            }
        }
    }

    /// Ends it; what it ended with. Volumes in use stay in use.
    pub(super) fn end(self) -> Result<()> {
        // It may have ended already.
        drop(self.stop);
        match self.thread.join() {
            Ok(served) => served,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// Offers the driver to the kubelet, again and again where that fails: volumes are served meanwhile, which a process that ends, as
/// node-driver-registrar does, would not go on with.
async fn keep_registered(offer: &Offer, command: &str) -> ! {
    let mut wait = AGAIN;
    loop {
        let began = Instant::now();
        let registered = || eprintln!("sextant {command}: the kubelet has registered it");
        if let Err(error) = offer.serve(std::future::pending(), registered).await {
            eprintln!("sextant {command}: warning: {error}; the CSI driver is offered again");
        }
        if began.elapsed() > LONGEST {
            wait = AGAIN;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST);
    }
}
