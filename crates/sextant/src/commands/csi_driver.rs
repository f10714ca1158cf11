//! `sextant csi-driver`: volumes of this machine, for whoever speaks CSI.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use csi::caller::registration::Offer;
use csi::plugin::process::{self, SMALL, Serving, Whole};
use csi::plugin::{Config, PoolConfig, Setup};
use kernel::process::{CStrings, cstring, exec, small_build};
use tokio::sync::oneshot;

use crate::cli::{CsiDriver, CsiDriverArgs};
use crate::failure::{Context, Failure, Result};

/// How long a command waits for its driver before it goes on. As a rule it serves, or has failed, long before.
const START: Duration = Duration::from_secs(5);

/// Serves until it is told to end, as the small program where that is installed. Volumes in use stay in use.
pub(crate) fn run(data_dir: &Path, run_dir: &Path, args: &CsiDriverArgs) -> Result<()> {
    let whole = Whole { serving: prepare(data_dir, run_dir, &args.driver())?, health: args.health.listen };
    if let Some(program) = small_build(SMALL) {
        become_small(&program, &whole);
    }
    Ok(whole.run()?)
}

/// Executes the small program in the place of this one, in the same process. Returns where that is not done, as the kernel refuses it or
/// something cannot be told (a path that is no UTF-8): then this one is as good.
fn become_small(program: &Path, whole: &Whole) {
    let Ok(told) = serde_json::to_string(whole) else { return };
    let variables =
        std::env::vars_os().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
    let program = cstring(program.as_os_str().as_bytes());
    let args = CStrings::new([SMALL.to_owned(), told]);
    if let (Ok(program), Ok(args), Ok(variables)) = (program, args, CStrings::new(variables)) {
        let _refused = exec(&program, &args, &variables);
    }
}

fn prepare(data_dir: &Path, run_dir: &Path, wanted: &CsiDriver) -> Result<Serving> {
    let config = match &wanted.config {
        Some(path) => Config::read(path)?,
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
    Ok(Serving { setup: Setup { config, node, run: run_dir.join("csi"), socket }, offer })
}

/// A driver on a thread of its own, in the process of another command: what its calls wait for nobody else waits for.
pub(super) struct Beside {
    thread: JoinHandle<Result<()>>,
    stop: oneshot::Sender<()>,
    ended: Option<oneshot::Receiver<()>>,
}

impl Beside {
    /// Starts it; it serves when this returns, or still opens its pools, which is told: what a killed driver was removing may be large.
    ///
    /// # Errors
    /// Another driver has its socket or a pool, or the machine refuses one.
    pub(super) fn start(
        data_dir: &Path,
        run_dir: &Path,
        wanted: &CsiDriver,
        command: &'static str,
    ) -> Result<Beside> {
        let serving = prepare(data_dir, run_dir, wanted)?;
        let (stop, stopped) = oneshot::channel();
        let (ends, ended) = oneshot::channel();
        let (tell, is_up) = mpsc::channel();
        let serve = move || {
            // Told when it is dropped: however the thread ends.
            let _ends: oneshot::Sender<()> = ends;
            let stopped = async move { drop(stopped.await) };
            let ready = || {
                // Nobody waits for it any more, if it took long.
                let _ = tell.send(());
            };
            Ok(process::runtime()?.block_on(serving.serve(command, stopped, ready))?)
        };
        let thread = std::thread::Builder::new()
            .name("csi".into())
            .spawn(serve)
            .context(|| "start the CSI driver".into())?;
        let beside = Beside { thread, stop, ended: Some(ended) };
        match is_up.recv_timeout(START) {
            Ok(()) => Ok(beside),
            Err(RecvTimeoutError::Timeout) => {
                eprintln!("sextant {command}: the CSI driver is still opening its pools, and serves later");
                Ok(beside)
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(beside.end().err().unwrap_or_else(|| Failure::new("the CSI driver ended")))
            }
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
