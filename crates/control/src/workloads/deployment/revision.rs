//! Which ReplicaSet is of which template, and in which order they came.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::{Resource, ResourceExt as _};
use serde_json::Value;

use crate::workloads::{TEMPLATE_HASH, pods};

/// On a set and its Deployment: the how manieth template it is.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
/// On a set: which ones it has been before.
pub(super) const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// So many characters of that at most.
const HISTORY_MAX: usize = 2000;
/// On a set: how many pods the Deployment asked for when it was given its number.
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// On a set: how many there might be of all then.
pub(super) const MOST: &str = "deployment.kubernetes.io/max-replicas";
/// What a set does not take over from its Deployment.
const OWN: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MOST,
    "deprecated.deployment.rollback.to",
];

/// An annotation that is a number.
pub(super) fn number<K: Resource>(object: &K, annotation: &str) -> Option<i64> {
    object.annotations().get(annotation)?.parse().ok()
}

/// A template without what only tells it from others.
fn plain(template: Option<&PodTemplateSpec>) -> Value {
    let mut template = template.cloned().unwrap_or_default();
    if let Some(labels) = template.metadata.as_mut().and_then(|metadata| metadata.labels.as_mut()) {
        labels.remove(TEMPLATE_HASH);
    }
    serde_json::to_value(template).unwrap_or_default()
}

fn template(deployment: &Deployment) -> Option<&PodTemplateSpec> {
    deployment.spec.as_ref().map(|spec| &spec.template)
}

/// Whether a set is of the Deployment's template.
pub(super) fn is_of(set: &ReplicaSet, deployment: &Deployment) -> bool {
    let its = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    plain(its) == plain(template(deployment))
}

/// The set of the template as it is, and the others, the oldest first.
pub(super) fn sorted(
    deployment: &Deployment,
    mut sets: Vec<Arc<ReplicaSet>>,
) -> (Option<Arc<ReplicaSet>>, Vec<Arc<ReplicaSet>>) {
    sets.sort_by_key(|set| (set.metadata.creation_timestamp.as_ref().map(|at| at.0), set.name_any()));
    let new = sets.iter().find(|set| is_of(set, deployment)).cloned();
    sets.retain(|set| new.as_ref().is_none_or(|new| !Arc::ptr_eq(new, set)));
    (new, sets)
}

/// The name of a template among those of its Deployment.
pub(super) fn hash(deployment: &Deployment) -> String {
    let mut text = plain(template(deployment)).to_string();
    if let Some(collisions) = deployment.status.as_ref().and_then(|status| status.collision_count) {
        text.push_str(&collisions.to_string());
    }
    pods::encode(pods::fnv(text.as_bytes()))
}

/// What a set has been before, and has been now; the first of it is forgotten where it grows too long.
fn history(before: &str, held: i64) -> String {
    let all = if before.is_empty() { held.to_string() } else { format!("{before},{held}") };
    let mut left = all.as_str();
    while left.len() > HISTORY_MAX {
        let Some((_, rest)) = left.split_once(',') else { break };
        left = rest;
    }
    left.to_owned()
}

/// The annotations that the new set is to have, of those it may lack.
pub(super) fn annotations(
    deployment: &Deployment,
    new: Option<&ReplicaSet>,
    old: &[Arc<ReplicaSet>],
) -> BTreeMap<String, String> {
    let taken = deployment.annotations().iter().filter(|(key, _)| !OWN.contains(&key.as_str()));
    let mut wanted: BTreeMap<String, String> =
        taken.map(|(key, value)| (key.clone(), value.clone())).collect();
    let next = old.iter().filter_map(|set| number(&**set, REVISION)).max().unwrap_or_default() + 1;
    let held = new.and_then(|new| number(new, REVISION));
    if held.is_none_or(|held| held < next) {
        wanted.insert(REVISION.into(), next.to_string());
        if let (Some(new), Some(held)) = (new, held) {
            let before = new.annotations().get(HISTORY).map(String::as_str).unwrap_or_default();
            wanted.insert(HISTORY.into(), history(before, held));
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_does_not_grow_for_ever() {
        assert_eq!((history("", 1), history("1,3", 5)), ("1".into(), "1,3,5".into()));
        let long = (1000..1400).map(|held| held.to_string()).collect::<Vec<_>>().join(",");
        let told = history(&long, 1400);
        assert!(
            told.len() <= HISTORY_MAX && told.starts_with("1001,") && told.ends_with(",1399,1400"),
            "{told}"
        );
    }
}
