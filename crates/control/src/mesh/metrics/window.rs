//! What nodes have told lately.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use meshwire::contract::flows::Requests;
use smi::contract::Name;
use tokio::time::Instant;

use super::pods::Party;

/// For so long it is kept, and so it is the longest window.
pub(super) const LONGEST: Duration = Duration::from_mins(5);
/// So many bytes of flows are kept, about; where there is more it is for a shorter time.
const MOST: usize = 64 << 20;
/// What a flow takes, about, and what each part of its latencies that has something in it does.
const FLOW: usize = 300;
const PART: usize = 16;

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
    weight: usize,
}

/// What a node has told, in the order in which it did.
#[derive(Debug, Default)]
struct Told {
    reports: VecDeque<Report>,
    weight: usize,
}

impl Told {
    fn push(&mut self, report: Report) {
        self.weight += report.weight;
        self.reports.push_back(report);
    }

    /// Drops what it has told first; how much that was.
    fn pop(&mut self) -> usize {
        let weight = self.reports.pop_front().map_or(0, |report| report.weight);
        self.weight -= weight;
        weight
    }
}

/// What was told, by nodes.
#[derive(Debug, Default)]
pub(super) struct Window {
    nodes: BTreeMap<String, Told>,
    weight: usize,
}

impl Window {
    pub(super) fn take(&mut self, node: &str, flows: Vec<(Flow, Requests)>, now: Instant) {
        if !flows.is_empty() {
            let weights = flows.iter().map(|(_, requests)| FLOW + PART * requests.latency.parts().len());
            let weight: usize = weights.sum();
            self.weight += weight;
            self.nodes.entry(node.to_owned()).or_default().push(Report { at: now, flows, weight });
        }
        for told in self.nodes.values_mut() {
            while told.reports.front().is_some_and(|first| now.duration_since(first.at) > LONGEST) {
                self.weight -= told.pop();
            }
        }
        // Of who has told most the oldest is dropped: no node has what others told dropped.
        while self.weight > MOST
            && let Some(told) = self.nodes.values_mut().max_by_key(|told| told.weight)
        {
            self.weight -= told.pop();
        }
        self.nodes.retain(|_, told| !told.reports.is_empty());
    }

    /// What was told in the last so long.
    pub(super) fn last(&self, long: Duration, now: Instant) -> impl Iterator<Item = &(Flow, Requests)> {
        let is_old = move |report: &&Report| now.duration_since(report.at) > long;
        let reports = self.nodes.values().flat_map(move |told| told.reports.iter().skip_while(is_old));
        reports.flat_map(|report| &report.flows)
    }
}

#[cfg(test)]
mod tests {
    use smi::latency::Histogram;

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
            window.take("node-1", vec![flow(); 2], start + Duration::from_secs(second));
        }
        let counted = |window: &Window, long: u64, second: u64| {
            window.last(Duration::from_secs(long), start + Duration::from_secs(second)).count()
        };
        assert_eq!(counted(&window, 30, 290), 2);
        assert_eq!(counted(&window, 300, 290), 8);
        assert_eq!(counted(&window, 280, 290), 6);
        assert_eq!(counted(&window, 30, 400), 0);
        // And is not kept, whoever tells next.
        window.take("node-2", Vec::new(), start + Duration::from_secs(315));
        assert_eq!((window.nodes["node-1"].reports.len(), window.weight), (2, 4 * FLOW));
        window.take("node-2", vec![flow()], start + Duration::from_secs(600));
        assert_eq!((window.nodes.len(), window.weight), (1, FLOW));
    }

    #[test]
    fn no_number_of_reports_takes_more_than_is_meant_nor_what_others_told() {
        let (mut window, now) = (Window::default(), Instant::now());
        let latency = Histogram::of((0..100).map(|part| (part, 1)), 100);
        let heavy = (flow().0, Requests { successes: 100, failures: 0, latency });
        let weight = 1000 * (FLOW + 100 * PART);
        window.take("node-1", vec![flow()], now);
        for _ in 0..MOST / weight + 5 {
            window.take("node-2", vec![heavy.clone(); 1000], now);
        }
        let fit = (MOST - FLOW) / weight;
        assert_eq!((window.weight, window.last(LONGEST, now).count()), (FLOW + fit * weight, 1 + 1000 * fit));
        assert_eq!((window.nodes["node-1"].weight, window.nodes["node-2"].weight), (FLOW, fit * weight));
    }
}
