//! Completes the definitions by the facts, to what OpenAPI tells.

use crate::facts::Facts;
use serde_json::{Map, Value, json};

/// Puts what the facts say into the definitions, and the types that only the facts know.
pub(crate) fn with_facts(definitions: &mut Map<String, Value>, facts: &Facts) {
    for (name, definition) in &facts.further {
        definitions.insert(name.clone(), definition.clone());
    }
    for (name, definition) in definitions.iter_mut() {
        let definition = definition.as_object_mut().expect("a definition is an object");
        special(name, definition);
        if let Some(field) = facts.field(name, "") {
            definition.extend(field.members.clone());
        }
        let Some(properties) = definition.get_mut("properties").and_then(Value::as_object_mut) else {
            continue;
        };
        for (field, schema) in properties {
            let schema = schema.as_object_mut().expect("a schema is an object");
            if let Some(known) = facts.field(name, field) {
                schema.extend(known.members.clone());
            }
        }
    }
}

/// Types that the crate tells as custom resource definitions would, not as the API server does.
fn special(name: &str, definition: &mut Map<String, Value>) {
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
