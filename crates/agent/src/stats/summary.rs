//! `/stats/summary`, as kubelets write it.

use std::collections::BTreeMap;
use std::path::Path;

use cri::contract::v1::{
    ContainerStats, CpuUsage, MemoryUsage, NetworkInterfaceUsage, PodSandboxStats, UInt64Value,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{Snapshot, name, names};
use crate::agent::Agent;
use crate::collect::disk;
use crate::names::Key;
use crate::runtime::Failed;
use crate::usage::{self, OfPod, Taken};
use crate::volumes;

/// Everything, in JSON.
pub(crate) async fn summary(
    agent: &Agent,
    all: &Snapshot,
    only_cpu_and_memory: bool,
) -> Result<Value, Failed> {
    let at = all.at.to_string();
    let mut node = json!({
        "nodeName": agent.setup.node, "startTime": agent.started.to_string(),
        "cpu": {"time": at, "usageNanoCores": all.node.rate, "usageCoreNanoSeconds": all.node.cpu},
        "memory": {"time": at, "availableBytes": agent.machine.memory - all.node.memory,
            "usageBytes": all.node.memory, "workingSetBytes": all.node.memory}});
    let (nodefs, imagefs) = (space(&agent.setup.folder), disk(agent).await?);
    let mut on_disk = BTreeMap::new();
    if !only_cpu_and_memory {
        node["fs"] = with(&nodefs, &at, None);
        let imagefs = imagefs.map(|(whole, free)| json!({"time": at, "capacityBytes": whole, "availableBytes": free, "usedBytes": whole - free}));
        node["runtime"] = json!({"imageFs": imagefs, "containerFs": imagefs});
        let (most, now) = agent.machine.pids();
        node["rlimit"] = json!({"time": at, "maxpid": most, "curproc": now});
        on_disk = of_pods(agent).await;
    }
    let pods: Vec<Value> = all
        .pods
        .iter()
        .map(|stats| {
            let of = names(stats.attributes.as_ref());
            pod(
                stats,
                agent.named(&client::cache::Name::new(of[0], of[1])).as_deref(),
                on_disk.get(of[2]),
                &nodefs,
                &at,
            )
        })
        .collect();
    Ok(json!({"node": node, "pods": pods}))
}

/// What pods have on the disk, by their uids; a thread looks.
pub(crate) async fn of_pods(agent: &Agent) -> BTreeMap<String, OfPod> {
    let places = agent.all_pods().into_iter().map(|pod| {
        let key = Key::of(&pod);
        (key.uid.clone(), volumes::folder(&agent.setup.folder, &key.uid), key.logs(&agent.setup.logs))
    });
    let places: Vec<_> = places.collect();
    let looking = tokio::task::spawn_blocking(move || {
        places.into_iter().map(|(uid, folder, logs)| (uid, usage::of_pod(&folder, &logs))).collect()
    });
    looking.await.unwrap_or_default()
}

/// A filesystem: bytes and inodes, and what is free of both.
#[derive(Clone, Copy, Debug, Default)]
struct Space {
    bytes: [u64; 2],
    inodes: [u64; 2],
}

fn space(path: &Path) -> Space {
    let Ok(fs) = rustix::fs::statvfs(path) else { return Space::default() };
    let bytes = |blocks: u64| blocks.saturating_mul(fs.f_frsize);
    Space { bytes: [bytes(fs.f_blocks), bytes(fs.f_bavail)], inodes: [fs.f_files, fs.f_ffree] }
}

/// As it is told, with what of it somebody has taken; without, all that is taken.
fn with(space: &Space, at: &str, taken: Option<Taken>) -> Value {
    let of = |all: [u64; 2]| all[0].saturating_sub(all[1]);
    let taken = taken.unwrap_or(Taken { bytes: of(space.bytes), files: of(space.inodes) });
    json!({"time": at, "capacityBytes": space.bytes[0], "availableBytes": space.bytes[1], "usedBytes": taken.bytes,
        "inodes": space.inodes[0], "inodesFree": space.inodes[1], "inodesUsed": taken.files})
}

fn pod(
    stats: &PodSandboxStats,
    object: Option<&Pod>,
    on_disk: Option<&OfPod>,
    nodefs: &Space,
    at: &str,
) -> Value {
    let [namespace, pod, uid] = names(stats.attributes.as_ref());
    let linux = stats.linux.clone().unwrap_or_default();
    let began = object.and_then(|pod| pod.status.as_ref()?.start_time.as_ref());
    let layers = linux.containers.iter().filter_map(|one| one.writable_layer.as_ref());
    let layers = layers
        .map(|layer| number(layer.used_bytes.as_ref()).unwrap_or_default())
        .fold(0, u64::saturating_add);
    let containers: Vec<Value> =
        linux.containers.iter().map(|one| container(one, object, on_disk, nodefs, at)).collect();
    let mut told = json!({
        "podRef": {"name": pod, "namespace": namespace, "uid": uid},
        "startTime": began.map(|time| time.0.to_string()), "containers": containers,
        "cpu": cpu(linux.cpu.as_ref()), "memory": memory(linux.memory.as_ref()),
        "process_stats": {"process_count": linux.process.as_ref().and_then(|all| number(all.process_count.as_ref()))}});
    if let Some(network) = &linux.network {
        let mut of = network.default_interface.as_ref().map(interface).unwrap_or_else(|| json!({}));
        of["time"] = json!(time(network.timestamp));
        of["interfaces"] =
            network.interfaces.iter().chain(&network.default_interface).map(interface).collect();
        told["network"] = of;
    }
    if let Some(on_disk) = on_disk {
        let volumes = on_disk.volumes.iter().map(|(name, taken)| {
            let mut of = with(nodefs, at, Some(*taken));
            of["name"] = json!(name);
            of
        });
        told["volume"] = volumes.collect();
        let all = on_disk.sum().and(Taken { bytes: layers, files: 0 });
        told["ephemeral-storage"] = with(nodefs, at, Some(all));
    }
    told
}

fn container(
    stats: &ContainerStats,
    object: Option<&Pod>,
    on_disk: Option<&OfPod>,
    nodefs: &Space,
    at: &str,
) -> Value {
    let name = name(stats.attributes.as_ref());
    let past = object.and_then(|pod| crate::pod::status::past(pod.status.as_ref()?, name));
    let began = past.and_then(|told| told.state.as_ref()?.running.as_ref()?.started_at.as_ref());
    let layer = stats.writable_layer.as_ref().map(|layer| Taken {
        bytes: number(layer.used_bytes.as_ref()).unwrap_or_default(),
        files: number(layer.inodes_used.as_ref()).unwrap_or_default(),
    });
    let logs = on_disk.and_then(|all| all.logs.iter().find(|(of, _)| of == name));
    json!({"name": name, "startTime": began.map(|time| time.0.to_string()), "cpu": cpu(stats.cpu.as_ref()),
        "memory": memory(stats.memory.as_ref()), "rootfs": layer.map(|taken| with(nodefs, at, Some(taken))),
        "logs": logs.map(|(_, taken)| with(nodefs, at, Some(*taken)))})
}

fn number(value: Option<&UInt64Value>) -> Option<u64> {
    value.map(|one| one.value)
}

fn time(nanoseconds: i64) -> Option<String> {
    Timestamp::from_nanosecond(nanoseconds.into()).ok().map(|time| time.to_string())
}

fn cpu(all: Option<&CpuUsage>) -> Option<Value> {
    let all = all?;
    Some(json!({"time": time(all.timestamp), "usageNanoCores": number(all.usage_nano_cores.as_ref()),
        "usageCoreNanoSeconds": number(all.usage_core_nano_seconds.as_ref())}))
}

fn memory(all: Option<&MemoryUsage>) -> Option<Value> {
    let all = all?;
    Some(json!({"time": time(all.timestamp), "availableBytes": number(all.available_bytes.as_ref()),
        "usageBytes": number(all.usage_bytes.as_ref()), "workingSetBytes": number(all.working_set_bytes.as_ref()),
        "rssBytes": number(all.rss_bytes.as_ref()), "pageFaults": number(all.page_faults.as_ref()),
        "majorPageFaults": number(all.major_page_faults.as_ref())}))
}

fn interface(one: &NetworkInterfaceUsage) -> Value {
    json!({"name": one.name, "rxBytes": number(one.rx_bytes.as_ref()), "rxErrors": number(one.rx_errors.as_ref()),
        "txBytes": number(one.tx_bytes.as_ref()), "txErrors": number(one.tx_errors.as_ref())})
}
