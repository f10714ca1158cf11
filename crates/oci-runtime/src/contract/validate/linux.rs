//! Rules for the section `linux`.

use super::super::{
    Device, DeviceType, IntelRdt, Linux, MemoryPolicy, MemoryPolicyMode, NamespaceType, Spec,
};
use super::{Verdict, absolute, broken, id_list, mappings, resources, seccomp, sysctl, text};

pub(super) fn check(spec: &Spec, linux: &Linux) -> Verdict {
    namespaces(linux)?;
    user_mappings(linux)?;
    time_offsets(linux)?;
    sysctl::check(spec, linux)?;
    cgroups_path(&linux.cgroups_path)?;
    if let Some(limits) = &linux.resources {
        resources::check(limits)?;
    }
    for (i, device) in linux.devices.iter().enumerate() {
        check_device(device, &format!("linux.devices[{i}]"))?;
    }
    net_devices(linux)?;
    for (name, paths) in [("maskedPaths", &linux.masked_paths), ("readonlyPaths", &linux.readonly_paths)] {
        for (i, path) in paths.iter().enumerate() {
            absolute(&format!("linux.{name}[{i}]"), path)?;
        }
    }
    text("linux.mountLabel", &linux.mount_label)?;
    linux.seccomp.as_ref().map_or(Ok(()), seccomp::check)?;
    linux.intel_rdt.as_ref().map_or(Ok(()), intel_rdt)?;
    linux.memory_policy.as_ref().map_or(Ok(()), memory_policy)?;
    match &linux.personality {
        Some(p) if !p.flags.is_empty() => {
            Err(broken("linux.personality.flags", &p.flags, "no flag is defined yet; remove them"))
        }
        _ => Ok(()),
    }
}

fn namespaces(linux: &Linux) -> Verdict {
    for (i, namespace) in linux.namespaces.iter().enumerate() {
        let field = format!("linux.namespaces[{i}]");
        if linux.namespaces[..i].iter().any(|other| other.kind == namespace.kind) {
            return Err(broken(
                &format!("{field}.type"),
                &namespace.kind,
                "is listed twice; remove one of them",
            ));
        }
        if !namespace.path.is_empty() {
            absolute(&format!("{field}.path"), &namespace.path)?;
        }
    }
    Ok(())
}

/// Mappings belong to a user namespace, and a new one is of no use without them.
fn user_mappings(linux: &Linux) -> Verdict {
    let namespace = linux.namespace(NamespaceType::User);
    for (field, list) in
        [("linux.uidMappings", &linux.uid_mappings), ("linux.gidMappings", &linux.gid_mappings)]
    {
        if namespace.is_none() && !list.is_empty() {
            let rule = "needs a user namespace; add {\"type\": \"user\"} to linux.namespaces or remove it";
            return Err(broken(field, list, rule));
        }
        if namespace.is_some_and(|n| n.path.is_empty()) && list.is_empty() {
            return Err(broken(field, list, "a new user namespace needs mappings; map at least id 0"));
        }
        mappings::check(field, list)?;
    }
    Ok(())
}

fn time_offsets(linux: &Linux) -> Verdict {
    for (clock, offset) in &linux.time_offsets {
        let field = format!("linux.timeOffsets.{clock}");
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(broken("linux.timeOffsets", clock, "the kernel offsets monotonic and boottime only"));
        }
        if offset.nanosecs > 999_999_999 {
            let rule = "must be below 1000000000; put whole seconds into secs";
            return Err(broken(&format!("{field}.nanosecs"), &offset.nanosecs, rule));
        }
        if !linux.namespace(NamespaceType::Time).is_some_and(|n| n.path.is_empty()) {
            let rule =
                "needs a new time namespace; add {\"type\": \"time\"} to linux.namespaces or remove it";
            return Err(broken(&field, offset, rule));
        }
    }
    Ok(())
}

fn cgroups_path(path: &str) -> Verdict {
    text("linux.cgroupsPath", path)?;
    if path.split('/').any(|part| part == "..") {
        return Err(broken("linux.cgroupsPath", path, "must not climb with ..; write the path without"));
    }
    Ok(())
}

fn check_device(device: &Device, field: &str) -> Verdict {
    absolute(&format!("{field}.path"), &device.path)?;
    if device.path.ends_with('/') || device.path.split('/').any(|part| part == "..") {
        return Err(broken(
            &format!("{field}.path"),
            &device.path,
            "must name a node; write it without .. or a last /",
        ));
    }
    if device.kind == DeviceType::All {
        return Err(broken(&format!("{field}.type"), &device.kind, "a node is one of c, b, u or p"));
    }
    for (name, number, max) in
        [("major", device.major, (1 << 12) - 1), ("minor", device.minor, (1 << 20) - 1)]
    {
        if device.kind != DeviceType::Fifo && !(0..=max).contains(&number) {
            return Err(broken(&format!("{field}.{name}"), &number, format!("must be from 0 to {max}")));
        }
    }
    Ok(())
}

fn net_devices(linux: &Linux) -> Verdict {
    let mut taken = Vec::new();
    for (host, device) in &linux.net_devices {
        let field = format!("linux.netDevices.{host}");
        interface("linux.netDevices", host)?;
        if !device.name.is_empty() {
            interface(&format!("{field}.name"), &device.name)?;
        }
        let target = if device.name.is_empty() { host } else { &device.name };
        if taken.contains(&target) && !target.ends_with("%d") {
            return Err(broken(&field, target, "two devices get this name in the container; rename one"));
        }
        taken.push(target);
        if linux.namespace(NamespaceType::Network).is_none() {
            let rule = "needs a network namespace; add {\"type\": \"network\"} to linux.namespaces";
            return Err(broken(&field, device, rule));
        }
    }
    Ok(())
}

/// The kernel's rule for names of network devices.
fn interface(field: &str, name: &str) -> Verdict {
    let bad = |b: u8| matches!(b, b'/' | b':' | 0 | 11) || b.is_ascii_whitespace();
    if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.bytes().any(bad) {
        return Err(broken(field, name, "must be 1 to 15 bytes without /, : and spaces; rename the device"));
    }
    Ok(())
}

fn intel_rdt(rdt: &IntelRdt) -> Verdict {
    let clos = rdt.clos_id.as_str();
    if clos != "/" && (clos.contains(['/', '\n', '\0']) || matches!(clos, "." | "..")) {
        return Err(broken("linux.intelRdt.closID", clos, "must be one name, or / for the default class"));
    }
    let lines = [("l3CacheSchema", &rdt.l3_cache_schema), ("memBwSchema", &rdt.mem_bw_schema)];
    for (name, line) in lines.into_iter().chain(rdt.schemata.iter().map(|line| ("schemata", line))) {
        if line.contains('\n') {
            let rule = "must be one line; put each line into an entry of schemata";
            return Err(broken(&format!("linux.intelRdt.{name}"), line, rule));
        }
    }
    if !rdt.mem_bw_schema.is_empty() && !rdt.mem_bw_schema.starts_with("MB:") {
        return Err(broken("linux.intelRdt.memBwSchema", &rdt.mem_bw_schema, "must start with MB:"));
    }
    Ok(())
}

/// How many numbers a part of a list stands for that is a number or a range.
fn length(part: &str) -> u32 {
    let number = |text: &str| text.trim().parse::<u32>().unwrap_or_default();
    part.split_once('-').map_or(1, |(first, last)| 1 + number(last).saturating_sub(number(first)))
}

fn memory_policy(policy: &MemoryPolicy) -> Verdict {
    let field = "linux.memoryPolicy.nodes";
    id_list(field, &policy.nodes).map_err(|_| {
        let rule = "invalid memory policy nodes: must be a list of numbers and ranges; write it as in 0-3,7";
        broken(field, &policy.nodes, rule)
    })?;
    match policy.mode {
        MemoryPolicyMode::MpolDefault | MemoryPolicyMode::MpolLocal if !policy.nodes.is_empty() => {
            let count: u32 = policy.nodes.split(',').map(length).sum();
            Err(broken(field, &policy.nodes, format!("mode requires 0 nodes but got {count}; remove them")))
        }
        MemoryPolicyMode::MpolDefault | MemoryPolicyMode::MpolLocal | MemoryPolicyMode::MpolPreferred => {
            Ok(())
        }
        _ if policy.nodes.is_empty() => Err(broken(field, "", "this mode needs nodes; name at least one")),
        _ => Ok(()),
    }
}
