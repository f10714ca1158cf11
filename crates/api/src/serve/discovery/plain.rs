//! Discovery one group at a time, as clients before 1.26 ask for it.

use serde_json::{Map, Value, json};

use super::{Served, is_made_up, names, storage_hash, subresources, verbs};
use crate::resource::Resource;

/// `/api`.
pub(crate) fn legacy(address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })
}

/// `/apis`.
pub(crate) fn groups(served: &Served<'_>) -> Value {
    let groups: Vec<Value> = served
        .groups()
        .into_iter()
        .filter(|name| !name.is_empty())
        .map(|name| told(&name, &served.versions(&name)))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`.
pub(crate) fn group(served: &Served<'_>, name: &str) -> Option<Value> {
    let versions = served.versions(name);
    if versions.is_empty() || name.is_empty() {
        return None;
    }
    let Value::Object(told) = told(name, &versions) else {
        return None;
    };
    let mut map = Map::new();
    map.insert("kind".to_owned(), "APIGroup".into());
    map.insert("apiVersion".to_owned(), "v1".into());
    map.extend(told);
    Some(Value::Object(map))
}

fn told(name: &str, versions: &[String]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
        .collect();
    json!({"name": name, "versions": versions, "preferredVersion": versions.first()})
}

/// `/api/v1`, `/apis/GROUP/VERSION` of what this server has itself.
pub(crate) fn version(served: &Served<'_>, group: &str, version: &str) -> Option<Value> {
    let mut list: Vec<&Resource> = served
        .own
        .iter()
        .map(|resource| &**resource)
        .filter(|resource| resource.names.group == group && resource.names.version == version)
        .collect();
    if list.is_empty() {
        return None;
    }
    list.sort_by(|a, b| a.names.plural.cmp(&b.names.plural));
    let told: Vec<Value> = list.iter().flat_map(|resource| entries(resource)).collect();
    let mut map = Map::new();
    map.insert("kind".to_owned(), "APIResourceList".into());
    if !group.is_empty() {
        map.insert("apiVersion".to_owned(), "v1".into());
    }
    map.insert("groupVersion".to_owned(), list[0].names.api_version().into());
    map.insert("resources".to_owned(), told.into());
    Some(Value::Object(map))
}

/// A resource and its subresources.
fn entries(resource: &Resource) -> Vec<Value> {
    let mut main = json!({
        "name": resource.names.plural,
        "singularName": resource.names.singular,
        "namespaced": resource.namespaced,
        "kind": resource.names.kind,
        "verbs": verbs(resource),
    });
    if let Value::Object(map) = &mut main {
        if !resource.names.short.is_empty() {
            map.insert("shortNames".to_owned(), names(&resource.names.short));
        }
        if !resource.names.categories.is_empty() {
            map.insert("categories".to_owned(), names(&resource.names.categories));
        }
        if resource.verbs.read && !is_made_up(resource) {
            map.insert("storageVersionHash".to_owned(), storage_hash(resource).into());
        }
    }
    let mut list = vec![main];
    list.extend(subresources::of(resource).iter().map(|subresource| {
        let mut map = Map::new();
        let name = format!("{}/{}", resource.names.plural, subresource.name);
        map.insert("name".to_owned(), name.into());
        map.insert("singularName".to_owned(), "".into());
        map.insert("namespaced".to_owned(), resource.namespaced.into());
        let mut kind = resource.names.kind.as_ref();
        if let Some((group, version, own)) = subresource.kind {
            kind = own;
            if !group.is_empty() {
                map.insert("group".to_owned(), group.into());
                map.insert("version".to_owned(), version.into());
            }
        }
        map.insert("kind".to_owned(), kind.into());
        map.insert("verbs".to_owned(), subresource.verbs.to_vec().into());
        Value::Object(map)
    }));
    list
}
