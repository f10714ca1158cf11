//! What discovery of everything at once tells of a group version of others.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

/// The `resources` of an `APIVersionDiscovery` from those of an `APIResourceList`.
pub(crate) fn resources(group: &str, version: &str, list: &[Value]) -> Vec<Value> {
    let name = |entry: &Value| entry["name"].as_str().unwrap_or_default().to_owned();
    let mut told: Vec<Value> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for entry in list.iter().filter(|entry| !name(entry).contains('/')) {
        places.entry(name(entry)).or_insert(told.len());
        told.push(resource(group, version, entry));
    }
    for entry in list {
        let whole = name(entry);
        let Some((parent, below)) = whole.split_once('/') else { continue };
        let at = *places.entry(parent.to_owned()).or_insert_with(|| {
            // A subresource alone, as that of a resource that nobody reads.
            told.push(json!({"resource": parent, "scope": scope(entry), "verbs": []}));
            told.len() - 1
        });
        let Value::Object(map) = &mut told[at] else { continue };
        let subresources = map.entry("subresources").or_insert_with(|| json!([]));
        if let Value::Array(subresources) = subresources {
            subresources.push(json!({
                "subresource": below,
                "responseKind": kind(group, version, entry),
                "verbs": entry["verbs"],
            }));
        }
    }
    told
}

fn resource(group: &str, version: &str, entry: &Value) -> Value {
    let mut map = Map::new();
    map.insert("resource".to_owned(), entry["name"].clone());
    map.insert("responseKind".to_owned(), kind(group, version, entry));
    map.insert("scope".to_owned(), scope(entry).into());
    map.insert("singularResource".to_owned(), entry["singularName"].as_str().unwrap_or_default().into());
    map.insert("verbs".to_owned(), entry["verbs"].clone());
    for field in ["shortNames", "categories"] {
        if let Some(list) = entry.get(field).filter(|list| list.is_array()) {
            map.insert(field.to_owned(), list.clone());
        }
    }
    Value::Object(map)
}

fn scope(entry: &Value) -> &'static str {
    if entry["namespaced"] == true { "Namespaced" } else { "Cluster" }
}

/// Group, version and kind of what is answered; the first two are told where they are others.
fn kind(group: &str, version: &str, entry: &Value) -> Value {
    let told = |field: &str, own: &str| match entry[field].as_str() {
        Some(text) if !text.is_empty() => text.to_owned(),
        _ => own.to_owned(),
    };
    let version = told("version", version);
    json!({"group": told("group", group), "version": version, "kind": entry["kind"]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subresources_are_told_with_their_resource() {
        let list = [
            json!({"name": "fish", "singularName": "fishy", "namespaced": true, "kind": "Fish", "verbs": ["get"],
                   "shortNames": ["f"]}),
            json!({"name": "fish/scale", "namespaced": true, "group": "autoscaling", "version": "v1", "kind": "Scale",
                   "verbs": ["get", "update"]}),
            json!({"name": "bones/log", "namespaced": false, "kind": "Bone", "verbs": ["get"]}),
        ];
        assert_eq!(
            Value::from(resources("sea.example", "v2", &list)),
            json!([
                {
                    "resource": "fish", "singularResource": "fishy", "scope": "Namespaced", "verbs": ["get"],
                    "responseKind": {"group": "sea.example", "version": "v2", "kind": "Fish"},
                    "shortNames": ["f"],
                    "subresources": [{
                        "subresource": "scale", "verbs": ["get", "update"],
                        "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"},
                    }],
                },
                {
                    "resource": "bones", "scope": "Cluster", "verbs": [],
                    "subresources": [{
                        "subresource": "log", "verbs": ["get"],
                        "responseKind": {"group": "sea.example", "version": "v2", "kind": "Bone"},
                    }],
                },
            ])
        );
    }
}
