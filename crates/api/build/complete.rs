//! Completes the definitions by the facts, to what OpenAPI tells.

use crate::facts::Facts;
use crate::nodes::reference;
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// Puts what the facts say into the definitions, and the types that only the facts know.
pub(crate) fn with_facts(definitions: &mut Map<String, Value>, facts: &Facts) {
    for (name, definition) in &facts.further {
        definitions.insert(name.clone(), definition.clone());
    }
    let structs: HashSet<String> = definitions
        .iter()
        .filter(|(_, definition)| definition["properties"].is_object())
        .map(|(name, _)| name.clone())
        .collect();
    for (name, definition) in definitions.iter_mut() {
        let definition = definition.as_object_mut().expect("a definition is an object");
        let required = required(name, definition, facts);
        special(name, definition);
        if let Some(known) = facts.field(name, "") {
            definition.extend(known.members.clone());
        }
        let Some(properties) = definition.get_mut("properties").and_then(Value::as_object_mut) else {
            continue;
        };
        for (field, schema) in properties {
            let needed = required.contains(field);
            let presence = facts.presence(name, field, schema, needed);
            if let Some(default) = zero(schema, presence, &structs) {
                schema["default"] = default;
            }
            let Some(known) = facts.field(name, field) else { continue };
            schema.as_object_mut().expect("a schema is an object").extend(known.members.clone());
            if let Some(values) = &known.below {
                let below = if schema["type"] == "array" { "items" } else { "additionalProperties" };
                schema[below]["enum"] = values.clone();
            }
        }
    }
}

/// The fields that have to be there; the crate names some more.
fn required(name: &str, definition: &mut Map<String, Value>, facts: &Facts) -> Vec<String> {
    let typed = facts.field(name, "").is_some_and(|known| known.typed);
    let mut required = crate::nodes::texts(definition.get("required").unwrap_or(&Value::Null));
    required.retain(|field| {
        let optional = facts.field(name, field).is_some_and(|known| known.optional);
        !(optional || (typed && field == "metadata"))
    });
    required.extend(facts.required(name).map(str::to_owned));
    required.sort();
    if required.is_empty() {
        definition.remove("required");
    } else {
        definition.insert("required".to_owned(), required.clone().into());
    }
    required
}

/// The default that is published of a field whose Go value cannot be absent.
fn zero(schema: &Value, presence: &str, structs: &HashSet<String>) -> Option<Value> {
    if let Some(name) = reference(schema) {
        return (matches!(presence, "always" | "nonzero") && structs.contains(name)).then(|| json!({}));
    }
    match schema["type"].as_str() {
        _ if presence != "always" => None,
        Some("string") if schema["format"] == "byte" => None,
        Some("string") => Some("".into()),
        Some("integer") => Some(0.into()),
        Some("boolean") => Some(false.into()),
        _ => None,
    }
}

/// Types that the crate tells as custom resource definitions would, not as the API server does.
fn special(name: &str, definition: &mut Map<String, Value>) {
    let kind = name.rsplit('.').next().unwrap_or_default();
    if kind.starts_with("JSONSchemaPropsOr") || kind == "JSON" {
        definition.retain(|member, _| member == "description");
        return;
    }
    match name {
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => {
            definition.remove("x-kubernetes-int-or-string");
            definition.insert("format".to_owned(), "int-or-string".into());
            definition.insert("oneOf".to_owned(), json!([{"type": "integer"}, {"type": "string"}]));
        }
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => {
            definition.remove("x-kubernetes-int-or-string");
            definition.insert("oneOf".to_owned(), json!([{"type": "string"}, {"type": "number"}]));
        }
        _ => {}
    }
}
