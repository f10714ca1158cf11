//! Fields that are there twice, and annotations that were fields before.

use super::*;

fn status(status: Value) -> Object {
    let mut object = pod(json!({}));
    object.0.insert("status".to_owned(), status);
    kind().resource().strategy.default(&mut object);
    object
}

#[test]
fn the_address_and_the_addresses_say_the_same() {
    let both = |ip: &str, rest: Value| json!({"podIP": ip, "podIPs": rest});
    for (told, kept) in [
        (json!({"podIP": "1.2.3.4"}), both("1.2.3.4", json!([{"ip": "1.2.3.4"}]))),
        (
            json!({"podIPs": [{"ip": "1.2.3.4"}, {"ip": "::1"}]}),
            both("1.2.3.4", json!([{"ip": "1.2.3.4"}, {"ip": "::1"}])),
        ),
        (
            both("1.1.1.1", json!([{"ip": "1.2.3.4"}, {"ip": "::1"}])),
            both("1.1.1.1", json!([{"ip": "1.1.1.1"}])),
        ),
    ] {
        let object = status(told.clone());
        assert_eq!(object.at(&["status"]), Some(&kept), "{told}");
        let strategy = kind().resource().strategy;
        assert_eq!(strategy.selected(&object, "status.podIP"), kept["podIP"].as_str().unwrap());
    }
    let (bad, old) = (status(json!({"podIP": "bad"})), status(json!({})));
    let said = kind().resource().strategy.validate_update(Part::Status, &bad, &old);
    assert!(
        said.iter().any(|error| error.to_string().starts_with("status.podIPs[0]: Invalid value: \"bad\""))
    );
}

#[test]
fn profiles_of_annotations_become_fields() {
    let strategy = kind().resource().strategy;
    let annotated = |value: &str, context: Value| {
        let mut object = container(json!({"securityContext": context}));
        let key = "container.apparmor.security.beta.kubernetes.io/c";
        object.metadata_mut().insert("annotations".to_owned(), json!({key: value}));
        object
    };
    for (value, profile) in [
        ("runtime/default", json!({"type": "RuntimeDefault"})),
        ("unconfined", json!({"type": "Unconfined"})),
        ("localhost/a", json!({"type": "Localhost", "localhostProfile": "a"})),
    ] {
        let mut object = annotated(value, json!({}));
        assert_eq!(
            strategy.early_warnings(&object),
            [
                "metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the \
              \"appArmorProfile\" field instead"
            ]
        );
        strategy.prepare_create(&mut object);
        let context = object.spec().list("containers")[0].field("securityContext");
        assert_eq!(context.field("appArmorProfile"), Some(&profile), "{value}");
    }
    // Who says both is not told that one is old, and one that says nothing sensible makes no field.
    let both = annotated("unconfined", json!({"appArmorProfile": {"type": "Unconfined"}}));
    assert!(strategy.early_warnings(&both).is_empty());
    let mut wrong = annotated("nonsense", json!({}));
    assert_eq!(strategy.early_warnings(&wrong).len(), 1);
    strategy.prepare_create(&mut wrong);
    assert!(!wrong.spec().list("containers")[0].field("securityContext").has("appArmorProfile"));
}
