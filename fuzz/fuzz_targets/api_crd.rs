//! A schema and on the line after it an object: no panic; what an accepted schema makes of an object it makes again of that.

use api::contract::Object;
use serde_json::{Value, json};

pub fn run(bytes: &[u8]) {
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
    let mut next = || serde_json::from_slice::<Value>(lines.next().unwrap_or_default());
    let Ok(version) = next() else { return };
    let spec = json!({
        "group": "example.com", "scope": "Cluster", "names": {"plural": "widgets", "kind": "Widget"}, "versions": [version],
    });
    let definition = json!({"metadata": {"name": "widgets.example.com"}, "spec": spec});
    let mut definition = Object::from_value(definition).expect("it is an object");
    let kind = api::crd::resource().strategy;
    kind.default(&mut definition);
    kind.prepare_create(&mut definition);
    let refused = !kind.validate(&definition).is_empty();
    let Ok(served) = api::crd::Definition::from_object(&definition) else { return };
    let (Some(resource), Ok(Value::Object(object))) = (served.resources().pop(), next()) else { return };
    let mut object = Object(object);
    resource.strategy.prune(&mut object);
    resource.strategy.default(&mut object);
    let errors = resource.strategy.validate(&object);
    resource.strategy.row(&object, 0);
    if !refused && errors.is_empty() {
        let mut again = object.clone();
        assert_eq!(resource.strategy.prune(&mut again), Some(Vec::new()), "what is pruned stays");
        resource.strategy.default(&mut again);
        assert_eq!(again, object, "what is defaulted stays");
    }
}
