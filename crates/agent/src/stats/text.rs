//! What is used, as Prometheus reads it: `/metrics/resource`, `/metrics/probes`, and lines of any metrics.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cri::contract::v1::{
    CpuUsage, ListMetricDescriptorsResponse, ListPodSandboxMetricsResponse, MemoryUsage, Metric,
    MetricDescriptor, MetricType, UInt64Value,
};

use super::{Snapshot, name, names};
use crate::names::Key;
use crate::pod::probes::Answers;

/// A family of metrics: its name, kind, and what it is.
pub(super) type Family = (&'static str, &'static str, &'static str);

/// The families of what containers, pods, and the node use.
struct Used {
    cpu: Family,
    memory: Family,
}

macro_rules! used {
    ($of:literal) => {
        Used {
            cpu: (
                concat!($of, "_cpu_usage_seconds_total"),
                "counter",
                concat!("[STABLE] Cumulative cpu time consumed by the ", $of, " in core-seconds"),
            ),
            memory: (
                concat!($of, "_memory_working_set_bytes"),
                "gauge",
                concat!("[STABLE] Current working set of the ", $of, " in bytes"),
            ),
        }
    };
}

const CONTAINER: Used = used!("container");
const POD: Used = used!("pod");
const NODE: Used = used!("node");
const FAILED: Family = (
    "resource_scrape_error",
    "gauge",
    "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
);

const PROBES: Family = (
    "prober_probe_total",
    "counter",
    "[BETA] Answers of a container's startup, readiness and liveness probes",
);

/// `/metrics/resource`; `None` where what is used cannot be told.
pub(crate) fn resource(all: Option<&Snapshot>) -> String {
    let mut out = String::new();
    if let Some(all) = all {
        let [mut cpu, mut memory, mut pod_cpu, mut pod_memory] = [const { String::new() }; 4];
        for stats in &all.pods {
            let [namespace, pod, _] = names(stats.attributes.as_ref());
            let Some(linux) = &stats.linux else { continue };
            let of_pod = labels(&["namespace", "pod"], &[namespace, pod]);
            cpu_of(&mut pod_cpu, POD.cpu.0, &of_pod, linux.cpu.as_ref());
            memory_of(&mut pod_memory, POD.memory.0, &of_pod, linux.memory.as_ref());
            for one in &linux.containers {
                let of = labels(
                    &["container", "namespace", "pod"],
                    &[name(one.attributes.as_ref()), namespace, pod],
                );
                cpu_of(&mut cpu, CONTAINER.cpu.0, &of, one.cpu.as_ref());
                memory_of(&mut memory, CONTAINER.memory.0, &of, one.memory.as_ref());
            }
        }
        let at = i64::try_from(all.at.as_nanosecond()).unwrap_or_default();
        let (mut node_cpu, mut node_memory) = (String::new(), String::new());
        sample(&mut node_cpu, NODE.cpu.0, "", Some(seconds(&UInt64Value { value: all.node.cpu })), at);
        sample(&mut node_memory, NODE.memory.0, "", Some(all.node.memory.to_string()), at);
        let families = [
            (CONTAINER.cpu, cpu),
            (CONTAINER.memory, memory),
            (NODE.cpu, node_cpu),
            (NODE.memory, node_memory),
            (POD.cpu, pod_cpu),
            (POD.memory, pod_memory),
        ];
        families.iter().for_each(|(family, samples)| put(&mut out, *family, samples));
    }
    put(&mut out, FAILED, &format!("{} {}\n", FAILED.0, u8::from(all.is_none())));
    out
}

/// Metrics as the runtime knows them. Their values are whole numbers: CPU time by ids of containers and pods is told in its place.
pub(super) fn of_runtime(
    all: &ListPodSandboxMetricsResponse,
    known: &ListMetricDescriptorsResponse,
    exact: &BTreeMap<&str, &CpuUsage>,
) -> String {
    let mut families: BTreeMap<&str, (&Metric, String)> = BTreeMap::new();
    let known: BTreeMap<&str, &MetricDescriptor> =
        known.descriptors.iter().map(|one| (one.name.as_str(), one)).collect();
    let of_containers = all.pod_metrics.iter().flat_map(|pod| &pod.container_metrics);
    let metrics =
        all.pod_metrics.iter().flat_map(|pod| &pod.metrics).chain(of_containers.flat_map(|one| &one.metrics));
    for metric in metrics {
        let Some(descriptor) = known.get(metric.name.as_str()) else { continue };
        let keys: Vec<&str> = descriptor.label_keys.iter().map(String::as_str).collect();
        let values: Vec<&str> = metric.label_values.iter().map(String::as_str).collect();
        let (_, samples) = families.entry(&metric.name).or_insert((metric, String::new()));
        let of = labels(&keys, &values);
        let id = keys.iter().position(|key| *key == "id").and_then(|at| values.get(at));
        match id.and_then(|id| exact.get(id)).filter(|_| metric.name == CONTAINER.cpu.0) {
            Some(cpu) => cpu_of(samples, &metric.name, &of, Some(cpu)),
            None => {
                let value = metric.value.as_ref().map(|value| value.value.to_string());
                sample(samples, &metric.name, &of, value, metric.timestamp);
            }
        }
    }
    let mut out = String::new();
    for (name, (metric, samples)) in families {
        let kind = if metric.metric_type() == MetricType::Counter { "counter" } else { "gauge" };
        let help = known.get(name).map(|one| one.help.as_str()).unwrap_or_default();
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{samples}");
    }
    out
}

/// `/metrics/probes`: by pod, its probes' answers, good ones and others.
pub(crate) fn probes(all: &[(Key, Answers)]) -> String {
    let mut samples = String::new();
    for (key, answers) in all {
        for ((container, asked), counts) in answers {
            for (result, count) in
                ["successful", "failed"].iter().zip(counts).filter(|(_, count)| **count > 0)
            {
                let of = labels(
                    &["container", "namespace", "pod", "pod_uid", "probe_type", "result"],
                    &[container, &key.name.namespace, &key.name.name, &key.uid, asked.name(), result],
                );
                sample(&mut samples, PROBES.0, &of, Some(count.to_string()), 0);
            }
        }
    }
    let mut out = String::new();
    put(&mut out, PROBES, &samples);
    out
}

pub(super) fn put(out: &mut String, (name, kind, help): Family, samples: &str) {
    if !samples.is_empty() {
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{samples}");
    }
}

/// One line; the time is in nanoseconds, and 0 is none.
pub(super) fn sample(out: &mut String, name: &str, labels: &str, value: Option<String>, at: i64) {
    let Some(value) = value else { return };
    let _ = match at / 1_000_000 {
        0 => writeln!(out, "{name}{labels} {value}"),
        at => writeln!(out, "{name}{labels} {value} {at}"),
    };
}

pub(super) fn cpu_of(out: &mut String, name: &str, labels: &str, cpu: Option<&CpuUsage>) {
    let value = cpu.and_then(|cpu| cpu.usage_core_nano_seconds.as_ref());
    sample(out, name, labels, value.map(seconds), cpu.map_or(0, |cpu| cpu.timestamp));
}

fn memory_of(out: &mut String, name: &str, labels: &str, memory: Option<&MemoryUsage>) {
    let value = memory.and_then(|memory| memory.working_set_bytes.as_ref());
    sample(
        out,
        name,
        labels,
        value.map(|one| one.value.to_string()),
        memory.map_or(0, |memory| memory.timestamp),
    );
}

fn seconds(nanoseconds: &UInt64Value) -> String {
    let (whole, rest) = (nanoseconds.value / 1_000_000_000, nanoseconds.value % 1_000_000_000);
    format!("{whole}.{rest:09}")
}

pub(super) fn labels(names: &[&str], values: &[&str]) -> String {
    let plain = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let all: Vec<String> =
        names.iter().zip(values).map(|(name, value)| format!("{name}=\"{}\"", plain(value))).collect();
    format!("{{{}}}", all.join(","))
}

#[cfg(test)]
mod tests {
    use cri::contract::v1::{
        LinuxPodSandboxStats, PodSandboxAttributes, PodSandboxMetadata, PodSandboxMetrics, PodSandboxStats,
    };
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::stats::NodeUse;

    #[test]
    fn cpu_time_has_parts_of_a_second() {
        let metric = |name: &str| Metric {
            name: name.into(),
            value: Some(UInt64Value { value: 0 }),
            label_values: vec!["1".into()],
            ..Default::default()
        };
        let of = |name: &str| MetricDescriptor {
            name: name.into(),
            label_keys: vec!["id".into()],
            ..Default::default()
        };
        let names = ["container_cpu_usage_seconds_total", "container_threads"];
        let pod = PodSandboxMetrics { metrics: names.map(metric).to_vec(), ..Default::default() };
        let all = ListPodSandboxMetricsResponse { pod_metrics: vec![pod] };
        let known = ListMetricDescriptorsResponse { descriptors: names.map(of).to_vec() };
        let cpu = CpuUsage {
            usage_core_nano_seconds: Some(UInt64Value { value: 1_500_000 }),
            ..Default::default()
        };
        let text = of_runtime(&all, &known, &[("1", &cpu)].into());
        assert!(text.contains("container_cpu_usage_seconds_total{id=\"1\"} 0.001500000\n"), "{text}");
        assert!(text.contains("container_threads{id=\"1\"} 0\n"), "{text}");
    }

    #[test]
    fn lines_are_such_as_prometheus_reads() {
        let metadata = PodSandboxMetadata { name: "p".into(), namespace: "n".into(), ..Default::default() };
        let cpu = CpuUsage {
            timestamp: 2_000_000_000,
            usage_core_nano_seconds: Some(UInt64Value { value: 1_500_000_000 }),
            ..Default::default()
        };
        let stats = PodSandboxStats {
            attributes: Some(PodSandboxAttributes { metadata: Some(metadata), ..Default::default() }),
            linux: Some(LinuxPodSandboxStats { cpu: Some(cpu), ..Default::default() }),
            windows: None,
        };
        let node = NodeUse { cpu: 5, rate: None, memory: 7 };
        let at = Timestamp::from_second(3).unwrap();
        let all = Snapshot { at, window: std::time::Duration::ZERO, node, pods: vec![stats] };
        let text = resource(Some(&all));
        assert!(
            text.contains("pod_cpu_usage_seconds_total{namespace=\"n\",pod=\"p\"} 1.500000000 2000\n"),
            "{text}"
        );
        assert!(text.contains("node_cpu_usage_seconds_total 0.000000005 3000\n"), "{text}");
        assert!(text.ends_with("resource_scrape_error 0\n") && !text.contains("container_cpu"), "{text}");
        assert!(resource(None).ends_with("resource_scrape_error 1\n"));
        assert_eq!(labels(&["a"], &["x\"y\\"]), "{a=\"x\\\"y\\\\\"}");
    }
}
