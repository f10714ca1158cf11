//! Definitions and objects with what a real kube-apiserver answered to each, read from the file that
//! `SEXTANT_CRD_CASES` names: a list of `{"definition", "answer", "objects": [{"object", "old"?, "answer", "result"?}]}`.
//! Gateway API's standard definitions and manifests are judged so; they are nobody's to commit here.
//!
//! What kube-apiserver 1.36.2 says of expressions stands in `crd/cel.json`: `{"expression", "refused"}` of one that does
//! not compile, else what it gives (`value`, as `%s` of `format` writes it) or how its evaluation fails (`error`); what it says of
//! texts in formats in `crd/formats.json`: format, text, whether it fits.
//!
//! The same of patterns and what Go finds by them: `SEXTANT_PATTERN_CASES` names a file whose lines are
//! `{"pattern", "texts", "error", "found": [[...]]}`.

use api::contract::field::FieldErrors;
use api::contract::{Object, Status, names};
use api::resource::{Part, Resource};
use serde_json::{Value, json};

fn object(value: &Value) -> Object {
    Object::from_value(value.clone()).expect("cases hold objects")
}

fn refusal(resource: &Resource, object: &Object, errors: &FieldErrors) -> String {
    if errors.is_empty() {
        return String::new();
    }
    Status::invalid(&resource.names.group, &resource.names.kind, object.name(), errors).message
}

/// Answers may differ in the order that a map has, and in numbers that Kubernetes draws for the names of types.
fn normal(text: &str) -> String {
    let (head, body) = text.split_once(" is invalid: ").unwrap_or(("", text));
    let body = body.strip_prefix('[').and_then(|body| body.strip_suffix(']')).unwrap_or(body);
    let mut out = String::new();
    let mut rest = body;
    while let Some(at) = rest.find("selfType") {
        out.push_str(&rest[..at + 8]);
        rest = rest[at + 8..].trim_start_matches(|character: char| character.is_ascii_digit());
    }
    out.push_str(rest);
    let mut parts: Vec<&str> = out.split(", ").collect();
    parts.sort_unstable();
    format!("{head}: {}", parts.join(", "))
}

fn create(resource: &Resource, value: &Value) -> (Object, String) {
    let mut made = object(value);
    let strategy = &resource.strategy;
    strategy.prune(&mut made);
    strategy.default(&mut made);
    strategy.prepare_create(&mut made);
    if resource.namespaced {
        made.metadata_mut().insert("namespace".into(), "default".into());
    }
    let name = |name: &str, prefix| strategy.name_errors(name, prefix);
    let mut errors = names::meta_errors(&made, resource.namespaced, name);
    errors.extend(strategy.validate(&made));
    let text = refusal(resource, &made, &errors);
    (made, text)
}

fn update(resource: &Resource, value: &Value, old: &Value) -> (Object, String) {
    let (old, refused) = create(resource, old);
    assert_eq!(refused, "");
    let mut made = object(value);
    made.metadata_mut().insert("namespace".into(), "default".into());
    resource.strategy.prune(&mut made);
    resource.strategy.default(&mut made);
    resource.strategy.prepare_update(Part::Main, &mut made, &old);
    let errors = resource.strategy.validate_update(Part::Main, &made, &old);
    let text = refusal(resource, &made, &errors);
    (made, text)
}

#[derive(Default)]
struct Score {
    same: usize,
    different: usize,
}

impl Score {
    fn compare(&mut self, what: &Value, wanted: &str, got: &str) {
        if normal(wanted) == normal(got) {
            self.same += 1;
        } else {
            self.different += 1;
            println!("--- {what}\n  real: {wanted}\n  ours: {got}");
        }
    }
}

#[test]
#[ignore = "reads the file that SEXTANT_CRD_CASES names"]
fn answers_are_those_of_a_real_server() {
    let path = std::env::var("SEXTANT_CRD_CASES").expect("SEXTANT_CRD_CASES names a file");
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let kind = api::crd::resource();
    let mut score = Score::default();
    for case in &cases {
        let (mut definition, text) = create(&kind, &case["definition"]);
        let objects = case["objects"].as_array().unwrap();
        let about = if objects.is_empty() {
            &case["definition"]["spec"]
        } else {
            &case["definition"]["metadata"]["name"]
        };
        score.compare(about, case["answer"].as_str().unwrap_or_default(), &text);
        if objects.is_empty() || !text.is_empty() {
            continue;
        }
        api::crd::status::settle(&mut definition, &[], "2026-01-01T00:00:00Z");
        let served = api::crd::Definition::from_object(&definition).unwrap().resources();
        for item in objects {
            let asked = &item["object"];
            let version = asked["apiVersion"].as_str().unwrap_or_default();
            let resource = served
                .iter()
                .find(|resource| resource.names.api_version() == version)
                .unwrap_or_else(|| panic!("{version} is served"));
            let (made, text) = match item.get("old") {
                None => create(resource, asked),
                Some(old) => update(resource, asked, old),
            };
            score.compare(asked, item["answer"].as_str().unwrap_or_default(), &text);
            if let Some(result) = item.get("result").filter(|_| text.is_empty()) {
                let mut made = resource.strategy.from_stored(made).unwrap().0;
                made.remove("metadata");
                score.compare(asked, &result.to_string(), &Value::Object(made).to_string());
            }
        }
    }
    println!("{} the same, {} different", score.same, score.different);
    assert_eq!(score.different, 0);
}

/// A definition whose `spec` has values of all types and this rule.
fn ruled(rule: &Value) -> Value {
    let text = |most: u64| json!({"type": "string", "maxLength": most});
    let list = |items: Value, most: u64| json!({"type": "array", "items": items, "maxItems": most});
    let map = |values: Value| json!({"type": "object", "additionalProperties": values, "maxProperties": 5});
    let number = json!({"type": "integer"});
    let object = json!({"type": "object", "properties": {"a": text(10), "b": number}});
    let mut set = list(text(10), 5);
    set["x-kubernetes-list-type"] = "set".into();
    let keyed = json!({"type": "object", "properties": {"k": text(10), "v": number}, "required": ["k"]});
    let mut keyed = list(keyed, 5);
    keyed["x-kubernetes-list-type"] = "map".into();
    keyed["x-kubernetes-list-map-keys"] = json!(["k"]);
    let properties = json!({
        "n": number, "d": {"type": "number"}, "s": text(60), "b": {"type": "boolean"}, "l": list(number.clone(), 8),
        "ls": list(text(20), 8), "m": map(number.clone()), "ms": map(text(20)), "o": object, "lo": list(object.clone(), 5),
        "t": {"type": "string", "format": "date-time"}, "du": {"type": "string", "format": "duration"},
        "by": {"type": "string", "format": "byte", "maxLength": 40},
        "q": {"x-kubernetes-int-or-string": true, "maxLength": 10}, "set": set, "mp": keyed,
        "nul": {"type": "string", "nullable": true, "maxLength": 5},
        "any": {"x-kubernetes-preserve-unknown-fields": true},
    });
    let spec = json!({"type": "object", "properties": properties, "x-kubernetes-validations": [rule]});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    })
}

/// What becomes of a definition with a rule, and of an object with values of all types: the first refusal, if any.
fn judged(rule: &Value) -> String {
    let (mut definition, refused) = create(&api::crd::resource(), &ruled(rule));
    if !refused.is_empty() {
        return refused;
    }
    api::crd::status::settle(&mut definition, &[], "2026-01-01T00:00:00Z");
    let served = api::crd::Definition::from_object(&definition).expect("it is valid").resources();
    let widget = json!({
        "apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"},
        "spec": {
            "n": 7, "d": 2.5, "s": "Hello, Wörld 42", "b": true, "l": [3, 1, 2, 1], "ls": ["b", "a", "c", "a"],
            "m": {"x": 1, "y": 2}, "ms": {"k": "v", "k2": "w"}, "o": {"a": "A", "b": 1},
            "lo": [{"a": "x", "b": 2}, {"a": "y", "b": 1}, {"b": 5}], "t": "2024-02-29T12:34:56.789Z", "du": "1h30m5s",
            "by": "aGVsbG8=", "q": "50%", "set": ["a", "b"], "mp": [{"k": "a", "v": 1}, {"k": "b", "v": 2}], "nul": null,
        },
    });
    create(&served[0], &widget).1
}

#[test]
fn expressions_give_what_they_give_a_real_server() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("crd/cel.json")).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let expression = case["expression"].as_str().unwrap();
        let text = |field: &str| case[field].as_str();
        if let Some(refused) = text("refused") {
            let got = judged(&json!({"rule": format!("dyn({expression}) != null")}));
            let got = got.split_once("\"OptionalOldSelf\":null}: ").map_or(got.as_str(), |(_, told)| told);
            if got != refused {
                wrong.push(format!("{expression}: {got}, not {refused}"));
            }
            continue;
        }
        let got = judged(&json!({
            "rule": format!("\"%s\".format([{expression}]) == \"@@\""),
            "message": "told", "messageExpression": format!("\"= %s\".format([{expression}])"),
        }));
        let wanted = match (text("value"), text("error")) {
            (Some(value), _) => format!("Invalid value: = {value}"),
            (_, Some("no such overload")) => "'no such overload': call arguments did not match".to_owned(),
            (_, error) => format!("{} evaluating rule: told", error.unwrap()),
        };
        if !got.contains(&wanted) {
            wrong.push(format!("{expression}: {got}, not {wanted}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases.len() > 500, "the cases are there");
}

#[test]
fn formats_are_those_of_a_real_server() {
    let cases: Vec<(String, String, bool)> = serde_json::from_str(include_str!("crd/formats.json")).unwrap();
    for (format, text, fits) in &cases {
        let schema = json!({"type": "object", "properties": {"spec": {
            "type": "object", "properties": {"a": {"type": "string", "format": format}},
        }}});
        let mut definition = ruled(&json!({"rule": "true"}));
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema;
        let (mut definition, refused) = create(&api::crd::resource(), &definition);
        assert_eq!(refused, "");
        api::crd::status::settle(&mut definition, &[], "2026-01-01T00:00:00Z");
        let served = api::crd::Definition::from_object(&definition).unwrap().resources();
        let (_, refused) = create(
            &served[0],
            &json!({
                "apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"a": text},
            }),
        );
        assert_eq!(refused.is_empty(), *fits, "{format} {text:?}: {refused}");
    }
    assert!(cases.len() > 150, "the cases are there");
}

#[test]
#[ignore = "reads the file that SEXTANT_PATTERN_CASES names"]
fn patterns_find_what_go_finds() {
    let path = std::env::var("SEXTANT_PATTERN_CASES").expect("SEXTANT_PATTERN_CASES names a file");
    let lines = std::fs::read_to_string(path).unwrap();
    let (mut same, mut different) = (0, 0);
    let mut compare = |pattern: &str, text: &str, wanted: String, got: String| {
        if wanted == got {
            same += 1;
        } else {
            different += 1;
            println!("--- {pattern:?} {text:?}\n  Go:   {wanted}\n  ours: {got}");
        }
    };
    for line in lines.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let pattern = case["pattern"].as_str().unwrap();
        let ask =
            |text: &str| api::cel::evaluate("self.t.findAll(self.p)", &json!({"t": text, "p": pattern}));
        let error = case["error"].as_str().unwrap_or_default();
        if !error.is_empty() {
            let got = ask("").err().unwrap_or_default();
            compare(pattern, "", format!("Illegal regex: {error}"), got);
            continue;
        }
        for (text, found) in case["texts"].as_array().unwrap().iter().zip(case["found"].as_array().unwrap()) {
            let found: Vec<&str> = found.as_array().unwrap().iter().filter_map(Value::as_str).collect();
            let text = text.as_str().unwrap();
            let got = ask(text).unwrap_or_else(|error| error);
            compare(pattern, text, format!("[{}]", found.join(", ")), got);
        }
    }
    println!("{same} the same, {different} different");
    assert_eq!(different, 0);
}
