//! The part of a configuration that only Linux has.

use oci_runtime::contract as oci;
use serde_json::json;

use super::{limits, map, refused, word};
use crate::contract::Error;
use crate::plugin::nri::wire::{
    LinuxContainerAdjustment, LinuxDevice, LinuxIoPriority, LinuxMemoryPolicy, LinuxNamespace, LinuxRdt,
    LinuxScheduler, LinuxSeccomp, removal,
};

/// Changes `spec` as `wanted`.
pub(super) fn apply(wanted: &LinuxContainerAdjustment, spec: &mut oci::Spec) -> Result<(), Error> {
    let process = spec.process.get_or_insert_default();
    if let Some(score) = wanted.oom_score_adj {
        let score = i32::try_from(score).ok().filter(|score| (-1000..=1000).contains(score));
        let why = || format!("{:?} is not from -1000 to 1000", wanted.oom_score_adj);
        process.oom_score_adj = Some(score.ok_or_else(|| refused("linux.oom_score_adj", why()))?);
    }
    if let Some(priority) = &wanted.io_priority {
        process.io_priority = io_priority(priority)?;
    }
    if let Some(wanted) = &wanted.scheduler {
        process.scheduler = scheduler(wanted)?;
    }
    let linux = spec.linux.get_or_insert_default();
    devices(&wanted.devices, linux)?;
    if let Some(wanted) = &wanted.resources {
        limits(wanted, linux.resources.get_or_insert_default())?;
        match wanted.rdt_class.as_deref() {
            None => {}
            Some("") => linux.intel_rdt = None,
            Some(class) => linux.intel_rdt.get_or_insert_default().clos_id = class.to_owned(),
        }
    }
    if !wanted.cgroups_path.is_empty() {
        linux.cgroups_path.clone_from(&wanted.cgroups_path);
    }
    if let Some(policy) = &wanted.seccomp_policy {
        linux.seccomp = Some(seccomp(policy)?);
    }
    if let Some(policy) = &wanted.memory_policy {
        linux.memory_policy = Some(memory_policy(policy)?);
    }
    namespaces(&wanted.namespaces, &mut linux.namespaces)?;
    map(&wanted.sysctl, &mut linux.sysctl, |value| Ok(value.clone()))?;
    map(&wanted.net_devices, &mut linux.net_devices, |device| {
        Ok(oci::NetDevice { name: device.name.clone() })
    })?;
    if let Some(wanted) = &wanted.rdt {
        rdt(wanted, &mut linux.intel_rdt);
    }
    Ok(())
}

/// The node, and the use of it.
fn devices(wanted: &[LinuxDevice], linux: &mut oci::Linux) -> Result<(), Error> {
    for device in wanted {
        let gone = removal(&device.path);
        linux.devices.retain(|old| old.path != gone.unwrap_or(&device.path));
        if gone.is_some() {
            continue;
        }
        let kind: oci::DeviceType = word(&device.kind, "linux.devices.type")?;
        linux.devices.push(oci::Device {
            path: device.path.clone(),
            kind,
            major: device.major,
            minor: device.minor,
            file_mode: device.file_mode,
            uid: device.uid,
            gid: device.gid,
        });
        let access = if kind == oci::DeviceType::Block { "rwm" } else { "rw" };
        linux.resources.get_or_insert_default().devices.push(oci::DeviceCgroup {
            allow: true,
            kind: Some(kind),
            major: Some(device.major),
            minor: Some(device.minor),
            access: access.to_owned(),
        });
    }
    Ok(())
}

fn namespaces(wanted: &[LinuxNamespace], into: &mut Vec<oci::Namespace>) -> Result<(), Error> {
    for namespace in wanted {
        let gone = removal(&namespace.kind);
        let kind = word(gone.unwrap_or(&namespace.kind), "linux.namespaces.type")?;
        into.retain(|old| old.kind != kind);
        if gone.is_none() {
            into.push(oci::Namespace { kind, path: namespace.path.clone() });
        }
    }
    Ok(())
}

/// The name of a number.
fn name(number: i32, names: &[&'static str], field: &str) -> Result<&'static str, Error> {
    let name = usize::try_from(number).ok().and_then(|number| names.get(number));
    name.copied().ok_or_else(|| refused(field, format!("no {number} is known")))
}

/// The names of numbers, in the runtime specification's words.
fn words<T: serde::de::DeserializeOwned>(
    numbers: &[i32],
    names: &[&'static str],
    field: &str,
) -> Result<Vec<T>, Error> {
    numbers.iter().map(|&number| word(name(number, names, field)?, field)).collect()
}

fn io_priority(wanted: &LinuxIoPriority) -> Result<Option<oci::IoPriority>, Error> {
    const CLASSES: [&str; 4] = ["", "IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"];
    let field = "linux.io_priority.class";
    match name(wanted.class, &CLASSES, field)? {
        "" => Ok(None),
        class => Ok(Some(oci::IoPriority { class: word(class, field)?, priority: wanted.priority })),
    }
}

fn scheduler(wanted: &LinuxScheduler) -> Result<Option<oci::Scheduler>, Error> {
    const POLICIES: [&str; 8] = [
        "",
        "SCHED_OTHER",
        "SCHED_FIFO",
        "SCHED_RR",
        "SCHED_BATCH",
        "SCHED_ISO",
        "SCHED_IDLE",
        "SCHED_DEADLINE",
    ];
    const FLAGS: [&str; 7] = [
        "SCHED_FLAG_RESET_ON_FORK",
        "SCHED_FLAG_RECLAIM",
        "SCHED_FLAG_DL_OVERRUN",
        "SCHED_FLAG_KEEP_POLICY",
        "SCHED_FLAG_KEEP_PARAMS",
        "SCHED_FLAG_UTIL_CLAMP_MIN",
        "SCHED_FLAG_UTIL_CLAMP_MAX",
    ];
    let field = "linux.scheduler.policy";
    let policy = match name(wanted.policy, &POLICIES, field)? {
        "" => return Ok(None),
        policy => word(policy, field)?,
    };
    Ok(Some(oci::Scheduler {
        policy,
        nice: wanted.nice,
        priority: wanted.priority,
        flags: words(&wanted.flags, &FLAGS, "linux.scheduler.flags")?,
        runtime: wanted.runtime,
        deadline: wanted.deadline,
        period: wanted.period,
    }))
}

fn memory_policy(wanted: &LinuxMemoryPolicy) -> Result<oci::MemoryPolicy, Error> {
    const MODES: [&str; 7] = [
        "MPOL_DEFAULT",
        "MPOL_PREFERRED",
        "MPOL_BIND",
        "MPOL_INTERLEAVE",
        "MPOL_LOCAL",
        "MPOL_PREFERRED_MANY",
        "MPOL_WEIGHTED_INTERLEAVE",
    ];
    const FLAGS: [&str; 3] = ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES", "MPOL_F_NUMA_BALANCING"];
    let field = "linux.memory_policy.mode";
    Ok(oci::MemoryPolicy {
        mode: word(name(wanted.mode, &MODES, field)?, field)?,
        nodes: wanted.nodes.clone(),
        flags: words(&wanted.flags, &FLAGS, "linux.memory_policy.flags")?,
    })
}

fn rdt(wanted: &LinuxRdt, into: &mut Option<oci::IntelRdt>) {
    if wanted.remove {
        *into = None;
    }
    if let Some(class) = &wanted.clos_id {
        into.get_or_insert_default().clos_id.clone_from(class);
    }
    if let Some(schemata) = &wanted.schemata {
        into.get_or_insert_default().schemata.clone_from(&schemata.value);
    }
    if let Some(monitoring) = wanted.enable_monitoring {
        into.get_or_insert_default().enable_monitoring = monitoring;
    }
}

/// All of a filter's words are the runtime specification's, and so is its form.
fn seccomp(wanted: &LinuxSeccomp) -> Result<oci::Seccomp, Error> {
    let syscalls: Vec<_> = wanted
        .syscalls
        .iter()
        .map(|rule| {
            let arguments = rule.args.iter().map(|argument| {
                json!({
                    "index": argument.index,
                    "value": argument.value,
                    "valueTwo": argument.value_two,
                    "op": argument.op,
                })
            });
            json!({
                "names": rule.names,
                "action": rule.action,
                "errnoRet": rule.errno_ret,
                "args": arguments.collect::<Vec<_>>(),
            })
        })
        .collect();
    let filter = json!({
        "defaultAction": wanted.default_action,
        "defaultErrnoRet": wanted.default_errno,
        "architectures": wanted.architectures,
        "flags": wanted.flags,
        "listenerPath": wanted.listener_path,
        "listenerMetadata": wanted.listener_metadata,
        "syscalls": syscalls,
    });
    serde_json::from_value(filter).map_err(|e| refused("linux.seccomp_policy", e))
}
