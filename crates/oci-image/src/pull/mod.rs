//! Pulling: download, verify, inflate and unpack as one pipeline.
//!
//! Each caller resolves the manifest itself, with its own credentials; only then may it join a download that is running.
//! Then layers go through two kinds of threads that never wait for the one behind them:
//!
//! - a **fetcher** takes bytes off the network, hashes them and appends them to the blob's partial file. A cut
//!   connection is taken up again where it stopped, and so is a killed process, by the next pull;
//! - an **unpacker** follows that file as it grows (its bytes are still in memory), inflates, hashes what comes out and
//!   writes the files into a folder of its own.
//!
//! When both digests are right the layer waits for the next sync of the filesystem and then gets its name. The record
//! comes last. What fails leaves nothing but partial downloads and whatever layers were finished.

mod body;
mod error;
mod fetch;
mod layers;
mod progress;
mod report;
mod resolve;
mod settle;
mod source;
mod unpack;

use std::{num::NonZero, thread, time::Duration};

pub use error::{Error, Result};
pub use progress::{Progress, Silent, State};
pub use report::{PullReport, Stage};
pub use source::{Source, SourceError};

use crate::{
    contract::Platform,
    layer::Limits,
    store::{Image, Store},
};

/// How to pull.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which image of an index; the host's when not given.
    pub platform: Option<Platform>,
    /// What a layer may unpack to.
    pub limits: Limits,
    /// How many blobs are downloaded at once.
    pub downloads: usize,
    /// How many layers are unpacked at once.
    pub unpackers: usize,
    /// How often in a row a download may fail without a byte before the pull gives up.
    pub attempts: u32,
    /// How long to wait after the first failure; it doubles with each, up to 10 s.
    pub backoff: Duration,
    /// How long a download may go without getting on, however often it is tried meanwhile.
    pub progress_within: Duration,
    /// Whether an image that loses its name to this one is kept by its digest ([`Store::record_beside`]).
    pub keep_replaced: bool,
}

impl Default for Options {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(2, NonZero::get);
        Self {
            platform: None,
            limits: Limits::default(),
            downloads: 4,
            unpackers: cores.min(8),
            attempts: 6,
            backoff: Duration::from_millis(200),
            progress_within: Duration::from_secs(120),
            keep_replaced: false,
        }
    }
}

/// Pulls the image that `source` has into `store` and records it as `name`, a complete reference.
///
/// When it returns, the image is whole, verified and durable. Blobs and layers that the store has are not fetched or
/// unpacked again.
///
/// # Errors
/// Whatever goes wrong first, with the digest it concerns. Nothing is recorded then; what was downloaded is kept for
/// the next try.
pub fn pull(
    store: &Store,
    name: &str,
    source: &dyn Source,
    options: &Options,
    progress: &dyn Progress,
) -> Result<PullReport> {
    pull_image(store, Some(name), source, options, progress)
}

/// Like [`pull`], for an image that may have no name.
pub(crate) fn pull_image(
    store: &Store,
    name: Option<&str>,
    source: &dyn Source,
    options: &Options,
    progress: &dyn Progress,
) -> Result<PullReport> {
    let timer = report::Timer::start();
    let ingest = store.ingest()?;
    let resolved = resolve::resolve(store, &ingest, name, source, options)?;
    progress.resolved(&resolved.descriptor, &resolved.manifest.layers);
    let mut report = layers::run(store, &ingest, source, options, progress, &resolved)?;
    settle::settle(store, &resolved.config.rootfs.diff_ids)?;
    let image = Image {
        name: name.map(str::to_owned),
        manifest: resolved.descriptor.clone(),
        target: resolved.target.clone(),
        pinned: false,
    };
    let unchanged = report.present == report.layers && store.is_recorded(&image)?;
    if !unchanged {
        // What was found here another process may have named a moment ago, and be about to sync the folder itself.
        store.sync_names(&resolved.config.rootfs.diff_ids, &resolved.manifest)?;
        match options.keep_replaced {
            true => store.record_beside(image)?,
            false => store.record(image)?,
        }
    }
    report.name = name.map(str::to_owned);
    report.manifest = resolved.descriptor.digest;
    report.target = resolved.target;
    report.id = resolved.manifest.config.digest;
    timer.stop(&mut report);
    Ok(report)
}

#[cfg(test)]
mod tests;
