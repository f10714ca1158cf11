//! When routes are looked at: at regular times, and soon after a node has changed.

use std::sync::Arc;
use std::time::Duration;

use client::cache::Cache;
use cpi::contract::Node;
use futures_util::FutureExt as _;
use tokio::sync::Notify;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::plan;

/// Nodes that change within this time are looked at together.
const TOGETHER: Duration = Duration::from_millis(100);
/// As long at least is between the end of a look and the next one that a node's change has caused: clouds count who asks them.
const APART: Duration = Duration::from_millis(800);

pub(super) struct Times {
    regular: Interval,
    news: Arc<Notify>,
}

impl Times {
    /// At once, as these nodes change, and after each of these periods without a change.
    pub(super) fn of(nodes: &Cache<Node>, period: Duration) -> Self {
        let times = Self::each(period);
        let news = times.news.clone();
        nodes.listen(move |change| {
            if plan::is_news(change.old.as_deref(), change.new.as_deref()) {
                news.notify_one();
            }
        });
        times
    }

    fn each(period: Duration) -> Self {
        let mut regular = tokio::time::interval(period);
        regular.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { regular, news: Arc::default() }
    }

    /// Resolves when routes are to be looked at. It is called when that was done the last time.
    pub(super) async fn next(&mut self) {
        let Self { regular, news } = self;
        let earliest = Instant::now() + APART;
        let changed = async {
            news.notified().await;
            tokio::time::sleep_until(earliest.max(Instant::now() + TOGETHER)).await;
        };
        tokio::select! {
            biased;
            _ = regular.tick() => {}
            () = changed => regular.reset(),
        }
        // What has changed until now is seen by this look.
        let _ = news.notified().now_or_never();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When is looked, in hundredths of a second, where nodes change at these.
    async fn looks(changes: &[u64], until: u64) -> Vec<u64> {
        let hundredths = |count: u64| Duration::from_millis(count * 10);
        let start = Instant::now();
        let mut times = Times::each(Duration::from_secs(10));
        let news = times.news.clone();
        let changing = async {
            for at in changes {
                tokio::time::sleep_until(start + hundredths(*at)).await;
                news.notify_one();
            }
            tokio::time::sleep_until(start + hundredths(until)).await;
        };
        let mut seen = Vec::new();
        let looking = async {
            while seen.len() < 100 {
                times.next().await;
                seen.push((start.elapsed().as_millis() as u64 + 5) / 10);
            }
        };
        tokio::select! {
            () = looking => {}
            () = changing => {}
        }
        seen
    }

    #[tokio::test(start_paused = true)]
    async fn without_news_it_is_looked_regularly() {
        assert_eq!(looks(&[], 2500).await, [0, 1000, 2000]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_changes_is_seen_within_a_second() {
        assert_eq!(looks(&[300], 1400).await, [0, 310, 1310], "and the regular times begin anew");
    }

    #[tokio::test(start_paused = true)]
    async fn what_changes_together_is_seen_together() {
        assert_eq!(looks(&[300, 303, 309], 1300).await, [0, 310]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_changes_after_a_look_waits_a_little() {
        assert_eq!(looks(&[300, 312, 350, 385], 1300).await, [0, 310, 390]);
        assert_eq!(looks(&[300, 312, 395], 1300).await, [0, 310, 390, 470]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_changes_just_before_a_regular_look_is_seen_by_it() {
        assert_eq!(looks(&[995], 1900).await, [0, 1000]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_there_at_the_start_is_seen_once() {
        let mut times = Times::each(Duration::from_secs(10));
        times.news.notify_one();
        times.next().await;
        assert_eq!(times.next().now_or_never(), None);
        let start = Instant::now();
        times.next().await;
        assert!(start.elapsed() > Duration::from_secs(9), "{:?}", start.elapsed());
    }
}
