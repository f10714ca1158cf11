//! The claims of a pod: whether a node reaches their volumes, or can be given ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::cache::Name;
use client::quantity;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::{CSIDriver, CSIStorageCapacity, StorageClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt as _;

use super::{Refusal, Space};
use crate::csi::{bind, names, reach};
use crate::workloads::{owned, pods};

const NOBODY: &str = "kubernetes.io/no-provisioner";
const COMPLETED: &str = "pv.kubernetes.io/bind-completed";

/// Claims, volumes and classes, and how much drivers have left.
#[derive(Clone, Debug, Default)]
pub(super) struct Storage {
    pub(super) claims: BTreeMap<Name, Arc<PersistentVolumeClaim>>,
    pub(super) volumes: Vec<Arc<PersistentVolume>>,
    pub(super) classes: BTreeMap<String, Arc<StorageClass>>,
    pub(super) drivers: BTreeMap<String, Arc<CSIDriver>>,
    pub(super) capacities: Vec<Arc<CSIStorageCapacity>>,
}

/// What a pod's claims ask of a node.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    bound: Vec<Option<Arc<PersistentVolume>>>,
    /// Claims that wait for the node of their first pod.
    pub(super) waiting: Vec<Arc<PersistentVolumeClaim>>,
    /// Those that one pod alone may use.
    alone: Vec<Name>,
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    names::volume(claim).is_some() && claim.annotations().contains_key(COMPLETED)
}

/// What the claims ask for, or why no node will do.
pub(super) fn wanted(pod: &Pod, storage: &Storage) -> Result<Wanted, String> {
    let mut wanted = Wanted::default();
    let mut is_unbound = false;
    for name in bind::used(pod) {
        let told = name.name.clone();
        let mut its = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let is_made =
            its.any(|one| one.ephemeral.is_some() && format!("{}-{}", pod.name_any(), one.name) == told);
        let Some(claim) = storage.claims.get(&name) else {
            return Err(if is_made {
                format!(
                    "waiting for ephemeral volume controller to create the persistentvolumeclaim {told:?}"
                )
            } else {
                format!("persistentvolumeclaim {told:?} not found")
            });
        };
        if is_made && !owned::is_of(&claim.metadata, pod.metadata.uid.as_deref().unwrap_or_default()) {
            return Err(format!("PVC {name} was not created for pod {} (pod is not owner)", Name::of(pod)));
        }
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(format!("persistentvolumeclaim {told:?} is being deleted"));
        }
        if names::phase(claim) == "Lost" {
            let volume = names::volume(claim).unwrap_or_default();
            return Err(format!(
                "persistentvolumeclaim {told:?} bound to non-existent persistentvolume {volume:?}"
            ));
        }
        let modes = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
        if modes.into_iter().flatten().any(|mode| mode == "ReadWriteOncePod") {
            wanted.alone.push(name);
        }
        let mode =
            storage.classes.get(names::class(claim)).and_then(|class| class.volume_binding_mode.as_deref());
        if is_bound(claim) {
            let volume = names::volume(claim).unwrap_or_default();
            wanted.bound.push(storage.volumes.iter().find(|one| one.name_any() == volume).cloned());
        } else if mode == Some("WaitForFirstConsumer") && names::volume(claim).is_none() {
            wanted.waiting.push(claim.clone());
        } else {
            is_unbound = true;
        }
    }
    if is_unbound { Err("pod has unbound immediate PersistentVolumeClaims".into()) } else { Ok(wanted) }
}

/// Why a node is none for the pod's volumes.
pub(super) fn refuses(pod: &Pod, wanted: &Wanted, node: &Node, space: &Space<'_>) -> Option<Refusal> {
    let other = |other: &Arc<Pod>| other.metadata.uid != pod.metadata.uid;
    let mut others =
        space.places.iter().flat_map(|place| &place.pods).filter(|pod| other(pod) && !pods::is_over(pod));
    if !wanted.alone.is_empty()
        && others.any(|other| bind::used(other).any(|used| wanted.alone.contains(&used)))
    {
        let text = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already \
                    in-use by another pod";
        return Some(Refusal::for_now(text));
    }
    let mut refusal = Refusal::default();
    let (name, labels) = (node.name_any(), node.labels());
    let affinity =
        |volume: &PersistentVolume| volume.spec.as_ref().and_then(|spec| spec.node_affinity.clone());
    let mut bound = wanted.bound.iter().flatten();
    if bound.any(|volume| !reach::reaches(affinity(volume).as_ref(), &name, labels)) {
        refusal.reasons.push("node(s) didn't match PersistentVolume's node affinity".into());
    }
    let had: Vec<Has> = wanted.waiting.iter().map(|claim| can_have(claim, node, space.storage)).collect();
    if had.contains(&Has::None) {
        refusal.reasons.push("node(s) didn't find available persistent volumes to bind".into());
    }
    if had.contains(&Has::NoRoom) {
        refusal.reasons.push("node(s) did not have enough free storage".into());
    }
    if wanted.bound.iter().any(Option::is_none) {
        let text = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
        refusal.reasons.push(text.into());
    }
    refusal.is_for_good = true;
    (!refusal.reasons.is_empty()).then_some(refusal)
}

/// What a claim that waits finds on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Has {
    /// A volume, or one can be made for it.
    Some,
    /// One could be made, had the driver as much left.
    NoRoom,
    None,
}

/// Whether a claim finds a volume that the node reaches, or one can be made for it.
fn can_have(claim: &PersistentVolumeClaim, node: &Node, storage: &Storage) -> Has {
    if let Some(selected) = names::selected_node(claim) {
        return if selected == node.name_any() { Has::Some } else { Has::None };
    }
    if bind::fit::best(claim, &storage.volumes, Some(node)).is_some() {
        return Has::Some;
    }
    let Some(class) = storage.classes.get(names::class(claim)) else { return Has::None };
    let terms = class.allowed_topologies.as_deref().unwrap_or_default();
    let is_in = |labels: &BTreeMap<String, String>| {
        terms.iter().any(|term| {
            let mut rules = term.match_label_expressions.iter().flatten();
            rules.all(|rule| labels.get(&rule.key).is_some_and(|value| rule.values.contains(value)))
        })
    };
    if class.provisioner == NOBODY || !terms.is_empty() && !is_in(node.labels()) {
        Has::None
    } else if has_room(claim, class, node, storage) {
        Has::Some
    } else {
        Has::NoRoom
    }
}

/// Whether a class's driver has as much left where the node is; one that does not tell is believed to.
fn has_room(claim: &PersistentVolumeClaim, class: &StorageClass, node: &Node, storage: &Storage) -> bool {
    let tells = |driver: &Arc<CSIDriver>| driver.spec.storage_capacity == Some(true);
    if !storage.drivers.get(&class.provisioner).is_some_and(tells) {
        return true;
    }
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let asked = resources.and_then(|resources| resources.requests.as_ref()?.get("storage"));
    let asked = asked.and_then(quantity::bytes).unwrap_or_default();
    storage.capacities.iter().filter(|one| one.storage_class_name == class.name_any()).any(|one| {
        let most = one.maximum_volume_size.as_ref().or(one.capacity.as_ref()).and_then(quantity::bytes);
        let is_here = |selector: &LabelSelector| reach::selects(selector, node.labels());
        most.is_some_and(|most| most >= asked) && one.node_topology.as_ref().is_some_and(is_here)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_node_is_one_where_the_driver_has_as_much_left() {
        let class = json!({"metadata": {"name": "fast"}, "provisioner": "d", "volumeBindingMode": "WaitForFirstConsumer"});
        let left = |capacity: &str, most: Value| {
            json!({"metadata": {"name": "c", "namespace": "n"}, "storageClassName": "fast", "capacity": capacity,
                "maximumVolumeSize": most, "nodeTopology": {"matchLabels": {"zone": "a"}}})
        };
        let with = |tells: bool, capacities: &[Value], zone: &str| {
            let driver = json!({"metadata": {"name": "d"}, "spec": {"storageCapacity": tells}});
            let storage = Storage {
                classes: [("fast".to_owned(), Arc::new(serde_json::from_value(class.clone()).unwrap()))]
                    .into(),
                drivers: [("d".to_owned(), Arc::new(serde_json::from_value(driver).unwrap()))].into(),
                capacities: capacities
                    .iter()
                    .map(|one| Arc::new(serde_json::from_value(one.clone()).unwrap()))
                    .collect(),
                ..Storage::default()
            };
            let claim: PersistentVolumeClaim =
                serde_json::from_value(json!({"metadata": {"name": "c"}, "spec": {
                "storageClassName": "fast", "resources": {"requests": {"storage": "2Gi"}}}}))
                .unwrap();
            let node: Node =
                serde_json::from_value(json!({"metadata": {"name": "node", "labels": {"zone": zone}}}))
                    .unwrap();
            can_have(&claim, &node, &storage)
        };
        assert_eq!(with(false, &[], "a"), Has::Some, "it does not tell");
        assert_eq!(with(true, &[], "a"), Has::NoRoom);
        assert_eq!(with(true, &[left("2Gi", Value::Null)], "a"), Has::Some);
        assert_eq!(with(true, &[left("1Gi", Value::Null)], "a"), Has::NoRoom);
        assert_eq!(with(true, &[left("9Gi", json!("1Gi"))], "a"), Has::NoRoom);
        assert_eq!(with(true, &[left("9Gi", Value::Null)], "b"), Has::NoRoom);
    }

    #[test]
    fn a_claim_that_is_another_pods_is_not_this_ones() {
        let volume = json!({"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}});
        let metadata = json!({"name": "p", "namespace": "n", "uid": "new"});
        let pod: Pod = serde_json::from_value(
            json!({"metadata": metadata, "spec": {"containers": [], "volumes": [volume]}}),
        )
        .unwrap();
        let with = |claim: Option<Value>| {
            let claim = claim.map(|owners| {
                let metadata = json!({"name": "p-data", "namespace": "n", "ownerReferences": owners});
                let claim = serde_json::from_value(json!({"metadata": metadata})).unwrap();
                (Name::new("n", "p-data"), Arc::new(claim))
            });
            let storage = Storage { claims: claim.into_iter().collect(), ..Storage::default() };
            wanted(&pod, &storage).unwrap_err()
        };
        let of = |uid: &str| json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid, "controller": true}]);
        let waits = "waiting for ephemeral volume controller to create the persistentvolumeclaim \"p-data\"";
        assert_eq!(with(None), waits);
        let others = "PVC n/p-data was not created for pod n/p (pod is not owner)";
        assert_eq!((with(Some(of("old"))), with(Some(json!([])))), (others.into(), others.into()));
        assert_eq!(with(Some(of("new"))), "pod has unbound immediate PersistentVolumeClaims");
    }
}
