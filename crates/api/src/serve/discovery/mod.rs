//! Discovery: which resources there are, told group by group or all at once.

mod aggregated;
mod plain;
mod subresources;

pub(super) use aggregated::list as aggregated;
pub(super) use plain::{group, groups, legacy, version};

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::aggregation::{Entry, Priorities, group_order, version_order};
use crate::registry::Resources;
use crate::resource::Resource;

/// Everything that is served: by this server itself, and by others.
pub(crate) struct Served<'a> {
    pub(crate) own: &'a Resources,
    pub(crate) others: &'a [Arc<Entry>],
}

impl Served<'_> {
    /// The groups there are, in the order in which they are told.
    fn groups(&self) -> Vec<String> {
        let own = self.own.iter().map(|resource| {
            let names = &resource.names;
            (names.group.to_string(), Priorities::of(&names.group, &names.version, true))
        });
        let others = self.others.iter().map(|entry| (entry.group.clone(), entry.priorities));
        let mut told: BTreeMap<String, i64> = BTreeMap::new();
        for (group, priorities) in own.chain(others) {
            let highest = told.entry(group).or_default();
            *highest = priorities.group.max(*highest);
        }
        let mut list: Vec<(String, i64)> = told.into_iter().collect();
        list.sort_by(|a, b| group_order((&a.0, a.1), (&b.0, b.1)));
        list.into_iter().map(|(group, _)| group).collect()
    }

    /// The versions of a group, the preferred one first.
    fn versions(&self, group: &str) -> Vec<String> {
        let own = self.own.iter().filter(|resource| resource.names.group == group).map(|resource| {
            let version = &resource.names.version;
            (version.to_string(), Priorities::of(group, version, !resource.is_custom()).version)
        });
        let others = self.others.iter().filter(|entry| entry.group == group);
        let others = others.map(|entry| (entry.version.clone(), entry.priorities.version));
        let mut list: Vec<(String, i64)> = own.chain(others).collect();
        list.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| version_order(&a.0, &b.0)));
        list.dedup_by(|a, b| a.0 == b.0);
        list.into_iter().map(|(version, _)| version).collect()
    }

    /// Who else serves a group version.
    fn other(&self, group: &str, version: &str) -> Option<&Entry> {
        let found = self.others.iter().find(|entry| entry.group == group && entry.version == version);
        found.map(|entry| &**entry)
    }
}

/// Whether a resource is made up when it is asked for: it is not kept, and there is nothing to watch.
fn is_made_up(resource: &Resource) -> bool {
    resource.names.group.is_empty() && resource.names.plural == "componentstatuses"
}

/// The verbs of a resource, sorted as Kubernetes sorts them.
fn verbs(resource: &Resource) -> Value {
    let verbs = resource.verbs;
    let all = [
        (verbs.create, "create"),
        (verbs.delete, "delete"),
        (verbs.delete_collection, "deletecollection"),
        (verbs.read, "get"),
        (verbs.read, "list"),
        (verbs.update, "patch"),
        (verbs.update, "update"),
        (verbs.read && !is_made_up(resource), "watch"),
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
