//! What the controllers count, under Kubernetes' names.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

/// Histogram that the buckets of a node's first minutes end at.
const DELAYS: &[f64] = &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0];
/// The same of load balancers' nodes.
const SYNCS: &[f64] =
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0];

/// How often a part that is in use was passed, until one was found that is free.
const TRIES: &[f64] = &[1.0, 5.0, 25.0, 125.0, 625.0];

/// How often values came, up to each bound.
#[derive(Debug, Default, Clone)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    sum: f64,
    count: u64,
}

impl Histogram {
    fn note(&mut self, bounds: &[f64], value: f64) {
        self.counts.resize(bounds.len(), 0);
        for (count, bound) in self.counts.iter_mut().zip(bounds) {
            *count += u64::from(value <= *bound);
        }
        (self.sum, self.count) = (self.sum + value, self.count + 1);
    }

    /// `label` is empty, or one in Prometheus' way of writing: `clusterCIDR="10.0.0.0/16"`.
    fn write(&self, text: &mut String, name: &str, label: &str, bounds: &[f64]) {
        let (before, within) = match label {
            "" => (String::new(), String::new()),
            label => (format!("{label},"), format!("{{{label}}}")),
        };
        for (at, bound) in bounds.iter().enumerate() {
            let count = self.counts.get(at).copied().unwrap_or_default();
            let _infallible = writeln!(text, "{name}_bucket{{{before}le=\"{bound}\"}} {count}");
        }
        let _infallible = writeln!(
            text,
            "{name}_bucket{{{before}le=\"+Inf\"}} {count}\n{name}_sum{within} {sum}\n{name}_count{within} {count}",
            count = self.count,
            sum = self.sum
        );
    }
}

/// Parts of one of the cluster's ranges.
#[derive(Debug, Default, Clone)]
pub(super) struct Parts {
    /// How many there are.
    pub(super) all: u32,
    /// How many are in use.
    pub(super) used: u32,
    /// How many came into use until now.
    pub(super) taken: u64,
    /// How many came to be free again.
    pub(super) released: u64,
    /// How many in use each search for a free one has passed.
    pub(super) tries: Histogram,
}

impl Parts {
    /// A free one was found after so many that are in use.
    pub(super) fn found(&mut self, passed: u32) {
        self.tries.note(TRIES, f64::from(passed));
    }
}

#[derive(Debug, Default)]
struct Counts {
    taint_removal: Histogram,
    first_sync: Histogram,
    load_balancer_syncs: u64,
    node_sync_errors: u64,
    node_sync: Histogram,
    update_hosts: Histogram,
    route_syncs: u64,
    /// By the ranges that they are of.
    parts: BTreeMap<String, Parts>,
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

    /// Parts of this range are so now.
    pub(super) fn parts_are(&self, range: String, parts: Parts) {
        self.note(|counts| drop(counts.parts.insert(range, parts)));
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
            let _infallible = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
            histogram.write(&mut text, name, "", bounds);
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
        write_parts(&mut text, &counts.parts);
        text
    }
}

/// What is counted of the cluster's ranges. A name's misspelling is Kubernetes' own.
fn write_parts(text: &mut String, parts: &BTreeMap<String, Parts>) {
    type Of = fn(&Parts) -> f64;
    if parts.is_empty() {
        return;
    }
    let all: [(&str, &str, &str, Of); 4] = [
        ("cidrset_cidrs_allocations_total", "counter", "Parts of the range that came into use.", |parts| {
            counted(parts.taken)
        }),
        ("cidrset_cidrs_releases_total", "counter", "Parts of the range that came to be free.", |parts| {
            counted(parts.released)
        }),
        ("cirdset_max_cidrs", "gauge", "How many parts the range has.", |parts| f64::from(parts.all)),
        ("cidrset_usage_cidrs", "gauge", "The share of the range's parts that is in use.", |parts| {
            f64::from(parts.used) / f64::from(parts.all.max(1))
        }),
    ];
    for (name, kind, help, of) in all {
        let name = format!("node_ipam_controller_{name}");
        let _infallible = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (range, parts) in parts {
            let _infallible = writeln!(text, "{name}{{clusterCIDR=\"{range}\"}} {}", of(parts));
        }
    }
    let name = "node_ipam_controller_cidrset_allocation_tries_per_request";
    let help = "How many parts in use each search for a free one has passed.";
    let _infallible = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
    for (range, parts) in parts {
        parts.tries.write(text, name, &format!("clusterCIDR=\"{range}\""), TRIES);
    }
}

/// A count as metrics have it; beyond what 32 bits hold it stays there.
fn counted(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
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

    /// Kubernetes' names and kinds, each with a help; and the buckets of each histogram.
    #[test]
    fn all_that_is_counted_has_kubernetes_names() {
        let metrics = Metrics::default();
        assert!(!metrics.render().contains("node_ipam_controller"), "without ranges nothing is told of any");
        metrics.parts_are("10.0.0.0/16".into(), Parts { all: 256, ..Parts::default() });
        let text = metrics.render();
        let powers = |base: u32, most: u32| (0..most).map(|power| base.pow(power)).collect::<Vec<_>>();
        for (name, kind, buckets) in [
            ("node_controller_cloud_provider_taint_removal_delay_seconds", "histogram", powers(4, 6)),
            ("node_controller_initial_node_sync_delay_seconds", "histogram", powers(4, 6)),
            ("service_controller_nodesync_latency_seconds", "histogram", powers(2, 15)),
            ("service_controller_update_loadbalancer_host_latency_seconds", "histogram", powers(2, 15)),
            ("service_controller_loadbalancer_sync_total", "counter", vec![]),
            ("service_controller_nodesync_error_total", "counter", vec![]),
            ("route_controller_route_sync_total", "counter", vec![]),
            ("node_ipam_controller_cidrset_cidrs_allocations_total", "counter", vec![]),
            ("node_ipam_controller_cidrset_cidrs_releases_total", "counter", vec![]),
            ("node_ipam_controller_cirdset_max_cidrs", "gauge", vec![]),
            ("node_ipam_controller_cidrset_usage_cidrs", "gauge", vec![]),
            ("node_ipam_controller_cidrset_allocation_tries_per_request", "histogram", powers(5, 5)),
        ] {
            assert_eq!(text.matches(&format!("# TYPE {name} {kind}\n")).count(), 1, "{name}");
            assert_eq!(text.matches(&format!("# HELP {name} ")).count(), 1, "{name}");
            let label = if name.starts_with("node_ipam") { "clusterCIDR=\"10.0.0.0/16\"," } else { "" };
            let lines = text.lines().filter(|line| line.starts_with(&format!("{name}_bucket{{"))).count();
            assert_eq!(lines, if buckets.is_empty() { 0 } else { buckets.len() + 1 }, "{name}");
            for bucket in buckets {
                let line = format!("{name}_bucket{{{label}le=\"{bucket}\"}} 0\n");
                assert!(text.contains(&line), "{line} is not in\n{text}");
            }
        }
        assert_eq!(text.matches("# TYPE ").count(), 12, "and nothing else:\n{text}");
    }
}
