use super::*;
use serde_json::json;

mod changes;
mod old_forms;
mod rows;

/// A pod with `spec` merged over one ordinary container, with its defaults.
fn pod(spec: Value) -> Object {
    let mut object = Object(Map::new());
    object.metadata_mut().insert("name".to_owned(), "p".into());
    object.metadata_mut().insert("namespace".to_owned(), "default".into());
    object.0.insert("spec".to_owned(), json!({ "containers": [{ "name": "c", "image": "busybox" }] }));
    if let (Some(own), Value::Object(spec)) = (object.0.get_mut("spec").and_then(Value::as_object_mut), spec)
    {
        own.extend(spec);
    }
    kind().resource().strategy.default(&mut object);
    object
}

/// A pod whose container has `fields` beside its name and image.
fn container(fields: Value) -> Object {
    let mut container = json!({ "name": "c", "image": "busybox" });
    if let (Some(container), Value::Object(fields)) = (container.as_object_mut(), fields) {
        container.extend(fields);
    }
    pod(json!({ "containers": [container] }))
}

fn errors(object: &Object) -> Vec<String> {
    kind().resource().strategy.validate(object).iter().map(ToString::to_string).collect()
}
