//! Definitions and their objects, in the words of kube-apiserver 1.36.2, which was asked the same.

use super::{Definition, resource, status};
use crate::contract::Object;
use crate::resource::{Part, Resource};
use serde_json::{Value, json};

fn object(value: Value) -> Object {
    Object::from_value(value).unwrap()
}

/// A definition of `widgets.example.com` with one version.
fn definition(schema: Value, more: Value) -> Object {
    let mut version =
        json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
    version.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    object(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [version],
        },
    }))
}

fn spec(properties: Value) -> Value {
    json!({"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}})
}

/// What is wrong with a definition.
fn told(mut definition: Object) -> Vec<String> {
    let strategy = resource().strategy;
    strategy.default(&mut definition);
    strategy.prepare_create(&mut definition);
    strategy.validate(&definition).iter().map(ToString::to_string).collect()
}

/// Makes a definition that has to be right, and serves it.
fn served(mut definition: Object) -> Resource {
    let strategy = resource().strategy;
    strategy.default(&mut definition);
    strategy.prepare_create(&mut definition);
    let errors = strategy.validate(&definition);
    assert!(errors.is_empty(), "{errors:?}");
    assert!(status::settle(&mut definition, &[], "2026-01-01T00:00:00Z"));
    assert!(status::is_established(&definition));
    Definition::from_object(&definition).unwrap().resources().remove(0)
}

fn widget(spec: Value) -> Object {
    object(json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec}))
}

fn wrong(resource: &Resource, spec: Value) -> Vec<String> {
    let mut object = widget(spec);
    resource.strategy.prune(&mut object);
    resource.strategy.default(&mut object);
    resource.strategy.validate(&object).iter().map(ToString::to_string).collect()
}

#[test]
fn a_definition_is_filled_in_and_established() {
    let mut made = definition(spec(json!({})), json!({}));
    let strategy = resource().strategy;
    strategy.default(&mut made);
    strategy.prepare_create(&mut made);
    assert_eq!(made.text(&["spec", "names", "singular"]), "widget");
    assert_eq!(made.text(&["spec", "names", "listKind"]), "WidgetList");
    assert_eq!(made.at(&["status", "storedVersions"]), Some(&json!(["v1"])));
    assert_eq!(made.finalizers().count(), 0, "nobody can take away what is given when it is deleted");
    let mut deleted = made.clone();
    status::deleted(&mut deleted, "2026-01-01T00:00:00Z");
    status::deleted(&mut deleted, "2026-01-01T00:00:00Z");
    assert_eq!(deleted.finalizers().collect::<Vec<_>>(), [super::FINALIZER]);
    let mut other = made.clone();
    assert!(status::settle(&mut made, &[], "2026-01-01T00:00:00Z"));
    assert!(!status::settle(&mut made, &[], "2026-01-01T00:00:01Z"), "a second time changes nothing");
    other.metadata_mut().insert("name".into(), "gadgets.example.com".into());
    other.make(&["spec", "names"]).insert("plural".into(), "gadgets".into());
    status::settle(&mut other, &[made], "2026-01-01T00:00:00Z");
    assert!(!status::is_established(&other), "its kind is taken");
    let conditions = other.at(&["status", "conditions"]).unwrap().to_string();
    assert!(
        conditions.contains("ListKindConflict")
            && conditions.contains("\\\"WidgetList\\\" is already in use"),
        "{conditions}"
    );
}

#[test]
fn wrong_definitions_are_told_in_kubernetes_words() {
    let with = |schema: Value| told(definition(schema, json!({})));
    let at = "spec.validation.openAPIV3Schema";
    for (schema, wanted) in [
        (json!({}), format!("{at}.type: Required value: must not be empty at the root")),
        (
            spec(json!({"a": {}})),
            format!(
                "{at}.properties[spec].properties[a].type: Required value: must not be empty for specified object fields"
            ),
        ),
        (
            spec(json!({"a": {"type": "array"}})),
            format!("{at}.properties[spec].properties[a].items: Required value: must be specified"),
        ),
        (
            spec(json!({"a": {"type": "string", "default": 1}})),
            format!(
                "{at}.properties[spec].properties[a].default: Invalid value: \"integer\":  in body must be of type string: \"integer\""
            ),
        ),
        (
            spec(
                json!({"a": {"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object"}}}),
            ),
            format!(
                "{at}.properties[spec].properties[a].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map"
            ),
        ),
        (
            spec(json!({"a": {"type": "string", "uniqueItems": true}})),
            format!(
                "{at}.properties[spec].properties[a].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
            ),
        ),
    ] {
        assert!(with(schema.clone()).contains(&wanted), "{schema}: {:#?}", with(schema.clone()));
    }
    let mut named = definition(spec(json!({})), json!({}));
    named.metadata_mut().insert("name".into(), "x.example.com".into());
    assert_eq!(
        told(named),
        [r#"metadata.name: Invalid value: "x.example.com": must be spec.names.plural+"."+spec.group"#]
    );
    let mut webhook = definition(spec(json!({})), json!({}));
    webhook.make(&["spec", "conversion"]).insert("strategy".into(), "Webhook".into());
    assert!(
        told(webhook)[0]
            .starts_with("spec.conversion.strategy: Forbidden: conversion by a webhook is not served here")
    );
}

#[test]
fn rules_that_do_not_compile_are_told_with_their_place() {
    let schema = json!({"type": "object", "properties": {"spec": {
        "type": "object", "properties": {"replicas": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.replica > 1"}],
    }}});
    let errors = told(definition(schema, json!({})));
    assert_eq!(errors.len(), 1, "{errors:?}");
    let wanted =
        "compilation failed: ERROR: <input>:1:5: undefined field 'replica'\n | self.replica > 1\n | ....^";
    assert!(errors[0].ends_with(wanted), "{}", errors[0]);
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "list": {"type": "array", "items": {"type": "string"}, "x-kubernetes-validations": [
            {"rule": "self.all(x, self.all(y, x == y))"},
        ]},
    }}}});
    let errors = told(definition(schema, json!({})));
    assert!(
        errors[0].contains("estimated rule cost exceeds budget by factor of more than 100x"),
        "{errors:?}"
    );
}

#[test]
fn wrong_objects_are_told_in_kubernetes_words() {
    let resource = served(definition(
        json!({"type": "object", "required": ["spec"], "properties": {"spec": {
            "type": "object", "required": ["size"],
            "properties": {
                "size": {"type": "integer", "minimum": 1, "maximum": 5},
                "name": {"type": "string", "maxLength": 3, "pattern": "^a"},
                "mode": {"type": "string", "enum": ["on", "off"]},
                "when": {"type": "string", "format": "date-time"},
                "port": {"x-kubernetes-int-or-string": true},
                "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                "parts": {"type": "array", "maxItems": 2, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                    "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}}}},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            },
        }}}),
        json!({}),
    ));
    for (spec, wanted) in [
        (json!({}), "spec.size: Required value"),
        (
            json!({"size": "x"}),
            r#"spec.size: Invalid value: "string": spec.size in body must be of type integer: "string""#,
        ),
        (
            json!({"size": 9}),
            "spec.size: Invalid value: 9: spec.size in body should be less than or equal to 5",
        ),
        (
            json!({"size": 0}),
            "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1",
        ),
        (json!({"size": 1, "name": "abcd"}), "spec.name: Too long: may not be more than 3 bytes"),
        (
            json!({"size": 1, "name": "b"}),
            r#"spec.name: Invalid value: "b": spec.name in body should match '^a'"#,
        ),
        (
            json!({"size": 1, "mode": "x"}),
            r#"spec.mode: Unsupported value: "x": supported values: "on", "off""#,
        ),
        (
            json!({"size": 1, "when": "x"}),
            r#"spec.when: Invalid value: "x": spec.when in body must be of type date-time: "x""#,
        ),
        (
            json!({"size": 1, "port": true}),
            r#"spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean""#,
        ),
        (json!({"size": 1, "tags": ["a", "a"]}), r#"spec.tags[1]: Duplicate value: "a""#),
        (
            json!({"size": 1, "parts": [{"k": "a"}, {"k": "a"}]}),
            r#"spec.parts[1]: Duplicate value: {"k":"a"}"#,
        ),
        (
            json!({"size": 1, "parts": [{"k": "a"}, {"k": "b"}, {"k": "c"}]}),
            "spec.parts: Too many: 3: must have at most 2 items",
        ),
        (
            json!({"size": 1, "labels": {"a": 1}}),
            r#"spec.labels.a: Invalid value: "integer": spec.labels.a in body must be of type string: "integer""#,
        ),
    ] {
        assert_eq!(wrong(&resource, spec.clone()), [wanted], "{spec}");
    }
    assert!(
        wrong(&resource, json!({"size": 1, "port": "http", "tags": ["a"], "when": "2026-01-01T00:00:00Z"}))
            .is_empty()
    );
}

#[test]
fn unknown_fields_go_and_defaults_come() {
    let resource = served(definition(
        json!({"type": "object", "properties": {"spec": {"type": "object", "default": {}, "properties": {
            "size": {"type": "integer", "default": 3},
            "none": {"type": "string", "nullable": true, "default": "x"},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string", "default": "b"}}}},
        }}}}),
        json!({}),
    ));
    let mut made = widget(json!({"other": 1, "none": null, "free": {"x": {"y": 1}}, "list": [{"z": 1}]}));
    let dropped = resource.strategy.prune(&mut made);
    assert_eq!(dropped, Some(vec!["spec.list[0].z".to_owned(), "spec.other".to_owned()]));
    resource.strategy.default(&mut made);
    let wanted = json!({"none": null, "free": {"x": {"y": 1}}, "list": [{"a": "b"}], "size": 3});
    assert_eq!(made.0["spec"], wanted);
    let mut empty =
        object(json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}));
    resource.strategy.default(&mut empty);
    assert_eq!(empty.0["spec"], json!({"size": 3, "none": "x"}));
}

#[test]
fn rules_are_kept_and_what_was_wrong_before_may_stay() {
    let resource = served(definition(
        json!({"type": "object", "properties": {"spec": {
            "type": "object",
            "properties": {
                "min": {"type": "integer"}, "max": {"type": "integer"},
                "mode": {"type": "string", "maxLength": 9, "x-kubernetes-validations": [
                    {"rule": "self == oldSelf", "message": "mode is immutable", "reason": "FieldValueForbidden"}]},
                "list": {"type": "array", "maxItems": 9, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {
                    "type": "object", "required": ["k"],
                    "properties": {"k": {"type": "string", "maxLength": 9}, "v": {"type": "integer"}},
                    "x-kubernetes-validations": [
                        {"rule": "!has(oldSelf.v) || self.v >= oldSelf.v", "messageExpression": "'v went from %d to %d'.format([oldSelf.v, self.v])"}],
                }},
            },
            "x-kubernetes-validations": [{"rule": "!has(self.min) || !has(self.max) || self.min <= self.max", "fieldPath": ".min"}],
        }}}),
        json!({}),
    ));
    let bad = widget(json!({"min": 2, "max": 1}));
    let strategy = &resource.strategy;
    let texts = |errors: Vec<crate::contract::field::FieldError>| {
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let wanted =
        "spec.min: Invalid value: failed rule: !has(self.min) || !has(self.max) || self.min <= self.max";
    assert_eq!(texts(strategy.validate(&bad)), [wanted]);
    let mut labelled = bad.clone();
    labelled.metadata_mut().insert("labels".into(), json!({"a": "b"}));
    assert!(strategy.validate_update(Part::Main, &labelled, &bad).is_empty(), "unchanged");
    let old = widget(json!({"mode": "a", "list": [{"k": "x", "v": 2}]}));
    let new = widget(json!({"mode": "b", "list": [{"k": "y"}, {"k": "x", "v": 1}]}));
    assert_eq!(
        texts(strategy.validate_update(Part::Main, &new, &old)),
        ["spec.list[1]: Invalid value: v went from 2 to 1", "spec.mode: Forbidden: mode is immutable"]
    );
}

#[test]
fn columns_selectable_fields_and_scale_are_read_by_path() {
    let resource = served(definition(
        json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {"size": {"type": "integer"}, "color": {"type": "string"}}},
            "status": {"type": "object", "properties": {"size": {"type": "integer"}}},
        }}),
        json!({
            "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}},
            "additionalPrinterColumns": [
                {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
            ],
            "selectableFields": [{"jsonPath": ".spec.color"}],
        }),
    ));
    let mut made = widget(json!({"size": 4, "color": "red"}));
    made.metadata_mut().insert("creationTimestamp".into(), "1970-01-01T00:00:00Z".into());
    made.0.insert("status".into(), json!({"size": 1}));
    let strategy = &resource.strategy;
    assert_eq!(strategy.row(&made, 90), [json!("w"), json!(4), json!("90s")]);
    assert_eq!(strategy.selectable_names(), ["spec.color"]);
    assert_eq!(strategy.selected(&made, "spec.color"), "red");
    assert_eq!(strategy.parts(), [Part::Status, Part::Scale]);
    strategy.prepare_create(&mut made);
    assert!(!made.0.contains_key("status"));
    let negative = widget(json!({"size": -1}));
    assert_eq!(
        strategy.validate(&negative)[0].to_string(),
        ".spec.size: Invalid value: -1: should be a non-negative integer"
    );
}

#[test]
fn alternatives_do_not_know_what_was_there_before() {
    let choice = json!({
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "string"}, "n": {"type": "integer"}},
    });
    let with = |keyword: &str, value: Value| {
        let mut choice = choice.clone();
        choice[keyword] = value;
        served(definition(json!({"type": "object", "properties": {"spec": choice}}), json!({})))
    };
    let one_of = json!([{"properties": {"a": {"enum": ["x"]}}}, {"properties": {"a": {"enum": ["y"]}}}]);
    let not = json!({"properties": {"a": {"pattern": "^x"}}});
    let any_of = json!([{"required": ["b"]}, {"properties": {"a": {"enum": ["x"]}}}]);
    for (resource, old, new, fits) in [
        (with("oneOf", one_of), json!({"a": "x", "n": 1}), json!({"a": "x", "n": 2}), true),
        (with("not", not), json!({"a": "y", "n": 1}), json!({"a": "y", "n": 2}), true),
        (with("anyOf", any_of), json!({"a": "z", "b": "1"}), json!({"a": "z"}), false),
    ] {
        let errors = resource.strategy.validate_update(Part::Main, &widget(new), &widget(old));
        assert_eq!(errors.is_empty(), fits, "{errors:?}");
    }
}

#[test]
fn of_values_that_nothing_is_known_of_nothing_is_kept_but_what_has_no_name() {
    let resource =
        served(definition(spec(json!({"m": {"type": "object", "additionalProperties": true}})), json!({})));
    let mut made = widget(json!({"m": {"k": {"a": 1, "b": [{"c": 1}]}, "s": "x", "l": [1, {"x": 1}]}}));
    let dropped = resource.strategy.prune(&mut made).unwrap();
    assert_eq!(dropped, ["spec.m.k.a", "spec.m.k.b", "spec.m.l[1].x"]);
    assert_eq!(made.0["spec"], json!({"m": {"k": {}, "s": "x", "l": [1, {}]}}));
}

#[test]
fn long_lists_are_judged_in_the_time_that_their_length_takes() {
    let set = json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}});
    let keyed = json!({
        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
        "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}, "required": ["k"]},
    });
    let resource = served(definition(spec(json!({"s": set, "m": keyed})), json!({})));
    let many = 50_000;
    let texts: Vec<String> = (0..many).map(|index| format!("item{index}")).collect();
    let items: Vec<Value> = (0..many).map(|index| json!({"k": format!("item{index}"), "v": index})).collect();
    let mut object = widget(json!({"s": texts, "m": items}));
    assert!(resource.strategy.validate(&object).is_empty());
    let old = object.clone();
    object.0["spec"]["m"][7]["k"] = "item8".into();
    let errors = resource.strategy.validate_update(Part::Main, &object, &old);
    assert_eq!(
        errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["spec.m[8]: Duplicate value: {\"k\":\"item8\"}"]
    );
}
