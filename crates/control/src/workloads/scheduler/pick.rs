//! Which node a pod goes to, or why to none.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::volumes::{self, Wanted};
use super::{Refusal, Space, around, filters, preempt, resources};

/// What Kubernetes says of a pod that claims no devices, before it says what comes of preemption.
const NO_CLAIMS: &str = "no new claims to deallocate";

/// What came of a pod.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It goes there, once its claims that wait have volumes.
    Goes(usize, Wanted),
    /// It goes nowhere.
    Stays {
        /// In Kubernetes' words.
        why: String,
        /// Room can be made for it.
        room: Option<preempt::Room>,
    },
}

/// Why a node is none for a pod.
pub(super) fn refusal(pod: &Pod, wanted: &Wanted, at: usize, space: &Space<'_>) -> Option<Refusal> {
    let place = &space.places[at];
    filters::refuses(pod, place)
        .or_else(|| volumes::refuses(pod, wanted, &place.node, space))
        .or_else(|| around::refuses(pod, at, space))
}

/// Looks at all nodes.
pub(super) fn pick(pod: &Pod, space: &Space<'_>) -> Verdict {
    let count = space.places.len();
    if count == 0 {
        return Verdict::Stays { why: "no nodes available to schedule pods".into(), room: None };
    }
    let none = |reasons: String, last: &str| format!("0/{count} nodes are available: {reasons}.{last}");
    let wanted = match volumes::wanted(pod, space.storage) {
        Ok(wanted) => wanted,
        // Kubernetes asks those who make room, too; the first of them finds nothing noted of this pod, and says just that.
        Err(why) => return Verdict::Stays { why: none(why, " not found"), room: None },
    };
    let refusals: Vec<Option<Refusal>> = (0..count).map(|at| refusal(pod, &wanted, at, space)).collect();
    let fit = (0..count).filter(|at| refusals[*at].is_none());
    let best =
        fit.max_by_key(|at| (score(pod, *at, space), std::cmp::Reverse(space.places[*at].node.name_any())));
    if let Some(at) = best {
        return Verdict::Goes(at, wanted);
    }
    let all = refusals.iter().flatten().flat_map(|refusal| &refusal.reasons);
    let reasons = counted(all.map(|reason| (reason.as_str(), 1)));
    let (room, last) = match preempt::room(pod, &wanted, &refusals, space) {
        Ok(room) => (Some(room), String::new()),
        Err(Some(why)) => (None, format!(" {NO_CLAIMS}, preemption: {why}.")),
        Err(None) => {
            let lost = refusals.iter().flatten().filter(|refusal| refusal.is_for_good).count();
            let found = counted([
                ("Preemption is not helpful for scheduling", lost),
                ("No preemption victims found for incoming pod", count - lost),
            ]);
            (None, format!(" {NO_CLAIMS}, preemption: {}", none(found, "")))
        }
    };
    Verdict::Stays { why: none(reasons, &last), room }
}

/// Reasons with how many nodes have them.
fn counted<'a>(reasons: impl IntoIterator<Item = (&'a str, usize)>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (reason, count) in reasons {
        *counts.entry(reason).or_default() += count;
    }
    let told = counts.into_iter().filter(|(_, count)| *count > 0);
    let mut told: Vec<String> = told.map(|(reason, count)| format!("{count} {reason}")).collect();
    told.sort();
    told.join(", ")
}

/// How good a node is for a pod that may go there: the emptier the better; what the pod prefers, and what others do.
fn score(pod: &Pod, at: usize, space: &Space<'_>) -> i64 {
    let place = &space.places[at];
    let (has, more) = (resources::allocatable(&place.node), resources::weight(pod));
    let free = ["cpu", "memory"].map(|resource| {
        let of = |amounts: &resources::Amounts| amounts.get(resource).copied().unwrap_or_default();
        let (all, used) = (of(&has), of(&place.weight).saturating_add(of(&more)));
        if all == 0 || used > all { 0 } else { (all - used).saturating_mul(100) / all }
    });
    let disliked = i64::try_from(filters::disliked(pod, &place.node)).unwrap_or_default();
    let wishes = filters::preferred(pod, &place.node) + around::preferred(pod, at, space);
    free.iter().sum::<i64>() / 2 + 2 * wishes.clamp(-1000, 1000) - 300 * disliked
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::Node;
    use serde_json::{Value, json};

    use super::super::state::Place;
    use super::super::volumes::Storage;
    use super::*;

    fn node(name: &str, more: Value) -> Arc<Node> {
        let mut node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "zone": "z"}},
            "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "110"}}});
        if let Some(spec) = more.get("spec") {
            node["spec"] = spec.clone();
        }
        Arc::new(serde_json::from_value(node).unwrap())
    }

    fn pod(name: &str, spec: Value) -> Arc<Pod> {
        let mut whole = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m"}}}]});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let metadata = json!({"name": name, "namespace": "shop", "uid": name, "labels": {"app": "a"}});
        Arc::new(serde_json::from_value(json!({"metadata": metadata, "spec": whole})).unwrap())
    }

    /// What comes of a pod that is added to these.
    fn with(nodes: &[Arc<Node>], there: &[(usize, Arc<Pod>)], pod: &Pod) -> Result<String, String> {
        let mut places: Vec<Place> = nodes.iter().map(|node| Place::new(node.clone())).collect();
        there.iter().for_each(|(at, pod)| places[*at].put(pod.clone()));
        let (storage, namespaces) = (Storage::default(), BTreeMap::new());
        let space = Space { places: &places, namespaces: &namespaces, storage: &storage };
        match pick(pod, &space) {
            Verdict::Goes(at, _) => Ok(nodes[at].name_any()),
            Verdict::Stays { why, room: None } => Err(why),
            Verdict::Stays { room: Some(room), .. } => {
                Err(format!("without {}", room.victims.iter().map(|pod| pod.name_any()).collect::<String>()))
            }
        }
    }

    #[test]
    fn reasons_are_told_in_the_words_of_kubernetes() {
        let two = [node("n1", json!({})), node("n2", json!({"spec": {"unschedulable": true}}))];
        assert_eq!(with(&two, &[], &pod("p", json!({}))).unwrap(), "n1");
        assert_eq!(with(&[], &[], &pod("p", json!({}))).unwrap_err(), "no nodes available to schedule pods");
        let large = pod("p", json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "3"}}}]}));
        assert_eq!(
            with(&two[..1], &[], &large).unwrap_err(),
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are \
             available: 1 Preemption is not helpful for scheduling."
        );
        let half =
            pod("p", json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1500m"}}}]}));
        let mut other = (*half).clone();
        other.metadata.uid = Some("other".into());
        assert_eq!(
            with(&two, &[(0, Arc::new(other))], &half).unwrap_err(),
            "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable. no new claims to deallocate, \
             preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
        );
        let picky = pod("p", json!({"nodeSelector": {"disk": "fast"}}));
        assert!(
            with(&two[..1], &[], &picky)
                .unwrap_err()
                .contains("1 node(s) didn't match Pod's node affinity/selector.")
        );
        let tainted =
            node("n", json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}}));
        assert!(
            with(std::slice::from_ref(&tainted), &[], &picky).unwrap_err().contains("untolerated taint(s)")
        );
        let tolerant = pod("p", json!({"tolerations": [{"key": "k", "operator": "Exists"}]}));
        assert_eq!(with(&[tainted], &[], &tolerant).unwrap(), "n");
        let claims =
            pod("p", json!({"volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]}));
        let told = with(&two, &[], &claims).unwrap_err();
        assert_eq!(told, "0/2 nodes are available: persistentvolumeclaim \"data\" not found. not found");
    }

    #[test]
    fn pods_keep_away_from_each_other_where_they_say_so() {
        let nodes = [node("n1", json!({})), node("n2", json!({}))];
        let alone = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"labelSelector": {"matchLabels": {"app": "a"}}, "topologyKey": "kubernetes.io/hostname"}]}}});
        let (one, two) = (pod("1", alone.clone()), pod("2", alone));
        assert_eq!(with(&nodes, &[(0, one.clone())], &two).unwrap(), "n2");
        let told = with(&nodes, &[(0, one), (1, two)], &pod("3", json!({}))).unwrap_err();
        assert!(told.contains("2 node(s) didn't satisfy existing pods anti-affinity rules."), "{told}");
        let spread = pod(
            "p",
            json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "a"}}}]}),
        );
        assert_eq!(with(&nodes, &[(0, pod("1", json!({})))], &spread).unwrap(), "n2");
        let near = pod(
            "p",
            json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"labelSelector": {"matchLabels": {"app": "a"}}, "topologyKey": "kubernetes.io/hostname"}]}}}),
        );
        assert_eq!(with(&nodes, &[], &near).unwrap(), "n1", "the first of a group finds nobody");
        assert_eq!(with(&nodes, &[(1, pod("1", json!({})))], &near).unwrap(), "n2");
    }

    #[test]
    fn ports_of_the_host_are_taken_once_and_the_emptier_node_is_better() {
        let nodes = [node("n1", json!({})), node("n2", json!({}))];
        let port = pod(
            "p",
            json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}),
        );
        assert_eq!(with(&nodes, &[(0, pod("1", json!({})))], &port).unwrap(), "n2");
        let mut other = (*port).clone();
        other.metadata.uid = Some("other".into());
        let told = with(&nodes[..1], &[(0, Arc::new(other))], &port).unwrap_err();
        assert!(told.contains("1 node(s) didn't have free ports for the requested pod ports."), "{told}");
    }

    #[test]
    fn who_is_more_important_has_room_made() {
        let nodes = [node("n1", json!({}))];
        let large = |name: &str, priority: i32, cpu: &str| {
            pod(
                name,
                json!({"priority": priority, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}),
            )
        };
        let there = [(0, large("a", 1, "1")), (0, large("b", 5, "900m"))];
        assert_eq!(with(&nodes, &there, &large("p", 9, "1")).unwrap_err(), "without a");
        assert_eq!(with(&nodes, &there, &large("p", 9, "2")).unwrap_err(), "without ab");
        assert!(
            with(&nodes, &there, &large("p", 1, "1")).unwrap_err().contains("1 No preemption victims found")
        );
    }
}
