//! A process that is the driver and nothing else.
//!
//! `sextant csi-driver` is one, and so is the small program `sextant-csi`, which it becomes where that is installed beside it: the
//! kernel maps what runs and what lies near it, and of a program that has everything that is three times the driver.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use grpc::{Failure, process};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use super::{NAME, Setup};
use crate::caller::health::Health;
use crate::caller::registration::Offer;

/// The small program's file.
pub const SMALL: &str = "sextant-csi";

/// The command that a process of the driver alone is.
const COMMAND: &str = "csi-driver";
/// Calls that block at the same time: disks and processors have no more to give.
const BLOCKING: usize = 16;
/// When the kubelet is offered again a driver that it has refused; twice as long each time.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(60);

/// A driver, and how a kubelet gets to know it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serving {
    /// What it is made of.
    pub setup: Setup,
    /// What a kubelet is offered, if there is one.
    pub offer: Option<Offer>,
}

/// All that a process of the driver alone is told: as JSON, the small program's one argument.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Whole {
    /// The driver.
    pub serving: Serving,
    /// Where somebody asks for its health.
    pub health: Option<SocketAddr>,
}

impl Whole {
    /// Serves until the process is told to end. Volumes in use stay in use.
    ///
    /// # Errors
    /// Another driver has the socket or a pool, or the machine refuses something.
    pub fn run(self) -> Result<(), Failure> {
        kernel::memory::share_one_arena();
        let asked = BTreeMap::from([(self.serving.setup.socket.clone(), true)]);
        runtime()?.block_on(async {
            let health = Health::listen(self.health, COMMAND).await?;
            let ready = || process::tell_ready(COMMAND);
            tokio::select! {
                served = self.serving.serve(COMMAND, process::told_to_end(), ready) => served,
                never = health.serve(|| asked.clone()) => never,
                never = process::rest() => never,
            }
        })
    }
}

/// What a driver runs on. Calls block on threads that come with them and go after them.
///
/// # Errors
/// The machine refuses it.
pub fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING)
        .thread_keep_alive(Duration::from_secs(2))
        .build()
        .map_err(|e| Failure::internal(format!("cannot start the CSI driver: {e}")))
}

impl Serving {
    /// Serves until `stop` resolves; `ready` is called once calls are answered. `command` is whose driver it is.
    ///
    /// # Errors
    /// Another driver has the socket or a pool, or the machine refuses something.
    pub async fn serve(
        self,
        command: &str,
        stop: impl Future<Output = ()>,
        ready: impl FnOnce(),
    ) -> Result<(), Failure> {
        let Serving { setup, offer } = self;
        let shown = setup.socket.clone();
        let up = Notify::new();
        let ready = || {
            eprintln!("sextant {command}: serves {NAME} on {}", shown.display());
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
            served = super::run(setup, stop, ready) => served,
            never = registered => never,
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
