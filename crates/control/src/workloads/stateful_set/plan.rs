//! Which pod of a StatefulSet is made, or goes, next.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::workloads::{hands, pods, revisions, share};

/// A set with its pods.
#[derive(Debug)]
pub(super) struct View<'a> {
    /// The set.
    pub(super) set: &'a StatefulSet,
    /// Its pods by their ordinals.
    pub(super) pods: BTreeMap<i32, Arc<Pod>>,
    /// The name of the revision that pods had.
    pub(super) current: String,
    /// The name of the revision that pods are to have.
    pub(super) update: String,
}

/// What is next.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Ordinals that get a pod, and the revision of each.
    pub(super) create: Vec<(i32, String)>,
    /// Pods that go, and come again.
    pub(super) delete: Vec<Arc<Pod>>,
    /// Pods that go for good.
    pub(super) condemned: Vec<Arc<Pod>>,
}

/// The ordinal of a pod of a set of this name.
pub(super) fn ordinal(set: &str, pod: &Pod) -> Option<i32> {
    pod.name_any().strip_prefix(set)?.strip_prefix('-')?.parse().ok().filter(|ordinal| *ordinal >= 0)
}

fn is_of(pod: &Pod, revision: &str) -> bool {
    pod.labels().get(revisions::POD).is_some_and(|held| held == revision)
}

impl View<'_> {
    fn start(&self) -> i32 {
        let spec = self.set.spec.as_ref();
        spec.and_then(|spec| spec.ordinals.as_ref()?.start).unwrap_or_default()
    }

    fn end(&self) -> i32 {
        self.start().saturating_add(self.set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1))
    }

    fn is_parallel(&self) -> bool {
        self.set.spec.as_ref().and_then(|spec| spec.pod_management_policy.as_deref()) == Some("Parallel")
    }

    fn is_updated_by_hand(&self) -> bool {
        let strategy = self.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
        strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete")
    }

    /// Pods before this ordinal keep the revision that they had.
    fn partition(&self) -> i32 {
        let strategy = self.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        self.start().saturating_add(rolling.and_then(|rolling| rolling.partition).unwrap_or_default())
    }

    fn may_miss(&self) -> i32 {
        let spec = self.set.spec.as_ref();
        let rolling =
            spec.and_then(|spec| spec.update_strategy.as_ref()?.rolling_update.clone()).unwrap_or_default();
        let count = rolling.max_unavailable.as_ref();
        let total = self.end() - self.start();
        count.map_or(1, |count| share::of(count, total, share::Round::Up)).max(1)
    }

    fn seconds(&self) -> i32 {
        self.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or_default()
    }

    fn is_well(&self, pod: &Pod, now: Timestamp) -> bool {
        pods::phase(pod) == "Running"
            && !pods::is_going(pod)
            && pods::available(pod, self.seconds(), now).is_ok()
    }

    /// The pods that are there and are to stay.
    pub(super) fn kept(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.range(self.start()..self.end()).map(|(_, pod)| pod).filter(|pod| !pods::is_going(pod))
    }

    /// What is next. Where pods come one after the other, that is one step at a time.
    pub(super) fn plan(&self, now: Timestamp) -> Plan {
        let mut plan = Plan::default();
        let in_order = !self.is_parallel();
        for ordinal in self.start()..self.end() {
            match self.pods.get(&ordinal) {
                None => {
                    let revision = if ordinal < self.partition() { &self.current } else { &self.update };
                    plan.create.push((ordinal, revision.clone()));
                }
                Some(pod) if pods::is_over(pod) && !pods::is_going(pod) => plan.delete.push(pod.clone()),
                Some(pod) if self.is_well(pod, now) => continue,
                Some(_) => {}
            }
            if in_order || plan.create.len() >= hands::BURST {
                return plan;
            }
        }
        let condemned =
            self.pods.iter().rev().filter(|(ordinal, _)| !(self.start()..self.end()).contains(*ordinal));
        for (_, pod) in condemned {
            if !pods::is_going(pod) {
                plan.condemned.push(pod.clone());
            }
            if in_order {
                return plan;
            }
        }
        if plan == Plan::default() && !self.is_updated_by_hand() {
            plan.delete = self.outdated(now);
        }
        plan
    }

    /// Pods of another revision go, the last first, as long as not too many are missing.
    fn outdated(&self, now: Timestamp) -> Vec<Arc<Pod>> {
        let mut chosen = Vec::new();
        let mut missing = 0;
        for ordinal in (self.partition()..self.end()).rev() {
            let Some(pod) = self.pods.get(&ordinal) else { return chosen };
            if !is_of(pod, &self.update) && !pods::is_going(pod) {
                chosen.push(pod.clone());
                missing += 1;
            } else if !self.is_well(pod, now) {
                missing += 1;
            }
            if missing >= self.may_miss() {
                break;
            }
        }
        chosen
    }

    /// The status, and when a pod that is ready becomes available.
    pub(super) fn status(&self, now: Timestamp) -> (Value, Option<SignedDuration>) {
        let all = || self.pods.values();
        let count = |is: &dyn Fn(&Pod) -> bool| all().filter(|pod| is(pod)).count();
        let available: Vec<_> = all().map(|pod| pods::available(pod, self.seconds(), now)).collect();
        let stays = |pod: &Pod| !pods::is_going(pod);
        let ready = count(&|pod| pods::phase(pod) == "Running" && pods::is_ready(pod));
        let updated = count(&|pod| stays(pod) && is_of(pod, &self.update));
        let wanted = usize::try_from(self.end() - self.start()).unwrap_or_default();
        let is_complete =
            updated == wanted && ready == wanted && self.pods.len() == wanted && !self.is_updated_by_hand();
        let current = if is_complete { &self.update } else { &self.current };
        let status = json!({
            "replicas": self.pods.len(), "readyReplicas": ready,
            "availableReplicas": available.iter().filter(|available| available.is_ok()).count(),
            "currentReplicas": count(&|pod| stays(pod) && is_of(pod, current)), "updatedReplicas": updated,
            "currentRevision": current, "updateRevision": self.update,
            "observedGeneration": self.set.metadata.generation,
        });
        (status, available.into_iter().filter_map(Result::err).flatten().min())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(spec: Value) -> StatefulSet {
        let mut whole = json!({"replicas": 3, "serviceName": "s", "selector": {}, "template": {}});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": whole})).unwrap()
    }

    /// Pods by their letters: ready with the old or new revision (`o`, `n`), not ready (`O`, `N`), failed (`f`), going (`g`), none (`-`).
    fn view<'a>(set: &'a StatefulSet, pods: &str) -> View<'a> {
        let pod = |ordinal: usize, letter: char| {
            let revision = if matches!(letter, 'n' | 'N') { "new" } else { "old" };
            let gone = (letter == 'g').then_some("2026-01-01T00:00:00Z");
            let ready = if letter.is_lowercase() { "True" } else { "False" };
            let phase = if letter == 'f' { "Failed" } else { "Running" };
            let metadata = json!({"name": format!("s-{ordinal}"), "deletionTimestamp": gone, "labels": {revisions::POD: revision}});
            let status = json!({"phase": phase, "conditions": [{"type": "Ready", "status": ready}]});
            Arc::new(serde_json::from_value::<Pod>(json!({"metadata": metadata, "status": status})).unwrap())
        };
        let all = pods.chars().enumerate().filter(|(_, letter)| *letter != '-');
        let pods = all.map(|(at, letter)| (i32::try_from(at).unwrap(), pod(at, letter))).collect();
        View { set, pods, current: "old".into(), update: "new".into() }
    }

    fn steps(spec: Value, pods: &str) -> String {
        let set = set(spec);
        let plan = view(&set, pods).plan("2026-01-01T00:00:00Z".parse().unwrap());
        let mut told: Vec<String> =
            plan.create.iter().map(|(at, revision)| format!("+{at}{revision}")).collect();
        told.extend(plan.delete.iter().map(|pod| format!("-{}", ordinal("s", pod).unwrap())));
        told.extend(plan.condemned.iter().map(|pod| format!("x{}", ordinal("s", pod).unwrap())));
        told.join(" ")
    }

    #[test]
    fn pods_come_and_go_one_after_the_other() {
        assert_eq!(steps(json!({}), ""), "+0new");
        assert_eq!(steps(json!({}), "N"), "");
        assert_eq!(steps(json!({}), "n"), "+1new");
        assert_eq!(steps(json!({}), "nf"), "-1");
        assert_eq!(steps(json!({"replicas": 1}), "nnn"), "x2");
        assert_eq!(steps(json!({"replicas": 1}), "nng"), "");
        assert_eq!(steps(json!({"podManagementPolicy": "Parallel"}), ""), "+0new +1new +2new");
        assert_eq!(steps(json!({"podManagementPolicy": "Parallel", "replicas": 1}), "nnn"), "x2 x1");
        assert_eq!(steps(json!({"ordinals": {"start": 1}}), "-nn"), "+3new");
        let many = steps(json!({"podManagementPolicy": "Parallel", "replicas": i32::MAX}), "");
        assert_eq!(many.split(' ').count(), hands::BURST);
    }

    #[test]
    fn an_update_begins_at_the_end_and_stops_at_the_partition() {
        assert_eq!(steps(json!({}), "ooo"), "-2");
        assert_eq!(steps(json!({}), "oog"), "");
        assert_eq!(steps(json!({}), "oon"), "-1");
        assert_eq!(steps(json!({}), "ooN"), "");
        let partition = json!({"updateStrategy": {"rollingUpdate": {"partition": 2}}});
        assert_eq!(steps(partition.clone(), "oon"), "");
        assert_eq!(steps(partition, "-on"), "+0old");
        assert_eq!(steps(json!({"updateStrategy": {"type": "OnDelete"}}), "ooo"), "");
    }

    #[test]
    fn the_revision_is_current_once_all_have_it() {
        let set = set(json!({}));
        let (status, _) = view(&set, "onn").status("2026-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(
            (&status["currentRevision"], &status["currentReplicas"], &status["updatedReplicas"]),
            (&json!("old"), &json!(1), &json!(2))
        );
        let (status, _) = view(&set, "nnn").status("2026-01-01T00:00:00Z".parse().unwrap());
        assert_eq!((&status["currentRevision"], &status["currentReplicas"]), (&json!("new"), &json!(3)));
    }
}
