//! Resources of the specification as limits of the kernel's cgroups.

use kernel::cgroup::{DeviceAccess, DeviceKind, DeviceRule, Limits};

use crate::contract::{DeviceCgroup, DeviceType, Resources};
use crate::{Error, Result};

/// The limits that `resources` ask for. What is not supported yet is an error that names the field.
pub(crate) fn plan(resources: &Resources) -> Result<Limits> {
    refuse(!resources.rdma.is_empty(), "rdma")?;
    refuse(resources.network.is_some(), "network")?;
    let memory = resources.memory.unwrap_or_default();
    let cpu = resources.cpu.clone().unwrap_or_default();
    let block_io = resources.block_io.clone().unwrap_or_default();
    refuse(
        !(block_io.weight_device.is_empty()
            && block_io.throttle_read_bps_device.is_empty()
            && block_io.throttle_write_bps_device.is_empty()
            && block_io.throttle_read_iops_device.is_empty()
            && block_io.throttle_write_iops_device.is_empty()),
        "blockIO (of single devices)",
    )?;
    refuse(cpu.realtime_runtime.is_some() || cpu.realtime_period.is_some(), "cpu.realtimeRuntime")?;
    let text = |s: String| (!s.is_empty()).then_some(s);
    let mut limits = Limits {
        memory: memory.limit,
        memory_reservation: memory.reservation,
        memory_swap: memory.swap,
        memory_swappiness: memory.swappiness,
        oom_kill_disable: memory.disable_oom_killer,
        cpu_shares: cpu.shares,
        cpu_quota: cpu.quota,
        cpu_period: cpu.period,
        cpu_burst: cpu.burst,
        cpu_idle: cpu.idle.map(|i| i != 0),
        cpus: text(cpu.cpus),
        mems: text(cpu.mems),
        pids: resources.pids.as_ref().and_then(|p| p.limit),
        io_weight: block_io.weight,
        huge_pages: resources.hugepage_limits.iter().map(|h| (h.page_size.clone(), h.limit)).collect(),
        devices: resources.devices.iter().map(rule).collect(),
        unified: resources.unified.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
    };
    // The devices the specification promises every container work, whatever the rules say.
    if !limits.devices.is_empty() {
        // What is allowed already, and denied by nothing that comes after, need not be said again.
        let last_word = limits.devices.iter().rposition(|rule| !rule.allow).map_or(0, |denied| denied + 1);
        let said = limits.devices[last_word..].to_vec();
        limits.devices.extend(always().filter(|rule| !said.contains(rule)));
    }
    Ok(limits)
}

fn refuse(given: bool, field: &str) -> Result<()> {
    if !given {
        return Ok(());
    }
    Err(Error::Unsupported {
        field: format!("linux.resources.{field}"),
        value: "a limit".into(),
        hint: "it comes with the completion of the OCI runtime; leave it out",
    })
}

fn rule(rule: &DeviceCgroup) -> DeviceRule {
    let number = |n: Option<i64>| n.and_then(|n| u32::try_from(n).ok());
    let may = |letter: char| rule.access.is_empty() || rule.access.contains(letter);
    DeviceRule {
        allow: rule.allow,
        kind: match rule.kind {
            None | Some(DeviceType::All | DeviceType::Fifo) => DeviceKind::All,
            Some(DeviceType::Block) => DeviceKind::Block,
            Some(DeviceType::Char | DeviceType::Unbuffered) => DeviceKind::Char,
        },
        major: number(rule.major),
        minor: number(rule.minor),
        access: DeviceAccess { read: may('r'), write: may('w'), mknod: may('m') },
    }
}

/// null, zero, full, random, urandom, tty, ptmx and pseudoterminals; nodes may be made, not opened, for all others.
fn always() -> impl Iterator<Item = DeviceRule> {
    let all = DeviceAccess { read: true, write: true, mknod: true };
    let node = DeviceAccess { read: false, write: false, mknod: true };
    let char = |major, minor| (DeviceKind::Char, Some(major), minor, all);
    [
        (DeviceKind::Char, None, None, node),
        (DeviceKind::Block, None, None, node),
        char(1, Some(3)),
        char(1, Some(5)),
        char(1, Some(7)),
        char(1, Some(8)),
        char(1, Some(9)),
        char(5, Some(0)),
        char(5, Some(1)),
        char(5, Some(2)),
        char(136, None),
    ]
    .into_iter()
    .map(|(kind, major, minor, access)| DeviceRule { allow: true, kind, major, minor, access })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::default_spec;

    #[test]
    fn the_promised_devices_are_allowed_once_and_last() {
        let mut resources = Resources { devices: default_spec::device_rules(), ..Resources::default() };
        let rules = plan(&resources).unwrap().devices;
        assert_eq!(rules.len(), resources.devices.len(), "{rules:?}");
        // A denial that comes after them is followed by what the specification promises.
        resources.devices.push(DeviceCgroup { access: "rwm".into(), ..DeviceCgroup::default() });
        let rules = plan(&resources).unwrap().devices;
        assert!(always().all(|promised| rules[resources.devices.len()..].contains(&promised)));
        resources.devices.clear();
        assert!(plan(&resources).unwrap().devices.is_empty());
    }
}
