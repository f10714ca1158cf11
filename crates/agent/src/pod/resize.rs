//! In-place resize: what the node gives a pod of the resources that its spec asks for now, and what its containers have of that.
//!
//! What was given is in the pod's status (`allocatedResources`, and the limits of `resources`), so an agent that starts knows it. A
//! container has what the runtime says that it has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cri::contract::v1::{
    ContainerStatsRequest, ContainerStatus, LinuxContainerResources, UpdateContainerResourcesRequest,
    UpdatePodSandboxResourcesRequest,
};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::json;

use super::memory::{Memory, Waiting};
use super::resources::{self, PERIOD, amount};
use super::spec::{Kind, Part, is_over, parts};
use crate::agent::Agent;
use crate::names::Key;
use crate::observed::{Observed, is_running};
use crate::runtime::cause;

/// When a resize that could not be made is tried again; one that waits for room is also tried when another pod goes.
const LATER: Duration = Duration::from_secs(30);
/// Why a limit is not lowered, before how much is used.
const BELOW: &str = " below current usage";
/// What a resize can change.
const RESOURCES: [&str; 2] = ["cpu", "memory"];

/// What a pod was given, by its containers' names.
pub(crate) type Given = BTreeMap<String, ResourceRequirements>;

/// What an agent that starts knows of it.
pub(crate) fn given(pod: &Pod) -> Given {
    let told = |name: &str| {
        let told = super::status::past(pod.status.as_ref()?, name)?;
        let limits = told.resources.as_ref()?.limits.clone();
        Some(ResourceRequirements { claims: None, limits, requests: told.allocated_resources.clone() })
    };
    let of = |one: &Container| told(&one.name).or_else(|| one.resources.clone()).unwrap_or_default();
    containers(pod).map(|one| (one.name.clone(), of(one))).collect()
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.iter();
    spec.flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers))
}

/// The pod with the resources that the node has given it: those of its spec, where there is room for them.
pub(crate) fn admit(agent: &Agent, key: &Key, pod: Arc<Pod>) -> Arc<Pod> {
    let given = agent.with_memory(key, |memory| memory.given.clone()).unwrap_or_default();
    if containers(&pod).all(|one| given.get(&one.name).is_some_and(|had| same(had, one.resources.as_ref()))) {
        agent.with_memory(key, |memory| memory.refused = None);
        return pod;
    }
    let others = agent.all_pods();
    let others = others
        .iter()
        .filter(|other| other.metadata.uid != pod.metadata.uid && !is_over_as_told(agent, other));
    let used = others.map(|other| resources::requests(&as_given(agent, other)));
    let used =
        used.fold((0, 0), |all: (i64, i64), one| (all.0.saturating_add(one.0), all.1.saturating_add(one.1)));
    let has = (agent.machine.cpus * 1000, agent.machine.memory);
    let refused = refusal(resources::requests(&pod), used, has);
    let is_new = agent.with_memory(key, |memory| {
        if refused.is_none() {
            memory.given = containers(&pod)
                .map(|one| (one.name.clone(), one.resources.clone().unwrap_or_default()))
                .collect();
        }
        std::mem::replace(&mut memory.refused, refused.clone()) != refused
    });
    match refused {
        None => {
            // It may have given something back.
            agent.retry_resizes();
            pod
        }
        Some(refused) => {
            if is_new == Some(true) {
                let told = words(&format!("Pod resize {}", refused.reason), &pod, Some(&refused.message));
                agent.events.warning(&*pod, &format!("Resize{}", refused.reason), told);
            }
            Arc::new(with(&pod, &given))
        }
    }
}

/// A pod with what it was given: by this agent, or by the one before, of a pod that this one has not looked at.
pub(super) fn as_given(agent: &Agent, pod: &Pod) -> Pod {
    let known = agent.with_memory(&Key::of(pod), |memory| memory.given.clone());
    with(pod, &known.filter(|given| !given.is_empty()).unwrap_or_else(|| given(pod)))
}

/// Whether nothing of a pod is to run any more, as this agent has seen or as the API server was told: of one of a file its mirror says so.
pub(super) fn is_over_as_told(agent: &Agent, pod: &Pod) -> bool {
    let known = || {
        let is_over = |memory: &mut Memory| memory.ended || memory.written.as_ref().is_some_and(is_over);
        agent.with_memory(&Key::of(pod), is_over)
    };
    is_over(pod) || agent.shown(pod).is_some_and(|shown| is_over(&shown)) || known() == Some(true)
}

/// Why a pod cannot be given this: thousandths of CPUs and bytes, of what others have and of what the node has.
fn refusal(asked: (i64, i64), used: (i64, i64), has: (i64, i64)) -> Option<Waiting> {
    let one = |name: &str, asked: i64, used: i64, has: i64| {
        if asked > has {
            let words =
                format!("Node didn't have enough capacity: {name}, requested: {asked}, capacity: {has}");
            return Some(Waiting::new("Infeasible", words));
        }
        let is_too_much = asked.saturating_add(used) > has;
        is_too_much.then(|| {
            let words = format!(
                "Node didn't have enough resource: {name}, requested: {asked}, used: {used}, capacity: {has}"
            );
            Waiting::new("Deferred", words)
        })
    };
    let (memory, cpu) = (one("memory", asked.1, used.1, has.1), one("cpu", asked.0, used.0, has.0));
    let never = |why: &Waiting| why.reason == "Infeasible";
    memory.clone().filter(never).or(cpu).or(memory)
}

/// The pod with these resources in its containers.
fn with(pod: &Pod, given: &Given) -> Pod {
    let mut pod = pod.clone();
    let spec = pod.spec.iter_mut();
    let all = spec.flat_map(|spec| spec.init_containers.iter_mut().flatten().chain(&mut spec.containers));
    for container in all {
        if let Some(given) = given.get(&container.name) {
            container.resources = Some(given.clone());
        }
    }
    pod
}

fn same(one: &ResourceRequirements, other: Option<&ResourceRequirements>) -> bool {
    RESOURCES.into_iter().all(|name| {
        let other = |limits: bool| {
            other.and_then(|all| if limits { all.limits.as_ref() } else { all.requests.as_ref() })
        };
        amount(one.limits.as_ref(), name) == amount(other(true), name)
            && amount(one.requests.as_ref(), name) == amount(other(false), name)
    })
}

/// What a container has of what it is to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lacks {
    cpu: bool,
    memory: bool,
}

/// What of a container's resources is another than it is to be; what the runtime was told already is as the runtime wants it.
pub(crate) fn lacks(part: &Part<'_>, container: &ContainerStatus, memory: &Memory) -> Lacks {
    let has = container.resources.as_ref().and_then(|all| all.linux.as_ref());
    let (Some(has), true) = (has, matches!(part.kind, Kind::Main | Kind::Sidecar)) else {
        return Lacks::default();
    };
    let wanted = resources::of(part.container.resources.as_ref());
    if memory.enacted.get(&container.id).is_some_and(|told| compared(told) == compared(&wanted)) {
        return Lacks::default();
    }
    let (has, wanted) = (compared(has), compared(&wanted));
    Lacks { cpu: (has.0, has.1) != (wanted.0, wanted.1), memory: has.2 != wanted.2 }
}

/// The weight of its CPUs, thousandths of them, and bytes; 0 is as much as there is.
fn compared(all: &LinuxContainerResources) -> (i64, i64, i64) {
    let period = if all.cpu_period > 0 { all.cpu_period } else { PERIOD };
    (all.cpu_shares, all.cpu_quota.max(0).saturating_mul(1000) / period, all.memory_limit_in_bytes.max(0))
}

impl Lacks {
    /// Whether it has all.
    pub(crate) fn nothing(self) -> bool {
        self == Self::default()
    }

    /// Whether the container wants to be started anew for it.
    pub(crate) fn restarts(self, container: &Container) -> bool {
        let changes = |name: &str| match name {
            "cpu" => self.cpu,
            "memory" => self.memory,
            _ => false,
        };
        let policies = container.resize_policy.iter().flatten();
        policies.filter(|one| changes(&one.resource_name)).any(|one| one.restart_policy == "RestartContainer")
    }
}

/// What a container's status tells of its resources.
pub(crate) fn told(part: &Part<'_>, container: &ContainerStatus, memory: &Memory) -> ResourceRequirements {
    let mut told = part.container.resources.clone().unwrap_or_default();
    let lacks = lacks(part, container, memory);
    let Some(has) = container.resources.as_ref().and_then(|all| all.linux.as_ref()) else { return told };
    if !is_running(container) || lacks.nothing() {
        return told;
    }
    let (shares, cpu, bytes) = compared(has);
    let mut put = |limits: bool, name: &str, value: Quantity, is_set: bool| {
        let all = if limits { &mut told.limits } else { &mut told.requests };
        match is_set {
            true => drop(all.get_or_insert_default().insert(name.into(), value)),
            false => drop(all.as_mut().and_then(|all| all.remove(name))),
        }
    };
    if lacks.cpu {
        put(true, "cpu", Quantity(format!("{cpu}m")), cpu > 0);
        let asked = (shares.saturating_mul(1000) + 1023) / 1024;
        put(false, "cpu", Quantity(format!("{asked}m")), shares > 2);
    }
    if lacks.memory {
        put(true, "memory", client::quantity::of(bytes), bytes > 0);
    }
    told
}

/// Whether a resize was admitted and is not done, and why it could not be.
pub(crate) fn progress(parts: &[Part<'_>], observed: &Observed, memory: &Memory) -> Option<Option<String>> {
    let lacking = parts.iter().any(|part| {
        let here = observed.here(&part.container.name).filter(|one| is_running(one));
        here.is_some_and(|one| !lacks(part, one, memory).nothing())
    });
    lacking.then(|| memory.resize_failed.clone())
}

/// Has the pod's cgroup leave room for what its containers have and are to have.
pub(crate) fn room(agent: &Agent, key: &Key, pod: &Pod, observed: &Observed) -> Result<(), String> {
    let wanted = resources::of_pod(pod);
    let most = agent.with_memory(key, |memory| {
        let most = most(&had(pod, observed, memory), &wanted);
        memory.settled = most == wanted;
        most
    });
    agent.cgroups.limit(pod, &most.unwrap_or(wanted))
}

/// Has the pod's cgroup have what its containers come to, where none lacks anything: who was killed in the middle of a resize has left it
/// more. When it is tried again is the error.
pub(crate) fn settle(agent: &Agent, key: &Key, pod: &Pod, observed: &Observed) -> Result<(), Duration> {
    let parts = parts(pod);
    let is_done = agent.with_memory(key, |memory| {
        memory.settled || observed.sandbox().is_none() || progress(&parts, observed, memory).is_some()
    });
    if is_done != Some(false) {
        return Ok(());
    }
    let wanted = resources::of_pod(pod);
    let settled = match agent.cgroups.usage(pod) {
        // Less than it uses would have the kernel kill something.
        Ok(Some((has, used))) if lowers(wanted.memory_limit_in_bytes, has, used) => Err(format!(
            "attempting to set pod memory limit ({}){BELOW} ({used})",
            wanted.memory_limit_in_bytes
        )),
        Ok(_) => agent.cgroups.limit(pod, &wanted),
        Err(why) => Err(why),
    };
    match settled {
        Ok(()) => {
            agent.with_memory(key, |memory| (memory.settled, memory.resize_failed) = (true, None));
            Ok(())
        }
        Err(why) => Err(tell(agent, key, pod, why)),
    }
}

/// Tells why a resize cannot be made, once; when it is tried again.
fn tell(agent: &Agent, key: &Key, pod: &Pod, why: String) -> Duration {
    let is_new = agent.with_memory(key, |memory| {
        let is_new =
            memory.resize_failed.as_deref().is_none_or(|old| without_usage(old) != without_usage(&why));
        if is_new {
            memory.resize_failed = Some(why.clone());
        }
        is_new
    });
    if is_new == Some(true) {
        agent.events.warning(pod, "ResizeError", words("Pod resize error", pod, Some(&why)));
    }
    LATER
}

/// Why a resize cannot be made, but for how much is used: that is another at each try.
fn without_usage(why: &str) -> &str {
    why.split_once(BELOW).map_or(why, |(begin, _)| begin)
}

/// Whether a limit of memory is lower than the one that is there, and no more than what is used: 0 is none.
fn lowers(wanted: i64, has: Option<u64>, used: u64) -> bool {
    let wanted = u64::try_from(wanted).unwrap_or_default();
    wanted > 0 && has.is_none_or(|has| wanted < has) && used >= wanted
}

/// Gives containers what they lack: first the pod has room for what both it had and is to have. When it is tried again is the error.
pub(crate) async fn resize(
    agent: &Agent,
    key: &Key,
    pod: &Pod,
    wanted: &[(&Part<'_>, &ContainerStatus)],
    observed: &Observed,
) -> Result<(), Duration> {
    agent.events.normal(pod, "ResizeStarted", words("Pod resize started", pod, None));
    let done = async {
        let new = resources::of_pod(pod);
        room(agent, key, pod, observed)?;
        for (part, container) in wanted {
            one(agent, key, pod, part, container).await?;
        }
        agent.cgroups.limit(pod, &new)?;
        // Its plugins are told; a runtime that does not know the call has none.
        if let (Some(sandbox), Ok(client)) = (observed.sandbox(), agent.runtime.client().await) {
            let pod_sandbox_id = sandbox.id.clone();
            let request =
                UpdatePodSandboxResourcesRequest { pod_sandbox_id, overhead: None, resources: Some(new) };
            let _ = client.update_pod_sandbox_resources(request).await;
        }
        Ok::<_, String>(())
    };
    match done.await {
        Ok(()) => {
            agent.with_memory(key, |memory| (memory.settled, memory.resize_failed) = (true, None));
            agent.events.normal(pod, "ResizeCompleted", words("Pod resize completed", pod, None));
            Ok(())
        }
        Err(why) => Err(tell(agent, key, pod, why)),
    }
}

async fn one(
    agent: &Agent,
    key: &Key,
    pod: &Pod,
    part: &Part<'_>,
    container: &ContainerStatus,
) -> Result<(), String> {
    let client = agent.runtime.client().await.map_err(|error| cause(&error))?;
    let wanted = resources::of_container(pod, &part.container, agent.machine.memory);
    let limit = wanted.memory_limit_in_bytes;
    let has =
        container.resources.as_ref().and_then(|all| all.linux.as_ref()).map(|one| one.memory_limit_in_bytes);
    if limit > 0 && has.is_none_or(|has| has <= 0 || has > limit) {
        let stats =
            client.container_stats(ContainerStatsRequest { container_id: container.id.clone() }).await;
        let stats = stats.map_err(|error| cause(&error))?.stats.and_then(|stats| stats.memory);
        let usage = stats.and_then(|memory| memory.working_set_bytes).map_or(0, |bytes| bytes.value);
        if usage >= u64::try_from(limit).unwrap_or(u64::MAX) {
            return Err(format!(
                "attempting to set container {} memory limit ({limit}){BELOW} ({usage})",
                part.container.name
            ));
        }
    }
    let request = UpdateContainerResourcesRequest {
        container_id: container.id.clone(),
        linux: Some(LinuxContainerResources { hugepage_limits: Vec::new(), ..wanted.clone() }),
        ..UpdateContainerResourcesRequest::default()
    };
    client.update_container_resources(request).await.map_err(|error| cause(&error))?;
    agent.with_memory(key, |memory| memory.enacted.insert(container.id.clone(), wanted));
    Ok(())
}

/// What the pod's cgroup has: the sum of what its containers have.
fn had(pod: &Pod, observed: &Observed, memory: &Memory) -> LinuxContainerResources {
    let had = parts(pod).into_iter().filter_map(|part| {
        let container = observed.here(&part.container.name)?;
        Some((part.container.name.clone(), told(&part, container, memory)))
    });
    resources::of_pod(&with(pod, &had.collect()))
}

/// The higher limits of both; 0 is none at all.
fn most(one: &LinuxContainerResources, other: &LinuxContainerResources) -> LinuxContainerResources {
    let higher = |one: i64, other: i64| if one == 0 || other == 0 { 0 } else { one.max(other) };
    let cpu_quota = higher(one.cpu_quota, other.cpu_quota);
    LinuxContainerResources {
        cpu_shares: one.cpu_shares.max(other.cpu_shares),
        cpu_period: if cpu_quota > 0 { PERIOD } else { 0 },
        cpu_quota,
        memory_limit_in_bytes: higher(one.memory_limit_in_bytes, other.memory_limit_in_bytes),
        ..LinuxContainerResources::default()
    }
}

/// As kubelets tell of resizes.
fn words(what: &str, pod: &Pod, why: Option<&str>) -> String {
    let of =
        |one: &Container| json!({"name": one.name, "resources": one.resources.clone().unwrap_or_default()});
    let all: Vec<_> = pod.spec.iter().flat_map(|spec| &spec.containers).map(of).collect();
    let mut told = json!({"containers": all, "generation": pod.metadata.generation});
    if let Some(why) = why {
        told["error"] = json!(why);
    }
    format!("{what}: {told}")
}

impl Agent {
    /// Resizes that wait for room are looked at again: there may be some.
    pub(crate) fn retry_resizes(&self) {
        self.queue.add_all(
            self.keys_with(|memory| memory.refused.as_ref().is_some_and(|why| why.reason == "Deferred")),
        );
    }
}

#[cfg(test)]
mod tests {
    use cri::contract::v1::{ContainerResources, ContainerState};
    use serde_json::Value;

    use super::*;

    fn pod(resources: Value, policy: Value) -> Pod {
        let container = json!({"name": "c", "resources": resources, "resizePolicy": policy});
        serde_json::from_value(json!({"spec": {"containers": [container]}})).unwrap()
    }

    fn container(resources: &LinuxContainerResources) -> ContainerStatus {
        ContainerStatus {
            id: "id".into(),
            state: ContainerState::ContainerRunning.into(),
            resources: Some(ContainerResources { linux: Some(resources.clone()), windows: None }),
            ..ContainerStatus::default()
        }
    }

    #[test]
    fn what_there_is_no_room_for_waits_and_what_is_too_much_never_comes() {
        assert_eq!(refusal((1500, 10), (500, 10), (2000, 20)), None);
        let later = refusal((1501, 10), (500, 10), (2000, 20)).unwrap();
        assert_eq!(later.reason, "Deferred");
        assert_eq!(
            later.message,
            "Node didn't have enough resource: cpu, requested: 1501, used: 500, capacity: 2000"
        );
        let never = refusal((1501, 21), (500, 10), (2000, 20)).unwrap();
        assert_eq!(never.reason, "Infeasible");
        assert_eq!(never.message, "Node didn't have enough capacity: memory, requested: 21, capacity: 20");
    }

    #[test]
    fn a_limit_is_not_lowered_below_what_is_used() {
        assert!(lowers(10, Some(20), 10) && lowers(10, None, 11));
        assert!(!lowers(10, Some(20), 9) && !lowers(10, Some(10), 10) && !lowers(0, Some(20), 99));
    }

    #[test]
    fn a_resize_that_fails_again_for_what_is_used_is_told_once() {
        let why =
            |limit: u64, used: u64| format!("attempting to set pod memory limit ({limit}){BELOW} ({used})");
        assert_eq!(without_usage(&why(1, 2)), without_usage(&why(1, 3)));
        assert_ne!(without_usage(&why(1, 3)), without_usage(&why(2, 3)));
        assert_eq!(without_usage("the runtime is away"), "the runtime is away");
    }

    #[test]
    fn what_a_container_has_is_told_until_it_has_what_it_is_to_have() {
        let small = pod(
            json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "500m", "memory": "64Mi"}}),
            json!(null),
        );
        let has = resources::of_container(&small, &small.spec.as_ref().unwrap().containers[0], 1 << 30);
        let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
        let big = json!({"requests": {"cpu": "200m"}, "limits": {"cpu": "1", "memory": "64Mi"}});
        let big = pod(big, policy);
        let parts = parts(&big);
        let (container, mut memory) = (container(&has), Memory::default());
        let lack = lacks(&parts[0], &container, &memory);
        assert_eq!(lack, Lacks { cpu: true, memory: false });
        assert!(!lack.restarts(&parts[0].container), "its CPUs alone are others");
        assert!(Lacks { cpu: false, memory: true }.restarts(&parts[0].container));
        let told_now = json!(told(&parts[0], &container, &memory));
        assert_eq!(
            told_now,
            json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "500m", "memory": "64Mi"}})
        );
        // The runtime was told, and has it its own way: a plugin of its said so.
        memory.enacted.insert("id".into(), resources::of(parts[0].container.resources.as_ref()));
        assert!(lacks(&parts[0], &container, &memory).nothing());
        assert_eq!(json!(told(&parts[0], &container, &memory))["limits"]["cpu"], "1");
    }

    #[test]
    fn what_was_given_is_known_from_the_status() {
        let mut pod = pod(json!({"requests": {"cpu": "2"}, "limits": {"cpu": "2"}}), json!(null));
        assert_eq!(json!(given(&pod)["c"])["requests"]["cpu"], "2");
        let told = json!({"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "allocatedResources": {"cpu": "1"}, "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}});
        pod.status = serde_json::from_value(json!({"containerStatuses": [told]})).unwrap();
        assert_eq!(json!(given(&pod)["c"]), json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}));
    }
}
