//! Nodes of the arena from definitions.

use crate::facts::{Facts, PRESENCES};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};

/// A node as it is written; see `schema::Node` for what the members mean.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) shape: u8,
    /// Which list of fields and required ones.
    pub(crate) members: Option<u32>,
    pub(crate) items: Option<u32>,
    pub(crate) flags: u8,
    pub(crate) presence: u8,
    pub(crate) keys: Vec<String>,
    pub(crate) merge_key: Option<String>,
    pub(crate) default: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) go: Option<String>,
    pub(crate) within: Option<String>,
}

pub(crate) mod flag {
    pub(crate) const SET: u8 = 1;
    pub(crate) const ATOMIC: u8 = 2;
    pub(crate) const MERGE: u8 = 4;
    pub(crate) const RETAIN_KEYS: u8 = 8;
}

/// The fields of a type, and which of them are required.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members {
    pub(crate) fields: Vec<(String, u32)>,
    pub(crate) required: Vec<String>,
}

/// Everything that is encoded.
#[derive(Default)]
pub(crate) struct Arena {
    pub(crate) nodes: Vec<Node>,
    pub(crate) members: Vec<Members>,
    pub(crate) roots: BTreeMap<String, u32>,
    same: HashMap<Node, u32>,
}

// The order of `schema::Shape`.
const SHAPES: [&str; 15] = [
    "any",
    "object",
    "map",
    "list",
    "string",
    "bytes",
    "time",
    "microtime",
    "duration",
    "int32",
    "int64",
    "number",
    "boolean",
    "int-or-string",
    "quantity",
];

impl Arena {
    pub(crate) fn of(definitions: &Map<String, Value>, facts: &Facts) -> Arena {
        let mut arena = Arena::default();
        // Types first, so that any may refer to any.
        for (at, name) in definitions.keys().enumerate() {
            let at = u32::try_from(at).expect("types are few");
            arena.members.push(Members::default());
            arena.nodes.push(Node::default());
            arena.roots.insert(name.clone(), at);
        }
        for (name, definition) in definitions {
            let at = arena.roots[name];
            let mut node = arena.node(definition, None, at);
            match name.rsplit('.').next() {
                Some("Quantity") => node.shape = number("quantity"),
                Some("MicroTime") => node.shape = number("microtime"),
                // A schema, or something else that its decoder knows.
                Some("JSONSchemaPropsOrArray" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrStringArray") => {
                    let (package, _) = name.rsplit_once('.').expect("it has a package");
                    node.items = Some(arena.roots[&format!("{package}.JSONSchemaProps")]);
                }
                _ => {}
            }
            node.name = Some(name.clone());
            arena.nodes[at as usize] = node;
        }
        for (name, definition) in definitions {
            let at = arena.roots[name] as usize;
            let Some(properties) = definition["properties"].as_object() else { continue };
            let required = texts(&definition["required"]);
            let mut fields = Vec::with_capacity(properties.len());
            for (field, schema) in properties {
                let known = facts.field(name, field);
                let mut node = arena.node(schema, known.and_then(|known| known.go.as_deref()), u32::MAX);
                node.presence = presence(facts.presence(name, field, schema, required.contains(field)));
                node.within = known.and_then(|known| known.within.clone());
                let typed = facts.field(name, "").is_some_and(|known| known.typed);
                if typed && matches!(field.as_str(), "apiVersion" | "kind") {
                    node.within = Some("TypeMeta".to_owned());
                }
                fields.push((field.clone(), arena.shared(node)));
            }
            fields.sort();
            arena.members[at] = Members { fields, required };
        }
        arena
    }

    /// The node of a schema; `own` is the number of the type that it defines.
    fn node(&mut self, schema: &Value, go: Option<&str>, own: u32) -> Node {
        let mut node = match reference(schema) {
            Some(name) => self.nodes[self.roots[name] as usize].clone(),
            None => Node::default(),
        };
        if reference(schema).is_none() {
            node.shape = shape(schema);
            if SHAPES[node.shape as usize] == "object" {
                node.members = Some(own);
            }
            let below =
                if schema["type"] == "array" { &schema["items"] } else { &schema["additionalProperties"] };
            if below.is_object() {
                let of_items = go.and_then(|go| {
                    go.strip_prefix("[]").or_else(|| go.strip_prefix("map[")?.split_once(']').map(|it| it.1))
                });
                let below = self.node(below, of_items, u32::MAX);
                node.items = Some(self.shared(below));
            }
        }
        annotate(&mut node, schema);
        node.go = go.map(str::to_owned);
        node
    }

    fn shared(&mut self, node: Node) -> u32 {
        if let Some(at) = self.same.get(&node) {
            return *at;
        }
        let at = u32::try_from(self.nodes.len()).expect("nodes are few");
        self.nodes.push(node.clone());
        self.same.insert(node, at);
        at
    }
}

fn annotate(node: &mut Node, schema: &Value) {
    match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => node.flags |= flag::SET,
        Some("map") => node.keys = texts(&schema["x-kubernetes-list-map-keys"]),
        _ => {}
    }
    match schema["x-kubernetes-map-type"].as_str() {
        Some("atomic") => node.flags |= flag::ATOMIC,
        // Of a type that is a whole elsewhere.
        Some("granular") => node.flags &= !flag::ATOMIC,
        _ => {}
    }
    let strategy = schema["x-kubernetes-patch-strategy"].as_str().unwrap_or_default();
    for word in strategy.split(',') {
        match word {
            "merge" => node.flags |= flag::MERGE,
            "retainKeys" => node.flags |= flag::RETAIN_KEYS,
            _ => {}
        }
    }
    node.merge_key = schema["x-kubernetes-patch-merge-key"].as_str().map(str::to_owned);
    if let Some(default) = schema.get("default") {
        node.default = Some(default.to_string());
    }
}

/// The type that a schema refers to: directly, or beside a description within `allOf`.
pub(crate) fn reference(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str().or_else(|| schema["allOf"][0]["$ref"].as_str())?.rsplit('/').next()
}

fn shape(schema: &Value) -> u8 {
    let format = schema["format"].as_str().unwrap_or_default();
    let name = match schema["type"].as_str().unwrap_or_default() {
        "object" if schema["properties"].is_object() => "object",
        "object" if schema["additionalProperties"].is_object() => "map",
        "array" => "list",
        "string" => match format {
            "byte" => "bytes",
            "date-time" => "time",
            _ => "string",
        },
        "integer" if format == "int32" => "int32",
        "integer" => "int64",
        "number" => "number",
        "boolean" => "boolean",
        _ if format == "int-or-string" => "int-or-string",
        _ => "any",
    };
    number(name)
}

fn number(name: &str) -> u8 {
    let at = SHAPES.iter().position(|shape| *shape == name).expect("every name above is a shape");
    u8::try_from(at).expect("shapes are few")
}

fn presence(word: &str) -> u8 {
    let at = PRESENCES.iter().position(|known| *known == word).expect("facts know only these");
    u8::try_from(at).expect("they are few")
}

pub(crate) fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
