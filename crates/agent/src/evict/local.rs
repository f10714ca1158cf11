//! Limits of what pods may have on the node's disk: of a volume, a container, a pod.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::quantity;
use cri::contract::v1::PodSandboxStats;
use k8s_openapi::api::core::v1::Pod;

use super::{evict, stays};
use crate::agent::Agent;
use crate::names::Key;
use crate::pod::resources::amount;
use crate::pod::spec::is_over;
use crate::stats::{name, names, snapshot};
use crate::usage::{self, OfPod};
use crate::volumes;

/// The resource.
const STORAGE: &str = "ephemeral-storage";

/// Evicts the pods that have more than they may.
pub(super) async fn look(agent: &Arc<Agent>) {
    let pods = agent.all_pods();
    let limited: Vec<&Arc<Pod>> =
        pods.iter().filter(|pod| !is_over(pod) && is_limited(pod) && !stays(agent, pod)).collect();
    if limited.is_empty() {
        return;
    }
    let places: Vec<_> = limited
        .iter()
        .map(|pod| {
            let key = Key::of(pod);
            (volumes::folder(&agent.setup.folder, &key.uid), key.logs(&agent.setup.logs))
        })
        .collect();
    let looking = tokio::task::spawn_blocking(move || {
        places.into_iter().map(|(folder, logs)| usage::of_pod(&folder, &logs)).collect::<Vec<_>>()
    });
    // What cannot be told now is told the next time.
    let (Ok(on_disk), Ok(all)) = (looking.await, snapshot(agent).await) else { return };
    for (pod, on_disk) in limited.into_iter().zip(on_disk) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let stats = all.pods.iter().find(|one| names(one.attributes.as_ref())[2] == uid);
        if let Some(message) = exceeds(pod, &on_disk, stats) {
            evict(agent, pod, message, false);
        }
    }
}

fn is_limited(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    limits(pod).next().is_some()
        || spec
            .volumes
            .iter()
            .flatten()
            .any(|one| one.empty_dir.as_ref().is_some_and(|dir| dir.size_limit.is_some()))
}

/// Containers with their limits.
fn limits(pod: &Pod) -> impl Iterator<Item = (&str, u64)> {
    let all =
        pod.spec.iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    all.filter_map(|one| {
        let limits = one.resources.as_ref().and_then(|all| all.limits.as_ref());
        Some((one.name.as_str(), u64::try_from(amount(limits, STORAGE)?).ok()?))
    })
}

/// What is too much, in a kubelet's words.
fn exceeds(pod: &Pod, on_disk: &OfPod, stats: Option<&PodSandboxStats>) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    for volume in spec.volumes.iter().flatten() {
        let limit = volume.empty_dir.as_ref().and_then(|dir| dir.size_limit.as_ref());
        let Some((limit, text)) = limit.and_then(|limit| Some((quantity::bytes(limit)?, &limit.0))) else {
            continue;
        };
        let taken =
            on_disk.volumes.iter().find(|(name, _)| *name == volume.name).map_or(0, |(_, taken)| taken.bytes);
        if limit > 0 && taken > u64::try_from(limit).unwrap_or(u64::MAX) {
            return Some(format!("Usage of EmptyDir volume {:?} exceeds the limit {text:?}. ", volume.name));
        }
    }
    let mut taken: BTreeMap<&str, u64> =
        on_disk.logs.iter().map(|(name, taken)| (name.as_str(), taken.bytes)).collect();
    for one in stats.and_then(|stats| stats.linux.as_ref()).into_iter().flat_map(|linux| &linux.containers) {
        let layer = one
            .writable_layer
            .as_ref()
            .and_then(|layer| layer.used_bytes.as_ref())
            .map_or(0, |one| one.value);
        let all = taken.entry(name(one.attributes.as_ref())).or_default();
        *all = all.saturating_add(layer);
    }
    let words = |bytes: u64| quantity::of(i64::try_from(bytes).unwrap_or(i64::MAX)).0;
    // The pod as a whole is limited where each of its containers is.
    let whole: u64 = limits(pod).fold(0, |sum, (_, limit)| sum.saturating_add(limit));
    let is_whole = spec.containers.iter().all(|one| limits(pod).any(|(name, _)| name == one.name));
    let volumes = on_disk.volumes.iter().fold(0, |sum: u64, (_, taken)| sum.saturating_add(taken.bytes));
    let together = taken.values().fold(volumes, |sum, taken| sum.saturating_add(*taken));
    if is_whole && together > whole {
        return Some(format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {}. ",
            words(whole)
        ));
    }
    let (name, limit) =
        limits(pod).find(|(name, limit)| taken.get(name).is_some_and(|taken| taken > limit))?;
    Some(format!("Container {name} exceeded its local ephemeral storage limit {:?}. ", words(limit)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::usage::Taken;

    #[test]
    fn volumes_containers_and_pods_have_limits() {
        let limit = |name: &str, limit: &str| json!({"name": name, "resources": {"limits": {"ephemeral-storage": limit}}});
        let pod: Pod =
            serde_json::from_value(json!({"spec": {"containers": [limit("a", "1Mi"), limit("b", "3Mi")],
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "2Mi"}}]}}))
            .unwrap();
        assert!(is_limited(&pod));
        let said = |volume: u64, a: u64, b: u64| {
            let of = |bytes: u64| Taken { bytes: bytes << 10, files: 0 };
            let on_disk = OfPod {
                volumes: vec![("v".into(), of(volume))],
                logs: vec![("a".into(), of(a)), ("b".into(), of(b))],
            };
            exceeds(&pod, &on_disk, None)
        };
        assert_eq!(said(2048, 1024, 1024), None);
        assert_eq!(said(2049, 0, 0).unwrap(), "Usage of EmptyDir volume \"v\" exceeds the limit \"2Mi\". ");
        assert_eq!(
            said(2048, 1025, 0).unwrap(),
            "Container a exceeded its local ephemeral storage limit \"1Mi\". "
        );
        let whole = "Pod ephemeral local storage usage exceeds the total limit of containers 4Mi. ";
        assert_eq!(said(2048, 1024, 1025).unwrap(), whole);
    }
}
