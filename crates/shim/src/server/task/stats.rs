//! What a container uses, as containerd's clients read it.

use kernel::cgroup::{Cgroup, Layout, layout};
use prost::Message;

use super::super::Server;
use super::super::connection::Refusal;
use crate::protocol::Code;
use crate::protocol::metrics::{v1, v2};
use crate::protocol::task::{Any, TaskStats};

impl Server {
    pub(super) fn task_stats(&self, id: &str) -> Result<TaskStats, Refusal> {
        let container = self.container(id)?;
        let cgroup = container.place.cgroup().ok_or_else(|| {
            Refusal::new(Code::FailedPrecondition, "the container has no cgroup of its own")
        })?;
        let (kind, value) = match layout().map_err(Refusal::internal)? {
            Layout::Unified => ("io.containerd.cgroups.v2.Metrics", of_v2(cgroup).encode_to_vec()),
            _ => ("io.containerd.cgroups.v1.Metrics", of_v1(cgroup).encode_to_vec()),
        };
        Ok(TaskStats { stats: Some(Any { type_url: kind.to_owned(), value }) })
    }
}

/// A file with one number; "max" is the largest.
fn number(cgroup: &Cgroup, file: &str) -> u64 {
    let text = cgroup.read(file).unwrap_or_default();
    if text.trim() == "max" { u64::MAX } else { text.trim().parse().unwrap_or(0) }
}

/// A file of lines, each a name and a number.
struct Keyed(String);

impl Keyed {
    fn read(cgroup: &Cgroup, file: &str) -> Self {
        Self(cgroup.read(file).unwrap_or_default())
    }

    fn get(&self, key: &str) -> u64 {
        let of = |line: &str| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok();
        self.0.lines().find_map(of).unwrap_or(0)
    }
}

fn pids(cgroup: &Cgroup) -> v1::Pids {
    let limit = number(cgroup, "pids.max");
    v1::Pids { current: number(cgroup, "pids.current"), limit: if limit == u64::MAX { 0 } else { limit } }
}

fn of_v1(cgroup: &Cgroup) -> v1::Metrics {
    let list = cgroup.read("cpuacct.usage_percpu").unwrap_or_default();
    let (time, cpu) = (Keyed::read(cgroup, "cpuacct.stat"), Keyed::read(cgroup, "cpu.stat"));
    // The kernel tells them in hundredths of a second.
    const TICK: u64 = 10_000_000;
    let entry = |name: &str| v1::Entry {
        limit: number(cgroup, &format!("memory.{name}limit_in_bytes")),
        usage: number(cgroup, &format!("memory.{name}usage_in_bytes")),
        max: number(cgroup, &format!("memory.{name}max_usage_in_bytes")),
        failcnt: number(cgroup, &format!("memory.{name}failcnt")),
    };
    let (memory, oom) = (Keyed::read(cgroup, "memory.stat"), Keyed::read(cgroup, "memory.oom_control"));
    v1::Metrics {
        pids: Some(pids(cgroup)),
        cpu: Some(v1::Cpu {
            usage: Some(v1::CpuUsage {
                total: number(cgroup, "cpuacct.usage"),
                kernel: time.get("system") * TICK,
                user: time.get("user") * TICK,
                per_cpu: list.split_whitespace().filter_map(|n| n.parse().ok()).collect(),
            }),
            throttling: Some(v1::Throttling {
                periods: cpu.get("nr_periods"),
                throttled_periods: cpu.get("nr_throttled"),
                throttled_time: cpu.get("throttled_time"),
            }),
        }),
        memory: Some(v1::Memory {
            cache: memory.get("cache"),
            rss: memory.get("rss"),
            mapped_file: memory.get("mapped_file"),
            pg_fault: memory.get("pgfault"),
            pg_maj_fault: memory.get("pgmajfault"),
            hierarchical_memory_limit: memory.get("hierarchical_memory_limit"),
            total_cache: memory.get("total_cache"),
            total_rss: memory.get("total_rss"),
            total_pg_fault: memory.get("total_pgfault"),
            total_pg_maj_fault: memory.get("total_pgmajfault"),
            total_inactive_anon: memory.get("total_inactive_anon"),
            total_active_anon: memory.get("total_active_anon"),
            total_inactive_file: memory.get("total_inactive_file"),
            total_active_file: memory.get("total_active_file"),
            usage: Some(entry("")),
            swap: Some(entry("memsw.")),
            kernel: Some(entry("kmem.")),
        }),
        oom: Some(v1::Oom {
            oom_kill_disable: oom.get("oom_kill_disable"),
            under_oom: oom.get("under_oom"),
            oom_kill: oom.get("oom_kill"),
        }),
    }
}

fn of_v2(cgroup: &Cgroup) -> v2::Metrics {
    let (cpu, memory) = (Keyed::read(cgroup, "cpu.stat"), Keyed::read(cgroup, "memory.stat"));
    let events = Keyed::read(cgroup, "memory.events");
    v2::Metrics {
        pids: Some(pids(cgroup)),
        cpu: Some(v2::Cpu {
            usage_usec: cpu.get("usage_usec"),
            user_usec: cpu.get("user_usec"),
            system_usec: cpu.get("system_usec"),
            nr_periods: cpu.get("nr_periods"),
            nr_throttled: cpu.get("nr_throttled"),
            throttled_usec: cpu.get("throttled_usec"),
        }),
        memory: Some(v2::Memory {
            anon: memory.get("anon"),
            file: memory.get("file"),
            kernel_stack: memory.get("kernel_stack"),
            slab: memory.get("slab"),
            shmem: memory.get("shmem"),
            file_mapped: memory.get("file_mapped"),
            inactive_anon: memory.get("inactive_anon"),
            active_anon: memory.get("active_anon"),
            inactive_file: memory.get("inactive_file"),
            active_file: memory.get("active_file"),
            pgfault: memory.get("pgfault"),
            pgmajfault: memory.get("pgmajfault"),
            usage: number(cgroup, "memory.current"),
            usage_limit: number(cgroup, "memory.max"),
            swap_usage: number(cgroup, "memory.swap.current"),
            swap_limit: number(cgroup, "memory.swap.max"),
        }),
        events: Some(v2::Events {
            low: events.get("low"),
            high: events.get("high"),
            max: events.get("max"),
            oom: events.get("oom"),
            oom_kill: events.get("oom_kill"),
        }),
    }
}
