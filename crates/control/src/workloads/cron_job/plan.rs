//! What is next for a CronJob.

use std::sync::Arc;

use client::events::EventType;
use cron::{Clock, Schedule, zone};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::workloads::job::ended;

/// On a Job: when it was to be made. Those that people make of a `CronJob` by hand have none.
pub(super) const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// A Job is to be made for this time.
    pub(super) create: Option<Timestamp>,
    /// Jobs that are to go.
    pub(super) delete: Vec<Arc<Job>>,
    /// The status as it is to be, before a Job is made.
    pub(super) status: Value,
    /// What people are told: kind, reason, text.
    pub(super) events: Vec<(EventType, &'static str, String)>,
    /// How long until the next time.
    pub(super) wait: Option<SignedDuration>,
}

/// What the Job for a time is called.
pub(super) fn name(cron: &CronJob, at: Timestamp) -> String {
    format!("{}-{}", cron.name_any(), at.as_second().div_euclid(60))
}

/// How a status names a Job.
pub(super) fn reference(job: &Job) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "namespace": job.namespace(), "name": job.name_any(),
        "uid": job.uid(), "resourceVersion": job.resource_version(),
    })
}

fn has(job: &Job, kind: &str) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|one| one.type_ == kind && one.status == "True")
}

/// A time as people in the zone of a `CronJob` write it.
pub(super) fn local(cron: &CronJob, at: Timestamp) -> Result<String, String> {
    let zone = zone::load(cron.spec.time_zone.as_deref().unwrap_or_default())?;
    let text = at.to_zoned(zone).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    Ok(text.replace("+00:00", "Z"))
}

/// The times of a schedule; what is told of one that names its zone itself, and of one that cannot be followed.
fn clock(cron: &CronJob, now: Timestamp, plan: &mut Plan) -> Option<Clock> {
    let (text, mut tell) =
        (&cron.spec.schedule, |reason, text| plan.events.push((EventType::Warning, reason, text)));
    if text.contains("TZ") {
        let said = format!(
            "CRON_TZ or TZ used in schedule {text:?} is not officially supported, see \
             https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
        );
        tell("UnsupportedSchedule", said);
    }
    let read = Schedule::parse(text).and_then(|schedule| schedule.clock(cron.spec.time_zone.as_deref()));
    match read {
        Err(why) => tell("UnparseableSchedule", format!("unparseable schedule: {text:?} : {why}")),
        Ok(clock) if clock.next(now).is_some() => return Some(clock),
        // One that names no time at all, as the 30th of February.
        Ok(_) => tell(
            "InvalidSchedule",
            format!("invalid schedule: {text} : time difference between two schedules is less than 1 second"),
        ),
    }
    None
}

/// What is next.
pub(super) fn plan(cron: &CronJob, mine: &[Arc<Job>], now: Timestamp) -> Plan {
    let spec = &cron.spec;
    let mut plan = Plan::default();
    let running = history(cron, mine, &mut plan);
    if let Some(name) = &spec.time_zone
        && let Err(why) = zone::load(name)
    {
        let text = format!("invalid timeZone: {name:?}: {why}");
        plan.events.push((EventType::Warning, "UnknownTimeZone", text));
        return plan;
    }
    if spec.suspend == Some(true) {
        return plan;
    }
    let Some(schedule) = clock(cron, now, &mut plan) else { return plan };
    let last = cron.status.as_ref().and_then(|status| status.last_schedule_time.as_ref());
    let since = last.or(cron.metadata.creation_timestamp.as_ref()).map_or(now, |at| at.0);
    // What comes every so often comes so long after its last time, not after each look.
    let last = schedule.missed(since, now).map(|(at, _)| at);
    // A moment later, so that it has come by then.
    plan.wait = schedule
        .next(last.unwrap_or(since))
        .map(|next| next.duration_since(now).max(SignedDuration::ZERO) + SignedDuration::from_millis(100));
    let deadline = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
    let least = deadline.and_then(|deadline| now.checked_sub(deadline).ok()).unwrap_or(Timestamp::MIN);
    let Some(at) = last.filter(|at| *at > least) else { return plan };
    if schedule.missed(since.max(least), now).is_some_and(|(_, missed)| missed > 100) {
        let text =
            "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        plan.events.push((EventType::Warning, "TooManyMissedTimes", text.into()));
    }
    if mine.iter().any(|job| job.name_any() == name(cron, at)) {
        // It was made, and the status does not say so yet.
        plan.status["lastScheduleTime"] = json!(at.to_string());
        return plan;
    }
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !running.is_empty() => {
            let text = "Not starting job because prior execution is running and concurrency policy is Forbid";
            plan.events.push((EventType::Normal, "JobAlreadyActive", text.into()));
            return plan;
        }
        Some("Replace") => {
            plan.delete.extend(running);
            plan.status["active"] = json!([]);
        }
        _ => {}
    }
    plan.create = Some(at);
    plan
}

/// Jobs that have ended are told, and kept as many of as is asked for. Those that run are returned; one that people have made by hand
/// is not among them: it holds nothing up, and is replaced by nothing.
fn history(cron: &CronJob, mine: &[Arc<Job>], plan: &mut Plan) -> Vec<Arc<Job>> {
    let spec = &cron.spec;
    let old = cron.status.clone().unwrap_or_default();
    for known in old.active.iter().flatten() {
        let name = known.name.clone().unwrap_or_default();
        match mine.iter().find(|job| job.uid() == known.uid) {
            Some(job) if ended(job).is_some() => {
                let end = if has(job, "Complete") { "Complete" } else { "Failed" };
                let text = format!("Saw completed job: {name}, condition: {end}");
                plan.events.push((EventType::Normal, "SawCompletedJob", text));
            }
            Some(_) => {}
            None => plan.events.push((
                EventType::Normal,
                "MissingJob",
                format!("Active job went missing: {name}"),
            )),
        }
    }
    let known = |job: &Job| old.active.iter().flatten().find(|known| known.uid == job.metadata.uid);
    let running = mine.iter().filter(|job| ended(job).is_none()).cloned();
    let (running, others): (Vec<_>, Vec<_>) =
        running.partition(|job| known(job).is_some() || job.annotations().contains_key(SCHEDULED));
    for job in others {
        let text = format!("Saw a job that the controller did not create or forgot: {}", job.name_any());
        plan.events.push((EventType::Warning, "UnexpectedJob", text));
    }
    let active: Vec<Value> =
        running.iter().map(|job| known(job).map_or_else(|| reference(job), |known| json!(known))).collect();
    plan.status = json!({"active": active});
    let done = |job: &Arc<Job>| {
        has(job, "Complete").then(|| job.status.as_ref()?.completion_time.as_ref().map(|at| at.0))
    };
    let last = mine.iter().filter_map(done).flatten().max();
    let last = last.max(old.last_successful_time.as_ref().map(|at| at.0));
    if let Some(last) = last {
        plan.status["lastSuccessfulTime"] = json!(last.to_string());
    }
    for (kind, limit) in
        [("Complete", spec.successful_jobs_history_limit), ("Failed", spec.failed_jobs_history_limit)]
    {
        let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { continue };
        let mut over: Vec<Arc<Job>> = mine.iter().filter(|job| has(job, kind)).cloned().collect();
        over.sort_by_key(|job| {
            let began = job.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|at| at.0);
            // One that never began is the last.
            (began.is_none(), began, job.name_any())
        });
        over.truncate(over.len().saturating_sub(limit));
        plan.delete.extend(over);
    }
    running
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn cron(spec: Value, status: Value) -> CronJob {
        let mut whole = json!({"schedule": "*/5 * * * *", "jobTemplate": {}});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let metadata = json!({"name": "c", "uid": "c", "creationTimestamp": "2026-01-01T00:00:00Z"});
        serde_json::from_value(json!({"metadata": metadata, "spec": whole, "status": status})).unwrap()
    }

    fn job(name: &str, end: Option<&str>) -> Arc<Job> {
        let ended = end.map(
            |end| json!([{"type": end, "status": "True", "lastTransitionTime": "2026-01-01T00:06:00Z"}]),
        );
        let status = json!({"conditions": ended, "startTime": "2026-01-01T00:05:00Z", "completionTime": "2026-01-01T00:06:00Z"});
        let metadata = json!({"name": name, "uid": name, "annotations": {SCHEDULED: "2026-01-01T00:05:00Z"}});
        Arc::new(serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap())
    }

    fn next(cron: &CronJob, mine: &[Arc<Job>], now: &str) -> Plan {
        plan(cron, mine, at(now))
    }

    #[test]
    fn a_job_is_made_at_its_time_and_once() {
        let it = cron(json!({}), json!({}));
        let early = next(&it, &[], "2026-01-01T00:04:59Z");
        assert_eq!((early.create, early.wait), (None, Some(SignedDuration::from_millis(1100))));
        let then = at("2026-01-01T00:05:00Z");
        assert_eq!(next(&it, &[], "2026-01-01T00:05:01Z").create, Some(then));
        let made = job(&name(&it, then), None);
        let again = next(&it, &[made], "2026-01-01T00:05:01Z");
        assert_eq!((again.create, &again.status["lastScheduleTime"]), (None, &json!("2026-01-01T00:05:00Z")));
        let told = cron(json!({}), json!({"lastScheduleTime": "2026-01-01T00:05:00Z"}));
        assert_eq!(next(&told, &[], "2026-01-01T00:05:01Z").create, None);
        let late = cron(json!({"startingDeadlineSeconds": 10}), json!({}));
        assert_eq!(next(&late, &[], "2026-01-01T00:06:01Z").create, None);
        assert_eq!(
            next(&cron(json!({"suspend": true}), json!({})), &[], "2026-01-01T00:06:01Z").create,
            None
        );
    }

    #[test]
    fn what_comes_every_so_often_comes_so_long_after_its_last_time() {
        let look = |mut spec: Value, now: &str| {
            spec["schedule"] = json!("@every 1h");
            let plan = next(&cron(spec, json!({"lastScheduleTime": "2026-01-01T00:00:00Z"})), &[], now);
            (plan.create, plan.wait.unwrap().as_millis())
        };
        // However often it is looked at meanwhile.
        assert_eq!(look(json!({}), "2026-01-01T00:20:00Z"), (None, 40 * 60_000 + 100));
        assert_eq!(look(json!({}), "2026-01-01T00:59:59Z"), (None, 1100));
        // A deadline that is shorter than the time between two of them.
        let deadline = json!({"startingDeadlineSeconds": 100});
        let then = at("2026-01-01T01:00:00Z");
        assert_eq!(look(deadline.clone(), "2026-01-01T01:00:01Z"), (Some(then), 3_599_100));
        assert_eq!(look(deadline, "2026-01-01T01:02:00Z").0, None);
    }

    #[test]
    fn too_many_missed_times_are_told_within_the_deadline() {
        let told = |spec: Value| {
            let plan = next(&cron(spec, json!({})), &[], "2026-01-02T00:00:01Z");
            (plan.create, plan.events.iter().any(|(_, reason, _)| *reason == "TooManyMissedTimes"))
        };
        let then = at("2026-01-02T00:00:00Z");
        assert_eq!(told(json!({})), (Some(then), true));
        assert_eq!(told(json!({"startingDeadlineSeconds": 3600})), (Some(then), false));
    }

    #[test]
    fn what_runs_is_let_run_or_replaced_as_it_is_asked_for() {
        let running = [job("old", None)];
        let with = |policy: &str| {
            next(&cron(json!({"concurrencyPolicy": policy}), json!({})), &running, "2026-01-01T00:10:01Z")
        };
        assert!(with("Allow").create.is_some() && with("Allow").delete.is_empty());
        assert_eq!((with("Forbid").create, with("Forbid").events[0].1), (None, "JobAlreadyActive"));
        assert!(with("Replace").create.is_some() && with("Replace").delete.len() == 1);
    }

    #[test]
    fn the_history_has_its_limits() {
        let spec = json!({"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0, "suspend": true});
        let mine = [
            job("a", Some("Complete")),
            job("b", Some("Complete")),
            job("x", Some("Failed")),
            job("r", None),
        ];
        let status = json!({"active": [{"name": "b", "uid": "b"}, {"name": "r", "uid": "r"}]});
        let plan = next(&cron(spec, status), &mine, "2026-01-01T00:10:01Z");
        let names: Vec<_> = plan.delete.iter().map(|job| job.name_any()).collect();
        assert_eq!(names, ["a", "x"]);
        assert_eq!(plan.events[0].2, "Saw completed job: b, condition: Complete");
        assert_eq!(plan.status["lastSuccessfulTime"], "2026-01-01T00:06:00Z");
        assert_eq!(plan.status["active"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn what_people_make_by_hand_holds_nothing_up() {
        let mut by_hand = (*job("mine", None)).clone();
        by_hand.metadata.annotations = None;
        for policy in ["Forbid", "Replace"] {
            let it = cron(json!({"concurrencyPolicy": policy}), json!({}));
            let plan = next(&it, &[Arc::new(by_hand.clone())], "2026-01-01T00:10:01Z");
            assert!(plan.create.is_some() && plan.delete.is_empty(), "{policy}");
            assert_eq!(plan.events[0].2, "Saw a job that the controller did not create or forgot: mine");
        }
    }

    #[test]
    fn a_schedule_that_cannot_be_followed_is_told() {
        let told = |spec: Value| {
            let plan = next(&cron(spec, json!({})), &[], "2026-01-01T00:10:01Z");
            assert_eq!(plan.create, None);
            plan.events.into_iter().map(|(_, reason, text)| (reason, text)).collect::<Vec<_>>()
        };
        let one = |reason, text: &str| vec![(reason, text.to_owned())];
        assert_eq!(
            told(json!({"timeZone": "Nowhere/Land"})),
            one("UnknownTimeZone", "invalid timeZone: \"Nowhere/Land\": unknown time zone Nowhere/Land")
        );
        assert_eq!(
            told(json!({"schedule": "* * *"})),
            one(
                "UnparseableSchedule",
                "unparseable schedule: \"* * *\" : expected exactly 5 fields, found 3: [* * *]"
            )
        );
        let said =
            "invalid schedule: 0 0 30 2 * : time difference between two schedules is less than 1 second";
        assert_eq!(told(json!({"schedule": "0 0 30 2 *"})), one("InvalidSchedule", said));
        let it = cron(json!({"schedule": "TZ=UTC */5 * * * *"}), json!({}));
        let plan = next(&it, &[], "2026-01-01T00:10:01Z");
        assert!(plan.create.is_some() && plan.events[0].1 == "UnsupportedSchedule");
    }
}
