//! Definitions and objects with what a real kube-apiserver answered to each, read from the file that
//! `SEXTANT_CRD_CASES` names: a list of `{"definition", "answer", "objects": [{"object", "old"?, "answer", "result"?}]}`.
//! Gateway API's standard definitions and manifests are judged so; they are nobody's to commit here.

use api::contract::field::FieldErrors;
use api::contract::{Object, Status, names};
use api::resource::{Part, Resource};
use serde_json::Value;

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
