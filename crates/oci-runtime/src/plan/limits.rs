//! Resources of the specification as limits of the kernel's cgroups.

use kernel::cgroup::{
    DeviceAccess, DeviceKind, DeviceRule, DeviceWeight, Limits, RdmaLimit, Throttle, ThrottleKind,
};

use crate::contract::{self, BlockIo, DeviceCgroup, DeviceType, Resources};
use crate::{Error, Result};

/// The limits that `resources` ask for. `memory.kernel` and `memory.kernelTCP` are for
/// [`warnings`](crate::contract::warnings) to tell.
pub(crate) fn plan(resources: &Resources) -> Result<Limits> {
    let network = resources.network.clone().unwrap_or_default();
    let memory = resources.memory.unwrap_or_default();
    let cpu = resources.cpu.clone().unwrap_or_default();
    let block_io = resources.block_io.clone().unwrap_or_default();
    let text = |s: String| (!s.is_empty()).then_some(s);
    let mut limits = Limits {
        memory: memory.limit,
        memory_reservation: memory.reservation,
        memory_swap: memory.swap,
        memory_swappiness: memory.swappiness,
        oom_kill_disable: memory.disable_oom_killer,
        memory_check: memory.check_before_update == Some(true),
        memory_hierarchy: memory.use_hierarchy,
        cpu_shares: cpu.shares,
        cpu_quota: cpu.quota,
        cpu_period: cpu.period,
        cpu_burst: cpu.burst,
        cpu_idle: cpu.idle.map(idle).transpose()?,
        cpu_rt_runtime: cpu.realtime_runtime,
        cpu_rt_period: cpu.realtime_period,
        cpus: text(cpu.cpus),
        mems: text(cpu.mems),
        pids: resources.pids.as_ref().and_then(|p| p.limit),
        io_weight: block_io.weight,
        io_leaf_weight: block_io.leaf_weight,
        io_device_weights: device_weights(&block_io)?,
        io_throttles: throttles(&block_io)?,
        // 0 is the class of packets that have none.
        network_class: network.class_id.filter(|&class| class != 0),
        network_priorities: network.priorities.into_iter().map(|p| (p.name, p.priority)).collect(),
        rdma: resources
            .rdma
            .iter()
            .map(|(device, limit)| RdmaLimit {
                device: device.clone(),
                handles: limit.hca_handles,
                objects: limit.hca_objects,
            })
            .collect(),
        huge_pages: resources.hugepage_limits.iter().map(|h| (h.page_size.clone(), h.limit)).collect(),
        devices: resources.devices.iter().filter(|rule| says_something(rule)).map(rule).collect(),
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

fn device_weights(block_io: &BlockIo) -> Result<Vec<DeviceWeight>> {
    let one = |(index, device): (usize, &contract::WeightDevice)| {
        let (major, minor) = numbers("weightDevice", index, device.major, device.minor)?;
        Ok(DeviceWeight { major, minor, weight: device.weight, leaf_weight: device.leaf_weight })
    };
    block_io.weight_device.iter().enumerate().map(one).collect()
}

fn throttles(block_io: &BlockIo) -> Result<Vec<Throttle>> {
    [
        ("throttleReadBpsDevice", ThrottleKind::ReadBytes, &block_io.throttle_read_bps_device),
        ("throttleWriteBpsDevice", ThrottleKind::WriteBytes, &block_io.throttle_write_bps_device),
        ("throttleReadIOPSDevice", ThrottleKind::Reads, &block_io.throttle_read_iops_device),
        ("throttleWriteIOPSDevice", ThrottleKind::Writes, &block_io.throttle_write_iops_device),
    ]
    .into_iter()
    .flat_map(|(field, kind, devices)| devices.iter().enumerate().map(move |d| (field, kind, d)))
    .map(|(field, kind, (index, device))| {
        let (major, minor) = numbers(field, index, device.major, device.minor)?;
        Ok(Throttle { kind, major, minor, rate: device.rate })
    })
    .collect()
}

fn numbers(field: &str, index: usize, major: i64, minor: i64) -> Result<(u32, u32)> {
    u32::try_from(major).ok().zip(u32::try_from(minor).ok()).ok_or_else(|| {
        Error::Config(contract::Error::Invalid {
            field: format!("linux.resources.blockIO.{field}[{index}]"),
            value: format!("{major}:{minor}"),
            rule: "must be the numbers of a block device".into(),
        })
    })
}

/// The kernel takes 0 and 1, and so does this: another value would be one of them in its place.
fn idle(given: i64) -> Result<bool> {
    match given {
        0 | 1 => Ok(given == 1),
        _ => Err(Error::Config(contract::Error::Invalid {
            field: "linux.resources.cpu.idle".into(),
            value: given.to_string(),
            rule: "must be 0 or 1".into(),
        })),
    }
}

/// Letters that mean nothing are warned of.
fn says_something(rule: &DeviceCgroup) -> bool {
    rule.access.is_empty() || rule.access.contains(['r', 'w', 'm'])
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
    use crate::contract::Cpu;
    use crate::default_spec;

    #[test]
    fn every_resource_is_planned() {
        let text = br#"{"memory": {"limit": 1, "kernel": 2, "kernelTCP": 3, "useHierarchy": true, "checkBeforeUpdate": true},
            "cpu": {"realtimeRuntime": 5, "realtimePeriod": 6, "burst": 7, "idle": 1},
            "blockIO": {"leafWeight": 20, "weightDevice": [{"major": 8, "minor": 0, "weight": 30, "leafWeight": 40}],
                "throttleReadBpsDevice": [{"major": 8, "minor": 1, "rate": 50}],
                "throttleWriteIOPSDevice": [{"major": 8, "minor": 2, "rate": 60}]},
            "network": {"classID": 65537, "priorities": [{"name": "eth0", "priority": 2}]},
            "rdma": {"mlx5_1": {"hcaHandles": 3}}, "pids": {"limit": 0}}"#;
        let limits = plan(&contract::parse_resources(text).unwrap()).unwrap();
        assert!(limits.memory_check && limits.memory_hierarchy == Some(true));
        assert_eq!((limits.cpu_rt_runtime, limits.cpu_rt_period), (Some(5), Some(6)));
        assert_eq!((limits.cpu_burst, limits.cpu_idle, limits.pids), (Some(7), Some(true), Some(0)));
        assert_eq!(limits.io_leaf_weight, Some(20));
        let weight = DeviceWeight { major: 8, minor: 0, weight: Some(30), leaf_weight: Some(40) };
        assert_eq!(limits.io_device_weights, [weight]);
        let throttle = |kind, minor, rate| Throttle { kind, major: 8, minor, rate };
        assert_eq!(
            limits.io_throttles,
            [throttle(ThrottleKind::ReadBytes, 1, 50), throttle(ThrottleKind::Writes, 2, 60)]
        );
        assert_eq!(limits.network_class, Some(65537));
        assert_eq!(limits.network_priorities, [("eth0".to_owned(), 2)]);
        assert_eq!(limits.rdma[0].handles, Some(3));
        let wrong = br#"{"blockIO": {"throttleReadBpsDevice": [{"major": -8, "minor": 1, "rate": 50}]}}"#;
        let error = plan(&contract::parse_resources(wrong).unwrap()).unwrap_err().to_string();
        assert!(error.contains("linux.resources.blockIO.throttleReadBpsDevice[0] is -8:1"), "{error}");
    }

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

    #[test]
    fn idle_is_a_switch() {
        let of = |idle| {
            plan(&Resources { cpu: Some(Cpu { idle: Some(idle), ..Cpu::default() }), ..Resources::default() })
        };
        assert_eq!((of(0).unwrap().cpu_idle, of(1).unwrap().cpu_idle), (Some(false), Some(true)));
        for bad in [-1, 2] {
            let error = of(bad).unwrap_err().to_string();
            assert!(error.contains(&format!("linux.resources.cpu.idle is {bad}: must be 0 or 1")), "{error}");
        }
    }
}
