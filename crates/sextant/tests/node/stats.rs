//! Stats and metrics of what runs.

use std::collections::BTreeMap;

use cri::contract::v1::*;

use crate::Test;
use crate::bench::Bench;
use crate::wishes::{container, with_limits};

pub(crate) const TESTS: &[Test] =
    &[("stats_are_those_of_the_cgroup", stats), ("metrics_are_as_they_are_described", metrics)];

fn stats(b: &Bench) {
    let pod = b.pod("stats");
    let limits = LinuxContainerResources { memory_limit_in_bytes: 64 << 20, ..Default::default() };
    let words = ["probe", "write", "/file", &"x".repeat(10_000), "then", "say", "up", "then", "sleep"];
    let id = b.run_as(&pod, with_limits(container("c", &words), limits));
    b.until_logged("stats", "c", "up");
    let stats = |id: &str| {
        let request = ContainerStatsRequest { container_id: id.into() };
        b.ok(async |c| c.container_stats(request).await).stats.unwrap()
    };
    let first = stats(&id);
    let attributes = first.attributes.clone().unwrap();
    assert_eq!((attributes.id.as_str(), attributes.metadata.unwrap().name.as_str()), (id.as_str(), "c"));
    let (cpu, memory) = (first.cpu.unwrap(), first.memory.unwrap());
    assert!(cpu.timestamp > 0 && cpu.usage_core_nano_seconds.unwrap().value > 0, "{cpu:?}");
    let usage = memory.usage_bytes.unwrap().value;
    assert!(usage > 0 && usage <= 64 << 20, "{memory:?}");
    assert!(memory.working_set_bytes.unwrap().value <= usage, "{memory:?}");
    assert!(memory.available_bytes.unwrap().value <= 64 << 20, "{memory:?}");
    let layer = || stats(&id).writable_layer.is_some_and(|l| l.used_bytes.unwrap().value >= 10_000);
    b.until("the writable layer is measured", layer);
    let request = PodSandboxStatsRequest { pod_sandbox_id: pod.clone() };
    let whole = b.ok(async |c| c.pod_sandbox_stats(request).await).stats.unwrap();
    let linux = whole.linux.unwrap();
    assert_eq!(whole.attributes.unwrap().id, pod);
    assert_eq!(linux.containers.len(), 1);
    assert!(linux.process.unwrap().process_count.unwrap().value >= 1);
    let interface = linux.network.unwrap().default_interface.unwrap();
    assert_eq!(interface.name, "eth0");
    assert!(interface.rx_bytes.is_some() && interface.tx_bytes.is_some(), "{interface:?}");
    let list = |filter| {
        let request = ListPodSandboxStatsRequest { filter: Some(filter) };
        b.ok(async |c| c.list_pod_sandbox_stats(request).await).stats.len()
    };
    assert_eq!(list(PodSandboxStatsFilter { id: pod.clone(), ..Default::default() }), 1);
    let label = [("no".to_owned(), "such".to_owned())].into();
    assert_eq!(list(PodSandboxStatsFilter { label_selector: label, ..Default::default() }), 0);
    let of_pod = ContainerStatsFilter { pod_sandbox_id: pod.clone(), ..Default::default() };
    let request = ListContainerStatsRequest { filter: Some(of_pod) };
    assert_eq!(b.ok(async |c| c.list_container_stats(request).await).stats.len(), 1);
    b.remove_pod(&pod);
}

fn metrics(b: &Bench) {
    let pod = b.pod("metrics");
    b.run(&pod, "c", &["probe", "sleep"]);
    let described = b.ok(async |c| c.list_metric_descriptors(ListMetricDescriptorsRequest {}).await);
    let described: BTreeMap<String, usize> =
        described.descriptors.into_iter().map(|d| (d.name, d.label_keys.len())).collect();
    let all = b.ok(async |c| c.list_pod_sandbox_metrics(ListPodSandboxMetricsRequest {}).await).pod_metrics;
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].pod_sandbox_id.as_str(), all[0].container_metrics.len()), (pod.as_str(), 1));
    let each = all[0].metrics.iter().chain(&all[0].container_metrics[0].metrics);
    let mut seen = BTreeMap::new();
    for metric in each {
        assert_eq!(described.get(&metric.name), Some(&metric.label_values.len()), "{metric:?}");
        assert!(metric.value.is_some(), "{metric:?}");
        *seen.entry(metric.name.as_str()).or_insert(0) += 1;
    }
    for name in ["container_memory_usage_bytes", "container_cpu_usage_seconds_total", "container_threads"] {
        assert!(seen.contains_key(name), "no {name} in {:?}", seen.keys());
    }
    b.remove_pod(&pod);
}
