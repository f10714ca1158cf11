//! When and where a process runs: scheduler, I/O priority, CPUs, memory nodes; and its execution domain.

use kernel::schedule::{Attributes, IoClass};

use super::ids;
use crate::Result;
use crate::contract::{
    IoPriority, IoPriorityClass, Linux, MemoryPolicy, MemoryPolicyFlag, MemoryPolicyMode, Personality,
    PersonalityDomain, Process, Scheduler, SchedulerFlag, SchedulerPolicy,
};

/// All of it, in the kernel's terms.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    pub(crate) scheduler: Option<Attributes>,
    pub(crate) io: Option<(IoClass, u8)>,
    /// The mode with its flags, and the nodes.
    pub(crate) memory: Option<(i32, Vec<u64>)>,
    pub(crate) personality: Option<u32>,
    /// The CPUs the parent runs on around the clone; none leaves its own.
    pub(crate) first_cpus: Option<Vec<u64>>,
    /// The CPUs once the process is in its cgroup; none leaves them to the kernel.
    pub(crate) cpus: Option<Vec<u64>>,
}

/// Plans what `process` and `linux` ask for. `joins`: the process joins a container, which alone has wishes about CPUs.
pub(super) fn plan(process: &Process, linux: &Linux, joins: bool) -> Result<Schedule> {
    let affinity = process.exec_cpu_affinity.as_ref().filter(|_| joins);
    let cpus = |list: &str, name: &str| {
        let words = ids::mask(list, &format!("process.execCPUAffinity.{name}"))?;
        Ok::<_, crate::Error>((!words.is_empty()).then_some(words))
    };
    let first_cpus = affinity.map_or(Ok(None), |a| cpus(&a.initial, "initial"))?;
    let last_cpus = affinity.map_or(Ok(None), |a| cpus(&a.last, "final"))?;
    Ok(Schedule {
        scheduler: process.scheduler.as_ref().map(scheduler),
        io: process.io_priority.map(io),
        memory: linux.memory_policy.as_ref().map(memory).transpose()?,
        personality: linux.personality.as_ref().map(personality),
        // With no wish at all, the CPUs that somebody bound this process to are not the container's.
        cpus: if first_cpus.is_none() { last_cpus.or_else(|| Some(vec![u64::MAX; 128])) } else { last_cpus },
        first_cpus,
    })
}

fn scheduler(given: &Scheduler) -> Attributes {
    let policy = match given.policy {
        SchedulerPolicy::SchedOther => 0,
        SchedulerPolicy::SchedFifo => 1,
        SchedulerPolicy::SchedRr => 2,
        SchedulerPolicy::SchedBatch => 3,
        SchedulerPolicy::SchedIso => 4,
        SchedulerPolicy::SchedIdle => 5,
        SchedulerPolicy::SchedDeadline => 6,
    };
    let flag = |flag: &SchedulerFlag| match flag {
        SchedulerFlag::SchedFlagResetOnFork => 0x01,
        SchedulerFlag::SchedFlagReclaim => 0x02,
        SchedulerFlag::SchedFlagDlOverrun => 0x04,
        SchedulerFlag::SchedFlagKeepPolicy => 0x08,
        SchedulerFlag::SchedFlagKeepParams => 0x10,
        SchedulerFlag::SchedFlagUtilClampMin => 0x20,
        SchedulerFlag::SchedFlagUtilClampMax => 0x40,
    };
    Attributes {
        policy,
        flags: given.flags.iter().map(flag).fold(0, |all, one| all | one),
        nice: given.nice,
        priority: given.priority.max(0).cast_unsigned(),
        runtime: given.runtime,
        deadline: given.deadline,
        period: given.period,
        ..Attributes::default()
    }
}

fn io(given: IoPriority) -> (IoClass, u8) {
    let class = match given.class {
        IoPriorityClass::IoprioClassRt => IoClass::RealTime,
        IoPriorityClass::IoprioClassBe => IoClass::BestEffort,
        IoPriorityClass::IoprioClassIdle => IoClass::Idle,
    };
    (class, given.priority.clamp(0, 7) as u8)
}

fn memory(given: &MemoryPolicy) -> Result<(i32, Vec<u64>)> {
    let mode = match given.mode {
        MemoryPolicyMode::MpolDefault => 0,
        MemoryPolicyMode::MpolPreferred => 1,
        MemoryPolicyMode::MpolBind => 2,
        MemoryPolicyMode::MpolInterleave => 3,
        MemoryPolicyMode::MpolLocal => 4,
        MemoryPolicyMode::MpolPreferredMany => 5,
        MemoryPolicyMode::MpolWeightedInterleave => 6,
    };
    let flag = |flag: &MemoryPolicyFlag| match flag {
        MemoryPolicyFlag::NumaBalancing => 1 << 13,
        MemoryPolicyFlag::RelativeNodes => 1 << 14,
        MemoryPolicyFlag::StaticNodes => 1 << 15,
    };
    let flags = given.flags.iter().map(flag).fold(0, |all, one| all | one);
    Ok((mode | flags, ids::mask(&given.nodes, "linux.memoryPolicy.nodes")?))
}

fn personality(given: &Personality) -> u32 {
    match given.domain {
        PersonalityDomain::Linux => 0x0,
        PersonalityDomain::Linux32 => 0x8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::CpuAffinity;

    #[test]
    fn wishes_become_words_of_the_kernel() {
        let process = Process {
            scheduler: Some(Scheduler {
                policy: SchedulerPolicy::SchedDeadline,
                nice: 0,
                priority: 0,
                flags: vec![SchedulerFlag::SchedFlagReclaim, SchedulerFlag::SchedFlagDlOverrun],
                runtime: 1,
                deadline: 2,
                period: 3,
            }),
            io_priority: Some(IoPriority { class: IoPriorityClass::IoprioClassIdle, priority: 4 }),
            exec_cpu_affinity: Some(CpuAffinity { initial: "1".into(), last: "0-1".into() }),
            ..Process::default()
        };
        let linux = Linux {
            memory_policy: Some(MemoryPolicy {
                mode: MemoryPolicyMode::MpolInterleave,
                nodes: "0,2".into(),
                flags: vec![MemoryPolicyFlag::StaticNodes],
            }),
            personality: Some(Personality { domain: PersonalityDomain::Linux32, flags: vec![] }),
            ..Linux::default()
        };
        let schedule = plan(&process, &linux, true).unwrap();
        let attributes = schedule.scheduler.unwrap();
        assert_eq!((attributes.policy, attributes.flags), (6, 6));
        assert_eq!((attributes.runtime, attributes.deadline, attributes.period), (1, 2, 3));
        assert_eq!(schedule.io, Some((IoClass::Idle, 4)));
        assert_eq!(schedule.memory, Some((3 | 1 << 15, vec![5])));
        assert_eq!(schedule.personality, Some(8));
        assert_eq!((schedule.first_cpus, schedule.cpus), (Some(vec![2]), Some(vec![3])));
    }

    #[test]
    fn cpus_of_an_exec_are_not_those_of_the_first_process() {
        let process = Process {
            exec_cpu_affinity: Some(CpuAffinity { initial: "1".into(), last: String::new() }),
            ..Process::default()
        };
        let first = plan(&process, &Linux::default(), false).unwrap();
        assert_eq!((first.first_cpus, first.cpus.map(|c| c.len())), (None, Some(128)));
        // Given an initial set alone, what comes after is the kernel's business.
        let joins = plan(&process, &Linux::default(), true).unwrap();
        assert_eq!((joins.first_cpus, joins.cpus), (Some(vec![2]), None));
    }
}
