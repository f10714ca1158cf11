//! Counts in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use kernel::nft::Count;
use smi::contract::Name;
use smi::model;

use super::{Copied, Counted, GRPC, Numbers, Packets, Reason, Snapshot, Unmirrored};
use crate::proxy::{Network, RuleId, Service, Tables};

/// Powers of two of microseconds at which buckets of latencies end: 256 us to 33.6 s.
const BUCKETS: std::ops::RangeInclusive<u32> = 8..=25;

/// Names and values of labels, as they stand between braces.
#[derive(Debug, Default)]
struct Labels(String);

impl Labels {
    fn add(&mut self, name: &str, value: &str) {
        let comma = if self.0.is_empty() { "" } else { "," };
        let _infallible = write!(self.0, "{comma}{name}=\"");
        for c in value.chars() {
            match c {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                c => self.0.push(c),
            }
        }
        self.0.push('"');
    }

    fn name(&mut self, [namespace, name]: [&str; 2], of: Option<&Name>) {
        self.add(namespace, of.map_or("", |of| of.namespace.as_str()));
        self.add(name, of.map_or("", |of| of.name.as_str()));
    }

    fn service(&mut self, words: [&str; 3], tables: &Tables, service: Option<Service>) {
        let [namespace, name, port] = words;
        let found = service.and_then(|service| tables.service(service));
        self.name([namespace, name], found.map(|(name, _)| name));
        self.add(port, &found.map(|(_, port)| port.to_string()).unwrap_or_default());
    }
}

/// The rule of an object, as `HTTPRoute/shop/web/0`, the last being its place there.
#[must_use]
pub fn rule(from: &model::Origin) -> String {
    format!("{}/{}/{}", from.object.kind, from.object.name, from.rule)
}

type Client<'a> = &'a dyn Fn(Network) -> Option<Name>;

/// What is counted alike, but for the endpoint.
fn labels(counted: &Counted, tables: &Tables, client: Client<'_>) -> Labels {
    let who = if counted.is_inside() { None } else { client(counted.client) };
    labels_of(who.as_ref(), (counted.frontend, counted.rule, counted.backend), tables)
}

fn labels_of(
    who: Option<&Name>,
    (frontend, by, backend): (Option<Service>, Option<RuleId>, Option<Service>),
    tables: &Tables,
) -> Labels {
    let mut labels = Labels::default();
    labels.name(["client_namespace", "client_pod"], who);
    labels.service(["namespace", "service", "port"], tables, frontend);
    let from = by.and_then(|rule| tables.rule(rule));
    labels.add("rule", &from.map(rule).unwrap_or_default());
    labels.service(["backend_namespace", "backend", "backend_port"], tables, backend);
    labels
}

/// All of it. `client` names the pod of a network.
#[must_use]
pub fn page(snapshot: &Snapshot, client: Client<'_>) -> String {
    let mut text = String::new();
    whole(&mut text, snapshot);
    let mut by_endpoint: BTreeMap<String, Numbers> = BTreeMap::new();
    let mut by_backend: BTreeMap<String, Numbers> = BTreeMap::new();
    // What has come to an end is told no more: another of the same name begins at 0.
    for counted in snapshot.series.iter().filter(|counted| !counted.is_over) {
        let mut labels = labels(counted, &snapshot.tables, client);
        let words = ["endpoint_namespace", "endpoint_pod"];
        if counted.is_inside() {
            labels.add("direction", "inbound");
            labels.name(words, client(counted.client).as_ref());
        }
        by_backend.entry(labels.0.clone()).or_default().merge(&counted.numbers);
        if !counted.is_inside() {
            labels.name(words, counted.pod.as_ref());
        }
        labels.add("endpoint", &counted.endpoint.map(|endpoint| endpoint.to_string()).unwrap_or_default());
        by_endpoint.entry(labels.0).or_default().merge(&counted.numbers);
    }
    requests(&mut text, &by_endpoint);
    connections(&mut text, &by_endpoint);
    durations(&mut text, &by_backend);
    mirrors(&mut text, snapshot, client);
    endpoints(&mut text, snapshot, client);
    text
}

/// What the kernel has counted of pods' packets, as more of the same page.
#[must_use]
pub fn packets(all: &BTreeMap<Name, Packets>) -> String {
    type Of = fn(Count) -> u64;
    let mut text = String::new();
    let datagrams: [(&str, &str, Of); 2] = [
        (
            "datagrams_total",
            "Datagrams to pods that do not take them from everybody, by what became of them.",
            |count| count.packets,
        ),
        ("datagram_bytes_total", "Their bytes, with the heads of IP and UDP.", |count| count.bytes),
    ];
    for (name, help, of) in datagrams {
        head(&mut text, name, "counter", help);
        for (pod, packets) in all {
            let Some(counted) = packets.datagrams else { continue };
            for (verdict, count) in [("admitted", counted.admitted), ("dropped", counted.dropped)] {
                let mut labels = Labels::default();
                labels.add("direction", "inbound");
                labels.name(["endpoint_namespace", "endpoint_pod"], Some(pod));
                labels.add("verdict", verdict);
                value(&mut text, name, &labels.0, of(count));
            }
        }
    }
    let foreign: [(&str, &str, Of); 2] = [
        (
            "foreign_dropped_packets_total",
            "Packets that pods have sent from addresses that are not theirs, and that were dropped.",
            |count| count.packets,
        ),
        ("foreign_dropped_bytes_total", "Their bytes, with the heads of IP.", |count| count.bytes),
    ];
    for (name, help, of) in foreign {
        head(&mut text, name, "counter", help);
        for (pod, packets) in all {
            let Some(count) = packets.foreign else { continue };
            let mut labels = Labels::default();
            labels.name(["client_namespace", "client_pod"], Some(pod));
            value(&mut text, name, &labels.0, of(count));
        }
    }
    text
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _infallible = writeln!(text, "# HELP sextant_mesh_{name} {help}\n# TYPE sextant_mesh_{name} {kind}");
}

fn value(text: &mut String, name: &str, labels: &str, value: u64) {
    let _infallible = match labels {
        "" => writeln!(text, "sextant_mesh_{name} {value}"),
        labels => writeln!(text, "sextant_mesh_{name}{{{labels}}} {value}"),
    };
}

fn whole(text: &mut String, snapshot: &Snapshot) {
    let counts = &snapshot.counts;
    let idle = snapshot.idle as u64;
    for (name, kind, help, number) in [
        ("pods", "gauge", "Pods that are served.", snapshot.networks.len() as u64),
        ("client_connections_total", "counter", "Connections of pods that were taken.", counts.connections),
        (
            "client_connections",
            "gauge",
            "Connections of pods that are open.",
            counts.connections.saturating_sub(counts.ended),
        ),
        (
            "endpoint_connections_total",
            "counter",
            "Connections that were made to endpoints.",
            counts.connected,
        ),
        ("endpoint_connections_idle", "gauge", "Connections to endpoints that wait for a request.", idle),
        (
            "hbone_connections_total",
            "counter",
            "Connections of HBONE that were made to members.",
            counts.linked,
        ),
        ("visits_total", "counter", "Connections and streams of HBONE that came to pods.", counts.visits),
        ("visits_secured_total", "counter", "Those of them that came over HBONE.", counts.secured),
        ("refused_total", "counter", "Visits and requests that policies have refused.", counts.refused),
        ("tables_total", "counter", "Changes of Services and routes that were taken.", snapshot.swaps),
        ("log_lines_lost_total", "counter", "Lines about requests that nobody took in time.", snapshot.lost),
    ] {
        head(text, name, kind, help);
        value(text, name, "", number);
    }
}

type ByLabels = BTreeMap<String, Numbers>;

/// A counter whose values have one label more.
fn with(
    text: &mut String,
    (name, help): (&str, &str),
    all: &ByLabels,
    values: impl Fn(&Numbers) -> Vec<(String, u64)>,
) {
    head(text, name, "counter", help);
    for (labels, numbers) in all {
        for (more, number) in values(numbers).into_iter().filter(|(_, number)| *number > 0) {
            value(text, name, &format!("{labels},{more}"), number);
        }
    }
}

fn requests(text: &mut String, all: &ByLabels) {
    with(text, ("requests_total", "Requests that have ended, by their answers' status."), all, |numbers| {
        let classes = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(numbers.classes);
        classes.map(|(class, count)| (format!("status=\"{class}\""), count)).collect()
    });
    with(text, ("grpc_requests_total", "Requests of gRPC, by their status of gRPC."), all, |numbers| {
        let status = |at: usize| if at + 1 < GRPC { at.to_string() } else { "other".into() };
        let all = numbers.grpc.into_iter().enumerate();
        all.map(|(at, count)| (format!("grpc_status=\"{}\"", status(at)), count)).collect()
    });
    with(text, ("request_failures_total", "Requests that did not go well, and why."), all, |numbers| {
        let all = Reason::ALL.into_iter().zip(numbers.reasons);
        all.map(|(reason, count)| (format!("reason=\"{}\"", reason.as_str()), count)).collect()
    });
    type Of = fn(&Numbers) -> u64;
    let plain: [(&str, &str, Of); 4] = [
        ("retries_total", "Times that a request was sent once more.", |numbers| numbers.retried),
        ("connect_failures_total", "Times that there was no connection.", |numbers| numbers.failed),
        ("sent_bytes_total", "Bytes to endpoints, of HTTP/2 those of bodies.", |numbers| numbers.sent),
        ("received_bytes_total", "Bytes to clients, of HTTP/2 those of bodies.", |numbers| numbers.received),
    ];
    for (name, help, of) in plain {
        some(text, (name, "counter", help), all, of);
    }
}

/// Values of those that have one.
fn some(
    text: &mut String,
    (name, kind, help): (&str, &str, &str),
    all: &ByLabels,
    of: impl Fn(&Numbers) -> u64,
) {
    head(text, name, kind, help);
    for (labels, numbers) in all.iter().filter(|(_, numbers)| of(numbers) > 0) {
        value(text, name, labels, of(numbers));
    }
}

fn connections(text: &mut String, all: &ByLabels) {
    type Of = fn(&Numbers) -> u64;
    let plain: [(&str, &str, Of); 3] = [
        ("tcp_opened_total", "Connections that were passed on unread.", |numbers| numbers.opened),
        ("tcp_closed_total", "Those that have ended.", |numbers| numbers.closed),
        ("tcp_reset_total", "Those that a reset has ended.", |numbers| numbers.torn),
    ];
    for (name, help, of) in plain {
        some(text, (name, "counter", help), all, of);
    }
}

fn durations(text: &mut String, all: &ByLabels) {
    let name = "request_duration_seconds";
    head(text, name, "histogram", "From when a request's head was there to the end of its answer.");
    for (labels, numbers) in all {
        let (latency, count) = (&numbers.latency, numbers.latency.count());
        if count == 0 {
            continue;
        }
        for micros in BUCKETS.map(|power| 1_u64 << power) {
            let end = micros as f64 / 1e6;
            value(
                text,
                "request_duration_seconds_bucket",
                &format!("{labels},le=\"{end}\""),
                latency.below(micros),
            );
        }
        value(text, "request_duration_seconds_bucket", &format!("{labels},le=\"+Inf\""), count);
        let sum = latency.micros() as f64 / 1e6;
        let _infallible = writeln!(text, "sextant_mesh_{name}_sum{{{labels}}} {sum}");
        value(text, "request_duration_seconds_count", labels, count);
    }
}

fn mirrors(text: &mut String, snapshot: &Snapshot, client: Client<'_>) {
    let mut all: BTreeMap<String, Copied> = BTreeMap::new();
    for mirrored in &snapshot.mirrored {
        let whom = (mirrored.frontend, mirrored.rule, mirrored.backend);
        let labels = labels_of(client(mirrored.client).as_ref(), whom, &snapshot.tables);
        all.entry(labels.0).or_default().merge(&mirrored.copied);
    }
    let mut each = |name: &str, help: &str, values: &dyn Fn(&Copied) -> Vec<(String, u64)>| {
        head(text, name, "counter", help);
        for (labels, copied) in &all {
            for (more, number) in values(copied).into_iter().filter(|(_, number)| *number > 0) {
                value(text, name, &format!("{labels},{more}"), number);
            }
        }
    };
    each("mirrored_requests_total", "Copies of requests that were answered, by status.", &|copied| {
        let classes = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(copied.classes);
        classes.map(|(class, count)| (format!("status=\"{class}\""), count)).collect()
    });
    each("mirror_failures_total", "Copies of requests that were not answered, and why.", &|copied| {
        let all = Unmirrored::ALL.into_iter().zip(copied.lost);
        all.map(|(lost, count)| (format!("reason=\"{}\"", lost.as_str()), count)).collect()
    });
}

fn endpoints(text: &mut String, snapshot: &Snapshot, client: Client<'_>) {
    let all: Vec<(String, u64, u64)> = snapshot
        .endpoints
        .iter()
        .filter(|viewed| viewed.seen.ejections > 0)
        .map(|viewed| {
            let mut labels = Labels::default();
            labels.name(["client_namespace", "client_pod"], client(viewed.client).as_ref());
            let words = ["backend_namespace", "backend", "backend_port"];
            labels.service(words, &snapshot.tables, Some(viewed.service));
            labels.add("endpoint", &viewed.seen.address.to_string());
            (labels.0, viewed.seen.ejections.into(), viewed.seen.out_for.is_some().into())
        })
        .collect();
    head(
        text,
        "endpoint_ejections_total",
        "counter",
        "Times that an endpoint was left out, by whose clients.",
    );
    all.iter().for_each(|(labels, times, _)| value(text, "endpoint_ejections_total", labels, *times));
    head(text, "endpoint_ejected", "gauge", "Whether it is left out now.");
    all.iter().for_each(|(labels, _, is_out)| value(text, "endpoint_ejected", labels, *is_out));
}
