//! Which of the volumes that are there suits a claim.

use std::sync::Arc;

use client::cache::Name;
use client::quantity;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt as _;

use super::claim_of;
use crate::csi::names;
use crate::csi::reach::{reaches, selects};

/// The volume that a claim is to have: the one that was made for it, or the smallest free one that is large enough. `node`: the one that it
/// must be reachable from, where one is selected.
pub(crate) fn best(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    node: Option<&Node>,
) -> Option<Arc<PersistentVolume>> {
    let is_there = |volume: &&Arc<PersistentVolume>| volume.metadata.deletion_timestamp.is_none();
    let its = volumes
        .iter()
        .filter(is_there)
        .find(|volume| is_meant(volume, claim) && lacks(volume, claim).is_none());
    let free = volumes.iter().filter(is_there).filter(|volume| suits(volume, claim, node));
    its.or_else(|| free.min_by_key(|volume| capacity(volume))).cloned()
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

/// What a volume that a person has chosen for a claim has not got of what the claim asks for.
pub(super) fn lacks(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<String> {
    let (Some(has), Some(asks)) = (&volume.spec, &claim.spec) else { return Some("it has no spec".into()) };
    let asked = asks.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let bytes = asked.and_then(|asked| asked.get("storage")).and_then(quantity::bytes).unwrap_or_default();
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".into());
    if capacity(volume) < bytes {
        return Some(format!(
            "requested PV is too small: it has {} bytes, {bytes} are asked for",
            capacity(volume)
        ));
    }
    let (its, wanted) = (mode(&has.volume_mode), mode(&asks.volume_mode));
    (its != wanted).then(|| format!("incompatible volumeMode: it is {its}, {wanted} is asked for"))
}

/// The same, where nobody has chosen it for the claim, but the claim it.
pub(super) fn lacks_of_class(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<String> {
    let (Some(has), Some(asks)) = (&volume.spec, &claim.spec) else { return Some("it has no spec".into()) };
    let text = |of: &Option<String>| of.clone().unwrap_or_default();
    let pairs = [
        ("storageClassName", text(&has.storage_class_name), names::class(claim).to_owned()),
        (
            "volumeAttributesClassName",
            text(&has.volume_attributes_class_name),
            text(&asks.volume_attributes_class_name),
        ),
    ];
    if let Some((field, its, wanted)) = pairs.iter().find(|(_, its, wanted)| its != wanted) {
        return Some(format!("{field} does not match: it is {its:?}, {wanted:?} is asked for"));
    }
    let modes = has.access_modes.as_deref().unwrap_or_default();
    let missing = asks.access_modes.iter().flatten().find(|mode| !modes.contains(mode));
    missing.map(|mode| format!("incompatible accessMode: it has no {mode}"))
}

/// Whether a free volume is what a claim asks for.
fn suits(volume: &PersistentVolume, claim: &PersistentVolumeClaim, node: Option<&Node>) -> bool {
    let (Some(has), Some(asks)) = (&volume.spec, &claim.spec) else { return false };
    has.claim_ref.is_none()
        && volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Available")
        && lacks(volume, claim).is_none()
        && lacks_of_class(volume, claim).is_none()
        && asks.selector.as_ref().is_none_or(|selector| selects(selector, volume.labels()))
        && node.is_none_or(|node| reaches(has.node_affinity.as_ref(), &node.name_any(), node.labels()))
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
        best_at(claim, volumes, None)
    }

    fn best_at(claim: Value, volumes: &[Arc<PersistentVolume>], node: Option<&str>) -> Option<String> {
        let node = node.map(|node| {
            serde_json::from_value(json!({"metadata": {"name": node, "labels": {"node": node}}})).unwrap()
        });
        let mut spec =
            json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}});
        spec.as_object_mut().unwrap().extend(claim.as_object().unwrap().clone());
        let metadata = json!({"name": "data", "namespace": "shop", "uid": "1"});
        let claim = serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap();
        best(&claim, volumes, node.as_ref()).map(|volume| volume.name_any())
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
            json!({"volumeAttributesClassName": "gold"}),
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

    #[test]
    fn what_was_made_for_a_claim_must_be_what_it_asks_for_and_stay() {
        let made = json!({"claimRef": {"namespace": "shop", "name": "data"}, "storageClassName": "other"});
        assert_eq!(best_of(json!({}), &[volume("its", "2Gi", made.clone())]).as_deref(), Some("its"));
        let small = volume("its", "1Gi", made.clone());
        assert_eq!(best_of(json!({}), &[small]), None);
        assert_eq!(best_of(json!({"volumeMode": "Block"}), &[volume("its", "2Gi", made.clone())]), None);
        let mut going = (*volume("its", "2Gi", made)).clone();
        going.metadata.deletion_timestamp = Some(crate::csi::volume::now());
        assert_eq!(best_of(json!({}), &[Arc::new(going)]), None);
    }

    #[test]
    fn a_free_volume_is_reachable_from_the_selected_node() {
        let on = |node: &str| {
            json!({"nodeAffinity": {"required": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "node", "operator": "In", "values": [node]}]}]}}})
        };
        let volumes = [volume("small", "2Gi", on("n1")), volume("large", "9Gi", on("n2"))];
        assert_eq!(best_at(json!({}), &volumes, Some("n2")).as_deref(), Some("large"));
        assert_eq!(best_at(json!({}), &volumes, Some("n3")), None);
        assert_eq!(best_at(json!({}), &volumes, None).as_deref(), Some("small"));
    }
}
