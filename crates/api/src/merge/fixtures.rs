//! Schemas for tests, written short.

use crate::schema::{Arena, Node, Presence, Shape};
use serde_json::{Value, json};

/// A schema from `"string"`, `"int"`, `"any"`...; `{"fields": {..}}`, `{"map": item}`, `{"list": item}`, with `keys`, `set`,
/// `atomic`, `merge`, `key` (of strategic merge), `default`, `always` beside.
pub(super) fn arena(schema: &Value) -> (Arena, u32) {
    let mut arena = Arena::default();
    let root = add(&mut arena, schema);
    (arena, root)
}

fn add(arena: &mut Arena, schema: &Value) -> u32 {
    let mut node = Node::default();
    let word = schema.as_str().or_else(|| schema["is"].as_str()).unwrap_or_default();
    node.shape = match word {
        "int" => Shape::Int64,
        "bool" => Shape::Boolean,
        "quantity" => Shape::Quantity,
        "time" => Shape::Time,
        "any" => Shape::Any,
        "intstr" => Shape::IntOrString,
        _ if schema.get("fields").is_some() => Shape::Object,
        _ if schema.get("map").is_some() => Shape::Map,
        _ if schema.get("list").is_some() => Shape::List,
        _ => Shape::String,
    };
    let text = |name: &str| schema[name].as_str().map(|text| text.to_owned().into());
    let flag = |name: &str| schema[name].as_bool().unwrap_or_default();
    node.set = flag("set");
    node.atomic = flag("atomic");
    node.merge = flag("merge");
    node.retain_keys = flag("retain");
    node.merge_key = text("key");
    node.name = text("name");
    node.default = schema.get("default").cloned();
    node.presence = if flag("always") { Presence::Always } else { Presence::Keep };
    node.keys = schema["keys"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|key| key.as_str().map(|key| key.to_owned().into()))
        .collect();
    if let Some(below) = schema.get("map").or_else(|| schema.get("list")) {
        node.items = Some(add(arena, below));
    }
    if let Some(fields) = schema["fields"].as_object() {
        node.fields = fields.iter().map(|(name, field)| (name.clone().into(), add(arena, field))).collect();
    }
    arena.add(node)
}

/// What a Deployment, a Service and a ConfigMap have that matters to patches, in one kind.
pub(super) fn thing() -> (Arena, u32) {
    let container = json!({"name": "test.Container", "fields": {
        "name": "string",
        "image": "string",
        "args": {"list": "string"},
        "env": {"list": {"fields": {"name": "string", "value": "string"}}, "keys": ["name"], "merge": true, "key": "name"},
        "ports": {
            "list": {"fields": {
                "containerPort": "int",
                "protocol": {"is": "string", "default": "TCP"},
                "name": "string",
            }},
            "keys": ["containerPort", "protocol"], "merge": true, "key": "containerPort",
        },
        "resources": {"fields": {"limits": {"map": "quantity"}}, "always": true},
    }});
    let volume = json!({"name": "test.Volume", "fields": {
        "name": "string",
        "emptyDir": {"fields": {"medium": "string"}},
        "hostPath": {"fields": {"path": "string"}},
    }});
    arena(&json!({"name": "test.Thing", "fields": {
        "apiVersion": "string",
        "kind": "string",
        "metadata": {"always": true, "name": "test.Meta", "fields": {
            "name": "string",
            "namespace": "string",
            "uid": "string",
            "resourceVersion": "string",
            "labels": {"map": "string"},
            "annotations": {"map": "string"},
            "finalizers": {"list": "string", "set": true, "merge": true},
            "managedFields": {"list": "any"},
        }},
        "data": {"map": "string"},
        "spec": {"always": true, "name": "test.Spec", "fields": {
            "replicas": "int",
            "paused": "bool",
            "selector": {"atomic": true, "fields": {"matchLabels": {"map": "string"}}},
            "strategy": {"always": true, "retain": true, "fields": {
                "type": "string",
                "rollingUpdate": {"fields": {"maxSurge": "intstr"}},
            }},
            "containers": {"always": true, "list": container, "keys": ["name"], "merge": true, "key": "name"},
            "volumes": {"list": volume, "keys": ["name"], "merge": true, "key": "name", "retain": true},
            "tolerations": {"list": {"fields": {"key": "string"}}},
            "raw": "any",
        }},
        "status": {"always": true, "fields": {"phase": "string", "count": "int"}},
    }}))
}
