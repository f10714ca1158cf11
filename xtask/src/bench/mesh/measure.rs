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

/// A tick of the clock that `/proc/PID/stat` counts in (`USER_HZ`, which is 100 wherever Sextant runs), in nanoseconds.
const TICK: u64 = 10_000_000;
/// Where in `/proc/PID/stat` the time outside the kernel is, counted from the state, which is behind the name (proc_pid_stat(5)).
const USER: usize = 11;

/// Nanoseconds that processes have run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Used {
    /// In the kernel and outside, of all threads that there are.
    pub(super) all: u64,
    /// Outside, as the kernel tells it: it looks at each of its ticks where a thread is, and tells what came of that in steps of [`TICK`].
    pub(super) user: u64,
}

impl Used {
    /// What was used since then.
    pub(super) fn since(self, before: Self) -> Self {
        Self { all: self.all.saturating_sub(before.all), user: self.user.saturating_sub(before.user) }
    }
}

/// What these processes have run until now.
pub(super) fn used(pids: &[u32]) -> std::io::Result<Used> {
    let mut sum = Used { all: 0, user: 0 };
    for pid in pids {
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread that has just ended has no file any more.
            let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
            let ran = text.split(' ').next().and_then(|ran| ran.trim().parse::<u64>().ok());
            sum.all += ran.ok_or_else(|| std::io::Error::other("schedstat has no time"))?;
        }
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let ticks =
            user_ticks(&text).ok_or_else(|| std::io::Error::other("stat has no time in user space"))?;
        sum.user += ticks * TICK;
    }
    Ok(sum)
}

/// The time outside the kernel that is in `/proc/PID/stat`. A program's name may have anything in it, parentheses as well.
fn user_ticks(stat: &str) -> Option<u64> {
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_ascii_whitespace().nth(USER)?.parse().ok()
}

/// What these processes hold, in thousands of bytes; a page that others have, too, is shared among those who have it.
pub(super) fn memory(pids: &[u32]) -> Result<f64> {
    let held = pids.iter().map(|pid| pss(*pid)).sum::<Result<u64>>()?;
    Ok(held as f64 * 1.024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_user_space_is_found_behind_any_name() {
        let stat =
            |name: &str| format!("7 ({name}) S 1 7 7 0 -1 4194560 100 0 1 0 4321 1234 5 6 20 0 3 0 99\n");
        for name in ["nginx", "a (b) c", ") R 1 2"] {
            assert_eq!(user_ticks(&stat(name)), Some(4321), "{name}");
        }
        assert_eq!(user_ticks("7 (nginx) S 1 7"), None);
        assert_eq!(user_ticks(""), None);
    }

    #[test]
    fn this_process_has_run() {
        assert!(used(&[std::process::id()]).unwrap().all > 0);
        // No process has this number.
        assert!(used(&[u32::MAX]).is_err());
    }
}
