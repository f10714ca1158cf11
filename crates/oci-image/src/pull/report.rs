use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::contract::Digest;

/// What a pull did, and where its time went.
#[derive(Clone, Debug)]
pub struct PullReport {
    /// The complete reference it is recorded as; an imported image may have none.
    pub name: Option<String>,
    /// The image's id: its configuration's digest.
    pub id: Digest,
    /// Its manifest's digest.
    pub manifest: Digest,
    /// The digest the reference resolved to: the manifest's or an index's.
    pub target: Digest,
    /// Layers, and how many of them were unpacked already.
    pub layers: usize,
    /// How many of them were there already.
    pub present: usize,
    /// Taking bytes from the source and writing them to disk; compressed bytes.
    pub fetch: Stage,
    /// Hashing, compressed and uncompressed bytes.
    pub hash: Stage,
    /// Inflating; uncompressed bytes.
    pub inflate: Stage,
    /// Reading tar and writing files; uncompressed bytes.
    pub unpack: Stage,
    /// Syncing; no bytes of its own, and the time is the wall's.
    pub durable: Stage,
    /// From the first request to the durable record.
    pub wall: Duration,
}

/// One stage of the pipeline, summed over all layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stage {
    /// Bytes through it.
    pub bytes: u64,
    /// Time it kept a core busy; waiting left out.
    pub busy: Duration,
}

impl Stage {
    /// Millions of bytes a second of one busy core; 0 when nothing went through.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub fn rate(&self) -> f64 {
        if self.busy.is_zero() { 0.0 } else { self.bytes as f64 / 1e6 / self.busy.as_secs_f64() }
    }

    fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.busy += other.busy;
    }
}

impl PullReport {
    /// An empty report of an image with `layers` layers.
    pub(super) fn new(digest: &Digest, layers: usize) -> Self {
        Self {
            name: None,
            id: digest.clone(),
            manifest: digest.clone(),
            target: digest.clone(),
            layers,
            present: 0,
            fetch: Stage::default(),
            hash: Stage::default(),
            inflate: Stage::default(),
            unpack: Stage::default(),
            durable: Stage::default(),
            wall: Duration::ZERO,
        }
    }
}

/// Where threads add what they did.
#[derive(Debug, Default)]
pub(super) struct Meter(Mutex<Meters>);

/// The stages that threads measure.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meters {
    pub(super) fetch: Stage,
    pub(super) hash: Stage,
    pub(super) inflate: Stage,
    pub(super) unpack: Stage,
    pub(super) durable: Stage,
}

impl Meter {
    pub(super) fn add(&self, more: Meters) {
        let mut meters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        meters.fetch.add(more.fetch);
        meters.hash.add(more.hash);
        meters.inflate.add(more.inflate);
        meters.unpack.add(more.unpack);
        meters.durable.add(more.durable);
    }

    pub(super) fn put_into(self, report: &mut PullReport) {
        let meters = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        report.fetch = meters.fetch;
        report.hash = meters.hash;
        report.inflate = meters.inflate;
        report.unpack = meters.unpack;
        report.durable = meters.durable;
    }
}

/// The wall's clock.
pub(super) struct Timer(Instant);

impl Timer {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn stop(self, report: &mut PullReport) {
        report.wall = self.0.elapsed();
    }
}
