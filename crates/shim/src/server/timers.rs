//! What happens at a time.

use std::time::{Duration, Instant};

use rustix::time::Timespec;

use super::connection::Connection;
use super::{Key, Server};

/// How long those who hear of the end may take to read it.
const LAST_WORDS: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Timer {
    /// A container that was asked to stop has not.
    Kill(String),
    /// A container that ended is started again.
    Restart(String),
    /// A container ran out of memory a moment ago: by now it is counted.
    Oom(String),
    /// A process has not come into its container in time.
    Join(Key),
    /// A shim of others that was told to end has not.
    ForeignEnd,
    /// Containerd could not be told of events; now it may.
    Publish,
    /// A connection could not be taken; the next may.
    Listen,
    /// This shim is at its end, and whoever has not read it yet does not.
    Leave,
}

impl Timer {
    fn is_of(&self, container: &str) -> bool {
        matches!(self, Self::Kill(c) | Self::Restart(c) | Self::Oom(c) if c == container)
    }
}

impl Server {
    pub(super) fn next_timeout(&self) -> Option<Timespec> {
        let at = self.timers.iter().map(|(at, _)| *at).min()?;
        let left = at.saturating_duration_since(Instant::now());
        Some(Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) })
    }

    pub(super) fn fire_timers(&mut self) {
        if self.timers.is_empty() {
            return;
        }
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut self.timers).into_iter().partition(|(at, _)| *at <= now);
        self.timers = later;
        let due: Vec<(Instant, Timer)> = due;
        for (_, timer) in due {
            match timer {
                Timer::Kill(container) => self.kill_late(&container),
                Timer::Restart(container) => self.start_again(&container),
                Timer::Oom(container) => self.count_oom(&container),
                Timer::Join(key) => self.advance_join(key),
                Timer::ForeignEnd => self.foreign_ended(),
                Timer::Publish => self.send_events(),
                Timer::Listen => self.deaf = false,
                Timer::Leave => {
                    self.left = true;
                    let late = |c: &Connection| (self.pod.is_some() || !c.creator) && c.wants_to_write();
                    let ids: Vec<u64> =
                        self.connections.iter().filter(|(_, c)| late(c)).map(|(id, _)| *id).collect();
                    ids.into_iter().for_each(|id| self.drop_connection(id));
                }
            }
        }
    }

    /// From now on it does not wait for those who do not read.
    pub(super) fn leave(&mut self) {
        self.timers.push((Instant::now() + LAST_WORDS, Timer::Leave));
    }

    /// Forgets what was to happen to a container.
    pub(super) fn stop_timers(&mut self, container: &str) {
        self.timers.retain(|(_, timer)| !timer.is_of(container));
    }

    /// SIGKILL in `timeout`, unless it comes sooner.
    pub(super) fn kill_after(&mut self, container: &str, timeout: Duration) {
        let timer = Timer::Kill(container.to_owned());
        let at = Instant::now() + timeout;
        let sooner = self.timers.iter().filter(|(_, t)| *t == timer).map(|(at, _)| *at).min();
        self.timers.retain(|(_, t)| *t != timer);
        self.timers.push((sooner.map_or(at, |sooner| sooner.min(at)), timer));
    }
}
