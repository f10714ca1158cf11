//! Objects with mistakes, and what a kube-apiserver 1.36 says of them.
//!
//! `tests/wrong.json` holds our own manifests with the causes and warnings that it answered. Kubernetes walks some maps in
//! no order, so the order of causes is not compared here; the recorded answers of `tests/answers.rs` have the order.

use crate::contract::names::meta_errors;
use crate::contract::{Object, field::FieldErrors};
use crate::decode::{self, Expected, FieldValidation};
use crate::kinds::base::Fields;
use crate::resource::{Part, Resource};
use serde_json::{Map, Value};

/// What the server does with a new object until it is judged.
fn created(resource: &Resource, body: &Value) -> Object {
    let mut object = Object::from_value(body.clone()).expect("a manifest");
    if resource.namespaced {
        object.metadata_mut().insert("namespace".to_owned(), "default".into());
    }
    let expected = Expected {
        api_version: &resource.names.api_version(),
        kind: &resource.names.kind,
        schema: resource.strategy.schema(),
    };
    decode::conform(&mut object, &expected, FieldValidation::Strict).expect("a well-formed manifest");
    resource.strategy.default(&mut object);
    resource.strategy.prepare_create(&mut object);
    // The registry gives out addresses, and tells a single one in the list too.
    let single = object.text(&["spec", "clusterIP"]).to_owned();
    if !single.is_empty() {
        object.make(&["spec"]).insert("clusterIPs".to_owned(), vec![single].into());
    }
    object
}

fn judged(resource: &Resource, object: &Object) -> FieldErrors {
    let strategy = &resource.strategy;
    let mut errors =
        meta_errors(object, resource.namespaced, |name, prefix| strategy.name_errors(name, prefix));
    errors.extend(strategy.validate(object));
    errors
}

fn resource_of<'a>(resources: &'a [Resource], body: &Value) -> &'a Resource {
    resources
        .iter()
        .find(|resource| resource.names.kind == body.text("kind"))
        .expect("a kind of the core group")
}

fn differences(said: &[String], says: &[&str]) -> Vec<String> {
    let mut missing: Vec<&str> = says.to_vec();
    let mut out = Vec::new();
    for text in said {
        match missing.iter().position(|other| other == text) {
            Some(at) => drop(missing.remove(at)),
            None => out.push(format!("    only ours:   {text}")),
        }
    }
    out.extend(missing.into_iter().map(|text| format!("    only theirs: {text}")));
    out
}

#[test]
fn mistakes_are_told_as_kubernetes_tells_them() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("tests/wrong.json")).expect("our own table");
    let resources = super::resources();
    let mut report = Vec::new();
    for case in &cases {
        let body = case.field("object").expect("each case has an object");
        let resource = resource_of(&resources, body);
        let object = created(resource, body);
        let said: Vec<String> = judged(resource, &object).iter().map(ToString::to_string).collect();
        let mut found = differences(&said, &case.texts("says").collect::<Vec<_>>());
        if said.is_empty() {
            let warned = resource.strategy.warnings(&object, None);
            found.extend(differences(&warned, &case.texts("warns").collect::<Vec<_>>()));
        }
        if !found.is_empty() {
            report.push(format!("{}:\n{}", case.text("what"), found.join("\n")));
        }
    }
    assert!(report.is_empty(), "{} of {} differ\n{}", report.len(), cases.len(), report.join("\n"));
}

/// Updates with mistakes: an object as the server keeps it, a merge patch, and what it said. Metadata is told there more
/// than once, which is the registry's to do.
#[test]
fn updates_are_refused_as_kubernetes_refuses_them() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("tests/changed.json")).expect("our own table");
    let resources = super::resources();
    let mut report = Vec::new();
    for case in &cases {
        let body = case.field("object").expect("each case has an object");
        let resource = resource_of(&resources, body);
        let patch = case.field("patch").expect("each case has a patch");
        let patched = crate::merge::merge_patch::apply(body, patch).expect("a merge patch");
        let old = Object::from_value(body.clone()).expect("an object");
        let mut new = Object::from_value(patched).expect("an object");
        let part = match case.text("part") {
            "status" => Part::Status,
            "ephemeralcontainers" => Part::EphemeralContainers,
            "resize" => Part::Resize,
            _ => Part::Main,
        };
        resource.strategy.default(&mut new);
        resource.strategy.prepare_update(part, &mut new, &old);
        let said: Vec<String> =
            resource.strategy.validate_update(part, &new, &old).iter().map(ToString::to_string).collect();
        let says: Vec<&str> =
            case.texts("says").filter(|text| !text.starts_with("metadata.labels")).collect();
        let found = differences(&said, &says);
        if !found.is_empty() {
            report.push(format!("{} {patch}:\n{}", case.text("what"), found.join("\n")));
        }
    }
    assert!(report.is_empty(), "{} of {} differ\n{}", report.len(), cases.len(), report.join("\n"));
}

#[test]
fn defaults_are_there_once() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("tests/wrong.json")).expect("our own table");
    let resources = super::resources();
    for case in &cases {
        let body = case.field("object").expect("each case has an object");
        let resource = resource_of(&resources, body);
        let once = created(resource, body);
        let mut twice = once.clone();
        resource.strategy.default(&mut twice);
        assert_eq!(once, twice, "{}", case.text("what"));
    }
}

#[test]
fn every_schema_and_column_is_there() {
    for resource in super::resources() {
        let kind = &resource.names.kind;
        assert!(resource.strategy.schema().field("metadata").is_some() || kind == "Binding", "{kind}");
        let empty = Object(Map::new());
        let columns = resource.strategy.columns();
        assert_eq!(columns.len(), resource.strategy.row(&empty, 0).len(), "{kind}");
        for column in columns {
            let reference = column.description.split_once('.').is_some_and(|(name, field)| {
                !name.contains(' ') && !field.contains(' ') && !field.is_empty()
            });
            assert!(!reference, "{kind}: {} has no description", column.description);
        }
    }
}
