//! Rules for `linux.resources`.

use super::super::{BlockIo, Cpu, DeviceType, Memory, Resources};
use super::{Verdict, broken, id_list, text};

pub(super) fn check(resources: &Resources) -> Verdict {
    devices(resources)?;
    resources.memory.as_ref().map_or(Ok(()), memory)?;
    resources.cpu.as_ref().map_or(Ok(()), cpu)?;
    resources.block_io.as_ref().map_or(Ok(()), block_io)?;
    hugepages(resources)?;
    for (device, limit) in &resources.rdma {
        if limit.hca_handles.is_none() && limit.hca_objects.is_none() {
            let rule = "must have hcaHandles or hcaObjects; give one or remove the entry";
            return Err(broken(&format!("linux.resources.rdma.{device}"), limit, rule));
        }
        if device.is_empty() || device.contains([' ', '\n', '\0']) {
            return Err(broken("linux.resources.rdma", device, "is no device's name"));
        }
    }
    for (file, value) in &resources.unified {
        if file.is_empty() || file.contains(['/', '\0']) || file.starts_with('.') {
            let rule = "must be the name of a file in the cgroup, as in memory.high";
            return Err(broken("linux.resources.unified", file, rule));
        }
        text(&format!("linux.resources.unified.{file}"), value)?;
    }
    Ok(())
}

fn devices(resources: &Resources) -> Verdict {
    for (i, rule) in resources.devices.iter().enumerate() {
        let field = format!("linux.resources.devices[{i}]");
        if matches!(rule.kind, Some(DeviceType::Fifo | DeviceType::Unbuffered)) {
            return Err(broken(&format!("{field}.type"), &rule.kind, "a rule is for a, b or c"));
        }
        for (name, number) in [("major", rule.major), ("minor", rule.minor)] {
            if number.is_some_and(|n| !(-1..=i64::from(u32::MAX)).contains(&n)) {
                return Err(broken(
                    &format!("{field}.{name}"),
                    &number,
                    "must be a device number; remove it for all",
                ));
            }
        }
    }
    Ok(())
}

fn memory(memory: &Memory) -> Verdict {
    let all = [
        ("limit", memory.limit),
        ("reservation", memory.reservation),
        ("swap", memory.swap),
        ("kernel", memory.kernel),
        ("kernelTCP", memory.kernel_tcp),
    ];
    for (name, value) in all {
        if value.is_some_and(|v| v < -1) {
            let field = format!("linux.resources.memory.{name}");
            return Err(broken(&field, &value, "must be bytes, or -1 for no limit"));
        }
    }
    if let (Some(limit), Some(swap)) = (memory.limit, memory.swap)
        && limit > 0
        && swap > 0
        && swap < limit
    {
        let rule = format!("counts memory and swap together, so it is at least the limit, {limit}; raise it");
        return Err(broken("linux.resources.memory.swap", &swap, rule));
    }
    if memory.swappiness.is_some_and(|s| s > 100) {
        return Err(broken("linux.resources.memory.swappiness", &memory.swappiness, "must be from 0 to 100"));
    }
    Ok(())
}

fn cpu(cpu: &Cpu) -> Verdict {
    if let (Some(quota), Some(burst)) = (cpu.quota, cpu.burst)
        && quota > 0
        && burst > quota.unsigned_abs()
    {
        let rule = format!("must not exceed the quota, {quota}; lower it or raise that");
        return Err(broken("linux.resources.cpu.burst", &burst, rule));
    }
    if cpu.idle.is_some_and(|idle| !(0..=1).contains(&idle)) {
        return Err(broken("linux.resources.cpu.idle", &cpu.idle, "must be 0 or 1"));
    }
    id_list("linux.resources.cpu.cpus", &cpu.cpus)?;
    id_list("linux.resources.cpu.mems", &cpu.mems)
}

fn block_io(block: &BlockIo) -> Verdict {
    for (i, device) in block.weight_device.iter().enumerate() {
        if device.weight.is_none() && device.leaf_weight.is_none() {
            let rule = "must have weight or leafWeight; give one or remove the entry";
            return Err(broken(&format!("linux.resources.blockIO.weightDevice[{i}]"), device, rule));
        }
    }
    let groups = [("weight", block.weight), ("leafWeight", block.leaf_weight)];
    let devices = block
        .weight_device
        .iter()
        .flat_map(|d| [("weightDevice", d.weight), ("weightDevice", d.leaf_weight)]);
    for (name, weight) in groups.into_iter().chain(devices) {
        if weight.is_some_and(|w| w != 0 && !(10..=1000).contains(&w)) {
            let field = format!("linux.resources.blockIO.{name}");
            return Err(broken(&field, &weight, "must be from 10 to 1000"));
        }
    }
    Ok(())
}

/// A page size is a number and a unit, as in the names of the controller's files.
fn hugepages(resources: &Resources) -> Verdict {
    for (i, limit) in resources.hugepage_limits.iter().enumerate() {
        let field = format!("linux.resources.hugepageLimits[{i}].pageSize");
        let number = limit.page_size.trim_end_matches("KB").trim_end_matches("MB").trim_end_matches("GB");
        let digits =
            !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) && !number.starts_with('0');
        if !digits || number.len() + 2 != limit.page_size.len() {
            return Err(broken(
                &field,
                &limit.page_size,
                "must be a size with its unit, as in 64KB, 2MB or 1GB",
            ));
        }
        if resources.hugepage_limits[..i].iter().any(|other| other.page_size == limit.page_size) {
            return Err(broken(&field, &limit.page_size, "is listed twice; remove one of them"));
        }
    }
    Ok(())
}
