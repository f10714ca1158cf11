//! ImageFsInfo: what images and writable layers take of their filesystems.
//!
//! Measuring looks at every writable layer, so it is done in the background, and not more often than is cheap; a call
//! is answered from the last measurement, whose time it tells.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use oci_image::store::Store;

use super::Images;
use crate::contract::Error;
use crate::contract::v1::{FilesystemIdentifier, FilesystemUsage, ImageFsInfoResponse, UInt64Value};
use crate::plugin::clock;
use crate::plugin::node::blocking;
use kernel::tree::{self, Taken};

/// A measurement is not older than this, or than a hundred times what it took.
const FRESH: Duration = Duration::from_secs(10);
/// How long a collection is waited for that runs: whoever has removed an image wants to see what that has freed.
const SETTLE: Duration = Duration::from_secs(5);

/// Measures the filesystems that images and containers are on.
#[derive(Debug)]
pub(super) struct Usage {
    store: Arc<Store>,
    /// Where containers' writable layers are: `<id>/upper`.
    containers: PathBuf,
    last: Mutex<Last>,
    /// What the store has taken, when its folders were of these versions.
    images: Mutex<(Versions, Taken)>,
}

/// When something has last come into each folder or gone from it.
type Versions = Vec<(i64, i64)>;

#[derive(Debug, Default)]
struct Last {
    measured: Option<Measured>,
    running: bool,
}

#[derive(Debug, Clone)]
struct Measured {
    at: Instant,
    took: Duration,
    answer: ImageFsInfoResponse,
}

impl Images {
    /// What images and containers take.
    pub(super) async fn fs_info(self: &Arc<Self>) -> Result<ImageFsInfoResponse, Error> {
        let collected = self.collector.is_busy();
        self.collector.settled(SETTLE).await;
        if let Some(answer) = self.usage.last(collected) {
            if self.usage.is_due() {
                let images = Arc::clone(self);
                tokio::task::spawn_blocking(move || images.usage.measure());
            }
            return Ok(answer);
        }
        let images = Arc::clone(self);
        blocking(move || Ok(images.usage.measure())).await
    }
}

impl Usage {
    pub(super) fn new(store: Arc<Store>, containers: PathBuf) -> Self {
        Self { store, containers, last: Mutex::default(), images: Mutex::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last measurement, unless what it measured has `changed` since.
    fn last(&self, changed: bool) -> Option<ImageFsInfoResponse> {
        if changed { None } else { self.lock().measured.as_ref().map(|measured| measured.answer.clone()) }
    }

    /// Whether it is time to measure again; then whoever asked does it.
    fn is_due(&self) -> bool {
        let mut last = self.lock();
        let fresh = |m: &Measured| m.at.elapsed() < FRESH.max(m.took * 100);
        let due = !last.running && !last.measured.as_ref().is_some_and(fresh);
        last.running |= due;
        due
    }

    pub(super) fn measure(&self) -> ImageFsInfoResponse {
        let begun = Instant::now();
        let root = self.store.root();
        let mut containers = self.containers.as_path();
        let (images, writable) = (self.images(), self.writable());
        // On one filesystem they are one for the kubelet, which compares the paths.
        let device = |path: &Path| fs::metadata(path).map(|m| m.dev()).ok();
        if device(containers).is_none_or(|device_of| Some(device_of) == device(root)) {
            containers = root;
        }
        let answer = ImageFsInfoResponse {
            image_filesystems: vec![filesystem(root, images)],
            container_filesystems: vec![filesystem(containers, writable)],
        };
        let (at, took) = (Instant::now(), begun.elapsed());
        let mut last = self.lock();
        *last = Last { measured: Some(Measured { at, took, answer: answer.clone() }), running: false };
        answer
    }

    /// What the store has; measured anew only if something has come or gone. The last that was measured, if it cannot be.
    fn images(&self) -> Taken {
        let folders = self.store.content_folders();
        let version =
            |path: &PathBuf| fs::metadata(path).map(|m| (m.mtime(), m.mtime_nsec())).unwrap_or_default();
        let versions: Versions = folders.iter().map(version).collect();
        let mut known = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != versions {
            match self.store.content() {
                Ok(content) => {
                    *known = (versions, Taken { bytes: content.bytes, inodes: content.inodes });
                }
                // The next call tries again, and until then what was true last is nearer to it than nothing.
                Err(error) => eprintln!("sextant node: cannot measure the images: {error}"),
            }
        }
        known.1
    }

    fn writable(&self) -> Taken {
        let mut taken = Taken::default();
        for container in fs::read_dir(&self.containers).into_iter().flatten().flatten() {
            taken += tree::measure(&container.path().join("upper"));
        }
        taken
    }
}

fn filesystem(path: &Path, taken: Taken) -> FilesystemUsage {
    FilesystemUsage {
        timestamp: clock::now(),
        fs_id: Some(FilesystemIdentifier { mountpoint: path.display().to_string() }),
        used_bytes: Some(UInt64Value { value: taken.bytes }),
        inodes_used: Some(UInt64Value { value: taken.inodes }),
    }
}
