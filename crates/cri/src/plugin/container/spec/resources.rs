//! Limits, from CRI's words to the runtime specification's.

use std::path::Path;

use kernel::cgroup::Layout;
use oci_runtime::contract::{Cpu, HugepageLimit, Memory, Resources, Spec, validate_resources};

use crate::contract::v1::LinuxContainerResources;
use crate::contract::{Error, Validate};
use crate::plugin::files;

/// What the machine's cgroups can do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine {
    pub(super) swap: bool,
    pub(super) huge_pages: bool,
    pub(super) unified: bool,
}

impl Machine {
    /// This one.
    pub(super) fn here() -> Result<Self, Error> {
        let unified = kernel::cgroup::layout()? == Layout::Unified;
        let lists = if unified { "/sys/fs/cgroup/cgroup.controllers" } else { "/proc/self/cgroup" };
        let lists = std::fs::read_to_string(lists).unwrap_or_default();
        let swap = match unified {
            // Every cgroup but the root has the file where the kernel swaps at all.
            true => Path::new("/proc/swaps").exists(),
            false => Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists(),
        };
        let huge_pages = lists.split([' ', ',', ':', '\n']).any(|controller| controller == "hugetlb");
        Ok(Self { swap, huge_pages, unified })
    }
}

/// Limits without device rules, and the score that is the process's own.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Limits {
    pub(crate) resources: Resources,
    pub(crate) oom_score_adj: i32,
}

/// The limits as the runtime specification has them. `field` is where they stand in the request.
pub(crate) fn resources(asked: &LinuxContainerResources, field: &str) -> Result<Limits, Error> {
    limits(asked, field, Machine::here()?)
}

fn limits(asked: &LinuxContainerResources, field: &str, machine: Machine) -> Result<Limits, Error> {
    let at = |name: &str| format!("{field}.{name}");
    // What an update leaves as it was may not go with what it changes.
    asked.validate().map_err(|e| e.within(field))?;
    let given = |value: i64| Some(value).filter(|&value| value != 0);
    let positive = |value: i64| u64::try_from(value).ok().filter(|&value| value != 0);
    let limit = given(asked.memory_limit_in_bytes);
    let mut swap = given(asked.memory_swap_limit_in_bytes);
    // No swap beside a limit that says nothing of it, as everywhere in Kubernetes.
    if swap.is_none() && machine.swap {
        swap = limit.filter(|&limit| limit > 0);
    }
    let hugepage_limits = asked
        .hugepage_limits
        .iter()
        // Of every size that there is the kubelet sends one; where nothing counts them, none can be asked for either.
        .filter(|pages| machine.huge_pages || pages.limit != 0)
        .map(|pages| HugepageLimit { page_size: pages.page_size.clone(), limit: pages.limit })
        .collect();
    if !machine.unified
        && let Some(file) = asked.unified.keys().next()
    {
        let hint = "files of cgroup v2, which this machine does not use: leave them out";
        return Err(Error::invalid(at("unified"), format!("{file:?} is one of the {hint}")));
    }
    let resources = Resources {
        cpu: Some(Cpu {
            shares: positive(asked.cpu_shares),
            quota: given(asked.cpu_quota),
            period: positive(asked.cpu_period),
            cpus: asked.cpuset_cpus.clone(),
            mems: asked.cpuset_mems.clone(),
            ..Cpu::default()
        })
        .filter(|cpu| *cpu != Cpu::default()),
        memory: Some(Memory { limit, swap, ..Memory::default() })
            .filter(|memory| *memory != Memory::default()),
        hugepage_limits,
        unified: asked.unified.clone(),
        ..Resources::default()
    };
    validate_resources(&resources)
        .map_err(|error| Error::invalid(place(error.field(), field), error.to_string()))?;
    Ok(Limits { resources, oom_score_adj: i32::try_from(asked.oom_score_adj).unwrap_or_default() })
}

/// CRI's name of a field of the runtime specification, of those that are checked there.
fn place(oci: &str, field: &str) -> String {
    let name = match oci {
        "linux.resources.cpu.cpus" => ".cpuset_cpus",
        "linux.resources.cpu.mems" => ".cpuset_mems",
        text if text.contains("hugepageLimits") => ".hugepage_limits",
        text if text.contains("unified") => ".unified",
        _ => "",
    };
    format!("{field}{name}")
}

/// Puts other limits into the configuration at `path`; device rules stay.
pub(crate) fn replace_resources(path: &Path, limits: Limits) -> Result<(), Error> {
    let spec: Option<Spec> = files::read_json(path)?;
    let mut spec =
        spec.ok_or_else(|| Error::internal(format!("cannot read {}: it is gone", path.display())))?;
    if let Some(process) = &mut spec.process {
        process.oom_score_adj = Some(limits.oom_score_adj);
    }
    let old = spec.linux.get_or_insert_default().resources.get_or_insert_default();
    *old = Resources {
        // What CRI has no words for stays.
        devices: std::mem::take(&mut old.devices),
        pids: limits.resources.pids.or(old.pids),
        block_io: old.block_io.take(),
        ..limits.resources
    };
    files::write_json(path, &spec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::v1;

    const V2: Machine = Machine { swap: true, huge_pages: true, unified: true };
    const V1: Machine = Machine { swap: true, huge_pages: false, unified: false };

    fn of(asked: &LinuxContainerResources, machine: Machine) -> Result<Limits, Error> {
        limits(asked, "linux", machine)
    }

    #[test]
    fn nothing_asked_is_nothing_limited() {
        assert_eq!(of(&LinuxContainerResources::default(), V2).unwrap(), Limits::default());
    }

    #[test]
    fn all_of_it_arrives() {
        let asked = LinuxContainerResources {
            cpu_period: 100_000,
            cpu_quota: 20_000,
            cpu_shares: 1024,
            memory_limit_in_bytes: 64 << 20,
            oom_score_adj: -997,
            cpuset_cpus: "0-1".into(),
            cpuset_mems: "0".into(),
            hugepage_limits: vec![v1::HugepageLimit { page_size: "2MB".into(), limit: 0 }],
            unified: [("memory.oom.group".to_owned(), "1".to_owned())].into(),
            memory_swap_limit_in_bytes: 0,
        };
        let Limits { resources, oom_score_adj } = of(&asked, V2).unwrap();
        let cpu = resources.cpu.unwrap();
        assert_eq!((cpu.shares, cpu.quota, cpu.period), (Some(1024), Some(20_000), Some(100_000)));
        assert_eq!((cpu.cpus.as_str(), cpu.mems.as_str(), oom_score_adj), ("0-1", "0", -997));
        assert_eq!(resources.memory.unwrap().swap, Some(64 << 20), "no swap beside the limit");
        assert_eq!(resources.hugepage_limits.len(), 1);
        assert_eq!(resources.unified["memory.oom.group"], "1");
        // A machine that does not count huge pages, and one that cannot swap.
        let asked = LinuxContainerResources { unified: Default::default(), ..asked };
        let resources = of(&asked, V1).unwrap().resources;
        assert!(resources.hugepage_limits.is_empty());
        let no_swap = Machine { swap: false, ..V2 };
        assert_eq!(of(&asked, no_swap).unwrap().resources.memory.unwrap().swap, None);
    }

    #[test]
    fn what_no_kernel_takes_is_named() {
        let base = LinuxContainerResources::default;
        for (asked, field) in [
            (LinuxContainerResources { cpu_quota: -2, ..base() }, "linux.cpu_quota"),
            (LinuxContainerResources { cpu_quota: 999, ..base() }, "linux.cpu_quota"),
            (LinuxContainerResources { cpu_shares: -1, ..base() }, "linux.cpu_shares"),
            (LinuxContainerResources { cpu_period: -1, ..base() }, "linux.cpu_period"),
            (LinuxContainerResources { memory_limit_in_bytes: -2, ..base() }, "linux.memory_limit_in_bytes"),
            (
                LinuxContainerResources {
                    memory_limit_in_bytes: 2 << 20,
                    memory_swap_limit_in_bytes: 1 << 20,
                    ..base()
                },
                "linux.memory_swap_limit_in_bytes",
            ),
            (LinuxContainerResources { oom_score_adj: 1001, ..base() }, "linux.oom_score_adj"),
            (LinuxContainerResources { cpuset_cpus: "1-".into(), ..base() }, "linux.cpuset_cpus"),
            (
                LinuxContainerResources {
                    hugepage_limits: vec![v1::HugepageLimit { page_size: "2".into(), limit: 1 }],
                    ..base()
                },
                "linux.hugepage_limits[0].page_size",
            ),
            (
                LinuxContainerResources { unified: [("../x".to_owned(), "1".to_owned())].into(), ..base() },
                "linux.unified",
            ),
        ] {
            assert_eq!(of(&asked, V2).unwrap_err().field.as_deref(), Some(field), "{asked:?}");
        }
        let asked =
            LinuxContainerResources { unified: [("cpu.max".to_owned(), "1".to_owned())].into(), ..base() };
        assert_eq!(of(&asked, V1).unwrap_err().field.as_deref(), Some("linux.unified"));
    }

    #[test]
    fn other_limits_keep_the_device_rules() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let mut spec = oci_runtime::default_spec::container();
        spec.linux.as_mut().unwrap().resources.as_mut().unwrap().memory =
            Some(Memory { limit: Some(1), ..Memory::default() });
        files::write_json(&path, &spec).unwrap();
        let asked = LinuxContainerResources { cpu_shares: 7, oom_score_adj: 3, ..Default::default() };
        replace_resources(&path, of(&asked, V2).unwrap()).unwrap();
        let new: Spec = files::read_json(&path).unwrap().unwrap();
        let resources = new.linux.unwrap().resources.unwrap();
        assert_eq!(resources.devices, oci_runtime::default_spec::device_rules());
        assert_eq!((resources.memory, resources.cpu.unwrap().shares), (None, Some(7)));
        assert_eq!(new.process.unwrap().oom_score_adj, Some(3));
    }
}
