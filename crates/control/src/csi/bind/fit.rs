//! Which of the volumes that are there suits a claim.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt as _;

use super::claim_of;
use crate::cache::Name;
use crate::csi::{names, quantity};

/// The volume that a claim is to have: the one that was made for it, or the smallest free one that is large enough.
pub(super) fn best(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
) -> Option<Arc<PersistentVolume>> {
    let its = volumes.iter().find(|volume| is_meant(volume, claim));
    its.or_else(|| volumes.iter().filter(|volume| suits(volume, claim)).min_by_key(|volume| capacity(volume)))
        .cloned()
}

/// Whether a volume names a claim.
pub(super) fn is_meant(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let uid =
        volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()).and_then(|claim| claim.uid.as_ref());
    claim_of(volume) == Some(Name::of(claim)) && (uid.is_none() || uid == claim.metadata.uid.as_ref())
}

fn capacity(volume: &PersistentVolume) -> i64 {
    let amounts = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref());
    amounts.and_then(|amounts| amounts.get("storage")).and_then(quantity::bytes).unwrap_or_default()
}

/// Whether a free volume is what a claim asks for.
fn suits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(has), Some(asks)) = (&volume.spec, &claim.spec) else { return false };
    let is_free = has.claim_ref.is_none()
        && volume.metadata.deletion_timestamp.is_none()
        && volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Available");
    let asked = asks.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let bytes = asked.and_then(|asked| asked.get("storage")).and_then(quantity::bytes).unwrap_or_default();
    let modes = has.access_modes.clone().unwrap_or_default();
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".into());
    is_free
        && has.storage_class_name.as_deref().unwrap_or_default() == names::class(claim)
        && mode(&has.volume_mode) == mode(&asks.volume_mode)
        && asks.access_modes.iter().flatten().all(|mode| modes.contains(mode))
        && capacity(volume) >= bytes
        && asks.selector.as_ref().is_none_or(|selector| selects(selector, volume.labels()))
}

fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let mut plain = selector.match_labels.iter().flatten();
    let mut rules = selector.match_expressions.iter().flatten();
    plain.all(|(key, value)| labels.get(key) == Some(value))
        && rules.all(|rule| {
            let value = labels.get(&rule.key);
            let listed = value.is_some_and(|value| rule.values.iter().flatten().any(|one| one == value));
            match rule.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn volume(name: &str, size: &str, spec: Value) -> Arc<PersistentVolume> {
        let mut whole =
            json!({"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce", "ReadOnlyMany"]});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let metadata = json!({"name": name, "labels": {"disk": name}});
        let status = json!({"phase": "Available"});
        Arc::new(
            serde_json::from_value(json!({"metadata": metadata, "spec": whole, "status": status})).unwrap(),
        )
    }

    fn best_of(claim: Value, volumes: &[Arc<PersistentVolume>]) -> Option<String> {
        let mut spec =
            json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}});
        spec.as_object_mut().unwrap().extend(claim.as_object().unwrap().clone());
        let metadata = json!({"name": "data", "namespace": "shop", "uid": "1"});
        let claim = serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap();
        best(&claim, volumes).map(|volume| volume.name_any())
    }

    #[test]
    fn the_smallest_that_is_large_enough_is_taken() {
        let volumes =
            [volume("a", "1Gi", json!({})), volume("b", "9Gi", json!({})), volume("c", "3Gi", json!({}))];
        assert_eq!(best_of(json!({}), &volumes).as_deref(), Some("c"));
        let labelled = json!({"selector": {"matchLabels": {"disk": "b"}}});
        assert_eq!(best_of(labelled, &volumes).as_deref(), Some("b"));
        for other in [
            json!({"accessModes": ["ReadWriteMany"]}),
            json!({"volumeMode": "Block"}),
            json!({"storageClassName": "fast"}),
            json!({"resources": {"requests": {"storage": "10Gi"}}}),
        ] {
            assert_eq!(best_of(other.clone(), &volumes), None, "{other}");
        }
    }

    #[test]
    fn what_was_made_for_a_claim_comes_first() {
        let made = |uid: &str| json!({"claimRef": {"namespace": "shop", "name": "data", "uid": uid}});
        let free = volume("free", "2Gi", json!({}));
        let volumes = [free.clone(), volume("its", "9Gi", made("1"))];
        assert_eq!(best_of(json!({}), &volumes).as_deref(), Some("its"));
        let volumes = [free, volume("other", "9Gi", made("0"))];
        assert_eq!(best_of(json!({}), &volumes).as_deref(), Some("free"), "that claim is gone");
    }
}
