//! Volumes of CSI drivers: any driver that registers itself in the agent's folder, as with a kubelet.
//!
//! What is asked of a driver is written down first ([`record`]). A volume has its turns: nothing is asked about it twice at a time, and
//! what has begun goes on though its pod is not waited for any more. Asking once more for what is there is no mistake with a driver, so
//! an agent that was started anew asks again for all that its pods have; and whatever no pod wants any more is taken back by the records.

mod attach;
pub(crate) mod drivers;
mod expand;
mod group;
mod mount;
pub(crate) mod record;
mod unmount;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use csi::caller::Driver;
use csi::caller::registration::Registered;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use record::Id;

use crate::agent::Agent;
use crate::names::Key;
use crate::volumes::Failed;

pub(crate) use expand::{expand, is_pending};
pub(crate) use mount::mount;
pub use unmount::release_all;
pub(crate) use unmount::{release, tidy};
pub(crate) use wanted::Wanted;

/// How long a driver may take for a call.
const CALL: Duration = Duration::from_secs(120);

/// How long a driver that has refused to grow a volume is not asked for that again.
const GROW: Duration = Duration::from_secs(10);

/// A volume that this process has seen to be where a pod looks for it.
#[derive(Clone, Debug)]
pub(crate) struct Mounted {
    /// Where.
    pub(crate) path: PathBuf,
    /// Whether it is a block device.
    pub(crate) block: bool,
    /// When the driver wants to be asked once more.
    pub(crate) again: Option<Instant>,
}

/// What the agent knows of drivers and their volumes.
#[derive(Debug, Default)]
pub(crate) struct Csi {
    folder: PathBuf,
    drivers: Mutex<BTreeMap<String, Registered>>,
    turns: Mutex<BTreeMap<Id, Arc<tokio::sync::Mutex<()>>>>,
    /// By the pod's uid and the volume's name in the pod.
    mounted: Mutex<BTreeMap<(String, String), Mounted>>,
    /// What is attached to the node, or was to be.
    attached: Mutex<BTreeSet<Id>>,
    /// Volumes that a driver has refused to grow, with when and what was told.
    refused: Mutex<BTreeMap<Id, (Instant, Failed)>>,
    /// Held by who takes an attachment over, or removes one that no record tells of.
    attaching: tokio::sync::Mutex<()>,
    /// One at a time writes what the cluster is told of drivers.
    pub(crate) announcing: tokio::sync::Mutex<()>,
    /// A driver has come, or a volume lost its last pod: what nobody wants is looked for.
    pub(crate) untidy: tokio::sync::Notify,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Csi {
    /// That of an agent's folder. No driver is known yet.
    pub(crate) fn new(folder: &Path) -> Self {
        let attached = record::held(folder).into_iter().filter(|held| held.attachment.is_some());
        let attached = attached.map(|held| held.id).collect();
        Self { folder: folder.to_owned(), attached: Mutex::new(attached), ..Self::default() }
    }

    /// A driver is registered.
    pub(crate) fn put(&self, driver: Registered) {
        lock(&self.drivers).insert(driver.driver.clone(), driver);
        self.untidy.notify_one();
    }

    /// A driver is not registered any more.
    pub(crate) fn drop_driver(&self, name: &str) {
        lock(&self.drivers).remove(name);
    }

    /// All that are.
    pub(crate) fn registered(&self) -> Vec<Registered> {
        lock(&self.drivers).values().cloned().collect()
    }

    /// The socket of a driver, if it is registered.
    pub(crate) fn endpoint(&self, name: &str) -> Option<PathBuf> {
        lock(&self.drivers).get(name).map(|driver| driver.endpoint.clone())
    }

    /// What is mounted for a pod under this name.
    pub(crate) fn mounted(&self, uid: &str, volume: &str) -> Option<Mounted> {
        lock(&self.mounted).get(&(uid.to_owned(), volume.to_owned())).cloned()
    }

    /// What is mounted for a pod under this name, after its driver has refused it once more: it is asked again after a while.
    pub(crate) fn postpone(&self, uid: &str, volume: &str) -> Option<Mounted> {
        let mut mounted = lock(&self.mounted);
        let there = mounted.get_mut(&(uid.to_owned(), volume.to_owned()))?;
        there.again = there.again.map(|_| Instant::now() + mount::AGAIN);
        Some(there.clone())
    }

    pub(crate) fn set_mounted(&self, uid: &str, volume: &str, what: Mounted) {
        lock(&self.mounted).insert((uid.to_owned(), volume.to_owned()), what);
    }

    fn forget(&self, uid: &str) {
        lock(&self.mounted).retain(|(of, _), _| of != uid);
    }

    /// What was told when a driver refused to grow a volume, until it may be asked again: each refusal may read differently, and what is
    /// told of it wakes the pod.
    fn refused(&self, id: &Id) -> Option<Failed> {
        let mut all = lock(&self.refused);
        all.retain(|_, (when, _)| when.elapsed() < GROW);
        all.get(id).map(|(_, why)| why.clone())
    }

    /// A driver has refused to grow a volume.
    fn refuse(&self, id: &Id, why: Failed) {
        lock(&self.refused).insert(id.clone(), (Instant::now(), why));
    }

    /// Names of volumes that are attached, as a node's status has them.
    pub(crate) fn attached(&self) -> Vec<String> {
        lock(&self.attached).iter().map(Id::unique).collect()
    }

    /// Waits until nobody else is at a volume.
    async fn turn(&self, id: &Id) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = lock(&self.turns);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(id.clone()).or_default().clone()
        };
        turn.lock_owned().await
    }
}

/// Reaches a driver, and asks what it can do.
async fn reach(endpoint: &Path) -> Result<Driver, grpc::Error> {
    let mut driver = Driver::connect(endpoint).await?;
    driver.client = driver.client.with_deadline(CALL);
    Ok(driver)
}

/// A failed call, as gRPC's clients in Go tell it: who reads events looks for these words.
fn words(error: &grpc::Error) -> String {
    match error {
        grpc::Error::Call { status, .. } => {
            format!("rpc error: code = {} desc = {}", status.code, status.message)
        }
        error => error.to_string(),
    }
}

/// Whether drivers have something of pods in an agent's folder.
#[must_use]
pub fn has_volumes(folder: &Path) -> bool {
    !record::all(folder).is_empty() || !record::held(folder).is_empty()
}

/// The uids of pods that drivers have made something for, or were to, as an agent's folder tells.
#[must_use]
pub fn users(folder: &Path) -> BTreeSet<String> {
    record::all(folder).into_iter().map(|(key, ..)| key.uid).collect()
}

/// Gives a path of the node that is a pod's volume to the pod's group, once as long as the agent runs.
pub(crate) async fn share_local(
    agent: &Agent,
    key: &Key,
    volume: &str,
    path: &Path,
    group: i64,
    is_lazy: bool,
) -> Result<(), String> {
    if agent.csi.mounted(&key.uid, volume).is_some() {
        return Ok(());
    }
    let shared = path.to_owned();
    let sharing = tokio::task::spawn_blocking(move || group::share(&shared, group, is_lazy)).await;
    sharing.unwrap_or_else(|error| Err(error.to_string()))?;
    agent.csi.set_mounted(&key.uid, volume, Mounted { path: path.to_owned(), block: false, again: None });
    Ok(())
}
