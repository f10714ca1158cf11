//! Annotations, finalizers and labels that Kubernetes and the sidecars have agreed on.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt as _;

/// On a claim: who is to make its volume.
pub(super) const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// The same, as it was once called.
pub(super) const PROVISIONER_BETA: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// On a claim: the class, as it was once told.
pub(super) const CLASS_BETA: &str = "volume.beta.kubernetes.io/storage-class";
/// On a claim: the node of its first pod, as the scheduler has chosen.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// On a volume: who made it.
pub(super) const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On a volume: the secret that its driver needs to delete it, and the secret's namespace.
pub(super) const DELETION_SECRET: [&str; 2] = [
    "volume.kubernetes.io/provisioner-deletion-secret-name",
    "volume.kubernetes.io/provisioner-deletion-secret-namespace",
];
/// On a volume: the secret that its driver needs to modify it, and the secret's namespace.
pub(super) const MODIFY_SECRET: [&str; 2] = [
    "volume.kubernetes.io/controller-modify-secret-name",
    "volume.kubernetes.io/controller-modify-secret-namespace",
];
/// Holds a volume until its driver has deleted it.
pub(super) const VOLUME: &str = "external-provisioner.volume.kubernetes.io/finalizer";
/// Holds a claim that another is cloned from.
pub(super) const CLONED: &str = "provisioner.storage.kubernetes.io/cloning-protection";
/// Holds a snapshot that a claim is restored from.
pub(super) const RESTORED: &str = "provisioner.storage.kubernetes.io/volumesnapshot-as-source-protection";
/// Holds a claim while its driver may have made a volume that no object tells of yet.
pub(super) const MAKING: &str = "control.sextant.dev/volume-being-made";
/// Holds a class while volumes of it are being made.
pub(super) const USED: &str = "control.sextant.dev/volumes-being-made";

/// A claim's class; nothing where it is to have none, or has not got one yet.
pub(crate) fn class(claim: &PersistentVolumeClaim) -> &str {
    let beta = claim.annotations().get(CLASS_BETA);
    let spec = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_ref());
    beta.or(spec).map(String::as_str).unwrap_or_default()
}

/// Who is to make a claim's volume; nothing where nobody has been asked to.
pub(crate) fn provisioner(claim: &PersistentVolumeClaim) -> &str {
    let annotations = claim.annotations();
    let asked = annotations.get(PROVISIONER).or_else(|| annotations.get(PROVISIONER_BETA));
    asked.map(String::as_str).unwrap_or_default()
}

/// The node that a claim's volume is to be reachable from.
pub(crate) fn selected_node(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.annotations().get(SELECTED_NODE).map(String::as_str).filter(|node| !node.is_empty())
}

/// The name of the volume that a claim is bound to.
pub(crate) fn volume(claim: &PersistentVolumeClaim) -> Option<&str> {
    let name = claim.spec.as_ref()?.volume_name.as_deref()?;
    Some(name).filter(|name| !name.is_empty())
}

/// How far a claim has come.
pub(crate) fn phase(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}
