//! When and where the program runs, told to the kernel while the rights for it are still there.

use kernel::schedule::{set_affinity, set_attributes, set_io_priority, set_memory_policy, set_personality};
use rustix::io::Errno;

use super::report::{At, Failure, Step};
use crate::plan::Schedule;

/// For a process in its cgroup, whose CPUs and memory nodes bound what may be asked for.
pub(super) fn cpus(schedule: &Schedule) -> Result<(), Failure> {
    match &schedule.cpus {
        None => Ok(()),
        Some(cpus) => match set_affinity(cpus) {
            // All CPUs are nobody's wish: a process that may not ask keeps those it has.
            Err(Errno::PERM | Errno::ACCESS) if cpus.iter().all(|&word| word == u64::MAX) => Ok(()),
            other => other.at(Step::Affinity, 0),
        },
    }
}

/// For a process that leads its group.
pub(super) fn apply(schedule: &Schedule) -> Result<(), Failure> {
    if let Some(attributes) = &schedule.scheduler {
        set_attributes(attributes).at(Step::Scheduler, 0)?;
    }
    if let Some((class, priority)) = schedule.io {
        set_io_priority(class, priority).at(Step::IoPriority, 0)?;
    }
    if let Some((mode, nodes)) = &schedule.memory {
        set_memory_policy(*mode, nodes).at(Step::MemoryPolicy, 0)?;
    }
    if let Some(domain) = schedule.personality {
        set_personality(domain).at(Step::Personality, 0)?;
    }
    Ok(())
}
