//! Ownership of fields by example, and laws that hold of any.

use super::*;
use crate::merge::fixtures;
use proptest::prelude::*;
use serde_json::json;

fn object(value: Value) -> Object {
    Object::from_value(value).unwrap()
}

fn manager(name: &str, operation: Operation, time: &str) -> Manager {
    Manager {
        name: name.to_owned(),
        operation,
        api_version: "test/v1".to_owned(),
        subresource: String::new(),
        time: time.to_owned(),
    }
}

fn thing(body: Value) -> Object {
    let mut object = object(json!({"apiVersion": "test/v1", "kind": "Thing", "metadata": {"name": "x"}}));
    for (name, value) in body.as_object().unwrap() {
        match (object.0.get_mut(name).and_then(Value::as_object_mut), value) {
            (Some(into), Value::Object(fields)) => into.extend(fields.clone()),
            _ => drop(object.0.insert(name.clone(), value.clone())),
        }
    }
    object
}

const STATUS: Owned<'static> = Owned::Without(&[&["status"]]);

fn applied_as(live: Option<&Object>, config: Value, name: &str, force: bool, time: &str) -> Result<Object> {
    let (arena, root) = fixtures::thing();
    let manager = manager(name, Operation::Apply, time);
    let mut object = apply(live, &thing(config), arena.schema(root), &manager, force, STATUS)?;
    object.metadata_mut().insert("uid".to_owned(), "u".into());
    Ok(object)
}

fn applied(live: Option<&Object>, config: Value, name: &str) -> Result<Object> {
    applied_as(live, config, name, false, "2026-01-01T00:00:00Z")
}

fn updated(live: Option<&Object>, body: Value, name: &str) -> Object {
    let (arena, root) = fixtures::thing();
    let mut new = thing(body);
    new.metadata_mut().insert("uid".to_owned(), "u".into());
    record(
        live,
        &mut new,
        arena.schema(root),
        &manager(name, Operation::Update, "2026-01-02T00:00:00Z"),
        STATUS,
    );
    new
}

/// Who owns what: `name operation` to fields.
fn owners(object: &Object) -> Value {
    let list = object.at(&["metadata", "managedFields"]).and_then(Value::as_array).into_iter().flatten();
    let entries = list.map(|entry| {
        let name = format!("{} {}", entry["manager"].as_str().unwrap(), entry["operation"].as_str().unwrap());
        (name, entry["fieldsV1"].clone())
    });
    Value::Object(entries.collect())
}

#[test]
fn what_is_no_longer_applied_goes_unless_another_owns_it() {
    let first = applied(None, json!({"data": {"a": "1", "b": "2", "c": "3"}}), "one").unwrap();
    assert_eq!(owners(&first), json!({"one Apply": {"f:data": {"f:a": {}, "f:b": {}, "f:c": {}}}}));
    let both = applied(Some(&first), json!({"data": {"b": "2"}}), "two").unwrap();
    let less = applied(Some(&both), json!({"data": {"a": "1"}}), "one").unwrap();
    assert_eq!(less.at(&["data"]), Some(&json!({"a": "1", "b": "2"})));
    assert_eq!(
        owners(&less),
        json!({"one Apply": {"f:data": {"f:a": {}}}, "two Apply": {"f:data": {"f:b": {}}}})
    );
}

#[test]
fn conflicts_are_told_as_kubernetes_tells_them_and_force_takes() {
    let live = updated(None, json!({"data": {"a": "1", "b": "1"}}), "curl");
    let status = applied(Some(&live), json!({"data": {"a": "2"}}), "me").unwrap_err();
    assert_eq!((status.code, status.reason), (409, Reason::Conflict));
    assert_eq!(status.message, "Apply failed with 1 conflict: conflict with \"curl\" using test/v1: .data.a");
    let cause = &status.details.unwrap().causes[0];
    assert_eq!(
        (&*cause.reason, &*cause.message, &*cause.field),
        ("FieldManagerConflict", "conflict with \"curl\" using test/v1", ".data.a")
    );
    let status = applied(Some(&live), json!({"data": {"a": "2", "b": "2"}}), "me").unwrap_err();
    assert_eq!(
        status.message,
        "Apply failed with 2 conflicts: conflicts with \"curl\" using test/v1:\n- .data.a\n- .data.b"
    );
    let forced =
        applied_as(Some(&live), json!({"data": {"a": "2"}}), "me", true, "2026-01-03T00:00:00Z").unwrap();
    assert_eq!(
        owners(&forced),
        json!({"me Apply": {"f:data": {"f:a": {}}}, "curl Update": {"f:data": {".": {}, "f:b": {}}}})
    );
}

#[test]
fn items_are_found_by_keys_with_their_defaults() {
    let ports = |ports: Value| json!({"spec": {"containers": [{"name": "c", "ports": ports}]}});
    let live = applied(None, ports(json!([{"containerPort": 80, "name": "a"}])), "one").unwrap();
    assert!(owners(&live).to_string().contains(r#"k:{\"containerPort\":80,\"protocol\":\"TCP\"}"#));
    let two = applied(Some(&live), ports(json!([{"containerPort": 80, "protocol": "UDP"}])), "two").unwrap();
    let merged = &two.at(&["spec", "containers"]).unwrap()[0]["ports"];
    assert_eq!(
        merged,
        &json!([{"containerPort": 80, "name": "a"}, {"containerPort": 80, "protocol": "UDP"}])
    );
}

#[test]
fn a_configuration_that_is_not_of_the_schema_is_refused() {
    for (config, cause) in [
        (json!({"data": {"a": 1}}), ".data.a: expected string, got &value.valueUnstructured{Value:1}"),
        (json!({"spec": {"nope": 1}}), ".spec.nope: field not declared in schema"),
        (json!({"spec": {"replicas": "x"}}), ".spec.replicas: expected numeric (int or float), got string"),
        (json!({"spec": {"containers": {}}}), ".spec.containers: expected list, got &{map[]}"),
        (
            json!({"spec": {"containers": [{"name": "a"}, {"name": "a"}]}}),
            ".spec.containers: duplicate entries for key [name=\"a\"]",
        ),
        (
            json!({"spec": {"containers": [{"image": "a"}]}}),
            ".spec.containers: element 0: associative list with keys has an element that omits all key fields [\"name\"] \
             (and doesn't have default values for any key fields)",
        ),
    ] {
        let status = applied(None, config.clone(), "me").unwrap_err();
        let message = format!("failed to create typed patch object (/x; test/v1, Kind=Thing): {cause}");
        assert_eq!((status.code, status.message), (500, message), "{config}");
    }
    let (arena, root) = fixtures::thing();
    let other = object(json!({"apiVersion": "v1", "kind": "Other"}));
    let me = manager("me", Operation::Apply, "");
    let status = apply(None, &other, arena.schema(root), &me, false, STATUS).unwrap_err();
    assert_eq!((status.code, &*status.message), (400, "invalid object type: /v1, Kind=Other"));
    let status = applied(None, json!({"metadata": {"managedFields": []}}), "me").unwrap_err();
    assert_eq!((status.code, &*status.message), (400, "metadata.managedFields must be nil"));
}

#[test]
fn an_apply_that_changes_nothing_leaves_the_time() {
    let config = json!({"data": {"a": "1"}});
    let first = applied(None, config.clone(), "one").unwrap();
    let again = applied_as(Some(&first), config.clone(), "one", false, "2026-02-02T00:00:00Z").unwrap();
    assert_eq!(again, first);
    let other = applied_as(Some(&first), config, "two", false, "2026-02-02T00:00:00Z").unwrap();
    let entry = &other.at(&["metadata", "managedFields"]).unwrap()[0];
    assert_eq!(
        (&entry["manager"], entry.get("time")),
        (&json!("two"), None),
        "as Kubernetes: it changed nothing"
    );
    assert!(is_same_but_for_times(&first, &again) && !is_same_but_for_times(&first, &other));
}

#[test]
fn updates_own_what_they_change() {
    let first =
        updated(None, json!({"data": {"a": "1"}, "spec": {"replicas": 1}, "status": {"phase": "x"}}), "one");
    assert_eq!(
        owners(&first),
        json!({"one Update": {"f:data": {".": {}, "f:a": {}}, "f:spec": {"f:replicas": {}}}}),
        "structs are there before, the status is not owned"
    );
    let mut body = json!({"data": {"a": "2"}, "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1"}}}]}});
    body["metadata"] = json!({"managedFields": first.at(&["metadata", "managedFields"]).unwrap()});
    let second = updated(Some(&first), body, "two");
    assert_eq!(
        owners(&second),
        json!({
            "one Update": {"f:data": {}},
            "two Update": {
                "f:data": {"f:a": {}},
                "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {
                    ".": {}, "f:name": {}, "f:resources": {".": {}, "f:limits": {".": {}, "f:cpu": {}}},
                }}},
            },
        })
    );
}

#[test]
fn a_client_can_begin_the_managed_fields_anew() {
    let live = updated(None, json!({"data": {"a": "1"}}), "one");
    let body = |fields: Value| json!({"metadata": {"managedFields": fields}, "data": {"a": "1"}});
    assert_eq!(owners(&updated(Some(&live), body(json!([])), "two")), json!({}));
    assert_eq!(owners(&updated(Some(&live), body(json!([{}])), "two")), json!({}));
    assert_eq!(owners(&updated(Some(&live), body(Value::Null), "two")), owners(&live));
    assert_eq!(owners(&updated(Some(&live), body(json!([{"manager": "x"}])), "two")), owners(&live));
    let reset = updated(Some(&live), body(json!([])), "two");
    let applied = applied(Some(&reset), json!({"data": {"b": "2"}}), "three").unwrap();
    assert_eq!(
        owners(&applied),
        json!({"before-first-apply Update": {"f:data": {".": {}, "f:a": {}}}, "three Apply": {"f:data": {"f:b": {}}}})
    );
}

#[test]
fn the_oldest_of_many_updaters_become_one() {
    let (arena, root) = fixtures::thing();
    let mut live: Option<Object> = None;
    for number in 0..13 {
        let mut new = live.clone().unwrap_or_else(|| thing(json!({"metadata": {"uid": "u"}})));
        new.make(&["data"]).insert(format!("k{number}"), "v".into());
        let time = format!("2026-01-01T00:00:{number:02}Z");
        let manager = manager(&format!("m{number}"), Operation::Update, &time);
        record(live.as_ref(), &mut new, arena.schema(root), &manager, Owned::All);
        live = Some(new);
    }
    let live = live.unwrap();
    let list = live.at(&["metadata", "managedFields"]).and_then(Value::as_array).unwrap();
    assert_eq!(list.len(), MOST_UPDATERS);
    assert_eq!(
        (&list[0]["manager"], &list[0]["time"]),
        (&json!("ancient-changes"), &json!("2026-01-01T00:00:03Z"))
    );
    assert_eq!(
        list[0]["fieldsV1"],
        json!({"f:data": {".": {}, "f:k0": {}, "f:k1": {}, "f:k2": {}, "f:k3": {}}})
    );
}

#[test]
fn kubectl_goes_over_from_its_annotation() {
    let annotation = "kubectl.kubernetes.io/last-applied-configuration";
    let last =
        json!({"apiVersion": "test/v1", "kind": "Thing", "metadata": {"name": "x"}, "data": {"a": "1"}});
    let body =
        json!({"metadata": {"annotations": {annotation: last.to_string()}}, "data": {"a": "1", "b": "1"}});
    let live = updated(None, body, "kubectl-client-side-apply");
    let moved = applied(Some(&live), json!({"data": {"a": "2"}}), "kubectl").unwrap();
    assert_eq!(moved.text(&["data", "a"]), "2");
    let written: Value = serde_json::from_str(moved.text(&["metadata", "annotations", annotation])).unwrap();
    assert_eq!(written["data"], json!({"a": "2"}));
    let status = applied(Some(&live), json!({"data": {"a": "2", "b": "2"}}), "kubectl").unwrap_err();
    assert!(status.message.ends_with(": .data.b"), "{}", status.message);
    assert!(applied(Some(&live), json!({"data": {"a": "2"}}), "other").is_err());
}

#[test]
fn duplicates_that_are_kept_are_owned_as_one() {
    let live = updated(
        None,
        json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "a", "image": "2"}]}}),
        "old",
    );
    assert_eq!(owners(&live)["old Update"], json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {}}}}));
    let config = json!({"spec": {"containers": [{"name": "a", "image": "3"}]}});
    let status = applied(Some(&live), config.clone(), "new").unwrap_err();
    assert!(status.message.contains("[name=\"a\"]"), "{}", status.message);
    let forced = applied_as(Some(&live), config, "new", true, "").unwrap();
    assert_eq!(forced.at(&["spec", "containers"]), Some(&json!([{"name": "a", "image": "3"}])));
}

#[test]
fn the_name_of_a_manager_is_what_its_agent_begins_with() {
    assert_eq!(name_of("kubectl/v1.36.2 (linux/amd64)"), "kubectl");
    assert_eq!(name_of("a\u{7}b c\u{a0}d"), "ab cd");
    assert_eq!(name_of(&"x".repeat(200)).len(), 128);
}

fn configs() -> impl Strategy<Value = Value> {
    let env = prop::collection::btree_map("[a-c]", "[x-z]", 0..3).prop_map(|env| {
        env.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect::<Vec<_>>()
    });
    let container = ("[12]", env, prop::option::of("[ab]")).prop_map(
        |(image, env, arg)| json!({"image": image, "env": env, "args": arg.into_iter().collect::<Vec<_>>()}),
    );
    let containers = prop::collection::btree_map("[a-c]", container, 0..3).prop_map(|containers| {
        let named = containers.into_iter().map(|(name, mut container)| {
            container["name"] = name.into();
            container
        });
        named.collect::<Vec<_>>()
    });
    let finalizers = prop::collection::btree_set("[a-c]", 0..3);
    (containers.prop_shuffle(), prop::collection::btree_map("[a-c]", "[x-z]", 0..3), finalizers).prop_map(
        |(containers, data, finalizers)| {
            json!({"spec": {"containers": containers}, "data": data, "metadata": {"finalizers": finalizers}})
        },
    )
}

/// JSON of the words that patches and managed fields are made of, in any arrangement.
fn anything() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "metadata",
        "spec",
        "data",
        "name",
        "containers",
        "env",
        "ports",
        "containerPort",
        "finalizers",
        "managedFields",
        "manager",
        "operation",
        "Apply",
        "Update",
        "apiVersion",
        "fieldsType",
        "FieldsV1",
        "fieldsV1",
        "f:spec",
        "f:data",
        "k:{\"name\":\"a\"}",
        "v:1",
        "i:0",
        "k:{",
        ".",
        "x:y",
        "$patch",
        "delete",
        "replace",
        "merge",
        "$retainKeys",
        "$setElementOrder/containers",
        "$setElementOrder/finalizers",
        "$deleteFromPrimitiveList/finalizers",
        "raw",
        "a",
        "test/v1",
        "Thing",
        "kind",
        "uid",
    ]);
    let text = word.clone();
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3..100_i64).prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            3 => prop::collection::btree_map(word.clone().prop_map(str::to_owned), inner.clone(), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            1 => prop::collection::vec(inner, 0..4).prop_map(Value::from),
        ]
    })
}

/// Everything of `config` is in `object`, and lists that merge by key have its items in its order.
fn has(object: &Value, config: &Value) -> bool {
    match (object, config) {
        (Value::Object(object), Value::Object(config)) => config.iter().all(|(name, value)| {
            is_empty(value) || object.get(name).is_some_and(|object| has(object, value))
        }),
        (Value::Array(object), Value::Array(config)) => {
            let mut left = object.iter();
            config.iter().all(|item| left.any(|object| has(object, item)))
        }
        (object, config) => object == config,
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(serde_json::Map::is_empty)
}

proptest! {
    #[test]
    fn outside_json_does_no_harm(live in anything(), patch in anything()) {
        let (arena, root) = fixtures::thing();
        let schema = arena.schema(root);
        let _ = crate::merge::strategic::apply(&live, &patch, schema);
        let (Some(live), Some(patch)) = (Object::from_value(live), Object::from_value(patch)) else { return Ok(()) };
        let live = thing(live.into_value());
        let mut new = patch.clone();
        record(Some(&live), &mut new, schema, &manager("me", Operation::Update, "t"), Owned::All);
        let config = thing(patch.into_value());
        let _ = apply(Some(&live), &config, schema, &manager("kubectl", Operation::Apply, "t"), false, STATUS);
    }

    #[test]
    fn applies_are_there_and_idempotent(old in configs(), one in configs(), other in configs()) {
        let live = updated(None, old, "curl");
        let first = applied_as(Some(&live), one.clone(), "one", true, "t1").unwrap();
        prop_assert!(has(&first.clone().into_value(), &one), "{:?}", first);
        prop_assert_eq!(applied_as(Some(&first), one, "one", false, "t2").unwrap(), first.clone());
        let second = applied_as(Some(&first), other.clone(), "two", true, "t3").unwrap();
        prop_assert!(has(&second.clone().into_value(), &other), "{:?}", second);
        prop_assert_eq!(applied_as(Some(&second), other, "two", true, "t4").unwrap(), second);
    }

    #[test]
    fn what_one_applies_alone_is_all_there_is(one in configs(), other in configs()) {
        let first = applied_as(None, one, "me", true, "t1").unwrap();
        let second = applied_as(Some(&first), other.clone(), "me", true, "t2").unwrap();
        let anew = applied_as(None, other, "me", true, "t2").unwrap();
        prop_assert_eq!(owners(&second), owners(&anew));
    }

    #[test]
    fn fields_are_read_as_written(one in configs(), other in configs()) {
        let (arena, root) = fixtures::thing();
        let kind = Type::Of(arena.schema(root));
        let sets = [one, other].map(|config| field_set::of(kind, &thing(config).into_value()));
        let [one, other] = &sets;
        prop_assert_eq!(&wire::from_fields(&wire::to_fields(one)).unwrap(), one);
        prop_assert_eq!(one.union(other), other.union(one));
        prop_assert_eq!(&one.intersection(other).union(&one.difference(other)), one);
        prop_assert!(one.difference(one).is_empty());
        let mut count = 0;
        one.each(&mut |path| {
            count += 1;
            assert!(one.has(path));
        });
        prop_assert!(count > 0 || one.is_empty());
    }
}
