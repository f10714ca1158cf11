//! JSON patches against examples and against a naive model.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn patched(document: Value, patch: Value) -> std::result::Result<Value, u16> {
    apply(&document, &patch).map_err(|status| status.code)
}

#[test]
fn operations_do_what_the_rfc_says() {
    for (document, operation, expected) in [
        (json!({"a": 1}), json!({"op": "add", "path": "/b", "value": 2}), json!({"a": 1, "b": 2})),
        (json!({"a": [1, 3]}), json!({"op": "add", "path": "/a/1", "value": 2}), json!({"a": [1, 2, 3]})),
        (json!({"a": [1]}), json!({"op": "add", "path": "/a/-", "value": 2}), json!({"a": [1, 2]})),
        (json!({"a": [1]}), json!({"op": "add", "path": "/a/-1", "value": 2}), json!({"a": [1, 2]})),
        (json!({"a": 1, "b": 2}), json!({"op": "remove", "path": "/b"}), json!({"a": 1})),
        (json!({"a": [1, 2]}), json!({"op": "remove", "path": "/a/-1"}), json!({"a": [1]})),
        (json!({"a": 1}), json!({"op": "replace", "path": "/a", "value": 2}), json!({"a": 2})),
        (json!({}), json!({"op": "replace", "path": "/a", "value": 2}), json!({"a": 2})),
        (json!({"a": [1, 2]}), json!({"op": "replace", "path": "/a/1", "value": 3}), json!({"a": [1, 3]})),
        (json!({"a": 1}), json!({"op": "replace", "path": "", "value": {"b": 2}}), json!({"b": 2})),
        (
            json!({"a": {"b": 1}}),
            json!({"op": "move", "from": "/a/b", "path": "/c"}),
            json!({"a": {}, "c": 1}),
        ),
        (json!({"a": 1}), json!({"op": "copy", "from": "/a", "path": "/b"}), json!({"a": 1, "b": 1})),
        (json!({"a": 1}), json!({"op": "copy", "from": "/z", "path": "/b"}), json!({"a": 1, "b": null})),
        (
            json!({"a/b": {"~": 1}}),
            json!({"op": "add", "path": "/a~1b/~0", "value": 2}),
            json!({"a/b": {"~": 2}}),
        ),
        (json!({"~1": 1}), json!({"op": "remove", "path": "/~01"}), json!({})),
        (json!({"a": 1}), json!({"op": "test", "path": "/a", "value": 1}), json!({"a": 1})),
        (json!({"a": 1}), json!({"op": "test", "path": "/b", "value": null}), json!({"a": 1})),
        (json!({"a": 1}), json!({"op": "test", "path": "", "value": {"a": 1}}), json!({"a": 1})),
        (json!({"a": 1}), json!({"op": "add", "path": "/a"}), json!({"a": null})),
    ] {
        assert_eq!(patched(document.clone(), json!([operation])), Ok(expected), "{document} {operation}");
    }
}

#[test]
fn what_does_not_apply_is_refused_without_saying_why() {
    let document = json!({"a": [1], "s": "x", "n": null});
    for operation in [
        json!({"op": "fly", "path": "/a"}),
        json!({"op": "add", "path": "/z/y", "value": 1}),
        json!({"op": "add", "path": "/s/y", "value": 1}),
        json!({"op": "add", "path": "/n/y", "value": 1}),
        json!({"op": "add", "path": "/a/2", "value": 1}),
        json!({"op": "add", "path": "/a/x", "value": 1}),
        json!({"op": "add", "path": "", "value": {}}),
        json!({"op": "remove", "path": "/z"}),
        json!({"op": "remove", "path": "/a/1"}),
        json!({"op": "remove", "path": "/a/-2"}),
        json!({"op": "replace", "path": "/a/1", "value": 1}),
        json!({"op": "replace", "path": "", "value": 1}),
        json!({"op": "move", "from": "/z", "path": "/y"}),
        json!({"op": "test", "path": "/s", "value": "y"}),
        json!({"op": "add"}),
        json!({}),
    ] {
        let status = apply(&document, &json!([operation])).unwrap_err();
        assert_eq!(status.to_value()["details"], json!({}), "{operation}");
        assert_eq!((status.code, status.message.len()), (422, 62), "{operation}");
    }
}

#[test]
fn what_is_no_patch_is_told() {
    let told = |patch: Value| apply(&json!({}), &patch).unwrap_err().message;
    let begins = "error decoding patch: json: cannot unmarshal";
    assert_eq!(told(json!({})), format!("{begins} object into Go value of type []handlers.jsonPatchOp"));
    assert_eq!(told(json!(["x"])), format!("{begins} string into Go value of type handlers.jsonPatchOp"));
    assert_eq!(
        told(json!([{"op": 1}])),
        format!("{begins} number into Go struct field jsonPatchOp.op of type string")
    );
    let many = vec![json!({"op": "test", "path": ""}); MOST_OPERATIONS + 1];
    assert_eq!(patched(json!({}), many.into()), Err(413));
    let unknown = unknown_fields(&json!([{"op": "test", "path": ""}, {"op": "test", "pth": ""}]));
    assert_eq!(unknown, ["json patch unknown field \"[1].pth\""]);
}

/// The document as pairs of pointer and scalar, which is all that the model knows of it.
fn leaves(value: &Value, at: &str, out: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                leaves(value, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, value) in items.iter().enumerate() {
                leaves(value, &format!("{at}/{index}"), out);
            }
        }
        other => out.push((at.to_owned(), other.clone())),
    }
}

fn documents() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![(0..9).prop_map(Value::from), "[a-c]".prop_map(Value::from)];
    scalar.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::btree_map("[a-c/~]{1,2}", inner.clone(), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
        ]
    })
}

proptest! {
    /// A patch that takes every leaf out of one document and one that puts them into another are the same as the other.
    #[test]
    fn leaf_by_leaf_one_document_becomes_another(one in documents(), other in documents()) {
        let (one, other) = (json!({"root": one}), json!({"root": other}));
        let mut patch = vec![json!({"op": "test", "path": "", "value": one})];
        patch.push(json!({"op": "replace", "path": "/root", "value": null}));
        build(&other["root"], "/root", &mut patch);
        let mut found = Vec::new();
        leaves(&other, "", &mut found);
        for (path, value) in found {
            patch.push(json!({"op": "test", "path": path, "value": value}));
        }
        prop_assert_eq!(patched(one, patch.into()), Ok(other));
    }

    #[test]
    fn outside_bytes_do_no_harm(document in documents(), op in "(add|remove|replace|move|copy|test)", path in "[/a-c0-2~-]{0,6}", from in "[/a-c0-2~-]{0,6}", value in documents()) {
        let patch = json!([{"op": op, "path": path, "from": from, "value": value}]);
        let _ = patched(document, patch);
    }
}

fn build(value: &Value, at: &str, patch: &mut Vec<Value>) {
    let add = |value: Value| json!({"op": "replace", "path": at, "value": value});
    match value {
        Value::Object(fields) => {
            patch.push(add(json!({})));
            for (name, value) in fields {
                build(value, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), patch);
            }
        }
        Value::Array(items) => {
            patch.push(add(json!([])));
            for (index, value) in items.iter().enumerate() {
                patch.push(json!({"op": "add", "path": format!("{at}/-"), "value": 0}));
                build(value, &format!("{at}/{index}"), patch);
            }
        }
        scalar => patch.push(add(scalar.clone())),
    }
}

#[test]
fn a_document_gets_no_deeper_than_a_body() {
    let mut nested = json!(1);
    for _ in 0..60 {
        nested = json!({"a": nested});
    }
    let below = "/a".repeat(59);
    let add = json!({"op": "add", "path": "/x", "value": nested});
    assert!(apply(&json!({}), &json!([add])).is_ok());
    for more in [
        json!({"op": "copy", "from": "/x", "path": format!("/x{below}")}),
        json!({"op": "add", "path": format!("/x{below}"), "value": nested}),
        json!({"op": "replace", "path": format!("/x{below}"), "value": nested}),
    ] {
        assert!(apply(&json!({}), &json!([add, more])).is_err());
    }
    let whole = |value: &Value| apply(&json!({}), &json!([{"op": "replace", "path": "", "value": value}]));
    assert!(whole(&nested).is_ok());
    for _ in 0..41 {
        nested = json!({"a": nested});
    }
    assert!(whole(&nested).is_err());
}
