//! Discovery of everything at once (`apidiscovery.k8s.io`).

use serde_json::{Map, Value, json};

use super::{Served, names, subresources, verbs};
use crate::aggregation;
use crate::resource::Resource;

/// What `/api` (`legacy`) or `/apis` answers to clients that ask for an `APIGroupDiscoveryList` of `version`.
pub(crate) fn list(served: &Served<'_>, legacy: bool, version: &str) -> Value {
    let items: Vec<Value> = served
        .groups()
        .into_iter()
        .filter(|group| group.is_empty() == legacy)
        .map(|group| group_of(served, &group))
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn group_of(served: &Served<'_>, group: &str) -> Value {
    let versions: Vec<Value> = served
        .versions(group)
        .iter()
        .map(|version| {
            if let Some(entry) = served.other(group, version) {
                let told = aggregation::told(group, version, &entry.resources);
                let freshness = if entry.available { "Current" } else { "Stale" };
                return json!({"version": version, "resources": told, "freshness": freshness});
            }
            let mut list: Vec<&Resource> = served
                .own
                .iter()
                .map(|resource| &**resource)
                .filter(|resource| resource.names.group == group && resource.names.version == *version)
                .collect();
            list.sort_by(|a, b| a.names.plural.cmp(&b.names.plural));
            let told: Vec<Value> = list.into_iter().map(entry).collect();
            json!({"version": version, "resources": told, "freshness": "Current"})
        })
        .collect();
    let mut metadata = Map::new();
    if !group.is_empty() {
        metadata.insert("name".to_owned(), group.into());
    }
    metadata.insert("creationTimestamp".to_owned(), Value::Null);
    json!({"metadata": metadata, "versions": versions})
}

fn entry(resource: &Resource) -> Value {
    let mut map = Map::new();
    map.insert("resource".to_owned(), resource.names.plural.as_ref().into());
    map.insert("responseKind".to_owned(), kind_of(resource));
    map.insert("scope".to_owned(), if resource.namespaced { "Namespaced" } else { "Cluster" }.into());
    map.insert("singularResource".to_owned(), resource.names.singular.as_ref().into());
    map.insert("verbs".to_owned(), verbs(resource));
    if !resource.names.short.is_empty() {
        map.insert("shortNames".to_owned(), names(&resource.names.short));
    }
    if !resource.names.categories.is_empty() {
        map.insert("categories".to_owned(), names(&resource.names.categories));
    }
    let below: Vec<Value> = subresources::of(resource)
        .iter()
        .map(|subresource| {
            let kind = subresource.kind.map_or_else(
                || kind_of(resource),
                |(group, version, kind)| json!({"group": group, "version": version, "kind": kind}),
            );
            json!({"subresource": subresource.name, "responseKind": kind, "verbs": subresource.verbs})
        })
        .collect();
    if !below.is_empty() {
        map.insert("subresources".to_owned(), below.into());
    }
    Value::Object(map)
}

fn kind_of(resource: &Resource) -> Value {
    let names = &resource.names;
    json!({"group": names.group, "version": names.version, "kind": names.kind})
}
