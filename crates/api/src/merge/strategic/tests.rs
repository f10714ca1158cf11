//! Strategic merge patches by example.

use super::*;
use crate::merge::fixtures;
use proptest::prelude::*;
use serde_json::json;

fn patched(document: Value, patch: Value) -> std::result::Result<Value, (u16, String)> {
    let (arena, root) = fixtures::thing();
    apply(&document, &patch, arena.schema(root)).map_err(|status| (status.code, status.message))
}

fn spec(document: Value, patch: Value) -> std::result::Result<Value, (u16, String)> {
    Ok(patched(json!({"spec": document}), json!({"spec": patch}))?["spec"].take())
}

#[test]
fn lists_merge_by_key_and_keep_their_order() {
    let document = json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]});
    for (patch, expected) in [
        (
            json!({"containers": [{"name": "b", "image": "2"}]}),
            json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]),
        ),
        (
            json!({"containers": [{"name": "c", "image": "3"}]}),
            json!([{"name": "c", "image": "3"}, {"name": "a", "image": "1"}, {"name": "b", "image": "1"}]),
        ),
        (json!({"containers": [{"name": "a", "$patch": "delete"}]}), json!([{"name": "b", "image": "1"}])),
        (json!({"containers": [{"$patch": "replace"}, {"name": "z"}]}), json!([{"name": "z"}])),
        (
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}),
            json!([{"name": "b", "image": "1"}, {"name": "a", "image": "1"}]),
        ),
        (
            json!({
                "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}],
                "containers": [{"name": "c", "image": "3"}],
            }),
            json!([{"name": "c", "image": "3"}, {"name": "a", "image": "1"}, {"name": "b", "image": "1"}]),
        ),
        (
            json!({"containers": [{"name": "a", "image": null}]}),
            json!([{"name": "a"}, {"name": "b", "image": "1"}]),
        ),
    ] {
        assert_eq!(
            spec(document.clone(), patch.clone()).map(|mut spec| spec["containers"].take()),
            Ok(expected),
            "{patch}"
        );
    }
}

#[test]
fn lists_of_scalars_merge_by_value() {
    let document = json!({"metadata": {"finalizers": ["a", "b"]}});
    for (patch, expected) in [
        (json!({"finalizers": ["c"]}), json!(["c", "a", "b"])),
        (json!({"finalizers": ["b", "c"]}), json!(["a", "b", "c"])),
        (json!({"$deleteFromPrimitiveList/finalizers": ["a"]}), json!(["b"])),
        (json!({"$deleteFromPrimitiveList/finalizers": ["z"], "finalizers": ["a"]}), json!(["a", "b"])),
        (json!({"$setElementOrder/finalizers": ["b", "a"]}), json!(["b", "a"])),
        (
            json!({"$setElementOrder/finalizers": ["c", "b", "a"], "finalizers": ["c"]}),
            json!(["c", "b", "a"]),
        ),
    ] {
        let merged = patched(document.clone(), json!({"metadata": patch}));
        assert_eq!(merged.map(|mut merged| merged["metadata"]["finalizers"].take()), Ok(expected), "{patch}");
    }
}

#[test]
fn maps_merge_are_replaced_or_emptied() {
    let document = json!({"data": {"a": "1", "b": "2"}});
    for (patch, expected) in [
        (json!({"data": {"a": null, "c": "3"}}), json!({"data": {"b": "2", "c": "3"}})),
        (json!({"data": {"$patch": "replace", "c": "3"}}), json!({"data": {"c": "3"}})),
        (json!({"data": {"$patch": "delete"}}), json!({"data": {}})),
        (json!({"data": null}), json!({})),
        (
            json!({"spec": {"raw": {"x": null, "y": [{"z": null}]}}}),
            json!({"data": {"a": "1", "b": "2"}, "spec": {"raw": {"y": [{}]}}}),
        ),
        (json!({"spec": {"$patch": "delete"}}), document.clone()),
        (Value::Null, document.clone()),
    ] {
        assert_eq!(patched(document.clone(), patch.clone()), Ok(expected), "{patch}");
    }
}

#[test]
fn retained_keys_are_all_that_stays() {
    let document = json!({
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
        "volumes": [{"name": "v", "emptyDir": {}}],
    });
    let patch = json!({
        "strategy": {"$retainKeys": ["type"], "type": "Recreate"},
        "volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}],
    });
    let expected =
        json!({"strategy": {"type": "Recreate"}, "volumes": [{"name": "v", "hostPath": {"path": "/x"}}]});
    assert_eq!(spec(document.clone(), patch), Ok(expected));
    let told = spec(document, json!({"strategy": {"$retainKeys": ["x"], "type": "Recreate"}}));
    assert_eq!(told, Err((400, "invalid patch format of retainKeys".to_owned())));
}

#[test]
fn errors_are_kubernetes_own() {
    let document = json!({"containers": [{"name": "a"}], "tolerations": [{"key": "x"}]});
    for (patch, code, message) in [
        (
            json!({"containers": [{"image": "x", "args": ["y", "z"]}]}),
            500,
            "map: map[args:[y z] image:x] does not contain declared merge key: name",
        ),
        (json!({"$patch": "merge"}), 500, "unknown patch type: merge in map: map[$patch:merge]"),
        (json!({"$setElementOrder/containers": 1}), 500, "expected a []interface {}, but received a int64"),
        (json!({"$setElementOrder": []}), 400, "invalid patch format of setElementOrder list"),
        (json!({"$deleteFromPrimitiveList": []}), 400, "invalid patch format of primitive list"),
        (
            json!({"$deleteFromPrimitiveList/tolerations": [{"key": "x"}]}),
            500,
            "cannot merge lists without merge key for struct",
        ),
        (
            json!({"$setElementOrder/nope": [1]}),
            500,
            "unable to find api field in struct Spec for the json field \"nope\"",
        ),
        (
            json!({"containers": [{"name": "b"}], "$setElementOrder/containers": [{"name": "a"}]}),
            500,
            "The order in patch list:\n[map[name:b]]\n doesn't match $setElementOrder list:\n[map[name:a]]\n",
        ),
        (json!({"containers": ["x"]}), 500, "list element types are not identical: [[map[name:a]] [x]]"),
    ] {
        assert_eq!(spec(document.clone(), patch.clone()), Err((code, message.to_owned())), "{patch}");
    }
    assert_eq!(
        patched(document, json!([])),
        Err((400, "json: cannot unmarshal array into Go value of type map[string]interface {}".to_owned()))
    );
}

fn things() -> impl Strategy<Value = Value> {
    let env = prop::collection::btree_map("[a-c]", "[x-z]", 0..3).prop_map(|env| {
        env.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect::<Vec<_>>()
    });
    let container = ("[1-3]", env).prop_map(|(image, env)| (image, env));
    let containers = prop::collection::btree_map("[a-d]", container, 0..4).prop_shuffled_list();
    (containers, prop::collection::btree_map("[a-c]", "[x-z]", 0..3))
        .prop_map(|(containers, data)| json!({"spec": {"containers": containers}, "data": data}))
}

/// A map of containers as a list in any order.
trait Shuffled: Strategy<Value = std::collections::BTreeMap<String, (String, Vec<Value>)>> + Sized {
    fn prop_shuffled_list(self) -> impl Strategy<Value = Vec<Value>> {
        self.prop_map(|containers| {
            containers
                .into_iter()
                .map(|(name, (image, env))| json!({"name": name, "image": image, "env": env}))
                .collect::<Vec<_>>()
        })
        .prop_shuffle()
    }
}

impl<S: Strategy<Value = std::collections::BTreeMap<String, (String, Vec<Value>)>>> Shuffled for S {}

proptest! {
    /// What a patch names is there afterwards, as it says and in its order, and patching again changes nothing.
    #[test]
    fn a_patch_wins_and_wins_once(document in things(), patch in things()) {
        let once = patched(document, patch.clone()).unwrap();
        prop_assert_eq!(patched(once.clone(), patch.clone()), Ok(once.clone()));
        for (name, value) in patch["data"].as_object().unwrap() {
            prop_assert_eq!(&once["data"][name], value);
        }
        let wished: Vec<&Value> = patch["spec"]["containers"].as_array().unwrap().iter().map(|item| &item["name"]).collect();
        let merged = once["spec"]["containers"].as_array().unwrap().iter().map(|item| &item["name"]);
        let found: Vec<&Value> = merged.filter(|name| wished.contains(name)).collect();
        prop_assert_eq!(found, wished);
    }
}

/// Lists of many items take the time of many items: squares would take minutes here.
#[test]
fn long_lists_merge() {
    let items = |range: std::ops::Range<usize>| -> Vec<Value> {
        range.map(|at| json!({"name": format!("n{at}"), "value": "x"})).collect()
    };
    let names = |range: std::ops::Range<usize>| -> Vec<Value> {
        range.map(|at| json!({"name": format!("n{at}")})).collect()
    };
    let document = json!({"spec": {"containers": items(0..40_000)}});
    let gone: Vec<Value> =
        (0..20_000).map(|at| json!({"name": format!("n{at}"), "$patch": "delete"})).collect();
    let patch = json!({"spec": {"containers": gone, "$setElementOrder/containers": names(20_000..40_000)}});
    let left = patched(document.clone(), patch).unwrap();
    assert_eq!(left["spec"]["containers"].as_array().unwrap().len(), 20_000);
    let mut order = names(0..40_000);
    order.reverse();
    let patch = json!({"spec": {"containers": [], "$setElementOrder/containers": order}});
    let turned = patched(document, patch).unwrap();
    assert_eq!(turned["spec"]["containers"][0]["name"], "n39999");
}
