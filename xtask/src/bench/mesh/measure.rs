//! What processes have used, and what they hold.

use crate::Result;
use crate::bench::pods::pss;

/// A process and all that it has started, its children's children with them.
pub(super) fn family(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<u32> = children
        .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        .collect();
    std::iter::once(pid).chain(children.into_iter().flat_map(family)).collect()
}

/// Nanoseconds that all threads of these processes have run, in the kernel and outside.
pub(super) fn cpu(pids: &[u32]) -> std::io::Result<u64> {
    let mut sum = 0;
    for pid in pids {
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread that has just ended has no file any more.
            let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
            let ran = text.split(' ').next().and_then(|ran| ran.trim().parse::<u64>().ok());
            sum += ran.ok_or_else(|| std::io::Error::other("schedstat has no time"))?;
        }
    }
    Ok(sum)
}

/// What these processes hold, in thousands of bytes; a page that others have, too, is shared among those who have it.
pub(super) fn memory(pids: &[u32]) -> Result<f64> {
    let held = pids.iter().map(|pid| pss(*pid)).sum::<Result<u64>>()?;
    Ok(held as f64 * 1.024)
}
