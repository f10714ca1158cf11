//! Pods that were sent to the node by its name and that it has no room for, or that may not be there: a scheduler would not have sent them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cri::contract::v1::PortMapping;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::fit::{self, Place};
use super::memory::Waiting;
use super::spec::is_over;
use super::told::told;
use super::{resize, resources, sandbox};
use crate::agent::Agent;
use crate::evict;
use crate::names::{CONFIG_SEEN, Key};
use crate::node;
use crate::observed::Observed;

/// How long a pod waits for the API server to tell of the node, and when it is looked at again where that has not.
const SOON: Duration = Duration::from_secs(5);

/// What the node has: thousandths of CPUs, bytes of memory and of disk, pods.
#[derive(Clone, Copy, Debug)]
struct Room {
    cpu: i64,
    memory: i64,
    disk: i64,
    pods: i64,
}

/// Refuses a pod that has not begun while the node is short of something, or where the pod may not be. When it is to be looked at again,
/// where that cannot be said yet: a pod that may not be on the node as far as that is known waits until the API server has told of the
/// node, for its end is final.
///
/// # Errors
/// The runtime cannot be asked what it has.
pub(super) async fn judge(
    agent: &Agent,
    key: &Key,
    pod: &Arc<Pod>,
    observed: &Observed,
) -> Result<Option<Duration>, String> {
    let has_begun = pod.status.as_ref().is_some_and(|status| status.start_time.is_some());
    let is_static = agent.statics.get(&key.name).is_some();
    // What a mirror tells was said by an agent before this one, and of the node as it was then.
    let is_over = if is_static { is_over(pod) } else { resize::is_over_as_told(agent, pod) };
    let is_failed = agent.with_memory(key, |memory| memory.failed.is_some()) == Some(true);
    if !observed.sandboxes.is_empty() {
        agent.with_memory(key, |memory| memory.admitted = true);
        return Ok(None);
    }
    if has_begun || is_over || is_failed {
        return Ok(None);
    }
    // Those of files do not wait for an API server: for them the node is what it is told to be.
    if !is_static {
        agent.nodes.filled_within(SOON).await;
    }
    let short = agent.pressures.now(agent.setup.limits.pressure);
    let refused = match evict::refusal(pod, &short).filter(|_| !is_static) {
        Some(why) => Some(Waiting::new("Evicted", why)),
        None => match refusal(agent, pod, &made(agent, pod).await?).await {
            Ok(refused) => refused,
            Err(Unknown(why, cause)) => {
                let words = format!("{}; {cause}", why.message);
                if is_news(agent, key, &words) {
                    eprintln!("sextant agent: pod {}/{} waits: {words}", key.name.namespace, key.name.name);
                }
                return Ok(Some(SOON));
            }
        },
    };
    // Nothing is waited for between this and what it was judged by: of two that want the same one alone is let in.
    agent.with_memory(key, |memory| (memory.admitted, memory.ended) = (refused.is_none(), false));
    let Some(Waiting { reason, message }) = refused else { return Ok(None) };
    let failed = Waiting::new(&reason, format!("Pod was rejected: {message}"));
    agent.with_memory(key, |memory| memory.failed = Some(failed));
    if is_news(agent, key, &message) {
        agent.events.warning(&**pod, &reason, message);
    }
    Ok(None)
}

/// Whether a pod was told of something else last; it is told of this now.
fn is_news(agent: &Agent, key: &Key, words: &str) -> bool {
    let before = agent.with_memory(key, |memory| memory.told.replace(words.to_owned()));
    before.is_some_and(|before| before.as_deref() != Some(words))
}

impl Agent {
    /// Ports of the node may have become free: pods of files that found them taken are judged anew, for nobody makes such pods again.
    pub(crate) fn retry_ports(&self) {
        let refused = |why: &Waiting| why.reason == "NodePorts";
        let mut keys = self.keys_with(|memory| memory.failed.as_ref().is_some_and(refused));
        keys.retain(|key| self.statics.get(&key.name).is_some_and(|pod| Key::of(&pod) == *key));
        for key in &keys {
            self.with_memory(key, |memory| memory.failed = None);
        }
        self.queue.add_all(keys);
    }

    /// Notes whether a pod has come to its end by itself. Once it has, what it had of the node is for others: of a pod of a file nobody
    /// but this agent may ever say so.
    pub(super) fn note_end(&self, key: &Key, has_ended: bool) {
        let before = self.with_memory(key, |memory| std::mem::replace(&mut memory.ended, has_ended));
        if has_ended && before == Some(false) {
            self.retry_resizes();
            self.retry_ports();
        }
    }
}

/// The node is not known well enough to refuse a pod: what speaks against it as far as it is, and why no more is known.
#[derive(Debug)]
struct Unknown(Waiting, String);

/// Pods that the runtime has something of, where some of files are not judged yet: an agent before this one may have begun them.
async fn made(agent: &Agent, pod: &Pod) -> Result<Vec<Key>, String> {
    let is_judged = |other: &Key| {
        agent.with_memory(other, |memory| memory.admitted || memory.failed.is_some()) == Some(true)
    };
    let others = agent.statics.all();
    let mut others = others.iter().map(|other| Key::of(other)).filter(|other| *other != Key::of(pod));
    if others.all(|other| is_judged(&other)) {
        return Ok(Vec::new());
    }
    agent.runtime.keys().await.map_err(|error| error.to_string())
}

/// Why the node does not take a pod: by what is known of the node, and where that speaks against it by what the API server says now.
async fn refusal(agent: &Agent, pod: &Pod, made: &[Key]) -> Result<Option<Waiting>, Unknown> {
    let is_of_node = |why: &Waiting| matches!(why.reason.as_str(), "NodeAffinity" | "TaintToleration");
    let why = match refused(agent, pod, &node::place(agent), made) {
        Some(why) if is_of_node(&why) => why,
        refused => return Ok(refused),
    };
    // Before, the node may have labels of an agent that was told others.
    let node = &agent.setup.node;
    if !agent.is_registered.load(Ordering::Acquire) {
        return Err(Unknown(why, format!("node {node} is not registered yet")));
    }
    // What was known is old where the API server does not answer: nothing final follows from it.
    let cause = match tokio::time::timeout(SOON, node::place_now(agent)).await {
        Ok(Ok(place)) => return Ok(refused(agent, pod, &place, made)),
        Ok(Err(error)) => client::causes(&error),
        Err(_) => format!("no answer in {SOON:?}"),
    };
    Err(Unknown(why, format!("the API server does not say how node {node} is now: {cause}")))
}

/// Why a node like this does not take a pod beside those that have begun, were let in, or came before it. The runtime has something of
/// `made`.
fn refused(agent: &Agent, pod: &Pod, place: &Place, made: &[Key]) -> Option<Waiting> {
    let (machine, pods) = (&agent.machine, i64::from(agent.setup.pods));
    let room = Room { cpu: machine.cpus * 1000, memory: machine.memory, disk: machine.disk(), pods };
    let is_static = |pod: &Pod| agent.statics.get(&Key::of(pod).name).is_some();
    // A kubelet ends others to make room for those that the node or the cluster needs; it takes them in any case.
    let judge = |pod: &Pod, others: &[Pod]| {
        let is_needed = is_static(pod) || evict::is_critical(pod);
        let short = if is_needed { None } else { shortage(pod, others, room) };
        let taints = || if is_static(pod) { None } else { fit::taints(pod, place) };
        short.or_else(|| fit::affinity(pod, place)).or_else(|| taken_ports(pod, others)).or_else(taints)
    };
    // Pods of files were made at no time: they come first, in the order in which they were seen.
    let age = |pod: &Pod| (pod.metadata.creation_timestamp.clone(), seen(pod), pod.metadata.uid.clone());
    let known =
        |pod: &Pod| agent.with_memory(&Key::of(pod), |memory| (memory.admitted, memory.failed.is_some()));
    let has_begun = |pod: &Pod| pod.status.as_ref().is_some_and(|status| status.start_time.is_some());
    let is_taken = |pod: &Pod| {
        has_begun(pod) || known(pod).is_some_and(|(admitted, _)| admitted) || made.contains(&Key::of(pod))
    };
    let is_failed = |pod: &Pod| known(pod).is_some_and(|(_, failed)| failed);
    // What the mirror of one that was refused tells stays until that runs: nothing has ended.
    let was_refused = |pod: &Pod| {
        let reason = told(agent, &Key::of(pod), pod).and_then(|status| status.reason);
        matches!(reason.as_deref(), Some("NodePorts" | "NodeAffinity"))
    };
    let has_ended = |pod: &Pod| agent.with_memory(&Key::of(pod), |memory| memory.ended) == Some(true);
    let is_over = |pod: &Pod| {
        has_ended(pod) || resize::is_over_as_told(agent, pod) && !(is_static(pod) && was_refused(pod))
    };
    let all = agent.all_pods();
    let others = all.iter().filter(|other| other.metadata.uid != pod.metadata.uid && !is_over(other));
    let (mut taken, mut waiting) = (Vec::new(), Vec::new());
    let is_in = is_taken(pod);
    for other in others {
        // One that was refused, and is not told of yet, takes nothing.
        if is_failed(other) && !has_begun(other) {
            continue;
        }
        if is_taken(other) {
            taken.push(resize::as_given(agent, other));
        } else if !is_in && age(other) < age(pod) {
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

/// When the file of a pod was seen; `None` of pods that are of none.
fn seen(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.annotations.as_ref()?.get(CONFIG_SEEN)?.parse().ok()
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
    use crate::agent::tests::{with_node, with_pods};
    use crate::names::CONFIG_MIRROR;

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

    #[tokio::test]
    async fn what_was_known_of_the_node_refuses_nobody_while_the_api_server_says_nothing() {
        let node = json!({"metadata": {"name": "node", "resourceVersion": "3", "labels": {"room": "small"}}});
        let agent = with_node(&[], &node).await;
        let picky: Pod =
            serde_json::from_value(json!({"metadata": {"name": "picky", "namespace": "default", "uid": "p"},
            "spec": {"nodeSelector": {"room": "big"}, "containers": [{"name": "c"}]}}))
            .unwrap();
        let (key, pod) = (Key::of(&picky), Arc::new(picky));
        agent.remember(&key, &pod);
        assert_eq!(refused(&agent, &pod, &node::place(&agent), &[]).unwrap().reason, "NodeAffinity");
        let unregistered = "node node is not registered yet";
        let forbidden = "the API server does not say how node node is now: ";
        for (is_registered, cause) in [(false, unregistered), (true, forbidden), (true, forbidden)] {
            agent.is_registered.store(is_registered, Ordering::Release);
            let again = judge(&agent, &key, &pod, &Observed::default()).await;
            assert_eq!(again, Ok(Some(SOON)));
            let known = |memory: &mut crate::pod::memory::Memory| {
                (memory.admitted, memory.failed.clone(), memory.told.clone().unwrap())
            };
            let (admitted, failed, told) = agent.with_memory(&key, known).unwrap();
            assert_eq!((admitted, failed), (false, None));
            let words = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
            assert!(told.starts_with(&format!("{words}; {cause}")), "{told}");
            assert_eq!(told.contains("nodes \"node\" is forbidden"), is_registered, "{told}");
            assert!(!is_news(&agent, &key, &told), "it is told once");
        }
    }

    /// Two pods of files that want the same port, the one whose file was seen first before the other.
    fn two(files: &std::path::Path) {
        for name in ["a", "b"] {
            let container = "{name: c, ports: [{containerPort: 80, hostPort: 8080}]}";
            let text = format!("metadata: {{name: {name}}}\nspec: {{containers: [{container}]}}\n");
            std::fs::write(files.join(name), text).unwrap();
        }
    }

    #[tokio::test]
    async fn of_pods_of_files_that_want_one_port_the_first_has_it() {
        let files = tempfile::tempdir().unwrap();
        two(files.path());
        let first = crate::statics::Statics::default().read(files.path(), "node");
        let first = first.into_iter().find(|key| key.name.name == "a-node").unwrap();
        // As it was told when it was refused.
        let metadata = json!({"name": "a-node", "namespace": "default", "uid": "m", "resourceVersion": "5",
            "annotations": {CONFIG_MIRROR: first.uid}});
        let status = json!({"phase": "Failed", "reason": "NodePorts"});
        let agent = with_pods(&[json!({"metadata": metadata, "status": status})]).await;
        agent.statics.read(files.path(), "node");
        let [a, b] = &agent.statics.all()[..] else { panic!("two pods") };
        let said =
            |pod: &Pod, made: &[Key]| refused(&agent, pod, &node::place(&agent), made).map(|why| why.reason);
        let ports = Some("NodePorts".to_owned());
        let set = |pod: &Arc<Pod>, admitted: bool, failed: Option<Waiting>| {
            agent
                .with_memory(&Key::of(pod), |memory| (memory.admitted, memory.failed) = (admitted, failed))
                .unwrap()
        };
        [a, b].into_iter().for_each(|pod| agent.remember(&Key::of(pod), pod));
        // Whoever is looked at first.
        assert_eq!((said(b, &[]), said(a, &[])), (ports.clone(), None));
        // Who was let in stays, and whom an agent before this one has begun.
        assert_eq!((said(a, &[Key::of(b)]), said(b, &[Key::of(b)])), (ports.clone(), None));
        set(b, true, None);
        assert_eq!((said(a, &[]), said(b, &[])), (ports.clone(), None));
        // Also while the mirror of the one that was let in tells of a refusal still.
        set(b, false, None);
        set(a, true, None);
        assert_eq!((said(b, &[]), said(a, &[])), (ports.clone(), None));
        // Once it has ended the other is judged anew, and nobody before it.
        set(a, false, Some(Waiting::new("NodePorts", "taken")));
        set(b, false, None);
        assert_eq!(said(b, &[]), None, "who was refused takes nothing");
        agent.forget(&Key { name: Key::of(a).name, uid: "another".into() });
        assert_eq!(agent.with_memory(&Key::of(a), |memory| memory.failed.clone()), Some(None));
        assert_eq!((said(b, &[]), said(a, &[])), (ports.clone(), None));
        // One that has ended by itself has nothing any more, also where no mirror tells so; that is heard of once.
        set(a, true, None);
        set(b, false, Some(Waiting::new("NodePorts", "taken")));
        for is_refused in [false, true] {
            agent.note_end(&Key::of(a), true);
            let failed = agent.with_memory(&Key::of(b), |memory| memory.failed.is_some());
            assert_eq!(failed, Some(is_refused));
            assert_eq!((said(b, &[]), said(b, &[Key::of(a)])), (None, None));
            set(b, false, Some(Waiting::new("NodePorts", "taken")));
        }
        // Where it runs once more it has its port again.
        agent.note_end(&Key::of(a), false);
        assert_eq!(said(b, &[]), ports);
        // What others were refused for stays.
        set(a, false, Some(Waiting::new("NodeAffinity", "elsewhere")));
        agent.retry_ports();
        assert!(agent.with_memory(&Key::of(a), |memory| memory.failed.is_some()).unwrap());
    }
}
