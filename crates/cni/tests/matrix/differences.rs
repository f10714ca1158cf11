//! What differs between what was seen of the two sides.

use std::fmt;

use serde_json::Value;

use crate::side::REFUSED;

/// A place in what was seen where the two sides are not the same.
pub(crate) struct Difference {
    pub(crate) path: String,
    pub(crate) ours: Value,
    pub(crate) theirs: Value,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ours {}, the reference's {}", self.path, self.ours, self.theirs)
    }
}

pub(crate) fn differences(ours: &Value, theirs: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    let refused = |side: &Value| side["answer"].as_str().is_some_and(|answer| answer.starts_with(REFUSED));
    if refused(ours) == refused(theirs) {
        compare("", ours, theirs, &mut found);
    } else {
        // All else follows from that.
        compare("answer", &ours["answer"], &theirs["answer"], &mut found);
    }
    found
}

fn compare(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<Difference>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let of =
                    |object: &serde_json::Map<String, Value>| object.get(key).cloned().unwrap_or_default();
                compare(format!("{path}.{key}").trim_start_matches('.'), &of(a), &of(b), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let pairs = a.iter().zip(b).enumerate();
            pairs.for_each(|(i, (a, b))| compare(&format!("{path}.{i}"), a, b, found));
        }
        (Value::String(a), Value::String(b)) if a.starts_with(REFUSED) && b.starts_with(REFUSED) => {}
        // Absent, null and empty say the same.
        _ if ours == theirs || (is_nothing(ours) && is_nothing(theirs)) => {}
        _ => found.push(Difference { path: path.into(), ours: ours.clone(), theirs: theirs.clone() }),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.values().all(is_nothing),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

#[test]
fn what_differs_is_found_with_its_place() {
    let (a, b) =
        (serde_json::json!({ "x": [1, { "y": 2 }] }), serde_json::json!({ "x": [1, { "y": 3 }], "z": [] }));
    let found: Vec<_> = differences(&a, &b).iter().map(ToString::to_string).collect();
    assert_eq!(found, ["x.1.y: ours 2, the reference's 3"]);
}
