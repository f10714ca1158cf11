//! On which nodes a DaemonSet's pods are, and which one is replaced next.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod, Toleration};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::workloads::scheduler::{is_wanted, tolerates, untolerated};
use crate::workloads::{pods, revisions, share};

/// A set, its pods, and the nodes there are.
#[derive(Debug)]
pub(super) struct View<'a> {
    /// The set.
    pub(super) set: &'a DaemonSet,
    /// All nodes.
    pub(super) nodes: Vec<Arc<Node>>,
    /// Its pods.
    pub(super) pods: Vec<Arc<Pod>>,
    /// The hash of the template as it is.
    pub(super) hash: String,
}

/// What is next.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Nodes that get a pod.
    pub(super) create: Vec<String>,
    /// Pods that go.
    pub(super) delete: Vec<Arc<Pod>>,
    /// Pods that have failed: they go, too, after a while.
    pub(super) failed: Vec<Arc<Pod>>,
}

/// The taints that such a pod bears wherever it is: without it the node would not get well.
pub(super) fn tolerations(template: &Value) -> Vec<Value> {
    let mut held = template["tolerations"].as_array().cloned().unwrap_or_default();
    let mut all = vec![
        ("node.kubernetes.io/not-ready", "NoExecute"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
        ("node.kubernetes.io/disk-pressure", "NoSchedule"),
        ("node.kubernetes.io/memory-pressure", "NoSchedule"),
        ("node.kubernetes.io/pid-pressure", "NoSchedule"),
        ("node.kubernetes.io/unschedulable", "NoSchedule"),
    ];
    if template["hostNetwork"] == true {
        all.push(("node.kubernetes.io/network-unavailable", "NoSchedule"));
    }
    for (key, effect) in all {
        let one = json!({"key": key, "operator": "Exists", "effect": effect});
        if !held.contains(&one) {
            held.push(one);
        }
    }
    held
}

/// The node that a pod is on, or made for.
fn node_of(pod: &Pod) -> Option<String> {
    if let Some(node) = pods::node(pod) {
        return Some(node.into());
    }
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    let mut fields = terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    fields.find(|field| field.key == "metadata.name")?.values.as_ref()?.first().cloned()
}

impl View<'_> {
    /// Whether a node is to have a pod, and whether one that is there may stay.
    fn wants(&self, node: &Node) -> (bool, bool) {
        let template = self.set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
        let spec = template.spec.clone().unwrap_or_default();
        let borne = tolerations(&json!(spec));
        let borne: Vec<Toleration> =
            borne.into_iter().filter_map(|one| serde_json::from_value(one).ok()).collect();
        let named = spec.node_name.clone().is_none_or(|name| name.is_empty() || name == node.name_any());
        let is_meant = named && is_wanted(&Pod { spec: Some(spec), ..Pod::default() }, node);
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        let mut kept_away = taints.iter().filter(|taint| taint.effect == "NoExecute");
        let stays = kept_away.all(|taint| borne.iter().any(|one| tolerates(one, taint)));
        (is_meant && untolerated(node, &borne).is_none(), is_meant && stays)
    }

    /// The pods by their nodes, the oldest first.
    fn by_node(&self) -> BTreeMap<String, Vec<&Arc<Pod>>> {
        let mut all: BTreeMap<String, Vec<&Arc<Pod>>> = BTreeMap::new();
        for pod in &self.pods {
            all.entry(node_of(pod).unwrap_or_default()).or_default().push(pod);
        }
        for pods in all.values_mut() {
            pods.sort_by_key(|pod| {
                (pods::node(pod).is_none(), pod.metadata.creation_timestamp.as_ref().map(|at| at.0))
            });
        }
        all
    }

    fn is_new(&self, pod: &Pod) -> bool {
        pod.labels().get(revisions::POD) == Some(&self.hash)
    }

    fn seconds(&self) -> i32 {
        self.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or_default()
    }

    /// What is next: first that each node has what it is to have, then the update.
    pub(super) fn plan(&self, now: Timestamp) -> Plan {
        let mut plan = Plan::default();
        let surge = self.surge();
        let by_node = self.by_node();
        for node in &self.nodes {
            let (runs, stays) = self.wants(node);
            let here = by_node.get(&node.name_any()).map(Vec::as_slice).unwrap_or_default();
            let there: Vec<&Arc<Pod>> = here.iter().copied().filter(|pod| !pods::is_going(pod)).collect();
            let (ended, live): (Vec<_>, Vec<_>) = there.into_iter().partition(|pod| pods::is_over(pod));
            plan.failed.extend(ended.iter().map(|pod| (*pod).clone()));
            if !stays {
                plan.delete.extend(live.into_iter().cloned());
            } else if live.len() > 1 {
                plan.delete.extend(self.beyond(&live, surge > 0, now).cloned());
            } else if runs && here.is_empty() {
                plan.create.push(node.name_any());
            }
        }
        let is_there = |name: &String| self.nodes.iter().any(|node| node.name_any() == *name);
        // Those on nodes that are gone are others' to remove; those that wait for one are ours.
        for (_, waiting) in by_node.iter().filter(|(name, _)| !is_there(name)) {
            let nowhere = waiting.iter().filter(|pod| pods::node(pod).is_none() && !pods::is_going(pod));
            plan.delete.extend(nowhere.map(|pod| (*pod).clone()));
        }
        // One that has failed stays for a while: it does not hold the update on other nodes.
        if plan.create.is_empty() && plan.delete.is_empty() {
            if surge > 0 {
                plan.create = self.ahead(&by_node, surge, now);
            } else {
                plan.delete = self.outdated(&by_node, now);
            }
        }
        plan
    }

    /// On how many nodes a new pod may come before the old one goes; none where old ones go first.
    fn surge(&self) -> i32 {
        let strategy = self.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
        let rolling = strategy.filter(|one| one.type_.as_deref() != Some("OnDelete"));
        let most = rolling.and_then(|one| one.rolling_update.as_ref()?.max_surge.as_ref());
        let wanted = self.nodes.iter().filter(|node| self.wants(node).0).count();
        most.map_or(0, |most| share::of(most, i32::try_from(wanted).unwrap_or(i32::MAX), share::Round::Up))
    }

    /// Which of several pods on a node go, the oldest first in the list. With surge one of each template may stay, the old one until the
    /// new one is available, or it is itself not ready.
    fn beyond<'a>(
        &self,
        live: &[&'a Arc<Pod>],
        with_surge: bool,
        now: Timestamp,
    ) -> impl Iterator<Item = &'a Arc<Pod>> + use<'a> {
        let mut kept: [Option<&Arc<Pod>>; 2] = [None, None];
        let mut beyond = Vec::new();
        for pod in live {
            let place = &mut kept[usize::from(with_surge && self.is_new(pod))];
            if place.is_some() { beyond.push(*pod) } else { *place = Some(pod) }
        }
        if let [Some(old), Some(new)] = kept
            && (!pods::is_ready(old) || pods::available(new, self.seconds(), now).is_ok())
        {
            beyond.push(old);
        }
        beyond.into_iter()
    }

    /// The nodes that get a new pod beside the old one: those whose old one is not available anyway, and as many others as there may be.
    fn ahead(&self, by_node: &BTreeMap<String, Vec<&Arc<Pod>>>, surge: i32, now: Timestamp) -> Vec<String> {
        let (mut idle, mut good, mut coming) = (Vec::new(), Vec::new(), 0);
        for node in self.nodes.iter().filter(|node| self.wants(node).0) {
            let here = by_node.get(&node.name_any()).map(Vec::as_slice).unwrap_or_default();
            let live = || here.iter().filter(|pod| pods::is_active(pod));
            let is_available = |pod: &Pod| pods::available(pod, self.seconds(), now).is_ok();
            let old = live().find(|pod| !self.is_new(pod));
            match (old, live().find(|pod| self.is_new(pod))) {
                (Some(_), Some(new)) => coming += i32::from(!is_available(new)),
                (Some(old), None) if is_available(old) => good.push(node.name_any()),
                (Some(_), None) => idle.push(node.name_any()),
                (None, _) => {}
            }
        }
        good.truncate(usize::try_from(surge - coming).unwrap_or_default());
        idle.into_iter().chain(good).collect()
    }

    /// Old pods go, first those that are not available anyway, as long as not too many nodes are without.
    fn outdated(&self, by_node: &BTreeMap<String, Vec<&Arc<Pod>>>, now: Timestamp) -> Vec<Arc<Pod>> {
        let strategy =
            self.set.spec.as_ref().and_then(|spec| spec.update_strategy.clone()).unwrap_or_default();
        if strategy.type_.as_deref() == Some("OnDelete") {
            return Vec::new();
        }
        let wanted = self.nodes.iter().filter(|node| self.wants(node).0).count();
        let wanted = i32::try_from(wanted).unwrap_or(i32::MAX);
        let most = strategy.rolling_update.and_then(|rolling| rolling.max_unavailable);
        let most = most.map_or(1, |most| share::of(&most, wanted, share::Round::Up)).max(1);
        let (mut idle, mut good, mut missing) = (Vec::new(), Vec::new(), 0);
        for node in self.nodes.iter().filter(|node| self.wants(node).0) {
            let Some(pod) = by_node.get(&node.name_any()).and_then(|pods| pods.first()) else {
                missing += 1;
                continue;
            };
            let is_available = !pods::is_going(pod) && pods::available(pod, self.seconds(), now).is_ok();
            missing += i32::from(!is_available);
            if pods::is_active(pod) && !self.is_new(pod) {
                if is_available { good.push((*pod).clone()) } else { idle.push((*pod).clone()) }
            }
        }
        good.truncate(usize::try_from(most - missing).unwrap_or_default());
        idle.into_iter().chain(good).collect()
    }

    /// The status, and when a pod that is ready becomes available.
    pub(super) fn status(&self, now: Timestamp) -> (Value, Option<SignedDuration>) {
        let by_node = self.by_node();
        let (mut wanted, mut there, mut wrong, mut ready, mut updated, mut able) = (0, 0, 0, 0, 0, 0);
        let mut wait: Option<SignedDuration> = None;
        for node in &self.nodes {
            let here = by_node.get(&node.name_any()).map(Vec::as_slice).unwrap_or_default();
            let pod = here.first();
            if !self.wants(node).0 {
                wrong += i32::from(pod.is_some());
                continue;
            }
            wanted += 1;
            // With surge it is the later one that has to become available.
            let left =
                here.iter().filter_map(|pod| pods::available(pod, self.seconds(), now).err().flatten());
            wait = wait.into_iter().chain(left).min();
            let Some(pod) = pod else { continue };
            let available = pods::available(pod, self.seconds(), now);
            there += 1;
            ready += i32::from(pods::is_ready(pod));
            updated += i32::from(self.is_new(pod));
            able += i32::from(available.is_ok());
        }
        let status = json!({
            "desiredNumberScheduled": wanted, "currentNumberScheduled": there, "numberMisscheduled": wrong,
            "numberReady": ready, "updatedNumberScheduled": updated, "numberAvailable": able,
            "numberUnavailable": wanted - able, "observedGeneration": self.set.metadata.generation,
        });
        (status, wait)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn node(name: &str, spec: Value) -> Arc<Node> {
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap())
    }

    fn pod(name: &str, node: &str, hash: &str, ready: &str, phase: &str) -> Arc<Pod> {
        let status = json!({"phase": phase, "conditions": [{"type": "Ready", "status": ready}]});
        let metadata = json!({"name": name, "labels": {revisions::POD: hash}});
        Arc::new(
            serde_json::from_value(
                json!({"metadata": metadata, "spec": {"nodeName": node, "containers": []}, "status": status}),
            )
            .unwrap(),
        )
    }

    fn planned(nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> String {
        planned_with(&json!({}), nodes, pods)
    }

    fn planned_with(strategy: &Value, nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> String {
        told(&view(&set(strategy, 0), nodes, pods).plan("2026-01-01T00:00:00Z".parse().unwrap()))
    }

    fn set(strategy: &Value, seconds: i32) -> DaemonSet {
        serde_json::from_value(
            json!({"metadata": {"name": "d"}, "spec": {"selector": {}, "updateStrategy": strategy,
            "minReadySeconds": seconds, "template": {"spec": {"containers": []}}}}),
        )
        .unwrap()
    }

    fn view<'a>(set: &'a DaemonSet, nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> View<'a> {
        View { set, nodes: nodes.to_vec(), pods: pods.to_vec(), hash: "new".into() }
    }

    fn told(plan: &Plan) -> String {
        let gone = plan.delete.iter().map(|pod| format!("-{}", pod.name_any()));
        let failed = plan.failed.iter().map(|pod| format!("x{}", pod.name_any()));
        let made = plan.create.iter().map(|node| format!("+{node}"));
        made.chain(gone).chain(failed).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_node_that_takes_it_has_one() {
        let closed = node(
            "closed",
            json!({"unschedulable": true,
            "taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]}),
        );
        let other = node("other", json!({"taints": [{"key": "gpu", "effect": "NoSchedule"}]}));
        let emptied = node("emptied", json!({"taints": [{"key": "gone", "effect": "NoExecute"}]}));
        let nodes = [node("a", json!({})), closed, other, emptied];
        assert_eq!(planned(&nodes, &[]), "+a +closed");
        let pods = [
            pod("one", "a", "new", "True", "Running"),
            pod("two", "a", "new", "True", "Running"),
            pod("three", "closed", "new", "False", "Failed"),
            pod("four", "other", "new", "True", "Running"),
            pod("five", "emptied", "new", "True", "Running"),
        ];
        assert_eq!(planned(&nodes, &pods), "-two -five xthree");
    }

    #[test]
    fn an_update_takes_one_node_after_the_other() {
        let nodes = [node("a", json!({})), node("b", json!({})), node("c", json!({}))];
        let at = |name: &str, hash: &str, ready: &str| pod(name, name, hash, ready, "Running");
        assert_eq!(
            planned(&nodes, &[at("a", "old", "True"), at("b", "old", "True"), at("c", "old", "True")]),
            "-a"
        );
        assert_eq!(
            planned(&nodes, &[at("a", "new", "False"), at("b", "old", "True"), at("c", "old", "True")]),
            ""
        );
        assert_eq!(
            planned(&nodes, &[at("a", "old", "True"), at("b", "old", "False"), at("c", "old", "True")]),
            "-b"
        );
        assert_eq!(
            planned(&nodes, &[at("a", "new", "True"), at("b", "new", "True"), at("c", "old", "True")]),
            "-c"
        );
    }

    #[test]
    fn with_surge_the_new_pod_comes_before_the_old_one_goes() {
        let nodes = [node("a", json!({})), node("b", json!({})), node("c", json!({}))];
        let surge =
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "40%", "maxUnavailable": 0}});
        let at = |node: &str, hash: &str, ready: &str| {
            pod(&format!("{hash}-{node}"), node, hash, ready, "Running")
        };
        let mut all = vec![at("a", "old", "True"), at("b", "old", "True"), at("c", "old", "True")];
        assert_eq!(planned_with(&surge, &nodes, &all), "+a +b", "40 % of three are two");
        all.extend([at("a", "new", "False"), at("b", "new", "False")]);
        assert_eq!(planned_with(&surge, &nodes, &all), "");
        all[3] = at("a", "new", "True");
        assert_eq!(planned_with(&surge, &nodes, &all), "-old-a");
        all.remove(0);
        assert_eq!(planned_with(&surge, &nodes, &all), "+c");
        // An old one that is not ready is none that has to be kept, nor does it count.
        all[1] = at("c", "old", "False");
        assert_eq!(planned_with(&surge, &nodes, &all), "+c");
        all.push(at("c", "new", "False"));
        assert_eq!(planned_with(&surge, &nodes, &all), "-old-c");
        // Of one template there is only one.
        all.remove(1);
        all.push(pod("more-c", "c", "new", "True", "Running"));
        assert_eq!(planned_with(&surge, &nodes, &all), "-more-c");
    }

    #[test]
    fn with_surge_it_is_waited_until_the_new_pod_is_available() {
        let surge = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
        let since = |hash: &str, at: &str| {
            let mut pod = (*pod(hash, "a", hash, "True", "Running")).clone();
            let ready = &mut pod.status.as_mut().unwrap().conditions.as_mut().unwrap()[0];
            ready.last_transition_time = Some(Time(at.parse().unwrap()));
            Arc::new(pod)
        };
        let all = [since("old", "2025-12-31T00:00:00Z"), since("new", "2025-12-31T23:59:57Z")];
        let (set, nodes) = (set(&surge, 10), [node("a", json!({}))]);
        let view = view(&set, &nodes, &all);
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let left = SignedDuration::from_secs(7);
        assert_eq!((told(&view.plan(now)).as_str(), view.status(now).1), ("", Some(left)));
        assert_eq!((told(&view.plan(now + left)).as_str(), view.status(now + left).1), ("-old", None));
    }

    #[test]
    fn a_pod_that_has_failed_holds_no_update_elsewhere() {
        let nodes = [node("a", json!({})), node("b", json!({}))];
        let failed = pod("a", "a", "old", "False", "Failed");
        let unready = pod("b", "b", "old", "False", "Running");
        assert_eq!(planned(&nodes, &[failed.clone(), unready]), "-b xa");
        // One may be missing, and is: who is well stays.
        assert_eq!(planned(&nodes, &[failed, pod("b", "b", "old", "True", "Running")]), "xa");
    }
}
