//! What is next for a Job.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use client::events::EventType;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::count::{self, Count};
use super::policy::{self, Verdict};
use crate::workloads::{hands, pods, status};

/// The wait after a pod has failed, doubled with each that follows.
const BACK_OFF: SignedDuration = SignedDuration::from_secs(10);
/// The longest.
const LONGEST: SignedDuration = SignedDuration::from_mins(10);

/// What is to be done: first the status is written, then the rest.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The status as it is to be.
    pub(super) status: Value,
    /// Pods that are to be made, with their indexes.
    pub(super) create: Vec<Option<i32>>,
    /// How many pods of an index have failed before, and how many of these counted for nothing; of a job that bounds them.
    pub(super) failures: BTreeMap<i32, (i32, i32)>,
    /// Pods that are to go, and to be counted.
    pub(super) end: Vec<Arc<Pod>>,
    /// Pods that are to go and count for nothing.
    pub(super) drop: Vec<Arc<Pod>>,
    /// Pods that are counted, and held no longer.
    pub(super) release: Vec<Arc<Pod>>,
    /// What people are told: kind, reason, text.
    pub(super) events: Vec<(EventType, String, String)>,
    /// When it is to be looked at again, whatever happens.
    pub(super) wait: Option<SignedDuration>,
}

/// When a Job has ended, if it has.
pub(in crate::workloads) fn ended(job: &Job) -> Option<Timestamp> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let is_end = |kind: &str| matches!(kind, "Complete" | "Failed");
    let end = conditions.iter().find(|one| is_end(&one.type_) && one.status == "True")?;
    Some(end.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |at| at.0))
}

/// When a pod ended: its last container if all have, or else when it was not ready any more, was asked to go, or was made.
fn finished(pod: &Pod) -> Option<Timestamp> {
    let unready = pods::condition(pod, "Ready").filter(|ready| ready.status == "False");
    let unready = unready.and_then(|ready| Some(ready.last_transition_time.as_ref()?.0));
    let metadata = &pod.metadata;
    let asked = metadata.deletion_timestamp.as_ref().map(|at| {
        // What stands there is the end of its grace period.
        let grace = SignedDuration::from_secs(metadata.deletion_grace_period_seconds.unwrap_or_default());
        at.0.saturating_sub(grace).unwrap_or(at.0)
    });
    let made = metadata.creation_timestamp.as_ref().map(|at| at.0);
    last_end(pod).or(unready).or(asked).or(made)
}

/// When the last of a pod's containers and sidecars ended, if all have.
fn last_end(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let early = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let is_sidecar = |name: &str| {
        early.iter().any(|one| one.name == name && one.restart_policy.as_deref() == Some("Always"))
    };
    let sidecars =
        status.init_container_statuses.iter().flatten().filter(|container| is_sidecar(&container.name));
    let all = status.container_statuses.iter().flatten().chain(sidecars);
    let ends = all.map(|one| Some(one.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0));
    ends.collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// How long no pod is made, because some have failed since one succeeded.
fn back_off(job: &Job, mine: &[Arc<Pod>], now: Timestamp) -> Option<SignedDuration> {
    let succeeded =
        mine.iter().filter(|pod| pods::phase(pod) == "Succeeded").filter_map(|pod| finished(pod)).max();
    let failed = mine.iter().filter(|pod| count::has_failed(job, pod)).filter_map(|pod| finished(pod));
    let failed: Vec<Timestamp> = failed.filter(|at| succeeded.is_none_or(|last| *at > last)).collect();
    let last = failed.iter().max()?;
    let doubled = u32::try_from(failed.len() - 1).unwrap_or(u32::MAX).min(10);
    let left = (BACK_OFF * 2_i32.pow(doubled)).min(LONGEST) - now.duration_since(*last);
    (left > SignedDuration::ZERO).then_some(left)
}

/// How long the index of a pod that has failed gets no other, of a job that bounds the failures of each.
fn back_off_of(pod: &Pod, now: Timestamp) -> Option<SignedDuration> {
    let (failures, ignored) = count::before(pod);
    let doubled = u32::try_from(failures + ignored).unwrap_or(u32::MAX).min(10);
    let left = (BACK_OFF * 2_i32.pow(doubled)).min(LONGEST) - now.duration_since(finished(pod)?);
    (left > SignedDuration::ZERO).then_some(left)
}

/// Why a Job has failed, if it has: reason and message.
fn failure(
    spec: &JobSpec,
    job: &Job,
    count: &Count,
    mine: &[Arc<Pod>],
    now: Timestamp,
) -> Option<(&'static str, String)> {
    let judged = mine.iter().filter(|pod| count::is_held(pod) && count::has_failed(job, pod));
    let fatal = judged.map(|pod| policy::verdict(job, pod)).find_map(|verdict| match verdict {
        Verdict::FailJob(why) => Some(why),
        Verdict::Count | Verdict::Ignore | Verdict::FailIndex => None,
    });
    if let Some(why) = fatal {
        return Some(("PodFailurePolicy", why));
    }
    let limit = spec.backoff_limit.unwrap_or(6);
    let restarts: i32 = mine.iter().filter(|pod| pods::is_active(pod)).map(|pod| pods::restarts(pod)).sum();
    let policy = spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    let is_beyond = policy == Some("OnFailure") && if limit == 0 { restarts > 0 } else { restarts >= limit };
    if count.failed() > limit || is_beyond {
        return Some(("BackoffLimitExceeded", "Job has reached the specified backoff limit".into()));
    }
    let began = job.status.as_ref().and_then(|status| status.start_time.as_ref());
    let deadline = spec.active_deadline_seconds.zip(began);
    // While it is suspended no time passes for it.
    let is_late = spec.suspend != Some(true)
        && deadline.is_some_and(|(seconds, began)| {
            now.duration_since(began.0) >= SignedDuration::from_secs(seconds)
        });
    if is_late {
        return Some(("DeadlineExceeded", "Job was active longer than specified deadline".into()));
    }
    let lost = i32::try_from(count.lost.len()).unwrap_or(i32::MAX);
    if spec.max_failed_indexes.is_some_and(|most| lost > most) {
        let text = "Job has exceeded the specified maximal number of failed indexes";
        return Some(("MaxFailedIndexesExceeded", text.into()));
    }
    let is_through = spec.completions.is_some_and(|all| count.succeeded().saturating_add(lost) >= all);
    (lost > 0 && is_through).then(|| ("FailedIndexes", "Job has failed indexes".into()))
}

/// The rule of `successPolicy` by which a Job has succeeded, though not all of its indexes have.
fn succeeded_by(spec: &JobSpec, count: &Count) -> Option<usize> {
    let rules = &spec.success_policy.as_ref()?.rules;
    rules.iter().position(|rule| {
        let all = spec.completions.unwrap_or_default();
        let named = rule.succeeded_indexes.as_deref().map(|text| count::parse(text, all));
        let done = match &named {
            Some(named) => named.intersection(&count.indexes).count(),
            None => count.indexes.len(),
        };
        let wanted = rule.succeeded_count.and_then(|wanted| usize::try_from(wanted).ok());
        wanted.or(named.map(|named| named.len())).is_some_and(|wanted| done >= wanted)
    })
}

/// Writes a condition of a Job.
fn tell(held: &mut Vec<Value>, kind: &str, value: &str, reason: &str, message: &str, now: Timestamp) -> bool {
    let is_new = status::set(held, kind, value, reason, message, now);
    if is_new && let Some(condition) = held.iter_mut().find(|condition| condition["type"] == kind) {
        condition["lastProbeTime"] = json!(format!("{now:.0}"));
    }
    is_new
}

/// What is next.
pub(super) fn plan(job: &Job, mine: &[Arc<Pod>], now: Timestamp) -> Plan {
    let spec = job.spec.clone().unwrap_or_default();
    let mut plan = Plan::default();
    let old = job.status.clone().unwrap_or_default();
    let mut held = status::conditions(&old);
    let counts = Count::next(job, mine);
    let kept = counts.kept(job, mine);
    let may_go = |pod: &Pod| {
        let uid = hands::uid(pod);
        counts.is_counted(&uid) || count::is_ignored(job, pod) && !kept.contains(&uid)
    };
    plan.release = mine.iter().filter(|pod| count::is_held(pod) && may_go(pod)).cloned().collect();
    let active: Vec<Arc<Pod>> = mine.iter().filter(|pod| pods::is_active(pod)).cloned().collect();
    let going = mine.iter().filter(|pod| pods::is_going(pod) && !pods::is_over(pod)).count();
    plan.status = counts.told();
    let is_true =
        |held: &[Value], kind: &str| status::condition(held, kind).is_some_and(|one| one["status"] == "True");
    if ended(job).is_some() {
        // What of it is still held was not counted in time, and never will be.
        plan.release.extend(mine.iter().filter(|pod| count::is_held(pod) && pods::is_over(pod)).cloned());
        plan.drop = active;
        plan.status = json!({});
        return plan;
    }
    let is_suspended = spec.suspend == Some(true);
    let mut began = old.start_time.as_ref().map(|at| at.0);
    suspend(is_suspended, &mut held, &mut began, &mut plan, now);
    let wanted_done = match spec.completions {
        Some(completions) => counts.succeeded() >= completions,
        None => counts.succeeded() > 0 && active.is_empty(),
    };
    if is_true(&held, "FailureTarget") || is_true(&held, "SuccessCriteriaMet") {
        // It is decided, and why.
    } else if let Some((reason, message)) = failure(&spec, job, &counts, mine, now) {
        // With as many failures as that it has failed, though enough have succeeded.
        tell(&mut held, "FailureTarget", "True", reason, &message, now);
    } else if let Some(at) = succeeded_by(&spec, &counts) {
        let text = format!("Matched rules at index {at}");
        tell(&mut held, "SuccessCriteriaMet", "True", "SuccessPolicy", &text, now);
    } else if wanted_done {
        let text = "Reached expected number of succeeded pods";
        tell(&mut held, "SuccessCriteriaMet", "True", "CompletionsReached", text, now);
    }
    // What is kept for the next one of an index is counted as soon as the status says that there will be none.
    let is_quiet = active.is_empty() && going == 0 && counts.is_settled() && kept.is_empty();
    let mut left_active = active.len();
    if is_true(&held, "FailureTarget") {
        plan.end = active.clone();
        left_active = 0;
        let why = status::condition(&held, "FailureTarget").cloned().unwrap_or_default();
        let (reason, message) = (text(&why, "reason"), text(&why, "message"));
        if is_quiet && tell(&mut held, "Failed", "True", &reason, &message, now) {
            plan.events.push((EventType::Warning, reason, message));
        }
    } else if is_true(&held, "SuccessCriteriaMet") {
        plan.drop = active.clone();
        left_active = 0;
        let why = status::condition(&held, "SuccessCriteriaMet").cloned().unwrap_or_default();
        if is_quiet && tell(&mut held, "Complete", "True", &text(&why, "reason"), &text(&why, "message"), now)
        {
            plan.status["completionTime"] = json!(format!("{now:.0}"));
            if spec.completions.is_some_and(|wanted| counts.succeeded() > wanted) {
                let text = "Too many succeeded pods running after completion count reached";
                plan.events.push((EventType::Warning, "TooManySucceededPods".into(), text.into()));
            }
            plan.events.push((EventType::Normal, "Completed".into(), "Job completed".into()));
        }
    } else if is_suspended {
        plan.drop = active.clone();
        left_active = 0;
    } else {
        manage(job, &spec, &counts, mine, &active, going, &mut plan, now);
        let deadline = spec.active_deadline_seconds.zip(began);
        let deadline = deadline.map(|(seconds, began)| {
            SignedDuration::from_secs(seconds).saturating_sub(now.duration_since(began))
        });
        plan.wait = plan.wait.into_iter().chain(deadline).min();
    }
    let ready = active.iter().filter(|pod| pods::is_ready(pod)).count();
    plan.status["active"] = json!(left_active);
    plan.status["ready"] = json!(if left_active == 0 { 0 } else { ready });
    plan.status["terminating"] = json!(going + active.len() - left_active);
    plan.status["startTime"] = began.map_or(Value::Null, |at| json!(format!("{at:.0}")));
    plan.status["conditions"] = json!(held);
    plan
}

fn text(condition: &Value, field: &str) -> String {
    condition[field].as_str().unwrap_or_default().into()
}

/// A Job begins when it is first looked at, or goes on; while it is suspended it has not begun.
fn suspend(
    is_suspended: bool,
    held: &mut Vec<Value>,
    began: &mut Option<Timestamp>,
    plan: &mut Plan,
    now: Timestamp,
) {
    let is_told = status::condition(held, "Suspended").is_some_and(|one| one["status"] == "True");
    if is_suspended {
        if !is_told {
            tell(held, "Suspended", "True", "JobSuspended", "Job suspended", now);
            plan.events.push((EventType::Normal, "Suspended".into(), "Job suspended".into()));
        }
        *began = None;
        return;
    }
    if is_told {
        tell(held, "Suspended", "False", "JobResumed", "Job resumed", now);
        plan.events.push((EventType::Normal, "Resumed".into(), "Job resumed".into()));
        *began = Some(now);
    }
    began.get_or_insert(now);
}

/// Makes pods that are missing, and has those go that are too many.
#[allow(clippy::too_many_arguments, reason = "all of them are what it is decided from")]
fn manage(
    job: &Job,
    spec: &JobSpec,
    counts: &Count,
    mine: &[Arc<Pod>],
    active: &[Arc<Pod>],
    going: usize,
    plan: &mut Plan,
    now: Timestamp,
) {
    let at_once = usize::try_from(spec.parallelism.unwrap_or(1)).unwrap_or_default();
    let wanted = match spec.completions {
        Some(completions) => {
            let lost = i32::try_from(counts.lost.len()).unwrap_or(i32::MAX);
            at_once.min(usize::try_from(completions - counts.succeeded() - lost).unwrap_or_default())
        }
        None if counts.succeeded() > 0 => active.len().min(at_once),
        None => at_once,
    };
    // Of two pods with one index the later goes, and one whose index there is no more.
    let mut seen = BTreeSet::new();
    let mut kept: Vec<Arc<Pod>> = Vec::new();
    let mut sorted = active.to_vec();
    sorted.sort_by_key(|pod| (!pods::is_ready(pod), pod.metadata.creation_timestamp.as_ref().map(|at| at.0)));
    for pod in sorted {
        let is_again = count::is_indexed(job)
            && count::index(job, &pod).is_none_or(|index| {
                !seen.insert(index) || counts.indexes.contains(&index) || counts.lost.contains(&index)
            });
        if is_again || kept.len() >= wanted { plan.drop.push(pod) } else { kept.push(pod) }
    }
    let held_back = if count::waits_for_end(job) { going } else { 0 };
    let missing = wanted.saturating_sub(kept.len() + held_back).min(hands::BURST);
    if missing == 0 {
        return;
    }
    let last = count::last_failed(job, mine);
    if count::limit(job).is_none()
        && let Some(left) = back_off(job, mine, now)
    {
        plan.wait = Some(left);
        return;
    }
    if count::waits_for_end(job) {
        let still = mine.iter().filter(|pod| pods::is_going(pod) && !pods::is_over(pod));
        seen.extend(still.filter_map(|pod| count::index(job, pod)));
    }
    plan.create = if count::is_indexed(job) {
        let free = (0..spec.completions.unwrap_or_default()).filter(|index| {
            !counts.indexes.contains(index) && !counts.lost.contains(index) && !seen.contains(index)
        });
        let mut due = Vec::new();
        for index in free {
            match last.get(&index).and_then(|pod| back_off_of(pod, now)) {
                Some(left) => plan.wait = plan.wait.into_iter().chain([left]).min(),
                None if due.len() < missing => due.push(index),
                None => break,
            }
        }
        let ignored = |pod: &Pod| i32::from(count::is_ignored(job, pod));
        for (index, pod) in last.iter().filter(|(index, _)| due.contains(index)) {
            let (failures, before) = count::before(pod);
            plan.failures.insert(*index, (failures + 1 - ignored(pod), before + ignored(pod)));
        }
        due.into_iter().map(Some).collect()
    } else {
        vec![None; missing]
    };
}

#[cfg(test)]
mod tests;
