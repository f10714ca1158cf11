//! What fails on links: told once as long as it goes on, and again where it comes back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A failure that did not come for so long was over. What goes on comes more often: signs of life and further tries do.
const OVER: Duration = Duration::from_secs(60);

/// What failed last on each link, and when.
#[derive(Debug, Default)]
pub(super) struct Failures(BTreeMap<u32, (String, Instant)>);

impl Failures {
    /// Notes a failure; whether it is to be told.
    pub(super) fn is_news(&mut self, link: u32, cause: &str, now: Instant) -> bool {
        let before = self.0.insert(link, (cause.to_owned(), now));
        before.is_none_or(|(before, at)| before != cause || now.saturating_duration_since(at) >= OVER)
    }

    /// Forgets links that are not there any more: one that comes has failed in nothing yet.
    pub(super) fn keep(&mut self, is_there: impl Fn(u32) -> bool) {
        self.0.retain(|link, _| is_there(*link));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_is_told_once_and_what_comes_back_again() {
        let (mut failures, began) = (Failures::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        let told: Vec<bool> = [0, 1, 50, 109, 168, 228, 229]
            .into_iter()
            .map(|seconds| failures.is_news(1, "no buffer", at(seconds)))
            .collect();
        assert_eq!(told, [true, false, false, false, false, true, false]);
        // Another cause, and another link, is another failure.
        assert!(
            failures.is_news(1, "the link is down", at(230)) && failures.is_news(2, "no buffer", at(230))
        );
        assert!(failures.is_news(1, "no buffer", at(231)));
        // One that went, and came again under its number.
        failures.keep(|link| link == 2);
        assert!(failures.is_news(1, "no buffer", at(232)) && !failures.is_news(2, "no buffer", at(232)));
    }
}
