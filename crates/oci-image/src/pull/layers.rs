//! All layers of an image at once: fetchers, unpackers, and one thread that makes durable what they finish.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, Scope},
};

use super::{
    Error, Options, Progress, PullReport, Result, Source, State,
    body::{Body, End},
    fetch::{Fetcher, Whole},
    report::{Meter, Meters, Stage},
    resolve::Resolved,
    unpack::{Finished, Unpacker},
};
use crate::{
    contract::{Descriptor, Digest},
    store::{Batch, Ingest, Store},
};

/// One blob to fetch, one layer to unpack, or both.
struct Job<'a> {
    layer: &'a Descriptor,
    diff_id: &'a Digest,
    unpack: bool,
    body: Body,
}

/// Something finished, waiting for its name.
enum Done<'a> {
    Blob(&'a Digest, Whole, bool),
    Layer(&'a Digest, &'a Digest, Finished),
}

/// The first failure; whatever fails because of it does not count.
#[derive(Default)]
struct Failure {
    stop: AtomicBool,
    first: Mutex<Option<Error>>,
}

impl Failure {
    fn set(&self, error: Error) {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if first.as_ref().is_none_or(|e| matches!(e, Error::Cancelled)) {
            *first = Some(error);
        }
        self.stop.store(true, Ordering::Release);
    }
}

/// Brings every layer of the image into the store.
pub(super) fn run(
    store: &Store,
    ingest: &Ingest,
    source: &dyn Source,
    options: &Options,
    progress: &dyn Progress,
    resolved: &Resolved,
) -> Result<PullReport> {
    let mut report = PullReport::new(&resolved.target, resolved.manifest.layers.len());
    let jobs = jobs(store, progress, resolved, &mut report);
    let (meter, failure) = (Meter::default(), Failure::default());
    let stopped = || failure.stop.load(Ordering::Acquire) || progress.cancelled();
    let fetcher = Fetcher { store, source, options, progress, meter: &meter, stopped: &stopped };
    let unpacker = Unpacker { store, ingest, options, progress, meter: &meter, fetcher: &fetcher };
    let (next_fetch, next_unpack) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        let (jobs, fetcher, unpacker, meter, failure) = (&jobs, &fetcher, &unpacker, &meter, &failure);
        let (next_fetch, next_unpack) = (&next_fetch, &next_unpack);
        spawn(scope, failure, "pull-durable", move || commit(store, progress, meter, &receiver));
        for _ in 0..options.downloads.clamp(1, jobs.len().max(1)) {
            let sender = sender.clone();
            spawn(scope, failure, "pull-fetch", move || fetch_all(fetcher, jobs, next_fetch, &sender));
        }
        for _ in 0..options.unpackers.clamp(1, jobs.len().max(1)) {
            let sender = sender.clone();
            spawn(scope, failure, "pull-unpack", move || unpack_all(unpacker, jobs, next_unpack, &sender));
        }
        // A body that no thread was started for must not be waited for.
        if stopped() {
            jobs.iter().for_each(|j| j.body.end(End::Failed));
        }
    });
    match failure.first.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => return Err(error),
        None if progress.cancelled() => return Err(Error::Cancelled),
        None => {}
    }
    meter.put_into(&mut report);
    Ok(report)
}

fn spawn<'scope>(
    scope: &'scope Scope<'scope, '_>,
    failure: &'scope Failure,
    name: &str,
    work: impl FnOnce() -> Result<()> + Send + 'scope,
) {
    let thread = thread::Builder::new().name(name.into());
    let spawned = thread.spawn_scoped(scope, move || work().unwrap_or_else(|e| failure.set(e)));
    spawned.map(drop).unwrap_or_else(|e| failure.set(Error::Thread(e)));
}

/// What the store lacks. Each blob and each layer is named once, though an image may have it several times.
fn jobs<'a>(
    store: &Store,
    progress: &dyn Progress,
    resolved: &'a Resolved,
    report: &mut PullReport,
) -> Vec<Job<'a>> {
    let (mut blobs, mut layers) = (BTreeSet::new(), BTreeSet::new());
    let mut jobs = Vec::new();
    for (layer, diff_id) in resolved.manifest.layers.iter().zip(&resolved.config.rootfs.diff_ids) {
        let there = store.has_layer(diff_id);
        report.present += usize::from(there);
        let unpack = layers.insert(diff_id) && !there;
        let fetch = blobs.insert(&layer.digest) && !store.has_blob(&layer.digest);
        if unpack || fetch {
            jobs.push(Job { layer, diff_id, unpack, body: Body::default() });
        } else {
            progress.state(&layer.digest, State::Present);
        }
    }
    jobs
}

fn fetch_all<'a>(
    fetcher: &Fetcher<'_>,
    jobs: &'a [Job<'a>],
    next: &AtomicUsize,
    done: &Sender<Done<'a>>,
) -> Result<()> {
    let mut result = Ok(());
    while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
        if result.is_err() || (fetcher.stopped)() {
            job.body.end(End::Failed);
            continue;
        }
        match fetcher.fetch(job.layer, &job.body) {
            Ok(None) => {}
            Ok(Some(whole)) => drop(done.send(Done::Blob(&job.layer.digest, whole, job.unpack))),
            Err(e) => result = Err(e),
        }
    }
    result
}

fn unpack_all<'a>(
    unpacker: &Unpacker<'_>,
    jobs: &'a [Job<'a>],
    next: &AtomicUsize,
    done: &Sender<Done<'a>>,
) -> Result<()> {
    while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
        if (unpacker.fetcher.stopped)() {
            return Ok(());
        }
        if !job.unpack {
            continue;
        }
        if let Some(finished) = unpacker.unpack(job.layer, job.diff_id, &job.body)? {
            drop(done.send(Done::Layer(&job.layer.digest, job.diff_id, finished)));
        }
    }
    Ok(())
}

/// Gives finished things their names, all that are there at a time with one sync. It goes on after a failure elsewhere:
/// what is finished need not be done again.
fn commit(
    store: &Store,
    progress: &dyn Progress,
    meter: &Meter,
    finished: &Receiver<Done<'_>>,
) -> Result<()> {
    while let Ok(first) = finished.recv() {
        let done: Vec<Done<'_>> = [first].into_iter().chain(finished.try_iter()).collect();
        let mut batch = Batch::new(store);
        for thing in &done {
            match thing {
                Done::Blob(digest, whole, _) => batch.push(whole.path(), store.blob_path(digest)),
                Done::Layer(_, diff_id, layer) => {
                    batch.push(layer.folder.clone(), store.layer_folder(diff_id))
                }
            }
        }
        let busy = batch.commit()?;
        meter.add(Meters { durable: Stage { bytes: 0, busy }, ..Meters::default() });
        for thing in done {
            match thing {
                // A blob's last state is told when its layer is unpacked.
                Done::Blob(digest, _, unpack) => {
                    if !unpack {
                        progress.state(digest, State::Done);
                    }
                }
                Done::Layer(digest, _, layer) => {
                    layer.claim.remove()?;
                    progress.state(digest, State::Done);
                }
            }
        }
    }
    Ok(())
}
