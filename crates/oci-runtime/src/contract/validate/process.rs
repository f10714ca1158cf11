//! Rules for a process.

use super::super::{Process, Scheduler, SchedulerPolicy};
use super::{Verdict, absolute, broken, id_list, text};

/// Checks a process that is to run; `field` is where it stands.
pub(super) fn check(process: &Process, field: &str) -> Verdict {
    let at = |name: &str| format!("{field}.{name}");
    if process.args.first().is_none_or(String::is_empty) {
        return Err(broken(&at("args"), &process.args, "must have an entry, the program; name it"));
    }
    absolute(&at("cwd"), &process.cwd)?;
    for (name, values) in [("args", &process.args), ("env", &process.env)] {
        for (i, value) in values.iter().enumerate() {
            text(&at(&format!("{name}[{i}]")), value)?;
        }
    }
    for (name, value) in
        [("apparmorProfile", &process.apparmor_profile), ("selinuxLabel", &process.selinux_label)]
    {
        text(&at(name), value)?;
    }
    ids(process, field)?;
    rlimits(process, field)?;
    if process.oom_score_adj.is_some_and(|adj| !(-1000..=1000).contains(&adj)) {
        return Err(broken(&at("oomScoreAdj"), &process.oom_score_adj, "must be from -1000 to 1000"));
    }
    if let Some(scheduler) = &process.scheduler {
        check_scheduler(scheduler, &at("scheduler"))?;
    }
    if let Some(io) = process.io_priority.filter(|io| !(0..=7).contains(&io.priority)) {
        return Err(broken(&at("ioPriority.priority"), &io.priority, "must be from 0 (first) to 7"));
    }
    if let Some(affinity) = &process.exec_cpu_affinity {
        id_list(&at("execCPUAffinity.initial"), &affinity.initial)?;
        id_list(&at("execCPUAffinity.final"), &affinity.last)?;
    }
    Ok(())
}

/// The id -1 means "leave it" to the kernel, so nobody has it.
fn ids(process: &Process, field: &str) -> Verdict {
    let user = &process.user;
    let named = [("uid", user.uid), ("gid", user.gid)];
    let more = user.additional_gids.iter().map(|gid| ("additionalGids", *gid));
    for (name, id) in named.into_iter().chain(more) {
        if id == u32::MAX {
            return Err(broken(&format!("{field}.user.{name}"), &id, "is no id; the last one is 4294967294"));
        }
    }
    if user.umask.is_some_and(|umask| umask > 0o777) {
        let rule = "must be at most 511 (octal 777); a umask is written in decimal";
        return Err(broken(&format!("{field}.user.umask"), &user.umask, rule));
    }
    if user.additional_gids.len() > 65536 {
        let rule = "the kernel takes 65536 groups; remove some";
        return Err(broken(&format!("{field}.user.additionalGids"), &user.additional_gids.len(), rule));
    }
    Ok(())
}

fn rlimits(process: &Process, field: &str) -> Verdict {
    for (i, limit) in process.rlimits.iter().enumerate() {
        let at = format!("{field}.rlimits[{i}]");
        if process.rlimits[..i].iter().any(|other| other.kind == limit.kind) {
            return Err(broken(&format!("{at}.type"), &limit.kind, "is listed twice; remove one of them"));
        }
        if limit.soft > limit.hard {
            let rule = format!("must not exceed the hard limit, {}; lower it or raise that", limit.hard);
            return Err(broken(&format!("{at}.soft"), &limit.soft, rule));
        }
    }
    Ok(())
}

fn check_scheduler(scheduler: &Scheduler, field: &str) -> Verdict {
    let at = |name: &str| format!("{field}.{name}");
    let real_time = matches!(scheduler.policy, SchedulerPolicy::SchedFifo | SchedulerPolicy::SchedRr);
    if !(-20..=19).contains(&scheduler.nice) {
        return Err(broken(&at("nice"), &scheduler.nice, "must be from -20 to 19"));
    }
    if scheduler.priority != 0 && !real_time {
        let rule = "only SCHED_FIFO and SCHED_RR have a priority; remove it or change the policy";
        return Err(broken(&at("priority"), &scheduler.priority, rule));
    }
    if real_time && !(1..=99).contains(&scheduler.priority) {
        return Err(broken(&at("priority"), &scheduler.priority, "must be from 1 to 99 for this policy"));
    }
    let times = [scheduler.runtime, scheduler.deadline, scheduler.period];
    if scheduler.policy != SchedulerPolicy::SchedDeadline {
        for (name, time) in ["runtime", "deadline", "period"].into_iter().zip(times) {
            if time != 0 {
                let rule = "only SCHED_DEADLINE has it; remove it or change the policy";
                return Err(broken(&at(name), &time, rule));
            }
        }
    } else if scheduler.runtime == 0 || scheduler.runtime > scheduler.deadline {
        let rule = "SCHED_DEADLINE needs 0 < runtime <= deadline <= period; change them";
        return Err(broken(&at("runtime"), &scheduler.runtime, rule));
    }
    if scheduler.policy == SchedulerPolicy::SchedIso {
        return Err(broken(&at("policy"), &scheduler.policy, "Linux never had it; use another policy"));
    }
    Ok(())
}
