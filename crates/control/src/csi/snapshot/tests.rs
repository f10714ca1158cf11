use serde_json::{Value, json};

use super::*;

fn claim(spec: Value) -> PersistentVolumeClaim {
    serde_json::from_value(json!({"metadata": {"name": "data"}, "spec": spec})).unwrap()
}

#[test]
fn a_claim_tells_what_it_is_restored_from() {
    let source = json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "nightly"});
    assert_eq!(restored_from(&claim(json!({"dataSource": source}))), Some("nightly"));
    assert_eq!(restored_from(&claim(json!({"dataSourceRef": source}))), Some("nightly"));
    for other in [
        json!({}),
        json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "nightly"}}),
        json!({"dataSource": {"apiGroup": "example.com", "kind": "VolumeSnapshot", "name": "nightly"}}),
        json!({"dataSourceRef": {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "nightly",
            "namespace": "other"}}),
    ] {
        assert_eq!(restored_from(&claim(other.clone())), None, "{other}");
    }
}

#[test]
fn a_reference_is_to_one_object_and_not_to_the_next_of_its_name() {
    let snapshot: VolumeSnapshot = serde_json::from_value(
        json!({"metadata": {"name": "nightly", "namespace": "team", "uid": "1"}, "spec": {"source": {}}}),
    )
    .unwrap();
    let to = |namespace: &str, name: &str, uid: &str| Reference {
        namespace: namespace.into(),
        name: name.into(),
        uid: uid.into(),
    };
    assert!(points_at(&to("team", "nightly", "1"), &snapshot));
    for other in [
        to("team", "nightly", "2"),
        to("team", "weekly", "1"),
        to("other", "nightly", "1"),
        to("team", "nightly", ""),
    ] {
        assert!(!points_at(&other, &snapshot), "{other:?}");
    }
    assert!(is_for(&to("team", "nightly", ""), &snapshot));
}
