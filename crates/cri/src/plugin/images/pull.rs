//! PullImage: one download for all who ask for the same, as long as one of them waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oci_image::pull::{Options, Progress, pull};
use oci_image::reference::Reference;
use oci_image::registry::client::{self, Client, Patience};
use oci_image::registry::credentials::{Credential, CredentialFiles};
use oci_image::store::Store;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use super::failure;
use crate::contract::Error;
use crate::plugin::config;

/// Pulls that run.
#[derive(Debug)]
pub(super) struct Pulls {
    store: Arc<Store>,
    client: Client,
    /// How many may run at once; without it, any number.
    slots: Option<Arc<Semaphore>>,
    progress_within: Duration,
    running: Mutex<Vec<Arc<Running>>>,
}

/// What is pulled, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) reference: Reference,
    pub(super) credential: Option<Credential>,
}

/// What a pull comes to: the image's id.
type Outcome = Result<String, Error>;

#[derive(Debug)]
struct Running {
    wanted: Wanted,
    /// `None` until it has ended.
    outcome: watch::Sender<Option<Outcome>>,
    /// Callers that wait for it; changed under the lock of [`Pulls::running`] alone.
    waiting: Mutex<usize>,
    cancelled: AtomicBool,
    left: Notify,
    slot: Mutex<Option<OwnedSemaphorePermit>>,
}

/// A caller that waits. When the last one goes before there is an outcome, the pull ends; what it has downloaded stays.
struct Waiting<'a> {
    pulls: &'a Pulls,
    running: Arc<Running>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut all = self.pulls.lock();
        let mut waiting = self.running.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting -= 1;
        if *waiting == 0 && self.running.outcome.borrow().is_none() {
            // Nobody joins it any more: who comes now begins anew, with what is there.
            all.retain(|other| !Arc::ptr_eq(other, &self.running));
            self.running.cancel();
        }
    }
}

impl Running {
    fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.left.notify_one();
        // Its thread may wait for a registry that does not answer; others need not wait for that.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Progress for Running {
    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }
}

impl Pulls {
    /// None yet.
    pub(super) fn new(store: Arc<Store>, config: &config::Images) -> Self {
        let slots = match config.max_parallel_pulls {
            0 => None,
            some => Some(Arc::new(Semaphore::new(some))),
        };
        let progress_within = Duration::from_secs(config.pull_progress_timeout);
        Self {
            store,
            client: client(config, progress_within),
            slots,
            progress_within,
            running: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pulls, or joins a pull of the same by the same, and waits for its end.
    pub(super) async fn pull(self: &Arc<Self>, wanted: Wanted) -> Outcome {
        let running = self.join_or_begin(wanted);
        let mut outcome = running.outcome.subscribe();
        let _waiting = Waiting { pulls: self, running: Arc::clone(&running) };
        // The sender is in `running`, and so lives.
        let ended = outcome.wait_for(Option::is_some).await;
        ended.ok().and_then(|outcome| outcome.clone()).unwrap_or_else(|| Err(a_bug()))
    }

    fn join_or_begin(self: &Arc<Self>, wanted: Wanted) -> Arc<Running> {
        let mut all = self.lock();
        if let Some(running) = all.iter().find(|running| running.wanted == wanted) {
            *running.waiting.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            return Arc::clone(running);
        }
        let running = Arc::new(Running {
            wanted,
            outcome: watch::Sender::new(None),
            waiting: Mutex::new(1),
            cancelled: AtomicBool::new(false),
            left: Notify::new(),
            slot: Mutex::default(),
        });
        all.push(Arc::clone(&running));
        drop(all);
        tokio::spawn(Arc::clone(self).run(Arc::clone(&running)));
        running
    }

    /// Runs a pull to its end.
    async fn run(self: Arc<Self>, running: Arc<Running>) {
        if let Some(slots) = &self.slots {
            let slot = tokio::select! {
                () = running.left.notified() => return,
                slot = Arc::clone(slots).acquire_owned() => slot,
            };
            *running.slot.lock().unwrap_or_else(PoisonError::into_inner) = slot.ok();
        }
        if running.cancelled() {
            running.cancel();
            return;
        }
        let (pulls, pulled) = (Arc::clone(&self), Arc::clone(&running));
        let outcome = tokio::task::spawn_blocking(move || pulls.pull_now(&pulled)).await;
        self.lock().retain(|other| !Arc::ptr_eq(other, &running));
        running.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        running.outcome.send_replace(Some(outcome.unwrap_or_else(|_| Err(a_bug()))));
    }

    fn pull_now(&self, running: &Running) -> Outcome {
        let Wanted { reference, credential } = &running.wanted;
        let name = reference.to_string();
        let client = match credential {
            Some(credential) => self.client.with_credential(credential.clone()),
            None => self.client.clone(),
        };
        let source = client.source(reference).map_err(|e| failure::of_registry(&name, &e))?;
        let options =
            Options { progress_within: self.progress_within, keep_replaced: true, ..Options::default() };
        let report = pull(&self.store, &name, &source, &options, running);
        report.map(|report| report.id.to_string()).map_err(|e| failure::of_pull(&name, &e))
    }
}

fn client(config: &config::Images, progress_within: Duration) -> Client {
    // One try gets half of the time, so that there is another.
    let usual = Patience::default();
    let [headers, stall] = [usual.headers, usual.stall].map(|time| time.min(progress_within / 2));
    let credentials = config.auth_file.as_deref().map(CredentialFiles::at).unwrap_or_default();
    Client::new(client::Config {
        hosts_dirs: config.hosts_dirs.clone(),
        credentials,
        patience: Patience { headers, stall, ..usual },
        ..client::Config::default()
    })
}

fn a_bug() -> Error {
    Error::internal("cannot pull the image: a bug ended the pull")
}

#[cfg(test)]
impl Pulls {
    /// How many callers wait for pulls.
    pub(super) fn waiting(&self) -> usize {
        let all = self.lock();
        all.iter().map(|running| *running.waiting.lock().unwrap_or_else(PoisonError::into_inner)).sum()
    }
}
