use super::names::{BEING_CREATED, BEING_DELETED};
use super::*;

fn content(metadata: Value, source: Value, uid: &str, status: Value) -> VolumeSnapshotContent {
    serde_json::from_value(json!({"metadata": metadata, "spec": {"deletionPolicy": "Delete", "driver": "d",
        "source": source, "volumeSnapshotRef": {"name": "nightly", "namespace": "team", "uid": uid}}, "status": status}))
    .unwrap()
}

#[test]
fn a_content_goes_when_nobody_has_it_and_no_call_may_still_make_it() {
    let cut = json!({"volumeHandle": "v"});
    let there = json!({"snapshotHandle": "s"});
    let at = "2026-01-01T00:00:00Z";
    let told = json!({BEING_DELETED: "yes"});
    let both = json!({BEING_DELETED: "yes", BEING_CREATED: "yes"});
    for (metadata, source, uid, goes) in [
        (json!({"deletionTimestamp": at, "annotations": told}), &cut, "1", true),
        (json!({"annotations": told}), &cut, "1", false),
        // By hand, under a VolumeSnapshot that still has it.
        (json!({"deletionTimestamp": at}), &cut, "1", false),
        (json!({"deletionTimestamp": at}), &there, "1", false),
        // The driver may be at it.
        (json!({"deletionTimestamp": at, "annotations": both}), &cut, "1", false),
        (json!({"deletionTimestamp": at}), &there, "", true),
    ] {
        let content = content(metadata.clone(), source.clone(), uid, Value::Null);
        assert_eq!(may_go(&content), goes, "{metadata} {source} {uid:?}");
    }
}

#[test]
fn a_content_is_settled_when_it_is_ready_and_all_is_said() {
    let is = |metadata: Value, status: Value| {
        is_settled(&content(metadata, json!({"volumeHandle": "v"}), "1", status))
    };
    let held = json!([CONTENT_IS_BOUND]);
    let ready = json!({"snapshotHandle": "s", "readyToUse": true});
    assert!(is(json!({"finalizers": held}), ready.clone()));
    assert!(!is(json!({}), ready.clone()));
    assert!(!is(json!({"finalizers": held}), json!({"snapshotHandle": "s", "readyToUse": false})));
    assert!(!is(json!({"finalizers": held}), Value::Null));
    assert!(!is(json!({"finalizers": held, "annotations": {BEING_CREATED: "yes"}}), ready.clone()));
    assert!(!is(json!({"finalizers": held, "deletionTimestamp": "2026-01-01T00:00:00Z"}), ready));
}

#[test]
fn a_status_says_what_the_driver_says_and_is_then_left_alone() {
    let time = csi::contract::v1::Timestamp { seconds: 1_700_000_000, nanos: 5 };
    let told = Snapshot {
        snapshot_id: "s".into(),
        size_bytes: 4096,
        creation_time: Some(time),
        ready_to_use: false,
        ..Default::default()
    };
    let said = status(None, &told).unwrap();
    assert_eq!(
        said,
        json!({"snapshotHandle": "s", "restoreSize": 4096, "readyToUse": false,
            "creationTime": 1_700_000_000_000_000_005_i64})
    );
    let old: VolumeSnapshotContentStatus = serde_json::from_value(said).unwrap();
    assert_eq!(status(Some(&old), &told), None);
    let ready = Snapshot { ready_to_use: true, ..told };
    assert_eq!(status(Some(&old), &ready), Some(json!({"readyToUse": true})));
}

#[test]
fn an_error_is_forgotten_when_the_driver_succeeds_and_a_time_it_does_not_tell_is_now() {
    let old = VolumeSnapshotContentStatus { error: Some(Default::default()), ..Default::default() };
    let said = status(Some(&old), &Snapshot::default()).unwrap();
    assert_eq!(said["error"], Value::Null);
    assert!(said["creationTime"].as_i64().unwrap() > 1_700_000_000_000_000_000);
    assert!(said.get("restoreSize").is_none());
}

#[test]
fn what_is_said_of_a_call_is_no_reason_for_another() {
    let of = |annotations: Value, uid: &str, status: Value| {
        matter(&content(json!({"annotations": annotations}), json!({"volumeHandle": "v"}), uid, status))
    };
    let old = || of(json!({}), "1", Value::Null);
    assert!(
        old()
            == of(
                json!({BEING_CREATED: "yes"}),
                "1",
                json!({"error": {"message": "no"}, "readyToUse": false})
            )
    );
    assert!(old() == of(json!({}), "1", json!({"snapshotHandle": "s"})));
    assert!(old() != of(json!({BEING_DELETED: "yes"}), "1", Value::Null));
    assert!(old() != of(json!({}), "2", Value::Null));
    let member = |status: Value| of(json!({GROUP_HANDLE: "g"}), "1", status);
    assert!(member(json!({})) != member(json!({"snapshotHandle": "s"})));
}

#[test]
fn what_is_deleted_with_a_content_is_told_by_its_driver() {
    let of = |metadata: Value, source: &Value, status: Value| {
        let content = content(metadata, source.clone(), "1", status);
        (to_delete(&content), unknown(&content))
    };
    let (cut, there) = (json!({"volumeHandle": "v"}), json!({"snapshotHandle": "s"}));
    let held = json!({"finalizers": [CONTENT_IS_BOUND]});
    let told = json!({"snapshotHandle": "told"});
    assert_eq!(of(held.clone(), &cut, told.clone()), (Some("told".into()), None));
    assert_eq!(of(held.clone(), &cut, Value::Null), (None, None));
    // The driver was away from the first to the last.
    assert_eq!(of(held.clone(), &there, Value::Null), (None, Some("s".into())));
    assert_eq!(of(held.clone(), &there, told.clone()), (Some("told".into()), None));
    assert_eq!(of(json!({}), &there, Value::Null), (None, None));
    let mut member = held;
    member["annotations"] = json!({GROUP_HANDLE: "g"});
    assert_eq!(of(member, &cut, told), (None, None));
}
