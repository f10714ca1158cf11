//! What nodes have told lately.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use meshwire::contract::flows::Requests;
use smi::contract::Name;
use tokio::time::Instant;

use super::pods::Party;

/// For so long it is kept, and so it is the longest window.
pub(super) const LONGEST: Duration = Duration::from_mins(5);
/// So many flows are kept, about 300 bytes each; where there are more it is for a shorter time.
const MOST: usize = 100_000;

/// Which way requests went.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    pub(super) client: Arc<Party>,
    pub(super) service: Name,
    pub(super) backend: Option<Name>,
    /// Who was asked, if that is known.
    pub(super) server: Option<Arc<Party>>,
}

/// What a node has told at once.
#[derive(Debug)]
struct Report {
    at: Instant,
    flows: Vec<(Flow, Requests)>,
}

/// In the order in which it was told.
#[derive(Debug, Default)]
pub(super) struct Window {
    reports: VecDeque<Report>,
    flows: usize,
}

impl Window {
    pub(super) fn take(&mut self, flows: Vec<(Flow, Requests)>, now: Instant) {
        if !flows.is_empty() {
            self.flows += flows.len();
            self.reports.push_back(Report { at: now, flows });
        }
        while let Some(first) = self.reports.front()
            && (self.flows > MOST || now.duration_since(first.at) > LONGEST)
        {
            self.flows -= first.flows.len();
            self.reports.pop_front();
        }
    }

    /// What was told in the last so long.
    pub(super) fn last(&self, long: Duration, now: Instant) -> impl Iterator<Item = &(Flow, Requests)> {
        let is_old = move |report: &&Report| now.duration_since(report.at) > long;
        self.reports.iter().skip_while(is_old).flat_map(|report| &report.flows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> (Flow, Requests) {
        let client = Party { pod: Name::new("shop", "web"), node: "node-1".into(), owners: Vec::new() };
        let flow =
            Flow { client: Arc::new(client), service: Name::new("shop", "api"), backend: None, server: None };
        (flow, Requests { successes: 1, ..Requests::default() })
    }

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let (mut window, start) = (Window::default(), Instant::now());
        for second in [0, 10, 20, 290] {
            window.take(vec![flow(); 2], start + Duration::from_secs(second));
        }
        let counted = |window: &Window, long: u64, second: u64| {
            window.last(Duration::from_secs(long), start + Duration::from_secs(second)).count()
        };
        assert_eq!(counted(&window, 30, 290), 2);
        assert_eq!(counted(&window, 300, 290), 8);
        assert_eq!(counted(&window, 280, 290), 6);
        assert_eq!(counted(&window, 30, 400), 0);
        // And is not kept.
        window.take(Vec::new(), start + Duration::from_secs(315));
        assert_eq!((window.reports.len(), window.flows), (2, 4));
    }

    #[test]
    fn no_number_of_reports_takes_more_than_is_meant() {
        let (mut window, now) = (Window::default(), Instant::now());
        for _ in 0..MOST / 1000 + 5 {
            window.take(vec![flow(); 1000], now);
        }
        assert_eq!((window.flows, window.last(LONGEST, now).count()), (MOST, MOST));
    }
}
