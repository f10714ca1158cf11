//! Limits: which are set, and one set over another.

use super::owners::Claim;
use crate::plugin::nri::wire::{Field, LinuxCpu, LinuxMemory, LinuxResources};

/// The fields that `resources` sets.
pub(super) fn claims(resources: &LinuxResources) -> Vec<Claim<'_>> {
    let memory = resources.memory.unwrap_or_default();
    let no_cpu = LinuxCpu::default();
    let cpu = resources.cpu.as_ref().unwrap_or(&no_cpu);
    let plain = [
        (memory.limit.is_some(), Field::MemoryLimit),
        (memory.reservation.is_some(), Field::MemoryReservation),
        (memory.swap.is_some(), Field::MemorySwap),
        (memory.kernel.is_some(), Field::MemoryKernel),
        (memory.kernel_tcp.is_some(), Field::MemoryKernelTcp),
        (memory.swappiness.is_some(), Field::MemorySwappiness),
        (memory.disable_oom_killer.is_some(), Field::MemoryDisableOomKiller),
        (memory.use_hierarchy.is_some(), Field::MemoryUseHierarchy),
        (cpu.shares.is_some(), Field::CpuShares),
        (cpu.quota.is_some(), Field::CpuQuota),
        (cpu.period.is_some(), Field::CpuPeriod),
        (cpu.realtime_runtime.is_some(), Field::CpuRealtimeRuntime),
        (cpu.realtime_period.is_some(), Field::CpuRealtimePeriod),
        (!cpu.cpus.is_empty(), Field::CpuCpus),
        (!cpu.mems.is_empty(), Field::CpuMems),
        (resources.pids.is_some(), Field::PidsLimit),
        (resources.blockio_class.is_some(), Field::BlockioClass),
        (resources.rdt_class.is_some(), Field::RdtClass),
    ];
    let mut claims: Vec<Claim<'_>> =
        plain.into_iter().filter(|(is_set, _)| *is_set).map(|(_, field)| (field, None)).collect();
    let pages = resources.hugepage_limits.iter();
    claims.extend(pages.map(|pages| (Field::HugepageLimits, Some(pages.page_size.as_str()))));
    claims.extend(resources.unified.keys().map(|file| (Field::Unified, Some(file.as_str()))));
    claims
}

/// What `from` sets, over `into`.
pub(in crate::plugin::nri) fn overlay(into: &mut LinuxResources, from: &LinuxResources) {
    fn set<T: Copy>(into: &mut Option<T>, from: Option<T>) {
        *into = from.or(*into);
    }
    if let Some(from) = &from.memory {
        let into: &mut LinuxMemory = into.memory.get_or_insert_default();
        set(&mut into.limit, from.limit);
        set(&mut into.reservation, from.reservation);
        set(&mut into.swap, from.swap);
        set(&mut into.kernel, from.kernel);
        set(&mut into.kernel_tcp, from.kernel_tcp);
        set(&mut into.swappiness, from.swappiness);
        set(&mut into.disable_oom_killer, from.disable_oom_killer);
        set(&mut into.use_hierarchy, from.use_hierarchy);
    }
    if let Some(from) = &from.cpu {
        let into = into.cpu.get_or_insert_default();
        set(&mut into.shares, from.shares);
        set(&mut into.quota, from.quota);
        set(&mut into.period, from.period);
        set(&mut into.realtime_runtime, from.realtime_runtime);
        set(&mut into.realtime_period, from.realtime_period);
        for (into, from) in [(&mut into.cpus, &from.cpus), (&mut into.mems, &from.mems)] {
            if !from.is_empty() {
                into.clone_from(from);
            }
        }
    }
    for pages in &from.hugepage_limits {
        into.hugepage_limits.retain(|old| old.page_size != pages.page_size);
        into.hugepage_limits.push(pages.clone());
    }
    into.unified.extend(from.unified.clone());
    into.devices.extend(from.devices.iter().cloned());
    set(&mut into.pids, from.pids);
    for (into, from) in
        [(&mut into.blockio_class, &from.blockio_class), (&mut into.rdt_class, &from.rdt_class)]
    {
        if from.is_some() {
            into.clone_from(from);
        }
    }
}
