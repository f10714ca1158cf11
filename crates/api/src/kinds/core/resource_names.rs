//! The names of resources: which are Kubernetes' own, what they are for.

use crate::contract::field::{FieldErrors, Path};
use crate::contract::names;
use crate::contract::quantity::Quantity;
use crate::kinds::base::Errors;

const QUOTA: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];

const COUNTS: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// `hugepages-2Mi`.
pub(super) fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_huge_page_of_quota(name: &str) -> bool {
    is_huge_page(name) || name.starts_with("requests.hugepages-")
}

/// Whether an amount of huge pages is in whole pages.
pub(super) fn is_whole_pages(name: &str, amount: &Quantity) -> bool {
    let Some(size) = name.strip_prefix("hugepages-").and_then(|size| Quantity::parse(size).ok()) else {
        return false;
    };
    let bytes = size.value();
    bytes > 0 && size.milli_value() % 1000 == 0 && amount.value() % bytes == 0
}

/// Whether it is Kubernetes' own: without a slash or with its domain.
pub(super) fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether it is a resource of somebody else that counts in whole numbers, such as `example.com/gpu`.
pub(super) fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether requests may be below limits.
pub(super) fn can_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// Whether containers can have it, of the names without a slash.
pub(super) fn is_of_containers(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || is_huge_page(name)
}

/// Whether a quota can limit it, of the names without a slash.
pub(super) fn is_of_quota(name: &str) -> bool {
    QUOTA.contains(&name) || is_huge_page_of_quota(name)
}

/// What is wrong with the name of a resource.
pub(super) fn any_name(errors: &mut FieldErrors, path: &Path, name: &str) {
    let found = names::qualified_name(name);
    if !found.is_empty() {
        for detail in found {
            errors.invalid(path, name, detail);
        }
    } else if !name.contains('/') && name != "storage" && !is_of_quota(name) {
        errors.invalid(path, name, "must be a standard resource type or fully qualified");
    }
}

/// What is wrong with an amount of a resource: negative, or broken where only whole numbers count.
pub(super) fn amount(errors: &mut FieldErrors, path: &Path, name: &str, amount: &Quantity) {
    if amount.is_negative() {
        errors.invalid(path, amount.to_string(), "must be greater than or equal to 0");
    }
    if (COUNTS.contains(&name) || is_extended(name)) && amount.milli_value() % 1000 != 0 {
        errors.invalid(path, amount.to_string(), "must be an integer");
    }
}
