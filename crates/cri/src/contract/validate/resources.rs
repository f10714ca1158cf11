//! Limits.

use std::collections::BTreeSet;

use super::reading::{is_cgroup_file, is_cpuset, is_page_size};
use super::text::{Verdict, plain, shown};
use super::{Error, Validate};
use crate::contract::v1::LinuxContainerResources;

/// A field, its number, what is right, and what to give.
type Rule<'r> = (&'r str, i64, fn(i64) -> bool, &'r str);

impl Validate for LinuxContainerResources {
    fn validate(&self) -> Verdict {
        self.check_numbers()?;
        for (field, set) in [("cpuset_cpus", &self.cpuset_cpus), ("cpuset_mems", &self.cpuset_mems)] {
            if !set.is_empty() && !is_cpuset(set) {
                let rule = format!("{} is no set; write numbers and ranges as in 0-3,7", shown(set));
                return Err(Error::invalid(field, rule));
            }
        }
        self.check_hugepages()?;
        for (file, value) in &self.unified {
            if !is_cgroup_file(file) {
                let rule = format!("{} is no file of cgroup v2; write it as in memory.high", shown(file));
                return Err(Error::invalid("unified", rule));
            }
            plain(&format!("unified[{file:?}]"), value)?;
        }
        Ok(())
    }
}

impl LinuxContainerResources {
    fn check_numbers(&self) -> Verdict {
        let rules: [Rule<'_>; 6] = [
            (
                "cpu_period",
                self.cpu_period,
                |n| n == 0 || (1_000..=1_000_000).contains(&n),
                "1000 to 1000000, in microseconds",
            ),
            (
                "cpu_quota",
                self.cpu_quota,
                |n| n == -1 || n == 0 || n >= 1_000,
                "1000 or more, in microseconds, or -1 for no limit",
            ),
            ("cpu_shares", self.cpu_shares, |n| (0..=262_144).contains(&n), "2 to 262144"),
            ("memory_limit_in_bytes", self.memory_limit_in_bytes, |n| n >= -1, "bytes, or -1 for no limit"),
            (
                "memory_swap_limit_in_bytes",
                self.memory_swap_limit_in_bytes,
                |n| n >= -1,
                "bytes, or -1 for no limit",
            ),
            ("oom_score_adj", self.oom_score_adj, |n| (-1000..=1000).contains(&n), "-1000 to 1000"),
        ];
        if let Some((field, number, _, rule)) =
            rules.into_iter().find(|(_, number, is_right, _)| !is_right(*number))
        {
            return Err(Error::invalid(field, format!("{number} is out of range; give {rule}")));
        }
        let (memory, both) = (self.memory_limit_in_bytes, self.memory_swap_limit_in_bytes);
        if memory > 0 && both > 0 && both < memory {
            let rule = format!(
                "{both} is less than memory_limit_in_bytes, {memory}; it is for memory and swap together"
            );
            return Err(Error::invalid("memory_swap_limit_in_bytes", rule));
        }
        Ok(())
    }

    fn check_hugepages(&self) -> Verdict {
        let mut sizes = BTreeSet::new();
        for (at, limit) in self.hugepage_limits.iter().enumerate() {
            let field = || format!("hugepage_limits[{at}].page_size");
            if !is_page_size(&limit.page_size) {
                let rule = format!("{} is no size; write it as in 2MB", shown(&limit.page_size));
                return Err(Error::invalid(field(), rule));
            }
            if !sizes.insert(&limit.page_size) {
                let rule = format!("{} has a limit already; give one", shown(&limit.page_size));
                return Err(Error::invalid(field(), rule));
            }
        }
        Ok(())
    }
}
