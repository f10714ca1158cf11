//! The types that are told, under their names.

use crate::resource::{Part, Resource};
use crate::schema::{List, Schema, Shape};
use serde_json::{Map, Value, json};

/// Which OpenAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    V2,
    V3,
}

impl Dialect {
    pub(super) fn reference(self, name: &str) -> Value {
        let place = match self {
            Dialect::V2 => "#/definitions/",
            Dialect::V3 => "#/components/schemas/",
        };
        json!({"$ref": format!("{place}{name}")})
    }
}

pub(super) const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// Definitions by name; references are to `#/definitions/`.
pub(super) struct Definitions {
    map: Map<String, Value>,
    /// The names of those of custom resources.
    custom: Vec<String>,
}

impl Definitions {
    /// Those of `resources` and of all that they refer to, from `source`; `served` is everything that is served.
    pub(super) fn of(
        source: &Map<String, Value>,
        resources: &[&Resource],
        served: &[Resource],
    ) -> Definitions {
        let mut told = Definitions { map: Map::new(), custom: Vec::new() };
        for name in ["APIResourceList", "DeleteOptions", "Patch", "Status", "WatchEvent"] {
            told.take(source, &format!("{META}{name}"));
        }
        told.take(source, &format!("{META}ObjectMeta"));
        told.take(source, &format!("{META}ListMeta"));
        for resource in resources {
            told.add(source, resource);
        }
        told.of_options(served);
        told
    }

    /// Those of `names` alone, with what they refer to.
    pub(super) fn named_alone(source: &Map<String, Value>, names: &[&str]) -> Definitions {
        let mut told = Definitions { map: Map::new(), custom: Vec::new() };
        names.iter().for_each(|name| told.take(source, name));
        told
    }

    fn add(&mut self, source: &Map<String, Value>, resource: &Resource) {
        let names = &resource.names;
        let name = type_name(resource);
        if source.contains_key(&name) {
            self.take(source, &name);
        } else if !self.map.contains_key(&name) {
            let definition = custom(resource);
            self.references(source, &definition);
            self.map.insert(name.clone(), definition);
            self.custom.push(name.clone());
        }
        self.named(&name, &names.group, &names.version, &names.kind);
        if resource.verbs.read {
            let list = list_name(resource);
            self.map.entry(list.clone()).or_insert_with(|| list_of(&name, &names.kind));
            self.named(&list, &names.group, &names.version, &names.list_kind);
        }
        for (part, group, version, kind) in views(resource) {
            if let Some(name) = part {
                self.take(source, name);
                self.named(name, group, version, kind);
            }
        }
    }

    /// Takes a definition, and all that it refers to, from the source.
    fn take(&mut self, source: &Map<String, Value>, name: &str) {
        if let Some(definition) = source.get(name)
            && !self.map.contains_key(name)
        {
            self.map.insert(name.to_owned(), definition.clone());
            self.references(source, definition);
        }
    }

    fn references(&mut self, source: &Map<String, Value>, value: &Value) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(reference)) = map.get("$ref") {
                    let name = reference.rsplit('/').next().unwrap_or_default();
                    self.take(source, name);
                }
                map.values().for_each(|value| self.references(source, value));
            }
            Value::Array(list) => list.iter().for_each(|value| self.references(source, value)),
            _ => {}
        }
    }

    /// Says of which kind a definition is.
    fn named(&mut self, name: &str, group: &str, version: &str, kind: &str) {
        let Some(Value::Object(definition)) = self.map.get_mut(name) else { return };
        let kinds = definition.entry("x-kubernetes-group-version-kind").or_insert_with(|| json!([]));
        let kind = json!({"group": group, "kind": kind, "version": version});
        if let Some(kinds) = kinds.as_array_mut().filter(|kinds| !kinds.contains(&kind)) {
            kinds.push(kind);
        }
    }

    /// Options and events are of every version that is served.
    fn of_options(&mut self, served: &[Resource]) {
        self.named(&format!("{META}Status"), "", "v1", "Status");
        let mut versions: Vec<(&str, &str)> =
            served.iter().map(|resource| (&*resource.names.group, &*resource.names.version)).collect();
        versions.push(("", "v1"));
        versions.sort_unstable();
        versions.dedup();
        for (group, version) in versions {
            self.named(&format!("{META}DeleteOptions"), group, version, "DeleteOptions");
            self.named(&format!("{META}WatchEvent"), group, version, "WatchEvent");
        }
    }

    pub(super) fn told(self, dialect: Dialect) -> Value {
        let mut definitions = self.map;
        if dialect == Dialect::V2 {
            for name in &self.custom {
                if let Some(definition) = definitions.get_mut(name) {
                    without_v3(definition);
                }
            }
        }
        definitions.values_mut().for_each(|definition| speak(definition, dialect));
        // Quantities are told as strings where there are no choices.
        if let (Dialect::V2, Some(quantity)) =
            (dialect, definitions.get_mut("io.k8s.apimachinery.pkg.api.resource.Quantity"))
        {
            quantity["type"] = "string".into();
        }
        Value::Object(definitions)
    }
}

/// The type that a part of a resource is written in, where it is not the resource's own: its name, group, version, kind.
type View = (Option<&'static str>, &'static str, &'static str, &'static str);

pub(super) const SCALE: &str = "io.k8s.api.autoscaling.v1.Scale";
pub(super) const EVICTION: &str = "io.k8s.api.policy.v1.Eviction";
pub(super) const BINDING: &str = "io.k8s.api.core.v1.Binding";
pub(super) const TOKEN: &str = "io.k8s.api.authentication.v1.TokenRequest";

fn views(resource: &Resource) -> Vec<View> {
    let mut views: Vec<View> = Vec::new();
    if resource.strategy.parts().contains(&Part::Scale) {
        views.push((Some(SCALE), "autoscaling", "v1", "Scale"));
    }
    match &*resource.stored_as {
        "pods" => {
            views.push((Some(EVICTION), "policy", "v1", "Eviction"));
            views.push((Some(BINDING), "", "v1", "Binding"));
        }
        "serviceaccounts" => views.push((Some(TOKEN), "authentication.k8s.io", "v1", "TokenRequest")),
        _ => {}
    }
    views
}

/// `io.k8s.api.core.v1.Pod`; of a custom resource of group `x.io` it is `io.x.v1.Foo`.
pub(super) fn type_name(resource: &Resource) -> String {
    if let Some(name) = &resource.strategy.schema().node().name {
        return name.to_string();
    }
    let mut parts: Vec<&str> = resource.names.group.split('.').rev().collect();
    parts.extend([&*resource.names.version, &*resource.names.kind]);
    parts.join(".")
}

pub(super) fn list_name(resource: &Resource) -> String {
    let name = type_name(resource);
    let package = name.rsplit_once('.').map_or("", |(package, _)| package);
    format!("{package}.{}", resource.names.list_kind)
}

const API_VERSION: &str = "The version of the schema that this object is written in: its group and version.";
const KIND: &str = "The kind of this object, in CamelCase. It cannot be changed.";

fn list_of(name: &str, kind: &str) -> Value {
    json!({
        "description": format!("{kind} objects in a list."),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"description": API_VERSION, "type": "string"},
            "kind": {"description": KIND, "type": "string"},
            "items": {
                "description": format!("The {kind} objects."),
                "type": "array",
                "items": {"$ref": format!("#/definitions/{name}")},
            },
            "metadata": {
                "description": "The version of the list, and how to go on with it.",
                "allOf": [{"$ref": format!("#/definitions/{META}ListMeta")}],
                "default": {},
            },
        },
    })
}

/// The definition of a custom resource: its own schema, and what every object has.
fn custom(resource: &Resource) -> Value {
    let own = resource.strategy.openapi().filter(Value::is_object);
    let mut definition = own.unwrap_or_else(|| rendered(resource.strategy.schema(), 0));
    if !definition["properties"].is_object() {
        definition["properties"] = json!({});
    }
    definition["type"] = "object".into();
    definition["properties"]["apiVersion"] = json!({"description": API_VERSION, "type": "string"});
    definition["properties"]["kind"] = json!({"description": KIND, "type": "string"});
    definition["properties"]["metadata"] = json!({
        "description": "Name, labels and all that every object has.",
        "allOf": [{"$ref": format!("#/definitions/{META}ObjectMeta")}],
    });
    definition
}

/// What kubectl cannot read of a custom resource in v2: fields beside fields that nobody knows, and values that may be null.
/// Of a resource that keeps unknown fields nothing is told but that it is an object.
fn without_v3(definition: &mut Value) {
    if preserves(definition) {
        let kinds = definition.get("x-kubernetes-group-version-kind").cloned();
        *definition = json!({"type": "object"});
        if let (Value::Object(map), Some(kinds)) = (definition, kinds) {
            map.insert("x-kubernetes-group-version-kind".to_owned(), kinds);
        }
        return;
    }
    untyped(definition);
}

fn fields(map: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    map.get("properties").and_then(Value::as_object).into_iter().flatten()
}

fn preserves(schema: &Value) -> bool {
    schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true))
}

/// The same of a field and what is below it: values of which kubectl would read too much lose their type.
fn untyped(schema: &mut Value) {
    let keeps = preserves(schema);
    let Value::Object(map) = schema else { return };
    let nullable = map.remove("nullable") == Some(Value::Bool(true));
    if nullable || keeps {
        map.remove("items");
        map.remove("properties");
    }
    let kind = map.get("type").and_then(Value::as_str).unwrap_or_default();
    if nullable || (kind == "array" && !map.contains_key("items")) || (keeps && kind == "object") {
        map.remove("type");
    }
    let is_nullable = |schema: &Value| schema.get("nullable") == Some(&Value::Bool(true));
    let names: Vec<String> =
        fields(map).filter(|(_, field)| is_nullable(field)).map(|(name, _)| name.clone()).collect();
    if map.get("additionalProperties").is_some_and(is_nullable) {
        map.remove("required");
    }
    if let Some(Value::Array(required)) = map.get_mut("required") {
        required.retain(|name| !names.iter().any(|nullable| name == nullable.as_str()));
    }
    for (keyword, below) in map.iter_mut() {
        match (keyword.as_str(), below) {
            ("properties", Value::Object(fields)) => fields.values_mut().for_each(untyped),
            ("items" | "additionalProperties", below) => untyped(below),
            _ => {}
        }
    }
}

/// A schema of which nothing but its nodes is known. What lies deeper than custom resources may is any value.
fn rendered(schema: Schema<'_>, depth: usize) -> Value {
    const MOST_DEEP: usize = 64;
    let node = schema.node();
    if depth > MOST_DEEP {
        return json!({"x-kubernetes-preserve-unknown-fields": true});
    }
    let below = || schema.items().map_or_else(|| json!({}), |items| rendered(items, depth + 1));
    let mut told = match node.shape {
        Shape::Any => json!({}),
        Shape::Object => {
            let fields = schema.fields().map(|(name, field)| (name.to_owned(), rendered(field, depth + 1)));
            json!({"type": "object", "properties": Value::Object(fields.collect())})
        }
        Shape::Map => json!({"type": "object", "additionalProperties": below()}),
        Shape::List => json!({"type": "array", "items": below()}),
        Shape::Bytes => json!({"type": "string", "format": "byte"}),
        Shape::Time | Shape::MicroTime => json!({"type": "string", "format": "date-time"}),
        Shape::String | Shape::Duration | Shape::Quantity => json!({"type": "string"}),
        Shape::Int32 => json!({"type": "integer", "format": "int32"}),
        Shape::Int64 => json!({"type": "integer", "format": "int64"}),
        Shape::Number => json!({"type": "number"}),
        Shape::Boolean => json!({"type": "boolean"}),
        Shape::IntOrString => json!({"x-kubernetes-int-or-string": true}),
    };
    if !node.required.is_empty() {
        told["required"] = node.required.iter().map(|name| Value::from(&**name)).collect();
    }
    match schema.list() {
        List::Map(keys) => {
            told["x-kubernetes-list-type"] = "map".into();
            told["x-kubernetes-list-map-keys"] = keys.iter().map(|key| Value::from(&**key)).collect();
        }
        List::Set => told["x-kubernetes-list-type"] = "set".into(),
        List::Atomic => {}
    }
    if node.atomic {
        told["x-kubernetes-map-type"] = "atomic".into();
    }
    if node.preserve_unknown {
        told["x-kubernetes-preserve-unknown-fields"] = true.into();
    }
    if let Some(default) = &node.default {
        told["default"] = default.clone();
    }
    told
}

/// Puts a schema into a dialect: v3 has its references elsewhere, v2 knows no defaults and no choices.
fn speak(schema: &mut Value, dialect: Dialect) {
    let Value::Object(map) = schema else { return };
    for (keyword, below) in map.iter_mut() {
        match (keyword.as_str(), below) {
            ("properties", Value::Object(fields)) => {
                fields.values_mut().for_each(|field| speak(field, dialect));
            }
            ("allOf" | "anyOf" | "oneOf", Value::Array(list)) => {
                list.iter_mut().for_each(|schema| speak(schema, dialect));
            }
            ("items" | "additionalProperties" | "not", below) => speak(below, dialect),
            _ => {}
        }
    }
    match dialect {
        Dialect::V2 => as_v2(map),
        Dialect::V3 => {
            if let Some(Value::String(reference)) = map.get_mut("$ref") {
                *reference = reference.replace("#/definitions/", "#/components/schemas/");
            }
        }
    }
}

fn as_v2(map: &mut Map<String, Value>) {
    if let Some(reference) = map.get("allOf").and_then(|all| all[0].get("$ref")).cloned() {
        map.insert("$ref".to_owned(), reference);
    }
    for keyword in ["allOf", "anyOf", "oneOf", "not", "nullable", "default"] {
        map.remove(keyword);
    }
    if map.get("format").is_some_and(|format| format == "int-or-string") {
        map.insert("type".to_owned(), "string".into());
    }
}
