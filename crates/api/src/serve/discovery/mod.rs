//! Discovery: which resources there are, told group by group or all at once.

mod aggregated;
mod order;
mod plain;
mod subresources;

pub(super) use aggregated::list as aggregated;
pub(super) use plain::{group, groups, legacy, version};

use serde_json::Value;

use crate::resource::{Resource, Verbs};

/// The verbs of a resource, sorted as Kubernetes sorts them.
fn verbs(verbs: Verbs) -> Value {
    let all = [
        (verbs.create, "create"),
        (verbs.delete, "delete"),
        (verbs.delete_collection, "deletecollection"),
        (verbs.read, "get"),
        (verbs.read, "list"),
        (verbs.update, "patch"),
        (verbs.update, "update"),
        (verbs.read, "watch"),
    ];
    all.iter().filter(|(has, _)| *has).map(|(_, verb)| Value::from(*verb)).collect()
}

/// The group and version of an `apiVersion`.
fn split(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// Tells clients that objects are kept in another version: a hash of how they are kept.
fn storage_hash(resource: &Resource) -> String {
    use base64::Engine as _;
    let (group, version) = split(&resource.storage_version);
    let kept = format!("{group}/{version}/{}", resource.names.kind);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, kept.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(&digest.as_ref()[..8])
}

/// The names as JSON.
fn names(list: &[std::borrow::Cow<'static, str>]) -> Value {
    list.iter().map(|name| Value::from(name.as_ref())).collect()
}
