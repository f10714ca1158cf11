//! The schema of custom resources in the form that patches, server-side apply and discovery read.

use super::schema::{Additional, Props};
use crate::schema::{Arena, Node, Schema, Shape, builtin};
use std::borrow::Cow;
use std::sync::Arc;

/// The type of `metadata`.
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Adds the schema of a resource (`root`) or of a value to the arena and returns its node.
pub(super) fn add(arena: &mut Arena, props: &Props, root: bool) -> u32 {
    let root = root || props.embedded;
    let mut node = Node {
        shape: shape(props),
        required: names(&props.required),
        set: props.is_list_type("set"),
        keys: names(if props.is_list_type("map") { &props.list_keys } else { &[] }),
        atomic: props.map_type.as_deref() == Some("atomic"),
        preserve_unknown: props.preserves() || matches!(props.additional, Some(Additional::Any(true))),
        embedded: props.embedded,
        nullable: props.nullable,
        default: props.default.clone(),
        ..Node::default()
    };
    node.items = props.items.as_deref().or_else(|| props.values()).map(|items| add(arena, items, false));
    let mut fields: Vec<(Cow<'static, str>, u32)> = Vec::new();
    for (name, schema) in &props.properties {
        fields.push((name.clone().into(), add(arena, schema, false)));
    }
    if root {
        for name in ["apiVersion", "kind"] {
            if !props.properties.contains_key(name) {
                fields.push((name.into(), arena.add(Node { shape: Shape::String, ..Node::default() })));
            }
        }
        fields.retain(|(name, _)| name != "metadata");
        if let Some(metadata) = builtin(OBJECT_META) {
            fields.push(("metadata".into(), copy(arena, metadata)));
        }
        fields.sort();
    }
    node.fields = fields.into();
    arena.add(node)
}

fn names(list: &[String]) -> Arc<[Cow<'static, str>]> {
    list.iter().map(|name| Cow::Owned(name.clone())).collect()
}

fn shape(props: &Props) -> Shape {
    if props.int_or_string {
        return Shape::IntOrString;
    }
    match props.type_.as_str() {
        "object" if props.values().is_some() => Shape::Map,
        "object" => Shape::Object,
        "array" => Shape::List,
        "string" => Shape::String,
        "integer" => Shape::Int64,
        "number" => Shape::Number,
        "boolean" => Shape::Boolean,
        _ if !props.properties.is_empty() => Shape::Object,
        _ => Shape::Any,
    }
}

/// Copies a schema of another arena; it does not contain itself.
fn copy(arena: &mut Arena, schema: Schema<'_>) -> u32 {
    let mut node = schema.node().clone();
    node.items = schema.items().map(|items| copy(arena, items));
    node.fields =
        schema.fields().map(|(name, field)| (Cow::Owned(name.to_owned()), copy(arena, field))).collect();
    arena.add(node)
}

/// Drops fields that `metadata` does not have and adds their paths to `dropped`.
pub(super) fn prune_metadata(value: &mut serde_json::Value, path: &str, dropped: &mut Vec<String>) {
    if let Some(schema) = builtin(OBJECT_META) {
        prune(value, schema, path, dropped);
    }
}

fn prune(value: &mut serde_json::Value, schema: Schema<'_>, path: &str, dropped: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) if schema.shape() == Shape::Object => map.retain(|name, value| {
            let path = format!("{path}.{name}");
            match schema.field(name) {
                Some(field) => {
                    prune(value, field, &path, dropped);
                    true
                }
                None => {
                    dropped.push(path);
                    false
                }
            }
        }),
        serde_json::Value::Array(items) => {
            if let Some(schema) = schema.items() {
                for (index, item) in items.iter_mut().enumerate() {
                    prune(item, schema, &format!("{path}[{index}]"), dropped);
                }
            }
        }
        _ => {}
    }
}
