//! Events of one group told in the other.

use crate::contract::Object;
use crate::kinds::base::Defaults;
use serde_json::{Value, json};

/// What is called otherwise: here, and in the core group.
const RENAMED: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

fn rename(object: &mut Object, api_version: &str, names: impl Iterator<Item = (&'static str, &'static str)>) {
    object.0.insert("apiVersion".to_owned(), api_version.into());
    for (from, to) in names {
        if let Some(value) = object.0.remove(from) {
            object.0.insert(to.to_owned(), value);
        }
    }
}

/// An event of this group in the core group.
pub(super) fn to_core(mut object: Object) -> Object {
    rename(&mut object, "v1", RENAMED.iter().copied());
    object.0.fill("involvedObject", json!({}));
    object.0.fill("source", json!({}));
    for time in ["firstTimestamp", "lastTimestamp", "eventTime"] {
        object.0.entry(time).or_insert(Value::Null);
    }
    object.0.fill("reportingComponent", "");
    object.0.fill("reportingInstance", "");
    object
}

/// An event of the core group in this one.
pub(super) fn from_core(mut object: Object) -> Object {
    rename(&mut object, "events.k8s.io/v1", RENAMED.iter().map(|(here, core)| (*core, *here)));
    default(&mut object);
    object
}

/// What Kubernetes writes although it is empty.
pub(super) fn default(object: &mut Object) {
    object.0.fill("regarding", json!({}));
    object.0.fill("deprecatedSource", json!({}));
    for time in ["deprecatedFirstTimestamp", "deprecatedLastTimestamp", "eventTime"] {
        object.0.entry(time).or_insert(Value::Null);
    }
    for field in ["reportingController", "reportingInstance"] {
        if object.0.get(field).is_some_and(|value| value.as_str() == Some("")) {
            object.0.remove(field);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let event = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "x"},
            "regarding": {"kind": "Pod", "name": "p"}, "note": "n", "reportingController": "a/b",
            "reportingInstance": "i", "deprecatedSource": {"component": "c"}, "deprecatedCount": 3,
            "deprecatedFirstTimestamp": null, "deprecatedLastTimestamp": "2026-01-01T00:00:00Z",
            "eventTime": null, "type": "Normal",
        });
        let event = Object::from_value(event).unwrap();
        let core = to_core(event.clone());
        assert_eq!(core.text(&["involvedObject", "name"]), "p");
        assert_eq!(core.text(&["message"]), "n");
        assert_eq!(core.text(&["reportingComponent"]), "a/b");
        assert_eq!(core.at(&["count"]), Some(&json!(3)));
        assert_eq!(from_core(core), event);
    }
}
