//! `/metrics/cadvisor`: as the runtime knows it, or, where it tells no metrics (containerd before 2.2), what its statistics tell of it.

use std::collections::BTreeMap;

use cri::contract::v1::{
    ContainerStats, CpuUsage, ImageSpec, ListContainersRequest, ListMetricDescriptorsRequest,
    ListPodSandboxMetricsRequest, NetworkInterfaceUsage, UInt64Value,
};
use grpc::Code;

use super::text::{Family, cpu_of, labels, of_runtime, put, sample};
use super::{Snapshot, name, names, snapshot};
use crate::agent::Agent;
use crate::runtime::Failed;

/// Labels of all that is of a container.
const OF_CONTAINER: [&str; 5] = ["pod", "namespace", "container", "id", "image"];
const CPU: Family = ("container_cpu_usage_seconds_total", "counter", "CPU time used, in seconds.");
const MEMORY: [Family; 3] = [
    (
        "container_memory_working_set_bytes",
        "gauge",
        "Memory in use without cache that can be dropped, in bytes.",
    ),
    ("container_memory_usage_bytes", "gauge", "Memory in use, with the page cache, in bytes."),
    ("container_memory_rss", "gauge", "Anonymous memory in use, in bytes."),
];
const WRITTEN: Family =
    ("container_fs_usage_bytes", "gauge", "Bytes that the container has written to its root.");
const NETWORK: [Family; 4] = [
    ("container_network_receive_bytes_total", "counter", "Bytes received."),
    ("container_network_receive_errors_total", "counter", "Errors while receiving."),
    ("container_network_transmit_bytes_total", "counter", "Bytes sent."),
    ("container_network_transmit_errors_total", "counter", "Errors while sending."),
];

/// What the runtime has measured, in a cAdvisor's names.
pub(crate) async fn cadvisor(agent: &Agent) -> Result<String, Failed> {
    let client = agent.runtime.client().await?;
    let (metrics, known) = (ListPodSandboxMetricsRequest {}, ListMetricDescriptorsRequest {});
    let asked = futures_util::try_join!(
        client.list_pod_sandbox_metrics(metrics),
        client.list_metric_descriptors(known)
    );
    match asked {
        Ok((metrics, known)) => {
            let all = snapshot(agent).await?;
            return Ok(of_runtime(&metrics, &known, &times(&all)));
        }
        Err(error) if error.code() != Code::Unimplemented => return Err(error),
        Err(_) => {}
    }
    let containers = client.list_containers(ListContainersRequest::default()).await?.containers;
    let image = |of: Option<ImageSpec>| {
        let of = of.unwrap_or_default();
        // Older runtimes know one name alone.
        if of.user_specified_image.is_empty() { of.image } else { of.user_specified_image }
    };
    let images = containers.into_iter().map(|one| (one.id, image(one.image))).collect();
    Ok(of_stats(&snapshot(agent).await?, &images))
}

/// CPU times by ids of pods and containers.
fn times(all: &Snapshot) -> BTreeMap<&str, &CpuUsage> {
    let pods = all.pods.iter().filter_map(|pod| Some((pod.attributes.as_ref()?, pod.linux.as_ref()?)));
    pods.flat_map(|(of, linux)| {
        let pod = linux.cpu.as_ref().map(|cpu| (of.id.as_str(), cpu));
        let containers = linux.containers.iter();
        pod.into_iter().chain(
            containers.filter_map(|one| Some((one.attributes.as_ref()?.id.as_str(), one.cpu.as_ref()?))),
        )
    })
    .collect()
}

/// Samples of one family after the other, as [`MEMORY`] and [`NETWORK`] have them.
#[derive(Default)]
struct Samples {
    cpu: String,
    memory: [String; 3],
    written: String,
    network: [String; 4],
}

/// The same of statistics; images are by containers' ids.
fn of_stats(all: &Snapshot, images: &BTreeMap<String, String>) -> String {
    let mut samples = Samples::default();
    for pod in &all.pods {
        let [namespace, pod_name, _] = names(pod.attributes.as_ref());
        let Some(linux) = &pod.linux else { continue };
        for one in &linux.containers {
            let id = one.attributes.as_ref().map_or("", |of| of.id.as_str());
            let image = images.get(id).map_or("", String::as_str);
            let of = [pod_name, namespace, name(one.attributes.as_ref()), id, image];
            samples.container(one, &labels(&OF_CONTAINER, &of));
        }
        let id = pod.attributes.as_ref().map_or("", |of| of.id.as_str());
        let Some(network) = &linux.network else { continue };
        let others = network.interfaces.iter().filter(|one| Some(*one) != network.default_interface.as_ref());
        for one in network.default_interface.iter().chain(others) {
            let keys = [&OF_CONTAINER[..], &["interface"]].concat();
            samples.interface(
                one,
                &labels(&keys, &[pod_name, namespace, "", id, "", &one.name]),
                network.timestamp,
            );
        }
    }
    let mut out = String::new();
    put(&mut out, CPU, &samples.cpu);
    MEMORY.iter().zip(&samples.memory).for_each(|(family, samples)| put(&mut out, *family, samples));
    put(&mut out, WRITTEN, &samples.written);
    NETWORK.iter().zip(&samples.network).for_each(|(family, samples)| put(&mut out, *family, samples));
    out
}

impl Samples {
    fn container(&mut self, one: &ContainerStats, labels: &str) {
        cpu_of(&mut self.cpu, CPU.0, labels, one.cpu.as_ref());
        if let Some(used) = &one.memory {
            let values = [&used.working_set_bytes, &used.usage_bytes, &used.rss_bytes];
            for ((family, samples), value) in MEMORY.iter().zip(&mut self.memory).zip(values) {
                sample(samples, family.0, labels, number(value), used.timestamp);
            }
        }
        if let Some(written) = &one.writable_layer {
            sample(&mut self.written, WRITTEN.0, labels, number(&written.used_bytes), written.timestamp);
        }
    }

    fn interface(&mut self, one: &NetworkInterfaceUsage, labels: &str, at: i64) {
        let values = [&one.rx_bytes, &one.rx_errors, &one.tx_bytes, &one.tx_errors];
        for ((family, samples), value) in NETWORK.iter().zip(&mut self.network).zip(values) {
            sample(samples, family.0, labels, number(value), at);
        }
    }
}

fn number(value: &Option<UInt64Value>) -> Option<String> {
    value.as_ref().map(|value| value.value.to_string())
}

#[cfg(test)]
mod tests {
    use cri::contract::v1::{
        ContainerAttributes, ContainerMetadata, LinuxPodSandboxStats, MemoryUsage, NetworkUsage,
        PodSandboxAttributes, PodSandboxMetadata, PodSandboxStats,
    };
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::stats::NodeUse;

    #[test]
    fn statistics_are_told_in_cadvisors_names() {
        let some = |value| Some(UInt64Value { value });
        let metadata = PodSandboxMetadata { name: "p".into(), namespace: "n".into(), ..Default::default() };
        let attributes =
            PodSandboxAttributes { id: "1".into(), metadata: Some(metadata), ..Default::default() };
        let metadata = Some(ContainerMetadata { name: "c".into(), attempt: 0 });
        let one = ContainerStats {
            attributes: Some(ContainerAttributes { id: "2".into(), metadata, ..Default::default() }),
            memory: Some(MemoryUsage { timestamp: 3_000_000, rss_bytes: some(5), ..Default::default() }),
            ..Default::default()
        };
        let interface =
            NetworkInterfaceUsage { name: "eth0".into(), rx_bytes: some(7), ..Default::default() };
        let network = NetworkUsage {
            default_interface: Some(interface.clone()),
            interfaces: vec![interface],
            ..Default::default()
        };
        let linux =
            LinuxPodSandboxStats { containers: vec![one], network: Some(network), ..Default::default() };
        let pod = PodSandboxStats { attributes: Some(attributes), linux: Some(linux), windows: None };
        let (node, window) = (NodeUse::default(), std::time::Duration::ZERO);
        let all = Snapshot { at: Timestamp::now(), window, node, pods: vec![pod] };
        let text = of_stats(&all, &[("2".to_owned(), "i:1".to_owned())].into());
        let of = |container: &str, id: &str, image: &str| {
            format!("pod=\"p\",namespace=\"n\",container=\"{container}\",id=\"{id}\",image=\"{image}\"")
        };
        let told = [
            format!("container_memory_rss{{{}}} 5 3\n", of("c", "2", "i:1")),
            format!("container_network_receive_bytes_total{{{},interface=\"eth0\"}} 7\n", of("", "1", "")),
        ];
        for line in told {
            assert_eq!(text.matches(&line).count(), 1, "{line}{text}");
        }
        assert_eq!(text.matches("# TYPE ").count(), 2, "{text}");
    }
}
