//! PullImage: one download for all who ask for the same, as long as one of them waits.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oci_image::pull::{Options, Progress, pull};
use oci_image::reference::Reference;
use oci_image::registry::client::{self, Client, Patience};
use oci_image::registry::credentials::{Credential, CredentialFiles};
use oci_image::store::Store;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::failure;
use crate::contract::Error;
use crate::plugin::config;

/// After the last pull: another may follow at once.
const SOON: Duration = Duration::from_millis(500);
/// For so long connections and tokens are kept for the next pull.
const IDLE: Duration = Duration::from_secs(30);

/// Pulls that run.
#[derive(Debug)]
pub(super) struct Pulls {
    store: Arc<Store>,
    config: config::Images,
    /// While it lives, connections to registries and tokens of theirs are kept.
    client: Mutex<Option<Client>>,
    /// How many may run at once; without it, any number.
    slots: Option<Arc<Semaphore>>,
    running: Mutex<Vec<Arc<Running>>>,
    /// How many have been begun, ever.
    begun: AtomicU64,
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
        Self {
            store,
            config: config.clone(),
            client: Mutex::default(),
            slots,
            running: Mutex::default(),
            begun: AtomicU64::new(0),
        }
    }

    /// The client, made anew if none is kept.
    fn client(&self) -> Client {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        client.get_or_insert_with(|| new_client(&self.config)).clone()
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
        self.begun.fetch_add(1, Ordering::Relaxed);
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
        let outcome = Arc::clone(&self).pull_on_a_thread(Arc::clone(&running)).await;
        self.lock().retain(|other| !Arc::ptr_eq(other, &running));
        running.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        running.outcome.send_replace(Some(outcome));
        self.rest().await;
    }

    /// Lets go of what pulls have left in this process, if none runs: of memory soon, of connections after a while.
    async fn rest(&self) {
        let begun = self.begun.load(Ordering::Relaxed);
        let resting = || self.lock().is_empty() && self.begun.load(Ordering::Relaxed) == begun;
        for wait in [SOON, IDLE] {
            tokio::time::sleep(wait).await;
            if !resting() {
                return;
            }
            if wait == IDLE {
                self.client.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
            // Whoever waited has been answered; a thread that cannot be had now is no loss.
            let _ = tokio::task::spawn_blocking(kernel::memory::give_back).await;
        }
    }

    /// On a thread of its own: one of the runtime's would keep the process from ending while a registry is silent.
    async fn pull_on_a_thread(self: Arc<Self>, running: Arc<Running>) -> Outcome {
        let (ended, outcome) = oneshot::channel();
        let work = move || {
            // Nobody takes it where the node has ended meanwhile.
            let _ = ended.send(self.pull_now(&running));
        };
        let thread = std::thread::Builder::new().name("pull".into()).spawn(work);
        thread.map_err(|e| Error::internal(format!("cannot start a thread to pull with: {e}")))?;
        outcome.await.unwrap_or_else(|_| Err(a_bug()))
    }

    fn pull_now(&self, running: &Running) -> Outcome {
        let Wanted { reference, credential } = &running.wanted;
        let name = reference.to_string();
        let client = match credential {
            Some(credential) => self.client().with_credential(credential.clone()),
            None => self.client(),
        };
        let source = client.source(reference).map_err(|e| failure::of_registry(&name, &e))?;
        let progress_within = progress_within(&self.config);
        let options = Options { progress_within, keep_replaced: true, ..Options::default() };
        let report = pull(&self.store, &name, &source, &options, running);
        report.map(|report| report.id.to_string()).map_err(|e| failure::of_pull(&name, &e))
    }
}

/// How long a pull may go without getting on.
fn progress_within(config: &config::Images) -> Duration {
    match config.pull_progress_timeout {
        0 => Duration::MAX,
        seconds => Duration::from_secs(seconds),
    }
}

fn new_client(config: &config::Images) -> Client {
    // One try gets half of the time, so that there is another.
    let (usual, most) = (Patience::default(), progress_within(config) / 2);
    let [headers, stall] = [usual.headers, usual.stall].map(|time| time.min(most));
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
