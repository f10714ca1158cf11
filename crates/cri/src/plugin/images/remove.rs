//! RemoveImage, and what goes with it: layers and blobs that nobody needs any more.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use oci_image::contract::Digest;
use oci_image::store::{self, Store};
use tokio::sync::watch;

use super::Images;
use crate::contract::{Code, Error};

/// How long removals are waited for that come one after the other.
const GATHER: Duration = Duration::from_millis(200);
/// How long a partial download is kept that nobody goes on with.
const PARTIALS: Duration = Duration::from_secs(24 * 3600);
/// How often what is to be collected is tried again when it could not be.
const TRIES: u32 = 5;

/// The layers that containers need, by diffID; `None` if that cannot be told now.
pub(crate) type InUse = Arc<dyn Fn() -> Option<BTreeSet<String>> + Send + Sync>;

/// Collects in the background, once at a time.
pub(super) struct Collector {
    store: Arc<Store>,
    in_use: InUse,
    /// Whether there is something to do.
    state: Mutex<Work>,
    busy: watch::Sender<bool>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Work {
    #[default]
    None,
    Running,
    /// It runs, and what it has looked at has changed since.
    Again,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collector").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Images {
    /// Takes all names of the image away that `text` means. One that is not there has been removed.
    ///
    /// Containers of it run on: their layers stay until they are gone.
    pub(super) async fn remove(self: &Arc<Self>, text: &str) -> Result<(), Error> {
        if text.is_empty() {
            return Err(Error::invalid("image.image", "is empty: give an image's id or name"));
        }
        let (images, meant) = (Arc::clone(self), text.to_owned());
        let removed = crate::plugin::node::blocking(move || images.remove_now(&meant)).await?;
        if removed {
            self.collector.begin();
        }
        Ok(())
    }

    /// Whether it was there.
    fn remove_now(&self, text: &str) -> Result<bool, Error> {
        let snapshot = self.catalogue.now().map_err(Error::of)?;
        let entry = match snapshot.find(text) {
            Ok((entry, _)) => entry,
            Err(store::Error::NoImage(_)) => return Ok(false),
            Err(error) => return Err(Error::invalid("image.image", error.to_string())),
        };
        let pinned = |name: &str| {
            Error::precondition(format!("cannot remove image {name:?}: it is pinned (unpin it first)"))
        };
        if entry.image.pinned {
            return Err(pinned(text));
        }
        match self.store.remove_manifests(&entry.manifests) {
            Ok(_) => Ok(true),
            // Pinned a moment ago.
            Err(store::Error::Pinned(name)) => Err(pinned(&name)),
            Err(error) => Err(Error::of(error)),
        }
    }
}

impl Collector {
    /// One for `store`, that leaves alone what `in_use` tells.
    pub(super) fn new(store: Arc<Store>, in_use: InUse) -> Self {
        Self { store, in_use, state: Mutex::default(), busy: watch::Sender::new(false) }
    }

    /// Collects soon.
    pub(super) fn begin(self: &Arc<Self>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = *state == Work::None;
        *state = if idle { Work::Running } else { Work::Again };
        if idle {
            self.busy.send_replace(true);
            tokio::spawn(Arc::clone(self).run());
        }
    }

    /// Whether there is something to collect.
    pub(super) fn is_busy(&self) -> bool {
        *self.busy.borrow()
    }

    /// Waits until there is nothing to collect, but no longer than `limit`.
    pub(super) async fn settled(&self, limit: Duration) {
        let mut busy = self.busy.subscribe();
        // Whoever waits gets on without it.
        let _ = tokio::time::timeout(limit, busy.wait_for(|busy| !busy)).await;
    }

    async fn run(self: Arc<Self>) {
        let mut failures = 0;
        loop {
            tokio::time::sleep(GATHER * 10u32.pow(failures.min(3))).await;
            *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Work::Running;
            let collector = Arc::clone(&self);
            let done = tokio::task::spawn_blocking(move || collector.collect()).await;
            let error = match done {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            failures = if error.is_some() { failures + 1 } else { 0 };
            if let Some(error) = error {
                eprintln!("sextant node: cannot remove what images have left: {error}");
            }
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if *state == Work::Running && (failures == 0 || failures >= TRIES) {
                *state = Work::None;
                self.busy.send_replace(false);
                return;
            }
        }
    }

    fn collect(&self) -> Result<(), Error> {
        let needed: std::cell::OnceCell<Option<BTreeSet<String>>> = std::cell::OnceCell::new();
        // Read when it is asked first: by then no container is being made. If the containers cannot be listed, each of
        // them may need everything.
        let in_use = |layer: &Digest| {
            let needed = needed.get_or_init(|| (self.in_use)());
            needed.as_ref().is_none_or(|all| all.contains(&layer.to_string()))
        };
        self.store.collect(&in_use, PARTIALS).map_err(Error::of)?;
        match needed.get() {
            Some(None) => {
                Err(Error::new(Code::Unavailable, "the containers that may need it cannot be listed"))
            }
            _ => Ok(()),
        }
    }
}
