//! Manifests and what kube-apiserver 1.36.2 answered to them (`kinds/*.json`, recorded by the project): the rules of the
//! kinds say the same, default the same and warn of the same.

use api::contract::{Object, Status, names};
use api::kinds;
use api::resource::{Asker, Part, Resource};
use serde_json::{Map, Value, json};

/// A kind with its manifests: one that is good, and what is changed in it.
#[derive(serde::Deserialize)]
struct Recorded {
    kind: String,
    api: String,
    #[serde(default)]
    base: Value,
    #[serde(default)]
    old: Value,
    create: Vec<Case>,
    update: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    /// What is changed: a path, and the value or `{"$drop": true}`.
    #[serde(default)]
    set: Map<String, Value>,
    /// The whole manifest, in place of changes.
    #[serde(default)]
    body: Value,
    /// The object before, where it is not that of the kind.
    #[serde(default)]
    old: Value,
    /// The subresource.
    #[serde(default)]
    part: String,
    /// The refusal.
    message: Option<String>,
    /// The object that was answered.
    answer: Option<Value>,
    #[serde(default)]
    warnings: Vec<String>,
}

fn set(value: &mut Value, path: &str, to: &Value) {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let first = first.replace('~', ".");
    let place = match (first.parse::<usize>(), value.is_array()) {
        (Ok(index), true) => {
            let list = value.as_array_mut().expect("a list");
            while list.len() <= index {
                list.push(json!({}));
            }
            &mut list[index]
        }
        _ => {
            if !value.is_object() {
                *value = json!({});
            }
            let map = value.as_object_mut().expect("an object");
            if rest.is_none() && to == &json!({"$drop": true}) {
                map.remove(&first);
                return;
            }
            map.entry(first).or_insert(Value::Null)
        }
    };
    match rest {
        Some(rest) => set(place, rest, to),
        None => *place = to.clone(),
    }
}

fn changed(from: &Value, case: &Case) -> Object {
    let mut value = if case.body.is_null() { from.clone() } else { case.body.clone() };
    for (path, to) in &case.set {
        set(&mut value, path, to);
    }
    Object::from_value(value).expect("an object")
}

/// What the two sides agree to differ in: times, and fields that are there but empty, which the decoder knows of.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(name, _)| {
                !matches!(name.as_str(), "generation" | "lastTransitionTime" | "resourceVersion")
            });
            let kept = kept.map(|(name, value)| (name.clone(), plain(value)));
            let empty = |value: &Value| {
                value.is_null()
                    || value == &json!({})
                    || value == &json!([])
                    || value == &json!("")
                    || value == &json!(0)
                    || value == &json!(false)
            };
            kept.filter(|(_, value)| !empty(value)).collect::<Map<_, _>>().into()
        }
        Value::Array(list) => list.iter().map(plain).collect(),
        other => other.clone(),
    }
}

fn said(resource: &Resource, object: &Object, errors: &api::contract::field::FieldErrors) -> Option<String> {
    let names = &resource.names;
    // Kubernetes forgets what it is about in refusals of reviews.
    let (group, kind, name) = match &*names.group {
        group @ "authorization.k8s.io" => (group, "", ""),
        group => {
            let (group, kind) = resource.strategy.refused_as().unwrap_or((group, &names.kind));
            (group, kind, object.name())
        }
    };
    (!errors.is_empty()).then(|| Status::invalid(group, kind, name, errors).message)
}

fn create(resource: &Resource, from: &Value, case: &Case) -> (Option<String>, Object, Vec<String>) {
    let strategy = &resource.strategy;
    let mut object = changed(from, case);
    strategy.default(&mut object);
    let review = !resource.verbs.read;
    if !review {
        let metadata = object.metadata_mut();
        metadata.insert("uid".to_owned(), "UID".into());
        if resource.namespaced {
            metadata.insert("namespace".to_owned(), "default".into());
        }
    }
    let mut early = strategy.early_warnings(&object);
    strategy.prepare_create(&mut object);
    let asker = Asker {
        user: "admin".to_owned(),
        uid: "admin".to_owned(),
        groups: vec!["system:masters".to_owned(), "system:authenticated".to_owned()],
        ..Asker::default()
    };
    strategy.signed_by(&mut object, &asker);
    let mut errors = Vec::new();
    if !review {
        let name = |name: &str, prefix: bool| strategy.name_errors(name, prefix);
        errors.extend(names::meta_errors(&object, resource.namespaced, name));
    }
    errors.extend(strategy.validate(&object));
    if errors.is_empty() {
        early.extend(strategy.warnings(&object, None));
    } else {
        early.clear();
    }
    (said(resource, &object, &errors), object, early)
}

fn update(resource: &Resource, old: &Value, case: &Case) -> (Option<String>, Object, Vec<String>) {
    let strategy = &resource.strategy;
    let part = if case.part == "status" { Part::Status } else { Part::Main };
    let mut old = Object::from_value(old.clone()).expect("an object");
    old.metadata_mut().insert("resourceVersion".to_owned(), "1".into());
    let mut object = changed(&old.clone().into_value(), case);
    strategy.default(&mut object);
    strategy.prepare_update(part, &mut object, &old);
    let mut errors = names::meta_update_errors(&object, &old);
    errors.extend(strategy.validate_update(part, &object, &old));
    let warnings = if errors.is_empty() && part == Part::Main {
        strategy.warnings(&object, Some(&old))
    } else {
        Vec::new()
    };
    (said(resource, &object, &errors), object, warnings)
}

/// Replays a file and tells every case in which the answers differ.
fn replay(recorded: &str, known: &[&str]) {
    let kinds: Vec<Recorded> = serde_json::from_str(recorded).expect("recorded answers");
    let mut resources = kinds::builtin();
    resources.push(kinds::authentication::token_request());
    let (mut count, mut wrong) = (0, Vec::new());
    for recorded in &kinds {
        let is_it =
            |one: &&Resource| one.names.kind == recorded.kind && one.names.api_version() == recorded.api;
        let resource = resources.iter().find(is_it).unwrap_or_else(|| panic!("no kind {}", recorded.kind));
        let creates = recorded.create.iter().map(|case| (case, create(resource, &recorded.base, case)));
        let updates = recorded.update.iter().map(|case| {
            let old = if case.old.is_null() { &recorded.old } else { &case.old };
            (case, update(resource, old, case))
        });
        for (case, (message, object, warnings)) in creates.chain(updates) {
            count += 1;
            let told = format!("{} {} {}", recorded.kind, case.part, Value::from(case.set.clone()));
            if known.iter().any(|known| told.contains(known)) {
                continue;
            }
            // A machine without the database of time zones knows none, and takes each that is well formed.
            let of_zone = case.message.as_ref().is_some_and(|message| message.contains("unknown time zone"));
            if of_zone && !std::path::Path::new("/usr/share/zoneinfo/Europe/Berlin").exists() {
                println!("not compared, for /usr/share/zoneinfo is not there: {told}");
                continue;
            }
            if message != case.message {
                wrong.push(format!("{told}\n  theirs {:?}\n  ours   {message:?}", case.message));
            } else if let Some(answer) = &case.answer {
                let (theirs, ours) = (plain(answer), plain(&object.into_value()));
                if theirs != ours {
                    wrong.push(format!("{told}\n  theirs {theirs}\n  ours   {ours}"));
                }
            }
            let warnings: Vec<String> =
                warnings.into_iter().filter(|warning| !warning.contains("nothing in Sextant")).collect();
            if warnings != case.warnings {
                wrong.push(format!("{told}\n  theirs {:?}\n  ours   {warnings:?}", case.warnings));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn apps() {
    replay(include_str!("kinds/apps.json"), &[]);
}

#[test]
fn batch() {
    replay(include_str!("kinds/batch.json"), &[]);
}

#[test]
fn autoscaling_and_policy() {
    replay(include_str!("kinds/autoscaling_policy.json"), &[]);
}

#[test]
fn networking_and_discovery() {
    replay(include_str!("kinds/networking_discovery.json"), &[]);
}

#[test]
fn storage() {
    // The finalizer of a new VolumeAttributesClass is admission's to add.
    replay(include_str!("kinds/storage.json"), &["VolumeAttributesClass  {}"]);
}

#[test]
fn snapshots() {
    replay(include_str!("kinds/snapshots.json"), &[]);
}

#[test]
fn others() {
    replay(include_str!("kinds/others.json"), &[]);
}

/// Mistakes that were found by changing each field of rich manifests to what it may not be.
#[test]
fn each_field() {
    replay(include_str!("kinds/each_field.json"), &[]);
}

#[test]
fn extensions_and_reviews() {
    let differs = [
        // Expressions are compiled where they are evaluated.
        r#""expression":"1""#,
        r#""expression":"object.""#,
        r#".expression":"object.""#,
        r#".messageExpression":"1""#,
        // What Go's decoder of ASN.1 says of bytes that are none.
        r#""spec.request":"LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KQUFBQQ"#,
    ];
    replay(include_str!("kinds/extensions_reviews.json"), &differs);
}

#[test]
fn defaults_are_filled_in_once() {
    for file in [
        include_str!("kinds/apps.json"),
        include_str!("kinds/batch.json"),
        include_str!("kinds/autoscaling_policy.json"),
        include_str!("kinds/networking_discovery.json"),
        include_str!("kinds/storage.json"),
        include_str!("kinds/others.json"),
        include_str!("kinds/snapshots.json"),
        include_str!("kinds/extensions_reviews.json"),
    ] {
        let kinds: Vec<Recorded> = serde_json::from_str(file).unwrap();
        let resources = kinds::builtin();
        for recorded in kinds.iter().filter(|recorded| recorded.base.is_object()) {
            let is_it =
                |one: &&Resource| one.names.kind == recorded.kind && one.names.api_version() == recorded.api;
            let resource = resources.iter().find(is_it).unwrap();
            for case in &recorded.create {
                let mut once = changed(&recorded.base, case);
                resource.strategy.default(&mut once);
                let mut twice = once.clone();
                resource.strategy.default(&mut twice);
                assert_eq!(once, twice, "{}", recorded.kind);
            }
        }
    }
}

#[test]
fn rows_have_a_cell_for_each_column() {
    for resource in kinds::builtin() {
        let names = &resource.names;
        let object =
            json!({"apiVersion": names.api_version(), "kind": names.kind, "metadata": {"name": "x"}});
        let object = Object::from_value(object).unwrap();
        let (columns, row) = (resource.strategy.columns(), resource.strategy.row(&object, 0));
        assert_eq!(columns.len(), row.len(), "{}", names.kind);
        assert_eq!(resource.strategy.parts().contains(&Part::Scale), resource.strategy.scale().is_some());
    }
}
