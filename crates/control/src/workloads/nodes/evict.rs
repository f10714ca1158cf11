//! Pods that do not bear a taint of their node (`NoExecute`), or bear it for a while.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use client::cache::Name;
use client::events::Events;
use client::queue::{Next, Queue};
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Api, Patch, PatchParams};
use kube::{Error, ResourceExt as _};
use serde_json::json;

use crate::workloads::scheduler::tolerates;
use crate::workloads::{Context, hands, pods};

struct Eviction {
    context: Arc<Context>,
    events: Events,
    /// Pods that are to go when their time is over, and since when that is known.
    waiting: Mutex<BTreeMap<Name, Timestamp>>,
}

/// Works until it is dropped.
pub(super) async fn run(context: Arc<Context>) {
    let queue: Arc<Queue<Name>> = Queue::new(crate::workloads::PACE);
    let (its, nodes) = (queue.clone(), Arc::downgrade(&context.nodes));
    context.pods.listen(move |change| {
        let Some(pod) = &change.new else { return };
        let says = |pod: &Arc<Pod>| {
            let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.clone());
            (pod.uid(), pods::node(pod).map(str::to_owned), tolerations)
        };
        let node = pods::node(pod).map(Name::global).and_then(|name| nodes.upgrade()?.get(&name));
        if node.is_some_and(|node| !sending_away(&node).is_empty())
            && change.old.as_ref().map(says) != Some(says(pod))
        {
            its.add(Name::of(&**pod));
        }
    });
    let (its, all) = (queue.clone(), Arc::downgrade(&context.pods));
    context.nodes.listen(move |change| {
        let taints = |node: &Arc<Node>| sending_away(node).into_iter().cloned().collect::<Vec<_>>();
        let (old, new) = (change.old.as_ref().map(taints), change.new.as_ref().map(taints));
        if let (Some(all), Some(new)) = (all.upgrade(), new)
            && old.unwrap_or_default() != new
        {
            let name = change.object().name_any();
            let here = all.find(|pod| pods::node(pod) == Some(&name));
            its.add_all(here.iter().map(|pod| Name::of(&**pod)));
        }
    });
    let events = context.events("taint-eviction-controller");
    let it = &Eviction { context, events, waiting: Mutex::default() };
    queue
        .run(|name| async move {
            crate::workloads::told("the taints that bear on pod", &name, it.look(&name).await)
        })
        .await;
}

/// The taints of a node that send pods away.
fn sending_away(node: &Node) -> Vec<&Taint> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    taints.iter().filter(|taint| taint.effect == "NoExecute").collect()
}

/// When a pod is to go; `None` where it may stay.
fn leaves(pod: &Pod, taints: &[&Taint], seen: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let held = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let began = pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|at| at.0);
    let began = began.or(pod.metadata.creation_timestamp.as_ref().map(|at| at.0));
    let mut first: Option<Timestamp> = None;
    for taint in taints {
        // The first one that is of it counts, as in Kubernetes.
        let Some(borne) = held.iter().find(|one| tolerates(one, taint)) else { return Some(now) };
        let Some(seconds) = borne.toleration_seconds else { continue };
        // From when on both are there; who taints by hand does not say when that was.
        let added = taint.time_added.as_ref().map_or(seen, |at| at.0);
        let since = began.map_or(added, |began| began.max(added));
        let until = since.saturating_add(SignedDuration::from_secs(seconds.max(0))).unwrap_or(now);
        first = first.into_iter().chain([until]).min();
    }
    first
}

impl Eviction {
    async fn look(&self, name: &Name) -> Result<Next, Error> {
        let pod = self.context.pods.get(name).filter(|pod| !pods::is_going(pod) && !pods::is_over(pod));
        let node = pod.as_ref().and_then(|pod| self.context.nodes.get(&Name::global(pods::node(pod)?)));
        let was_waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        let (Some(pod), Some(node)) = (pod, node) else { return Ok(Next::Done) };
        let now = Timestamp::now();
        let seen = was_waiting.unwrap_or(now);
        let Some(at) = leaves(&pod, &sending_away(&node), seen, now) else {
            if was_waiting.is_some() {
                let text = format!("Cancelling deletion of Pod {name}");
                self.events.normal(&*pod, "TaintManagerEviction", text).await;
            }
            return Ok(Next::Done);
        };
        let left = at.duration_since(now);
        if left > SignedDuration::ZERO {
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), seen);
            return Ok(Next::After(left.unsigned_abs()));
        }
        self.events.normal(&*pod, "TaintManagerEviction", format!("Marking for deletion Pod {name}")).await;
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": format!("{now:.0}"),
        });
        let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}});
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &name.namespace);
        match api.patch_status(&name.name, &PatchParams::default(), &Patch::Strategic(patch)).await {
            Err(Error::Api(status)) if status.code == 404 => return Ok(Next::Done),
            done => drop(done?),
        }
        hands::delete::<Pod>(&self.context.client, name, &hands::uid(&*pod)).await?;
        Ok(Next::Done)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_pod_stays_as_long_as_it_bears_every_taint() {
        let taint = |key: &str, at: &str| -> Taint {
            serde_json::from_value(json!({"key": key, "effect": "NoExecute", "timeAdded": at})).unwrap()
        };
        let (a, b) = (taint("a", "2026-01-01T00:10:00Z"), taint("b", "2026-01-01T00:00:00Z"));
        let now: Timestamp = "2026-01-01T00:11:00Z".parse().unwrap();
        let at = |tolerations: Value, taints: &[&Taint]| {
            let pod: Pod =
                serde_json::from_value(json!({"spec": {"containers": [], "tolerations": tolerations},
                "status": {"startTime": "2026-01-01T00:05:00Z"}}))
                .unwrap();
            leaves(&pod, taints, now, now).map(|at| at.to_string())
        };
        let bears = |key: &str, seconds: Option<i64>| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
        assert_eq!(at(json!([]), &[]), None);
        assert_eq!(at(json!([bears("a", None)]), &[&a]), None);
        assert_eq!(
            at(json!([bears("a", None)]), &[&a, &b]),
            Some(now.to_string()),
            "it does not bear the other"
        );
        assert_eq!(at(json!([bears("a", Some(300))]), &[&a]).as_deref(), Some("2026-01-01T00:15:00Z"));
        // It came later than the taint.
        assert_eq!(at(json!([bears("b", Some(300))]), &[&b]).as_deref(), Some("2026-01-01T00:10:00Z"));
        // Tainted by hand: as long as it has been seen.
        let by_hand = Taint { time_added: None, ..b.clone() };
        assert_eq!(at(json!([bears("b", Some(300))]), &[&by_hand]).as_deref(), Some("2026-01-01T00:16:00Z"));
        let both = json!([bears("a", Some(600)), bears("b", Some(60))]);
        assert_eq!(at(both, &[&a, &b]).as_deref(), Some("2026-01-01T00:06:00Z"));
    }
}
