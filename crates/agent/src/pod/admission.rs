//! Pods that were sent to the node by its name and that it has no room for, or that may not be there: a scheduler would not have sent them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cri::contract::v1::PortMapping;
use k8s_openapi::api::core::v1::Pod;

use super::fit::{self, Place};
use super::memory::Waiting;
use super::spec::is_over;
use super::{resize, resources, sandbox};
use crate::agent::Agent;
use crate::evict;
use crate::names::Key;
use crate::node;
use crate::observed::Observed;

/// How long a pod waits for the API server to tell of the node.
const SOON: Duration = Duration::from_secs(5);

/// What the node has: thousandths of CPUs, bytes of memory and of disk, pods.
#[derive(Clone, Copy, Debug)]
struct Room {
    cpu: i64,
    memory: i64,
    disk: i64,
    pods: i64,
}

/// Ends a pod that has not begun, and does not while the node is short of something or the pod may not be there. Whether that can be said
/// yet: a pod that may not be on the node as far as that is known waits until the API server has told of it, for its end is final.
pub(super) async fn judge(agent: &Agent, key: &Key, pod: &Arc<Pod>, observed: &Observed) -> bool {
    let has_begun = pod.status.as_ref().is_some_and(|status| status.start_time.is_some());
    let is_static = agent.statics.get(&key.name).is_some();
    // What a mirror tells was said by an agent before this one, and of the node as it was then.
    let is_over = if is_static { is_over(pod) } else { resize::is_over_as_told(agent, pod) };
    let is_failed = agent.with_memory(key, |memory| memory.failed.is_some()) == Some(true);
    if has_begun || is_over || is_failed || !observed.sandboxes.is_empty() {
        return true;
    }
    // Those of files do not wait for an API server: for them the node is what it is told to be.
    if !is_static {
        agent.nodes.filled_within(SOON).await;
    }
    let short = agent.pressures.now(agent.setup.limits.pressure);
    let refused = match evict::refusal(pod, &short).filter(|_| !is_static) {
        Some(why) => Some(Waiting::new("Evicted", why)),
        None => match refusal(agent, pod).await {
            Ok(refused) => refused,
            Err(Unknown) => return false,
        },
    };
    let Some(Waiting { reason, message }) = refused else { return true };
    let failed = Waiting::new(&reason, format!("Pod was rejected: {message}"));
    if agent.with_memory(key, |memory| memory.failed.replace(failed)) == Some(None) {
        agent.events.warning(&**pod, &reason, message);
    }
    true
}

/// The node is not known yet.
struct Unknown;

/// Why the node does not take a pod: by what is known of the node, and where that speaks against it by what the API server says now.
async fn refusal(agent: &Agent, pod: &Pod) -> Result<Option<Waiting>, Unknown> {
    let is_of_node = |why: &Waiting| matches!(why.reason.as_str(), "NodeAffinity" | "TaintToleration");
    let refused_now = refused(agent, pod, &node::place(agent));
    if !refused_now.as_ref().is_some_and(is_of_node) {
        return Ok(refused_now);
    }
    // Before, the node may have labels of an agent that was told others.
    if !agent.is_registered.load(Ordering::Acquire) {
        return Err(Unknown);
    }
    match tokio::time::timeout(SOON, node::place_now(agent)).await {
        Ok(Ok(place)) => Ok(refused(agent, pod, &place)),
        _ if agent.nodes.filled_within(Duration::ZERO).await => Ok(refused_now),
        _ => Err(Unknown),
    }
}

/// Why a node like this does not take a pod beside those that have begun, or came before it.
fn refused(agent: &Agent, pod: &Pod, place: &Place) -> Option<Waiting> {
    let (machine, pods) = (&agent.machine, i64::from(agent.setup.pods));
    let room = Room { cpu: machine.cpus * 1000, memory: machine.memory, disk: machine.disk(), pods };
    let is_static = |pod: &Pod| agent.statics.get(&Key::of(pod).name).is_some();
    // A kubelet ends others to make room for those that the node or the cluster needs; it takes them in any case.
    let judge = |pod: &Pod, others: &[Pod]| {
        let short = || shortage(pod, others, room);
        let is_needed = is_static(pod) || evict::is_critical(pod);
        let short = if is_needed { None } else { short() };
        let taints = || if is_static(pod) { None } else { fit::taints(pod, place) };
        short.or_else(|| fit::affinity(pod, place)).or_else(|| taken_ports(pod, others)).or_else(taints)
    };
    let age = |pod: &Pod| (pod.metadata.creation_timestamp.clone(), pod.metadata.uid.clone());
    let has_begun = |pod: &Pod| pod.status.as_ref().is_some_and(|status| status.start_time.is_some());
    let is_failed =
        |pod: &Pod| agent.with_memory(&Key::of(pod), |memory| memory.failed.is_some()) == Some(true);
    let all = agent.all_pods();
    let others = all
        .iter()
        .filter(|other| other.metadata.uid != pod.metadata.uid && !resize::is_over_as_told(agent, other));
    let (mut taken, mut waiting) = (Vec::new(), Vec::new());
    for other in others {
        // One that was refused, and is not told of yet, takes nothing.
        if is_failed(other) && !has_begun(other) {
            continue;
        }
        if has_begun(other) || is_static(other) {
            taken.push(resize::as_given(agent, other));
        } else if age(other) < age(pod) {
            waiting.push(resize::as_given(agent, other));
        }
    }
    // Those that came before it are judged before it, whether or not they have been looked at: one that is refused takes nothing.
    waiting.sort_by_cached_key(age);
    for other in waiting {
        if judge(&other, &taken).is_none() {
            taken.push(other);
        }
    }
    judge(pod, &taken)
}

/// What the node has too little of for a pod beside others, in a kubelet's words.
fn shortage(pod: &Pod, others: &[Pod], room: Room) -> Option<Waiting> {
    let count = i64::try_from(others.len()).unwrap_or(i64::MAX);
    let used = others
        .iter()
        .map(resources::requests)
        .fold((0_i64, 0_i64), |all, one| (all.0.saturating_add(one.0), all.1.saturating_add(one.1)));
    let asked = resources::requests(pod);
    let disk = others.iter().map(resources::storage).fold(0, i64::saturating_add);
    let all = [
        ("pods", 1, count, room.pods),
        ("cpu", asked.0, used.0, room.cpu),
        ("memory", asked.1, used.1, room.memory),
        ("ephemeral-storage", resources::storage(pod), disk, room.disk),
    ];
    let short =
        all.into_iter().find(|(_, asked, used, has)| *asked > 0 && used.saturating_add(*asked) > *has);
    short.map(|(name, asked, used, has)| {
        let words = format!("requested: {asked}, used: {used}, capacity: {has}");
        Waiting::new(format!("OutOf{name}"), format!("Node didn't have enough resource: {name}, {words}"))
    })
}

/// Whether others have a port of the node that a pod wants, in a kubelet's words.
fn taken_ports(pod: &Pod, others: &[Pod]) -> Option<Waiting> {
    let words = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
    let is_taken = |wanted: &PortMapping| others.iter().flat_map(ports).any(|one| meets(wanted, &one));
    ports(pod).iter().any(is_taken).then(|| Waiting::new("NodePorts", words))
}

/// The node's ports that a pod has.
fn ports(pod: &Pod) -> Vec<PortMapping> {
    let all = pod.spec.as_ref().map(sandbox::ports).unwrap_or_default();
    all.into_iter().filter(|one| one.host_port > 0).collect()
}

fn meets(one: &PortMapping, other: &PortMapping) -> bool {
    let is_any = |address: &str| matches!(address, "" | "0.0.0.0" | "::");
    one.protocol == other.protocol
        && one.host_port == other.host_port
        && (one.host_ip == other.host_ip || is_any(&one.host_ip) || is_any(&other.host_ip))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_node_takes_what_it_has_room_for() {
        let pod = |cpu: &str, port: Value| -> Pod {
            let resources = json!({"requests": {"cpu": cpu, "memory": "1Ki", "ephemeral-storage": "1Ki"}});
            let container = json!({"name": "c", "resources": resources, "ports": [port]});
            serde_json::from_value(json!({"spec": {"containers": [container]}})).unwrap()
        };
        let room = Room { cpu: 1000, memory: 4096, disk: 4096, pods: 3 };
        let none = json!({"containerPort": 80});
        let port = |ip: &str| json!({"containerPort": 80, "hostPort": 8080, "hostIP": ip});
        let said = |pod: &Pod, others: &[&Pod]| {
            let others: Vec<Pod> = others.iter().map(|pod| (*pod).clone()).collect();
            let refused = shortage(pod, &others, room).or_else(|| taken_ports(pod, &others));
            refused.map(|why| format!("{}: {}", why.reason, why.message))
        };
        let small = pod("500m", none.clone());
        assert_eq!(said(&small, &[&small]), None);
        assert_eq!(
            said(&small, &[&small, &small]).unwrap(),
            "OutOfcpu: Node didn't have enough resource: cpu, requested: 500, used: 1000, capacity: 1000"
        );
        let tiny = pod("1m", none);
        assert_eq!(
            said(&tiny, &[&tiny, &tiny, &tiny]).unwrap(),
            "OutOfpods: Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3"
        );
        let room = Room { disk: 2048, ..room };
        assert_eq!(
            format!(
                "{:?}",
                shortage(&tiny, &[tiny.clone(), tiny.clone()], room).map(|why| (why.reason, why.message))
            ),
            "Some((\"OutOfephemeral-storage\", \"Node didn't have enough resource: ephemeral-storage, requested: 1024, used: 2048, capacity: 2048\"))"
        );
        let (here, there) = (pod("1m", port("127.0.0.1")), pod("1m", port("127.0.0.2")));
        assert_eq!(said(&here, &[&there]), None);
        assert_eq!(
            said(&here, &[&pod("1m", port(""))]).unwrap(),
            "NodePorts: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
        );
    }
}
