//! The definitions are structural schemas, one for all versions of a kind, and have what the specification has.

use serde_json::Value;

use super::super::{CRDS, Kind};

fn definitions() -> Vec<Value> {
    CRDS.iter().map(|crd| crd.to_json().expect("it is YAML")).collect()
}

/// What kube-apiserver asks of a structural schema, as far as these have to do with it.
fn structural(schema: &Value, path: &str, found: &mut Vec<String>) {
    let known = [
        "description",
        "type",
        "properties",
        "items",
        "additionalProperties",
        "required",
        "enum",
        "pattern",
        "minLength",
        "maxLength",
        "maxItems",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-int-or-string",
        "x-kubernetes-validations",
    ];
    let schema = schema.as_object().expect("a schema is an object");
    found.extend(
        schema.keys().filter(|key| !known.contains(&key.as_str())).map(|key| format!("{path}: {key}")),
    );
    let is = |extension: &str| schema.get(extension) == Some(&Value::Bool(true));
    let untyped = is("x-kubernetes-int-or-string") || is("x-kubernetes-preserve-unknown-fields");
    match schema.get("type").and_then(Value::as_str) {
        None if untyped => {}
        Some("object")
            if schema.contains_key("properties") && schema.contains_key("additionalProperties") =>
        {
            found.push(format!("{path}: properties and additionalProperties"));
        }
        Some("object" | "string") => {}
        Some("array") if schema.contains_key("items") => {}
        other => found.push(format!("{path}: type {other:?}")),
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
        if !properties.is_some_and(|all| all.contains_key(name.as_str().unwrap_or_default())) {
            found.push(format!("{path}: requires {name}, which it has not"));
        }
    }
    for (name, property) in properties.into_iter().flatten() {
        structural(property, &format!("{path}.{name}"), found);
    }
    for child in ["items", "additionalProperties"] {
        if let Some(schema) = schema.get(child) {
            structural(schema, &format!("{path}[{child}]"), found);
        }
    }
}

/// Every list of a schema by its path.
fn lists(schema: &Value, path: &str, found: &mut Vec<(String, Option<u64>)>) {
    if schema["type"] == "array" {
        found.push((path.to_owned(), schema["maxItems"].as_u64()));
        lists(&schema["items"], &format!("{path}[]"), found);
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        lists(property, &format!("{path}.{name}"), found);
    }
}

#[test]
fn every_list_has_a_bound() {
    for definition in definitions() {
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut found = Vec::new();
        lists(schema, "", &mut found);
        assert!(!found.is_empty());
        assert!(found.iter().all(|(_, most)| most.is_some_and(|most| most <= 1024)), "{found:?}");
    }
}

#[test]
fn what_the_reader_must_see_is_not_pruned() {
    let kept = |plural: &str, path: &[&str]| {
        let definitions = definitions();
        let one =
            definitions.iter().find(|one| one["spec"]["names"]["plural"] == plural).expect("it is there");
        let schema = &one["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let schema = path.iter().fold(schema, |schema, step| match *step {
            "[]" => &schema["items"],
            name => &schema["properties"][name],
        });
        assert_eq!(schema["type"], "object", "{plural} {path:?}");
        schema["x-kubernetes-preserve-unknown-fields"] == true
    };
    for top in [&["spec"][..], &[]] {
        let at = |rest: &[&'static str]| [top, rest].concat();
        assert!(kept("httproutegroups", &at(&["matches", "[]"])));
        for list in ["rules", "specs", "sources"] {
            assert!(kept("traffictargets", &at(&[list, "[]"])), "{list}");
        }
        assert!(kept("traffictargets", &at(&["destination"])));
    }
    for routes in ["tcproutes", "udproutes"] {
        assert!(kept(routes, &[]) && kept(routes, &["spec"]) && kept(routes, &["spec", "matches"]));
    }
    assert!(kept("identitybindings", &["spec", "schemes", "podLabelSelector"]));
}

#[test]
fn schemas_are_structural() {
    let mut found = Vec::new();
    for definition in definitions() {
        for version in definition["spec"]["versions"].as_array().expect("it has versions") {
            let schema = &version["schema"]["openAPIV3Schema"];
            assert_eq!(schema["type"], "object");
            structural(schema, definition["metadata"]["name"].as_str().expect("it has a name"), &mut found);
        }
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn the_walk_over_schemas_finds_what_is_wrong() {
    let mut found = Vec::new();
    let wrong = serde_json::json!({"type": "object", "required": ["b"], "properties": {"a": {"nullable": true}, "c": {"type": "array"}}});
    structural(&wrong, "", &mut found);
    assert_eq!(found.len(), 4, "{found:?}");
}

#[test]
fn each_stored_kind_has_one_definition_with_every_version_that_is_read() {
    let definitions = definitions();
    let stored: Vec<Kind> = Kind::all().filter(|kind| kind.group().ends_with("smi-spec.io")).collect();
    assert_eq!(definitions.len(), stored.len());
    for kind in stored {
        let name = format!("{}.{}", kind.plural(), kind.group());
        let definition =
            definitions.iter().find(|one| one["metadata"]["name"] == name.as_str()).expect("it is there");
        assert!(CRDS.iter().any(|crd| crd.name == name));
        assert_eq!(definition["spec"]["names"]["kind"], kind.as_str());
        let versions = definition["spec"]["versions"].as_array().expect("it has versions");
        let names: Vec<_> = versions.iter().filter_map(|version| version["name"].as_str()).collect();
        assert_eq!(names, kind.versions(), "{kind}");
        assert_eq!(versions.iter().filter(|version| version["storage"] == true).count(), 1, "{kind}");
        for version in versions {
            assert_eq!(
                version["schema"], versions[0]["schema"],
                "nothing is converted, so nothing may be pruned"
            );
            assert_eq!(version["served"], true);
        }
    }
}

#[test]
fn names_and_columns_are_the_specifications() {
    let definitions = definitions();
    let of = |plural: &str| {
        definitions.iter().find(|one| one["spec"]["names"]["plural"] == plural).expect("it is there")
    };
    for (plural, short) in [
        ("traffictargets", "tt"),
        ("httproutegroups", "htr"),
        ("tcproutes", "tr"),
        ("udproutes", "ur"),
        ("trafficsplits", "ts"),
    ] {
        assert_eq!(of(plural)["spec"]["names"]["shortNames"][0], short);
    }
    let column = &of("trafficsplits")["spec"]["versions"][0]["additionalPrinterColumns"][0];
    assert_eq!((&column["name"], &column["jsonPath"]), (&"Service".into(), &".spec.service".into()));
}
