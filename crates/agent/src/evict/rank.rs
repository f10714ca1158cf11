//! Which pod goes first.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use client::quantity;
use cri::contract::v1::{ContainerStats, PodSandboxStats};
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::limits::Signal;
use crate::pod::resources::amount;
use crate::stats::{name, names};
use crate::usage::OfPod;

/// A pod with what it uses of what the node is short of.
#[derive(Clone, Debug)]
pub(super) struct Used<'a> {
    /// The pod.
    pub(super) pod: &'a Pod,
    /// Bytes, files or processes.
    used: u64,
    /// What it has asked for of that.
    asked: u64,
    /// Its containers: name, used, asked for.
    containers: Vec<(String, u64, u64)>,
}

/// What a pod uses.
pub(super) fn used<'a>(
    pod: &'a Pod,
    signal: Signal,
    stats: &[PodSandboxStats],
    on_disk: &BTreeMap<String, OfPod>,
) -> Used<'a> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let of = stats.iter().find(|one| names(one.attributes.as_ref())[2] == uid);
    let linux = of.and_then(|of| of.linux.as_ref());
    let on_disk = on_disk.get(uid);
    let of_container = |one: &ContainerStats| {
        let name = name(one.attributes.as_ref());
        let layer = one.writable_layer.as_ref();
        let (value, log) = match signal {
            Signal::Memory => (one.memory.as_ref().and_then(|memory| memory.working_set_bytes.as_ref()), 0),
            Signal::Disk | Signal::ImageDisk => {
                (layer.and_then(|layer| layer.used_bytes.as_ref()), logs(on_disk, name).0)
            }
            Signal::DiskInodes | Signal::ImageDiskInodes => {
                (layer.and_then(|layer| layer.inodes_used.as_ref()), logs(on_disk, name).1)
            }
            Signal::Pids => (None, 0),
        };
        value.map_or(0, |one| one.value).saturating_add(log)
    };
    let measured = linux.map(|linux| linux.containers.as_slice()).unwrap_or_default();
    let containers: Vec<(String, u64, u64)> = measured
        .iter()
        .map(|one| {
            let name = name(one.attributes.as_ref());
            (name.to_owned(), of_container(one), container(pod, name).map_or(0, |one| asked(one, signal)))
        })
        .collect();
    let volumes = on_disk.map(|all| {
        all.volumes.iter().fold((0_u64, 0_u64), |sum, (_, one)| (sum.0 + one.bytes, sum.1 + one.files))
    });
    let volumes = volumes.unwrap_or_default();
    let together = containers.iter().fold(0, |sum: u64, (_, used, _)| sum.saturating_add(*used));
    let used = match signal {
        Signal::Memory => together,
        Signal::Disk | Signal::ImageDisk => together.saturating_add(volumes.0),
        Signal::DiskInodes | Signal::ImageDiskInodes => together.saturating_add(volumes.1),
        Signal::Pids => {
            linux.and_then(|linux| linux.process.as_ref()?.process_count.as_ref()).map_or(0, |one| one.value)
        }
    };
    let spec = pod.spec.iter().flat_map(|spec| &spec.containers);
    let asked = spec.fold(0, |sum: u64, one| sum.saturating_add(asked(one, signal)));
    Used { pod, used, asked, containers }
}

fn logs(on_disk: Option<&OfPod>, container: &str) -> (u64, u64) {
    let found = on_disk.and_then(|all| all.logs.iter().find(|(name, _)| name == container));
    found.map_or((0, 0), |(_, taken)| (taken.bytes, taken.files))
}

fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|one| one.name == name)
}

/// What a container has asked for; nobody asks for files or processes.
fn asked(container: &Container, signal: Signal) -> u64 {
    let requests = container.resources.as_ref().and_then(|all| all.requests.as_ref());
    let of = |name| amount(requests, name).and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default();
    match signal {
        Signal::Memory => of("memory"),
        Signal::Disk | Signal::ImageDisk => of("ephemeral-storage"),
        _ => 0,
    }
}

/// Those first that use more than they have asked for, then those of less priority, then those that use most beyond that.
pub(super) fn sort(used: &mut [Used<'_>], signal: Signal) {
    used.sort_by_key(|one| {
        let priority = one.pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or_default();
        let exceeds = signal != Signal::Pids && one.used > one.asked;
        (Reverse(exceeds), priority, Reverse(one.used.saturating_sub(one.asked)))
    });
}

/// Why it goes, in a kubelet's words.
pub(super) fn words(one: &Used<'_>, signal: Signal, least: u64, left: u64) -> String {
    let resource = signal.resource();
    let amount = |value: u64| match signal {
        Signal::Memory | Signal::Disk | Signal::ImageDisk => {
            quantity::of(i64::try_from(value).unwrap_or(i64::MAX)).0
        }
        _ => value.to_string(),
    };
    let mut words = format!(
        "The node was low on resource: {resource}. Threshold quantity: {}, available: {}. ",
        amount(least),
        amount(left)
    );
    for (name, used, asked) in one.containers.iter().filter(|(_, used, asked)| used > asked) {
        let (used, asked) = (amount(*used), amount(*asked));
        let _ = write!(
            words,
            "Container {name} was using {used}, request is {asked}, has larger consumption of {resource}. "
        );
    }
    words
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, priority: i32, asks: &str) -> Pod {
        let container = json!({"name": "c", "resources": {"requests": {"memory": asks}}});
        serde_json::from_value(json!({"metadata": {"name": name, "uid": name}, "spec": {"priority": priority, "containers": [container]}})).unwrap()
    }

    #[test]
    fn those_go_first_that_take_more_than_they_asked_for() {
        let pods =
            [pod("modest", 0, "100"), pod("greedy", 0, "0"), pod("greedier", 0, "50"), pod("great", 9, "0")];
        let used = [90, 30, 120, 500];
        let of = |(pod, used): (_, u64)| Used {
            pod,
            used,
            asked: asked(&pod.spec.as_ref().unwrap().containers[0], Signal::Memory),
            containers: vec![("c".into(), used, 0)],
        };
        let mut all: Vec<Used<'_>> = pods.iter().zip(used).map(of).collect();
        sort(&mut all, Signal::Memory);
        let names: Vec<_> = all.iter().map(|one| one.pod.metadata.name.as_deref().unwrap()).collect();
        assert_eq!(names, ["greedier", "greedy", "great", "modest"]);
        assert_eq!(
            words(&all[0], Signal::Memory, 100 << 20, 1 << 20),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 1Mi. \
             Container c was using 120, request is 0, has larger consumption of memory. "
        );
    }
}
