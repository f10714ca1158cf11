//! Limits, from plugins' words to the runtime specification's.

use oci_runtime::contract as oci;

use super::{refused, word};
use crate::contract::Error;
use crate::contract::v1::{HugepageLimit, LinuxContainerResources};
use crate::plugin::nri::wire::LinuxResources;

/// Sets what `wanted` sets in `into`.
///
/// A class of block I/O is an error: the node knows none. A class of RDT is the configuration's, not a cgroup's limit.
pub(crate) fn limits(wanted: &LinuxResources, into: &mut oci::Resources) -> Result<(), Error> {
    fn set<T: Copy>(into: &mut Option<T>, wanted: Option<T>) {
        *into = wanted.or(*into);
    }
    if let Some(wanted) = &wanted.memory {
        let into = into.memory.get_or_insert_default();
        // No swap beside a new limit, unless it is asked for.
        if wanted.limit.is_some() && into.swap.is_some() && wanted.swap.is_none() {
            into.swap = wanted.limit;
        }
        set(&mut into.limit, wanted.limit);
        set(&mut into.reservation, wanted.reservation);
        set(&mut into.swap, wanted.swap);
        set(&mut into.kernel, wanted.kernel);
        set(&mut into.kernel_tcp, wanted.kernel_tcp);
        set(&mut into.swappiness, wanted.swappiness);
        set(&mut into.disable_oom_killer, wanted.disable_oom_killer);
        set(&mut into.use_hierarchy, wanted.use_hierarchy);
    }
    if let Some(wanted) = &wanted.cpu {
        let into = into.cpu.get_or_insert_default();
        set(&mut into.shares, wanted.shares);
        set(&mut into.quota, wanted.quota);
        set(&mut into.period, wanted.period);
        set(&mut into.realtime_runtime, wanted.realtime_runtime);
        set(&mut into.realtime_period, wanted.realtime_period);
        for (into, wanted) in [(&mut into.cpus, &wanted.cpus), (&mut into.mems, &wanted.mems)] {
            if !wanted.is_empty() {
                into.clone_from(wanted);
            }
        }
    }
    for pages in &wanted.hugepage_limits {
        into.hugepage_limits.retain(|old| old.page_size != pages.page_size);
        into.hugepage_limits
            .push(oci::HugepageLimit { page_size: pages.page_size.clone(), limit: pages.limit });
    }
    into.unified.extend(wanted.unified.clone());
    if let Some(pids) = wanted.pids {
        // 0 is no limit to whoever speaks NRI.
        into.pids = Some(oci::Pids { limit: Some(if pids.limit > 0 { pids.limit } else { -1 }) });
    }
    for rule in &wanted.devices {
        let kind = match rule.kind.as_str() {
            "" => None,
            kind => Some(word(kind, "linux.resources.devices.type")?),
        };
        into.devices.push(oci::DeviceCgroup {
            allow: rule.allow,
            kind,
            major: rule.major,
            minor: rule.minor,
            access: rule.access.clone(),
        });
    }
    match wanted.blockio_class.as_deref() {
        None => {}
        Some("") => into.block_io = None,
        Some(class) => {
            let why = format!("{class:?}: this node has no classes of block I/O");
            return Err(refused("linux.resources.blockio_class", why));
        }
    }
    Ok(())
}

/// Those of the limits that CRI has words for.
pub(crate) fn known_to_cri(wanted: &LinuxResources) -> LinuxContainerResources {
    let memory = wanted.memory.unwrap_or_default();
    let cpu = wanted.cpu.clone().unwrap_or_default();
    let signed = |value: Option<u64>| value.and_then(|value| i64::try_from(value).ok()).unwrap_or_default();
    let pages = wanted.hugepage_limits.iter();
    LinuxContainerResources {
        cpu_period: signed(cpu.period),
        cpu_quota: cpu.quota.unwrap_or_default(),
        cpu_shares: signed(cpu.shares),
        memory_limit_in_bytes: memory.limit.unwrap_or_default(),
        memory_swap_limit_in_bytes: memory.swap.or(memory.limit).unwrap_or_default(),
        cpuset_cpus: cpu.cpus,
        cpuset_mems: cpu.mems,
        hugepage_limits: pages
            .map(|pages| HugepageLimit { page_size: pages.page_size.clone(), limit: pages.limit })
            .collect(),
        unified: wanted.unified.clone(),
        ..LinuxContainerResources::default()
    }
}
