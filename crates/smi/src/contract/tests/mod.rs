//! Each contradiction of the specifications, and each version, as it is read.

mod access;
mod crds;
mod gateway;
mod specs;
mod split;

use serde_json::{Value, json};

use super::{Object, Read, Reason, Refused, read};

/// YAML as an API server would have it.
fn value(yaml: &str) -> Value {
    serde_saphyr::from_str(yaml).expect("tests hold YAML")
}

/// An object of which only what follows its metadata is written.
fn object(api_version: &str, kind: &str, rest: &str) -> Read {
    let head = format!(
        "apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: it, namespace: shop, uid: u, generation: 3}}\n"
    );
    read(&value(&format!("{head}{rest}"))).expect("tests hold objects")
}

/// Field and reason of each finding.
fn told(read: &Read) -> Vec<(&str, Reason)> {
    read.findings.iter().map(|finding| (finding.field.as_str(), finding.reason)).collect()
}

#[test]
fn what_is_no_object_of_a_mesh_is_refused_with_what_is() {
    let error = read(&json!({"apiVersion": "apps/v1", "kind": "Deployment"})).expect_err("it is none");
    assert!(error.to_string().contains("\"Deployment\""), "{error}");
    assert!(error.to_string().contains("TrafficSplit of split.smi-spec.io"), "{error}");
    let error =
        read(&json!({"apiVersion": "split.smi-spec.io/v2", "kind": "TrafficSplit"})).expect_err("no version");
    assert!(matches!(error, Refused::Unknown { .. }));
    assert!(read(&json!(null)).is_err());
}

#[test]
fn an_object_without_a_usable_name_is_refused() {
    for (meta, field) in [
        (json!({}), "namespace"),
        (json!({"namespace": "a"}), "name"),
        (json!({"namespace": "a/b", "name": "c"}), "namespace"),
        (json!({"namespace": "a", "name": "B"}), "name"),
    ] {
        let object =
            json!({"apiVersion": "split.smi-spec.io/v1alpha4", "kind": "TrafficSplit", "metadata": meta});
        let error = read(&object).expect_err("it has none");
        assert!(matches!(&error, Refused::Unnamed { field: found, .. } if *found == field), "{error}");
    }
}

#[test]
fn unknown_fields_are_told_of() {
    let read = object(
        "split.smi-spec.io/v1alpha4",
        "TrafficSplit",
        "spec: {service: a, backends: [{service: b, weight: 1, port: 80}], retries: 3}",
    );
    assert_eq!(told(&read), [("spec.retries", Reason::Ignored), ("spec.backends[0].port", Reason::Ignored)]);
    assert_eq!(
        read.findings[0].to_string(),
        "spec.retries: 3: is not known here and does nothing; known are service, backends, matches"
    );
}

#[test]
fn an_object_full_of_mistakes_has_few_findings_of_bounded_length() {
    let backends: Vec<Value> = (0..1000).map(|_| json!({"service": "x".repeat(1000)})).collect();
    let object = json!({
        "apiVersion": "split.smi-spec.io/v1alpha4", "kind": "TrafficSplit",
        "metadata": {"name": "a", "namespace": "b"}, "spec": {"service": "a", "backends": backends},
    });
    let read = read(&object).expect("it is one");
    assert_eq!(read.findings.len(), 32);
    assert!(read.findings.iter().all(|finding| finding.to_string().len() < 400));
}

#[test]
fn conditions_know_the_object_and_its_generation() {
    let read = object("specs.smi-spec.io/v1alpha4", "TCPRoute", "spec: {matches: {ports: []}}");
    let Object::Ports(route) = &read.object else { panic!("{read:?}") };
    assert_eq!((route.meta.uid.as_str(), route.meta.generation), ("u", 3));
    assert_eq!(read.object.id().to_string(), "TCPRoute shop/it");
}
