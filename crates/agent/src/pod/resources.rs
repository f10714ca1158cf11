//! What pods and containers may take of the machine, in the kernel's terms.

use client::quantity;
use cri::contract::v1::{HugepageLimit, LinuxContainerResources};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};

/// How well a pod is treated when the machine runs short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Qos {
    /// Its limits are its requests.
    Guaranteed,
    /// It asks for something.
    Burstable,
    /// It asks for nothing.
    BestEffort,
}

impl Qos {
    /// As in a pod's status.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }

    /// That of a pod.
    pub(crate) fn of(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else { return Self::BestEffort };
        let mut asks = false;
        let mut guaranteed = true;
        for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
            for resource in ["cpu", "memory"] {
                let resources = container.resources.as_ref();
                let limit = amount(resources.and_then(|r| r.limits.as_ref()), resource);
                let request = amount(resources.and_then(|r| r.requests.as_ref()), resource);
                asks |= limit.is_some() || request.is_some();
                guaranteed &= limit.is_some() && (request.is_none() || request == limit);
            }
        }
        match (asks, guaranteed) {
            (false, _) => Self::BestEffort,
            (true, true) => Self::Guaranteed,
            (true, false) => Self::Burstable,
        }
    }
}

/// Amounts of resources.
pub(crate) type Amounts =
    std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

/// An amount that is not nothing: thousandths of CPUs, bytes of all else.
pub(crate) fn amount(amounts: Option<&Amounts>, resource: &str) -> Option<i64> {
    let quantity = amounts?.get(resource)?;
    let value = if resource == "cpu" { quantity::thousandths(quantity) } else { quantity::bytes(quantity) };
    value.filter(|value| *value > 0)
}

/// The period in which a quota is given, in microseconds.
pub(crate) const PERIOD: i64 = 100_000;

/// What runtimes are told of a container.
pub(crate) fn of_container(pod: &Pod, container: &Container, memory: i64) -> LinuxContainerResources {
    let mut resources = of(container.resources.as_ref());
    resources.oom_score_adj = oom_score(Qos::of(pod), container, memory);
    resources.unified =
        unified().map(|[file, value]| (file.to_owned(), value.to_owned())).into_iter().collect();
    resources
}

/// What all containers have where version 2 counts memory, as a kubelet gives it: one that runs out of memory ends as a whole, and not
/// some process of it.
fn unified() -> Option<[&'static str; 2]> {
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    controllers.split_ascii_whitespace().any(|name| name == "memory").then_some(["memory.oom.group", "1"])
}

/// What runtimes are told of amounts.
pub(crate) fn of(resources: Option<&ResourceRequirements>) -> LinuxContainerResources {
    let limits = resources.and_then(|one| one.limits.as_ref());
    let requests = resources.and_then(|one| one.requests.as_ref());
    let cpu = amount(limits, "cpu");
    let huge = limits.into_iter().flatten().filter_map(|(name, quantity)| {
        // Kubernetes says 2Mi, the kernel 2MB.
        let page_size = name.strip_prefix("hugepages-")?.replace('i', "B");
        let limit = u64::try_from(quantity::bytes(quantity)?).ok()?;
        Some(HugepageLimit { page_size, limit })
    });
    LinuxContainerResources {
        cpu_shares: shares(amount(requests, "cpu").or(cpu).unwrap_or_default()),
        cpu_period: if cpu.is_some() { PERIOD } else { 0 },
        cpu_quota: cpu.map(quota).unwrap_or_default(),
        memory_limit_in_bytes: amount(limits, "memory").unwrap_or_default(),
        hugepage_limits: huge.collect(),
        ..LinuxContainerResources::default()
    }
}

/// The weight of so many thousandths of a CPU.
fn shares(cpu: i64) -> i64 {
    (cpu.saturating_mul(1024) / 1000).clamp(2, 262_144)
}

/// Microseconds of each period.
fn quota(cpu: i64) -> i64 {
    (cpu.saturating_mul(PERIOD) / 1000).max(1000)
}

/// Who is killed first when memory runs out, as kubelets have it.
fn oom_score(qos: Qos, container: &Container, memory: i64) -> i64 {
    match qos {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let requests = container.resources.as_ref().and_then(|one| one.requests.as_ref());
            let asked = amount(requests, "memory").unwrap_or_default();
            let score =
                1000 - i64::try_from(1000 * i128::from(asked) / i128::from(memory.max(1))).unwrap_or(1000);
            score.clamp(3, 999)
        }
    }
}

/// What all of a pod's containers together ask for, or may take: the most that those of the start, or those that run beside and after
/// them, come to. Without a limit for one there is none for all.
fn sum(pod: &Pod, limits: bool, resource: &str) -> Option<i64> {
    let spec = pod.spec.as_ref()?;
    let get = |container: &Container| {
        let resources = container.resources.as_ref();
        let own = if limits {
            resources.and_then(|r| r.limits.as_ref())
        } else {
            resources.and_then(|r| r.requests.as_ref())
        };
        amount(own, resource)
    };
    let init = || spec.init_containers.iter().flatten();
    let is_limited = init().chain(&spec.containers).all(|one| get(one).is_some());
    // As much as a pod asks for, it may be more than there are numbers for. Beside one of the start runs what was started before it.
    let (mut beside, mut most) = (0_i64, 0);
    for one in init() {
        let own = get(one).unwrap_or_default();
        let together = beside.saturating_add(own);
        most = together.max(most);
        if one.restart_policy.as_deref() == Some("Always") {
            beside = together;
        }
    }
    let main = spec.containers.iter().filter_map(get).fold(0, i64::saturating_add);
    (!limits || is_limited).then_some(main.saturating_add(beside).max(most)).filter(|sum| *sum > 0)
}

/// What a pod asks for: thousandths of CPUs, and bytes of memory.
pub(crate) fn requests(pod: &Pod) -> (i64, i64) {
    let of = |resource| sum(pod, false, resource).unwrap_or_default();
    (of("cpu"), of("memory"))
}

/// What a pod asks for of the node's own disk, in bytes.
pub(crate) fn storage(pod: &Pod) -> i64 {
    sum(pod, false, "ephemeral-storage").unwrap_or_default()
}

/// What the pod's cgroup gets.
pub(crate) fn of_pod(pod: &Pod) -> LinuxContainerResources {
    let cpu = sum(pod, true, "cpu");
    LinuxContainerResources {
        cpu_shares: shares(sum(pod, false, "cpu").or(cpu).unwrap_or_default()),
        cpu_period: if cpu.is_some() { PERIOD } else { 0 },
        cpu_quota: cpu.map(quota).unwrap_or_default(),
        memory_limit_in_bytes: sum(pod, true, "memory").unwrap_or_default(),
        ..LinuxContainerResources::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(resources: Value) -> Pod {
        serde_json::from_value(json!({"spec": {"containers": [{"name": "c", "resources": resources}]}}))
            .unwrap()
    }

    #[test]
    fn classes_and_scores_are_a_kubelets() {
        let cases = [
            (json!({}), Qos::BestEffort, 1000),
            (json!({"requests": {"cpu": "0"}}), Qos::BestEffort, 1000),
            (json!({"requests": {"memory": "256Mi"}}), Qos::Burstable, 750),
            (json!({"limits": {"cpu": "1", "memory": "1Gi"}}), Qos::Guaranteed, -997),
            (json!({"limits": {"cpu": "1"}}), Qos::Burstable, 999),
            (json!({"requests": {"cpu": "1", "memory": "2Gi"}}), Qos::Burstable, 3),
        ];
        for (resources, qos, score) in cases {
            let pod = pod(resources.clone());
            assert_eq!(Qos::of(&pod), qos, "{resources}");
            let container = &pod.spec.as_ref().unwrap().containers[0];
            assert_eq!(of_container(&pod, container, 1 << 30).oom_score_adj, score, "{resources}");
        }
    }

    #[test]
    fn amounts_are_the_kernels() {
        let pod = pod(
            json!({"requests": {"cpu": "250m"}, "limits": {"cpu": "1500m", "memory": "64Mi", "hugepages-2Mi": "4Mi"}}),
        );
        let got = of_container(&pod, &pod.spec.as_ref().unwrap().containers[0], 1 << 30);
        assert_eq!((got.cpu_shares, got.cpu_quota, got.cpu_period), (256, 150_000, 100_000));
        assert_eq!(got.memory_limit_in_bytes, 64 << 20);
        assert_eq!(
            (got.hugepage_limits[0].page_size.as_str(), got.hugepage_limits[0].limit),
            ("2MB", 4 << 20)
        );
        let all = of_pod(&pod);
        assert_eq!((all.cpu_shares, all.cpu_quota, all.memory_limit_in_bytes), (256, 150_000, 64 << 20));
        let most = json!({"name": "c", "resources": {"limits": {"memory": "7Ei"}}});
        let pod = json!({"spec": {"initContainers": [most], "containers": [most, most]}});
        assert_eq!(of_pod(&serde_json::from_value(pod).unwrap()).memory_limit_in_bytes, i64::MAX);
    }

    #[test]
    fn beside_a_container_of_the_start_runs_what_was_started_before_it() {
        let one = |cpu: &str, policy: Value| json!({"name": "c", "resources": {"requests": {"cpu": cpu}}, "restartPolicy": policy});
        let asked = |init: Value| {
            let spec = json!({"initContainers": init, "containers": [one("500m", Value::Null)]});
            requests(&serde_json::from_value(json!({"spec": spec})).unwrap()).0
        };
        let (short, beside) = (one("2", Value::Null), one("2", json!("Always")));
        assert_eq!(asked(json!([short, beside])), 2500);
        assert_eq!(asked(json!([beside, short])), 4000);
        assert_eq!(asked(json!([beside, short, beside])), 4500);
    }
}
