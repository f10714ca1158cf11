use super::*;

fn snapshot(spec: Value) -> VolumeSnapshot {
    serde_json::from_value(
        json!({"metadata": {"name": "nightly", "namespace": "team", "uid": "1"}, "spec": spec}),
    )
    .unwrap()
}

fn content(status: Value) -> VolumeSnapshotContent {
    serde_json::from_value(json!({"metadata": {"name": "snapcontent-1"}, "spec": {"deletionPolicy": "Delete",
        "driver": "d", "source": {"volumeHandle": "v"}}, "status": status}))
    .unwrap()
}

#[test]
fn a_snapshot_is_of_a_claim_or_of_a_content() {
    let claim = json!({"source": {"persistentVolumeClaimName": "data"}});
    assert_eq!(asked(&snapshot(claim)), Ok(Asked::Of("data")));
    let content = json!({"source": {"volumeSnapshotContentName": "there"}});
    assert_eq!(asked(&snapshot(content)), Ok(Asked::Content("there")));
    for wrong in [
        json!({"source": {}}),
        json!({"source": {"persistentVolumeClaimName": ""}}),
        json!({"source": {"persistentVolumeClaimName": "data", "volumeSnapshotContentName": "there"}}),
    ] {
        assert!(asked(&snapshot(wrong.clone())).unwrap_err().contains("exactly one"), "{wrong}");
    }
}

#[test]
fn a_snapshot_says_what_its_content_says_and_is_then_left_alone() {
    let all = content(json!({"snapshotHandle": "s", "creationTime": 1_700_000_000_000_000_000_i64,
        "restoreSize": 10 << 20, "readyToUse": true}));
    let said = told(None, &all, None).unwrap();
    assert_eq!(
        said,
        json!({"boundVolumeSnapshotContentName": "snapcontent-1", "creationTime": "2023-11-14T22:13:20Z",
            "restoreSize": "10Mi", "readyToUse": true})
    );
    let status: VolumeSnapshotStatus = serde_json::from_value(said).unwrap();
    assert_eq!(told(Some(&status), &all, None), None);
    assert_eq!(told(Some(&status), &all, Some("group")), Some(json!({"volumeGroupSnapshotName": "group"})));
}

#[test]
fn an_error_comes_with_a_content_and_goes_with_it() {
    let failed = content(json!({"readyToUse": false,
        "error": {"message": "no room", "time": "2026-01-01T00:00:00Z"}}));
    let said = told(None, &failed, None).unwrap();
    assert_eq!(said["error"]["message"], "no room");
    let status: VolumeSnapshotStatus = serde_json::from_value(said).unwrap();
    assert_eq!(told(Some(&status), &failed, None), None);
    let cut = content(json!({"snapshotHandle": "s", "readyToUse": false}));
    assert_eq!(told(Some(&status), &cut, None), Some(json!({"error": null})));
    // A driver's old error says nothing of a snapshot that is ready.
    let ready = content(json!({"readyToUse": true, "error": {"message": "no room"}}));
    assert_eq!(told(Some(&status), &ready, None), Some(json!({"error": null, "readyToUse": true})));
}

#[test]
fn a_size_may_be_written_in_any_way() {
    let all = content(json!({"restoreSize": 4096, "readyToUse": true}));
    let size = |old: Value| {
        let old = json!({"restoreSize": old, "readyToUse": true, "boundVolumeSnapshotContentName": "snapcontent-1"});
        told(Some(&serde_json::from_value(old).unwrap()), &all, None)
    };
    for none in [Value::Null, json!("0"), json!(0)] {
        assert_eq!(size(none), Some(json!({"restoreSize": "4Ki"})));
    }
    for there in [json!("1Gi"), json!(5_368_709_120_i64)] {
        assert_eq!(size(there), None);
    }
}

#[test]
fn what_is_refused_is_no_reason_to_try_again() {
    let of = |metadata: Value, status: Value| {
        let mut snapshot = snapshot(json!({"source": {"persistentVolumeClaimName": "data"}}));
        snapshot.metadata.finalizers = serde_json::from_value(metadata).unwrap();
        snapshot.status = serde_json::from_value(status).unwrap();
        matter(&snapshot)
    };
    let old = || of(json!([]), Value::Null);
    assert!(old() == of(json!([]), json!({"readyToUse": false, "error": {"message": "no"}})));
    assert!(old() != of(json!([]), json!({"readyToUse": true})));
    assert!(old() != of(json!([]), json!({"boundVolumeSnapshotContentName": "c"})));
    assert!(old() != of(json!(["example.com/held"]), Value::Null));
}
