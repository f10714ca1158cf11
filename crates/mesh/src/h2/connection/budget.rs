//! How much of what brings nothing a peer may send.
//!
//! A frame that costs its reader something and brings nothing takes one from its bucket. Buckets fill again with time, and with what is done
//! in earnest: who sends and takes data may ping and open windows as often as that needs.

use std::time::Instant;

use crate::h2::frame::{Broken, Code};

/// So many now, and so many a second.
#[derive(Debug)]
pub(super) struct Bucket {
    left: u32,
    most: u32,
    rate: u32,
    since: Option<Instant>,
    why: &'static str,
}

impl Bucket {
    const fn new(most: u32, rate: u32, why: &'static str) -> Self {
        Self { left: most, most, rate, since: None, why }
    }

    /// Takes one.
    pub(super) fn spend(&mut self, now: Instant) -> Result<(), Broken> {
        let since = *self.since.get_or_insert(now);
        let passed = now.saturating_duration_since(since).as_millis();
        let more = u32::try_from(passed * u128::from(self.rate) / 1000).unwrap_or(u32::MAX);
        if more > 0 {
            self.pay(more);
            self.since = Some(now);
        }
        let calm = Broken::new(Code::ENHANCE_YOUR_CALM, self.why);
        self.left = self.left.checked_sub(1).ok_or(calm)?;
        Ok(())
    }

    /// Puts some back.
    pub(super) fn pay(&mut self, count: u32) {
        self.left = self.left.saturating_add(count).min(self.most);
    }
}

/// What a connection bears.
#[derive(Debug)]
pub(super) struct Patience {
    /// Streams that end before they were answered: by the peer (CVE-2023-44487) or for what it did (CVE-2025-8671).
    pub(super) resets: Bucket,
    /// SETTINGS (CVE-2019-9515).
    pub(super) settings: Bucket,
    /// PING (CVE-2019-9512).
    pub(super) pings: Bucket,
    /// Frames without anything in them (CVE-2019-9518).
    pub(super) empty: Bucket,
    /// WINDOW_UPDATE (CVE-2019-9511, CVE-2019-9517).
    pub(super) windows: Bucket,
    /// PRIORITY (CVE-2019-9513), what is not known, and what comes for streams that have ended (CVE-2019-9514).
    pub(super) others: Bucket,
}

impl Patience {
    pub(super) const fn new() -> Self {
        Self {
            resets: Bucket::new(1000, 100, "too many streams were reset"),
            settings: Bucket::new(100, 10, "too many SETTINGS"),
            pings: Bucket::new(500, 50, "too many PING"),
            empty: Bucket::new(100, 10, "too many frames with nothing in them"),
            windows: Bucket::new(1000, 200, "too many WINDOW_UPDATE for what was sent"),
            others: Bucket::new(1000, 100, "too many frames that mean nothing"),
        }
    }

    /// A stream has begun.
    pub(super) fn begun(&mut self) {
        self.windows.pay(4);
        self.others.pay(4);
        self.empty.pay(1);
    }

    /// A stream was answered and has ended.
    pub(super) fn ended(&mut self) {
        self.resets.pay(1);
    }

    /// So many bytes were sent in one frame. Who reads them by a few hundred may say so each time.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.windows.pay(u32::try_from(bytes / 256).unwrap_or(u32::MAX).saturating_add(2));
        self.pings.pay(1);
    }

    /// Bytes came.
    pub(super) fn came(&mut self) {
        self.pings.pay(1);
    }
}
