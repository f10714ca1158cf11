//! Counting pods that have ended, each once.
//!
//! A pod holds a finalizer until it is counted. Its uid is first written into the status, then the finalizer goes, and once the pod is seen
//! without it the number in the status takes the place of the uid. At each of these steps the process may end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::policy::{self, Verdict};
use crate::workloads::{hands, pods};

/// Holds a pod until it is counted.
pub(super) const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// On a pod: which of the job's indexes it is for.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// On a pod of a job that bounds the failures of each index: how many pods of its index have failed before it, and how many of these
/// counted for nothing.
pub(super) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
pub(super) const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// A pod tells of no more: two such numbers together are one.
const MOST: i32 = i32::MAX / 4;

/// What has been counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Count {
    succeeded: i32,
    failed: i32,
    uncounted: [BTreeSet<String>; 2],
    /// The indexes that are done, of a job that has some.
    pub(super) indexes: BTreeSet<i32>,
    /// Those that have failed, of a job that bounds the failures of each.
    pub(super) lost: BTreeSet<i32>,
    is_indexed: bool,
    is_bounded: bool,
}

/// Whether each pod has an index.
pub(super) fn is_indexed(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.completion_mode.as_deref()) == Some("Indexed")
}

/// How often the pod of one index may fail, of a job that says so.
pub(super) fn limit(job: &Job) -> Option<i32> {
    job.spec.as_ref()?.backoff_limit_per_index.filter(|_| is_indexed(job))
}

/// How many pods of its index have failed before a pod, and how many of these counted for nothing.
pub(super) fn before(pod: &Pod) -> (i32, i32) {
    let told = |key| pod.annotations().get(key).and_then(|text| text.parse::<i32>().ok());
    // People may write there what they like.
    let number = |key| told(key).unwrap_or_default().clamp(0, MOST);
    (number(FAILURES), number(IGNORED))
}

/// Whether a job's status says how it ends: then no more pods are made.
fn is_decided(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let is_end = |kind: &str| matches!(kind, "FailureTarget" | "SuccessCriteriaMet" | "Failed" | "Complete");
    conditions.iter().any(|one| is_end(&one.type_) && one.status == "True")
}

/// Whether an index has failed with a pod.
fn loses(job: &Job, pod: &Pod) -> bool {
    let Some(limit) = limit(job).filter(|_| has_failed(job, pod)) else { return false };
    match policy::verdict(job, pod) {
        Verdict::FailIndex => true,
        Verdict::Count => before(pod).0 >= limit,
        Verdict::Ignore | Verdict::FailJob(_) => false,
    }
}

/// The pods that have failed last of each index. They are kept until the next one is there: it has to be told how many there were.
pub(super) fn last_failed<'a>(job: &Job, mine: &'a [Arc<Pod>]) -> BTreeMap<i32, &'a Arc<Pod>> {
    let mut last: BTreeMap<i32, &Arc<Pod>> = BTreeMap::new();
    if limit(job).is_none() {
        return last;
    }
    for pod in mine.iter().filter(|pod| is_held(pod) && has_failed(job, pod)) {
        let Some(index) = index(job, pod) else { continue };
        let number = |pod: &Pod| before(pod).0 + before(pod).1;
        let held = last.entry(index).or_insert(pod);
        if number(pod) > number(held) {
            *held = pod;
        }
    }
    last
}

/// How many indexes a job has.
fn size(job: &Job) -> i32 {
    job.spec.as_ref().and_then(|spec| spec.completions).unwrap_or_default()
}

/// A pod's index, if the job has it: it may have had more of them before.
pub(super) fn index(job: &Job, pod: &Pod) -> Option<i32> {
    pod.annotations().get(INDEX)?.parse().ok().filter(|index| (0..size(job)).contains(index))
}

/// Whether a pod still has to be counted.
pub(super) fn is_held(pod: &Pod) -> bool {
    pod.finalizers().iter().any(|held| held == TRACKING)
}

/// Whether a pod has failed, and counts for nothing.
pub(super) fn is_ignored(job: &Job, pod: &Pod) -> bool {
    has_failed(job, pod) && policy::verdict(job, pod) == Verdict::Ignore
}

/// Whether a pod is replaced only once it has ended, and not when it begins to.
pub(super) fn waits_for_end(job: &Job) -> bool {
    let spec = job.spec.as_ref();
    spec.and_then(|spec| spec.pod_replacement_policy.as_deref()) == Some("Failed")
}

/// Whether a pod counts as failed: one that is being deleted will hardly succeed.
pub(super) fn has_failed(job: &Job, pod: &Pod) -> bool {
    match pods::phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        _ => pods::is_going(pod) && !waits_for_end(job),
    }
}

impl Count {
    /// As the status says.
    fn of(job: &Job) -> Self {
        let status = job.status.clone().unwrap_or_default();
        let uncounted = status.uncounted_terminated_pods.unwrap_or_default();
        Self {
            succeeded: status.succeeded.unwrap_or_default(),
            failed: status.failed.unwrap_or_default(),
            uncounted: [uncounted.succeeded, uncounted.failed]
                .map(|list| list.into_iter().flatten().collect()),
            indexes: parse(status.completed_indexes.as_deref().unwrap_or_default(), size(job)),
            lost: parse(status.failed_indexes.as_deref().unwrap_or_default(), size(job)),
            is_indexed: is_indexed(job),
            is_bounded: limit(job).is_some(),
        }
    }

    /// With what pods show by now.
    pub(super) fn next(job: &Job, mine: &[Arc<Pod>]) -> Self {
        let mut count = Self::of(job);
        let held: BTreeSet<String> =
            mine.iter().filter(|pod| is_held(pod)).map(|pod| hands::uid(&**pod)).collect();
        let [succeeded, failed] = &mut count.uncounted;
        for (total, uids) in [(&mut count.succeeded, succeeded), (&mut count.failed, failed)] {
            let before = uids.len();
            uids.retain(|uid| held.contains(uid));
            *total += i32::try_from(before - uids.len()).unwrap_or_default();
        }
        count.lost.extend(
            mine.iter().filter(|pod| is_held(pod) && loses(job, pod)).filter_map(|pod| index(job, pod)),
        );
        let kept = count.kept(job, mine);
        for pod in mine.iter().filter(|pod| is_held(pod)) {
            let uid = hands::uid(&**pod);
            if count.is_counted(&uid) || kept.contains(&uid) {
                continue;
            }
            if pods::phase(pod) == "Succeeded" {
                count.uncounted[0].insert(uid);
                count.indexes.extend(index(job, pod).filter(|_| count.is_indexed));
            } else if has_failed(job, pod) && !is_ignored(job, pod) {
                count.uncounted[1].insert(uid);
            }
        }
        count
    }

    /// The uids of failed pods that are needed still: the next one of their index is not there yet, and is to be.
    pub(super) fn kept(&self, job: &Job, mine: &[Arc<Pod>]) -> BTreeSet<String> {
        if is_decided(job) {
            return BTreeSet::new();
        }
        let number = |pod: &Pod| before(pod).0 + before(pod).1;
        let is_over = |at: i32| self.indexes.contains(&at) || self.lost.contains(&at);
        let needed = last_failed(job, mine).into_iter().filter(|(at, pod)| {
            let next = mine.iter().filter(|other| index(job, other) == Some(*at));
            !is_over(*at) && !next.into_iter().any(|other| number(other) > number(pod))
        });
        needed.map(|(_, pod)| hands::uid(&**pod)).collect()
    }

    /// Whether a pod is written down, and its finalizer may go.
    pub(super) fn is_counted(&self, uid: &str) -> bool {
        self.uncounted.iter().any(|uids| uids.contains(uid))
    }

    /// Whether nothing waits for a finalizer to go.
    pub(super) fn is_settled(&self) -> bool {
        self.uncounted.iter().all(BTreeSet::is_empty)
    }

    /// How many have succeeded; of indexes, how many are done.
    pub(super) fn succeeded(&self) -> i32 {
        let all = self.succeeded.saturating_add(i32::try_from(self.uncounted[0].len()).unwrap_or(i32::MAX));
        if self.is_indexed { i32::try_from(self.indexes.len()).unwrap_or(i32::MAX) } else { all }
    }

    /// How many have failed.
    pub(super) fn failed(&self) -> i32 {
        self.failed.saturating_add(i32::try_from(self.uncounted[1].len()).unwrap_or(i32::MAX))
    }

    /// As the status is to say.
    pub(super) fn told(&self) -> Value {
        let [succeeded, failed] = &self.uncounted;
        let mut uncounted = json!({});
        for (field, list) in [("succeeded", succeeded), ("failed", failed)] {
            // A merge patch has to say that a list is gone.
            uncounted[field] = if list.is_empty() { Value::Null } else { json!(list) };
        }
        let succeeded = if self.is_indexed { self.succeeded() } else { self.succeeded };
        let mut told =
            json!({"succeeded": succeeded, "failed": self.failed, "uncountedTerminatedPods": uncounted});
        if self.is_indexed {
            told["completedIndexes"] = json!(text(&self.indexes));
        }
        if self.is_bounded {
            told["failedIndexes"] = json!(text(&self.lost));
        }
        told
    }
}

/// Indexes as a status has them, `0,2-4`: those of so many.
pub(super) fn parse(text: &str, size: i32) -> BTreeSet<i32> {
    let mut all = BTreeSet::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
            all.extend(first.max(0)..last.saturating_add(1).min(size));
        }
    }
    all
}

fn text(all: &BTreeSet<i32>) -> String {
    let mut parts: Vec<(i32, i32)> = Vec::new();
    for index in all {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => parts.push((*index, *index)),
        }
    }
    let text = |(first, last): &(i32, i32)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    };
    parts.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_told_in_ranges() {
        for told in ["", "0", "0,1", "0-2", "1,3-5,7,8"] {
            assert_eq!(text(&parse(told, 9)), told);
        }
        assert_eq!(text(&parse("0,2-2147483647", 5)), "0,2-4");
    }

    #[test]
    fn a_pod_is_counted_once_whenever_the_process_ends() {
        let job = |status: &Value| {
            serde_json::from_value::<Job>(json!({"metadata": {}, "status": status})).unwrap()
        };
        let pod = |held: bool| {
            let finalizers: &[&str] = if held { &[TRACKING] } else { &[] };
            let metadata = json!({"name": "p", "uid": "p", "finalizers": finalizers});
            Arc::new(
                serde_json::from_value(json!({"metadata": metadata, "status": {"phase": "Succeeded"}}))
                    .unwrap(),
            )
        };
        let first = Count::next(&job(&json!({})), &[pod(true)]);
        assert!(first.is_counted("p") && !first.is_settled());
        assert_eq!((first.succeeded(), &first.told()["succeeded"]), (1, &json!(0)));
        // Written, and the finalizer still there: nothing changes.
        let again = Count::next(&job(&first.told()), &[pod(true)]);
        assert_eq!(again, first);
        for after in [vec![pod(false)], vec![]] {
            let last = Count::next(&job(&first.told()), &after);
            assert_eq!(
                (last.succeeded(), last.is_settled(), &last.told()["succeeded"]),
                (1, true, &json!(1))
            );
            assert_eq!(Count::next(&job(&last.told()), &after), last);
        }
    }
}
