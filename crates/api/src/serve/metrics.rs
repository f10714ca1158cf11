//! `/metrics`, as Prometheus reads it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the buckets of durations, in seconds.
const BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 60.0];

/// What a request is counted under. Only names that the server knows come here, so there are few.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    pub(crate) verb: &'static str,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
}

#[derive(Default)]
struct Durations {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    seconds: f64,
}

/// Counts of one server.
#[derive(Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(Kind, u16), u64>>,
    durations: Mutex<BTreeMap<Kind, Durations>>,
    watches: Arc<Watches>,
    connections: AtomicU64,
    refused: AtomicU64,
}

#[derive(Default)]
struct Watches {
    open: AtomicU64,
    events: AtomicU64,
    bytes: AtomicU64,
}

/// A watch that is open, until it is dropped.
pub(crate) struct Watcher(Arc<Watches>);

impl Watcher {
    /// One event of so many bytes was taken.
    pub(crate) fn event(&self, bytes: usize) {
        self.0.events.fetch_add(1, Ordering::Relaxed);
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Counts an answered request.
    pub(crate) fn answered(&self, kind: Kind, code: u16, took: Duration) {
        let seconds = took.as_secs_f64();
        if kind.verb != "WATCH" && kind.verb != "CONNECT" {
            let mut durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = durations.entry(kind.clone()).or_default();
            for (bucket, bound) in entry.buckets.iter_mut().zip(BUCKETS) {
                *bucket += u64::from(seconds <= bound);
            }
            entry.count += 1;
            entry.seconds += seconds;
        }
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((kind, code)).or_default() += 1;
    }

    /// A watch begins.
    pub(crate) fn watch(&self) -> Watcher {
        self.watches.open.fetch_add(1, Ordering::Relaxed);
        Watcher(Arc::clone(&self.watches))
    }

    /// A connection was accepted.
    pub(crate) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// A request was turned away because too many were there.
    pub(crate) fn turned_away(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// All of it as text, with what the store knows.
    pub(crate) fn text(&self, revision: u64, objects: &[(String, usize)]) -> String {
        let mut out = String::with_capacity(8 * 1024);
        self.write_requests(&mut out);
        self.write_durations(&mut out);
        let counted = [
            ("apiserver_registered_watchers", "gauge", "Watches that are open.", &self.watches.open),
            ("apiserver_watch_events_total", "counter", "Events sent.", &self.watches.events),
            ("apiserver_watch_events_bytes_total", "counter", "Bytes of events sent.", &self.watches.bytes),
            ("sextant_api_connections_total", "counter", "Connections accepted.", &self.connections),
            ("sextant_api_turned_away_total", "counter", "Requests answered with 429.", &self.refused),
        ];
        for (name, kind, help, value) in counted {
            head(&mut out, name, kind, help);
            let _ = writeln!(out, "{name} {}", value.load(Ordering::Relaxed));
        }
        head(&mut out, "sextant_api_store_revision", "counter", "The revision of the last change.");
        let _ = writeln!(out, "sextant_api_store_revision {revision}");
        head(&mut out, "apiserver_storage_objects", "gauge", "Objects that are kept.");
        for (resource, count) in objects {
            let _ = writeln!(out, "apiserver_storage_objects{{resource=\"{resource}\"}} {count}");
        }
        out
    }

    fn write_requests(&self, out: &mut String) {
        head(out, "apiserver_request_total", "counter", "Requests answered.");
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        for ((kind, code), count) in requests.iter() {
            let _ = writeln!(out, "apiserver_request_total{{code=\"{code}\",{}}} {count}", labels(kind));
        }
    }

    fn write_durations(&self, out: &mut String) {
        let name = "apiserver_request_duration_seconds";
        head(out, name, "histogram", "How long requests took, watches and streams apart.");
        let durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
        for (kind, told) in durations.iter() {
            let labels = labels(kind);
            for (count, bound) in told.buckets.iter().zip(BUCKETS) {
                let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
            }
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", told.count);
            let _ = writeln!(out, "{name}_sum{{{labels}}} {}", told.seconds);
            let _ = writeln!(out, "{name}_count{{{labels}}} {}", told.count);
        }
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn labels(kind: &Kind) -> String {
    format!(
        "group=\"{}\",resource=\"{}\",subresource=\"{}\",verb=\"{}\",version=\"{}\"",
        kind.group, kind.resource, kind.subresource, kind.verb, kind.version
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_watches_are_counted() {
        let metrics = Metrics::default();
        let kind =
            Kind { verb: "GET", version: "v1".to_owned(), resource: "pods".to_owned(), ..Kind::default() };
        metrics.answered(kind.clone(), 200, Duration::from_millis(3));
        metrics.answered(kind, 404, Duration::from_millis(3));
        let watcher = metrics.watch();
        watcher.event(10);
        let text = metrics.text(7, &[("pods".to_owned(), 2)]);
        let labels = "group=\"\",resource=\"pods\",subresource=\"\",verb=\"GET\",version=\"v1\"";
        for line in [
            format!("apiserver_request_total{{code=\"200\",{labels}}} 1"),
            format!("apiserver_request_duration_seconds_bucket{{{labels},le=\"0.001\"}} 0"),
            format!("apiserver_request_duration_seconds_bucket{{{labels},le=\"0.005\"}} 2"),
            format!("apiserver_request_duration_seconds_count{{{labels}}} 2"),
            "apiserver_registered_watchers 1".to_owned(),
            "sextant_api_store_revision 7".to_owned(),
            "apiserver_storage_objects{resource=\"pods\"} 2".to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        drop(watcher);
        assert!(metrics.text(7, &[]).contains("apiserver_registered_watchers 0"));
    }
}
