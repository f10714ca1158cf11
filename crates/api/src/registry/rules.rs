//! Facts of kinds that only the registry needs, by the name under which their objects are kept.

use crate::resource::{Part, Resource};

/// Kinds whose deletion answers the object; the others answer a `Status`.
const ANSWERS_DELETED: [&str; 14] = [
    "csidrivers.storage.k8s.io",
    "csinodes.storage.k8s.io",
    "deviceclasses.resource.k8s.io",
    "namespaces",
    "persistentvolumeclaims",
    "persistentvolumes",
    "pods",
    "podtemplates",
    "resourcequotas",
    "serviceaccounts",
    "services",
    "storageclasses.storage.k8s.io",
    "volumeattachments.storage.k8s.io",
    "volumeattributesclasses.storage.k8s.io",
];

/// Kinds whose updates have to say which version they mean.
const CONDITIONAL: [&str; 14] = [
    "apiservices.apiregistration.k8s.io",
    "csidrivers.storage.k8s.io",
    "csinodes.storage.k8s.io",
    "csistoragecapacities.storage.k8s.io",
    "customresourcedefinitions.apiextensions.k8s.io",
    "leases.coordination.k8s.io",
    "mutatingadmissionpolicies.admissionregistration.k8s.io",
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io",
    "mutatingwebhookconfigurations.admissionregistration.k8s.io",
    "poddisruptionbudgets.policy",
    "runtimeclasses.node.k8s.io",
    "validatingadmissionpolicies.admissionregistration.k8s.io",
    "validatingwebhookconfigurations.admissionregistration.k8s.io",
    "volumeattachments.storage.k8s.io",
];

/// Kinds that an update creates where they are not there.
const CREATED_BY_UPDATE: [&str; 10] = [
    "clusterrolebindings.rbac.authorization.k8s.io",
    "clusterroles.rbac.authorization.k8s.io",
    "endpoints",
    "events",
    "leases.coordination.k8s.io",
    "limitranges",
    "rolebindings.rbac.authorization.k8s.io",
    "roles.rbac.authorization.k8s.io",
    "runtimeclasses.node.k8s.io",
    "services",
];

/// Kinds whose dependents stay unless a deletion says otherwise, as they did before there were owners.
const ORPHANS_BY_DEFAULT: [&str; 2] = ["jobs.batch", "replicationcontrollers"];

/// Whether those that an object owns stay when its deletion says nothing of them.
pub(super) fn orphans_by_default(resource: &Resource) -> bool {
    ORPHANS_BY_DEFAULT.contains(&&*resource.stored_as)
}

/// What is said to a deletion that says nothing of those that the object owns.
pub(super) fn deletion_warning(resource: &Resource) -> Option<&'static str> {
    (resource.stored_as == "jobs.batch").then_some(
        "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or \
         set propagationPolicy=Orphan to suppress this warning",
    )
}

/// Whether an update of the object itself changes neither its spec nor its status: nobody owns fields of these by it.
pub(super) fn resets_spec(resource: &Resource) -> bool {
    resource.stored_as == "certificatesigningrequests.certificates.k8s.io"
}

/// Whether deleting one answers the object.
pub(super) fn answers_deleted(resource: &Resource) -> bool {
    ANSWERS_DELETED.contains(&&*resource.stored_as)
}

/// Whether an update without a resource version is meant for whatever there is.
pub(super) fn unconditional(resource: &Resource) -> bool {
    !CONDITIONAL.contains(&&*resource.stored_as) && !resource.is_custom()
}

/// Whether an update creates what is not there.
pub(super) fn created_by_update(resource: &Resource) -> bool {
    CREATED_BY_UPDATE.contains(&&*resource.stored_as)
}

/// Whether its objects are owned and own: all but events.
pub(super) fn collected(resource: &Resource) -> bool {
    resource.stored_as != "events"
}

/// What a part is called in paths; empty for the object itself.
#[must_use]
pub fn part_name(part: Part) -> &'static str {
    match part {
        Part::Main => "",
        Part::Status => "status",
        Part::Scale => "scale",
        Part::EphemeralContainers => "ephemeralcontainers",
        Part::Resize => "resize",
        Part::Approval => "approval",
        Part::Finalize => "finalize",
    }
}

/// The part that a subresource of a path names.
#[must_use]
pub fn part_named(name: &str) -> Option<Part> {
    let parts =
        [Part::Status, Part::Scale, Part::EphemeralContainers, Part::Resize, Part::Approval, Part::Finalize];
    parts.into_iter().find(|part| part_name(*part) == name)
}

/// How many bytes of JSON an object may have. Custom resources are kept as JSON by Kubernetes too, and its etcd takes no more
/// than this; it keeps the others in a form that is smaller, and none that it takes has more than a body.
pub(super) fn most_bytes(resource: &Resource) -> usize {
    if resource.is_custom() { 3 << 19 } else { 3 << 20 }
}
