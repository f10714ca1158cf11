//! What the controllers count, under Kubernetes' names.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

/// Seconds that the buckets of a node's first minutes end at.
const DELAYS: &[f64] = &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0];
/// The same of load balancers' nodes.
const SYNCS: &[f64] =
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0];

/// A histogram of seconds.
#[derive(Debug, Default, Clone)]
pub(super) struct Seconds {
    counts: Vec<u64>,
    sum: f64,
    count: u64,
}

impl Seconds {
    fn note(&mut self, bounds: &[f64], seconds: f64) {
        self.counts.resize(bounds.len(), 0);
        for (count, bound) in self.counts.iter_mut().zip(bounds) {
            *count += u64::from(seconds <= *bound);
        }
        (self.sum, self.count) = (self.sum + seconds, self.count + 1);
    }

    fn write(&self, text: &mut String, name: &str, help: &str, bounds: &[f64]) {
        let _infallible = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
        for (at, bound) in bounds.iter().enumerate() {
            let count = self.counts.get(at).copied().unwrap_or_default();
            let _infallible = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let _infallible = writeln!(
            text,
            "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}",
            count = self.count,
            sum = self.sum
        );
    }
}

#[derive(Debug, Default)]
struct Counts {
    taint_removal: Seconds,
    first_sync: Seconds,
    load_balancer_syncs: u64,
    node_sync_errors: u64,
    node_sync: Seconds,
    update_hosts: Seconds,
    route_syncs: u64,
}

/// What the controllers of clouds count.
#[derive(Debug, Default)]
pub struct Metrics(Mutex<Counts>);

impl Metrics {
    fn note(&self, what: impl FnOnce(&mut Counts)) {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn taint_removed(&self, seconds: f64) {
        self.note(|counts| counts.taint_removal.note(DELAYS, seconds));
    }

    pub(super) fn node_synced(&self, seconds: f64) {
        self.note(|counts| counts.first_sync.note(DELAYS, seconds));
    }

    pub(super) fn load_balancer_synced(&self) {
        self.note(|counts| counts.load_balancer_syncs += 1);
    }

    pub(super) fn nodes_not_synced(&self) {
        self.note(|counts| counts.node_sync_errors += 1);
    }

    pub(super) fn nodes_synced(&self, seconds: f64) {
        self.note(|counts| counts.node_sync.note(SYNCS, seconds));
    }

    pub(super) fn hosts_updated(&self, seconds: f64) {
        self.note(|counts| counts.update_hosts.note(SYNCS, seconds));
    }

    pub(super) fn routes_synced(&self) {
        self.note(|counts| counts.route_syncs += 1);
    }

    /// All of them, in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        let seconds = [
            (
                "node_controller_cloud_provider_taint_removal_delay_seconds",
                "From a node's creation to the removal of its cloud provider's taint.",
                &counts.taint_removal,
                DELAYS,
            ),
            (
                "node_controller_initial_node_sync_delay_seconds",
                "From a node's creation to its initialization.",
                &counts.first_sync,
                DELAYS,
            ),
            (
                "service_controller_nodesync_latency_seconds",
                "How long it took to lead all load balancers to other nodes.",
                &counts.node_sync,
                SYNCS,
            ),
            (
                "service_controller_update_loadbalancer_host_latency_seconds",
                "How long it took to lead one load balancer to other nodes.",
                &counts.update_hosts,
                SYNCS,
            ),
        ];
        for (name, help, histogram, bounds) in seconds {
            histogram.write(&mut text, name, help, bounds);
        }
        let totals = [
            ("service_controller_loadbalancer_sync_total", "Looks at services.", counts.load_balancer_syncs),
            (
                "service_controller_nodesync_error_total",
                "Load balancers that were not led to other nodes.",
                counts.node_sync_errors,
            ),
            ("route_controller_route_sync_total", "Looks at routes.", counts.route_syncs),
        ];
        for (name, help, total) in totals {
            let _infallible = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {total}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_written() {
        let metrics = Metrics::default();
        metrics.node_synced(3.0);
        metrics.node_synced(300.0);
        metrics.routes_synced();
        let text = metrics.render();
        for line in [
            "node_controller_initial_node_sync_delay_seconds_bucket{le=\"1\"} 0",
            "node_controller_initial_node_sync_delay_seconds_bucket{le=\"4\"} 1",
            "node_controller_initial_node_sync_delay_seconds_bucket{le=\"1024\"} 2",
            "node_controller_initial_node_sync_delay_seconds_bucket{le=\"+Inf\"} 2",
            "node_controller_initial_node_sync_delay_seconds_sum 303",
            "route_controller_route_sync_total 1",
            "service_controller_nodesync_error_total 0",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
        }
    }
}
