//! Snapshots: those that are cut, those that were there before, groups, and what becomes of them when somebody is killed.

mod bench;
mod groups;
mod kills;
mod stubborn;

use serde_json::{Value, json};

use crate::rig::{DRIVER, Rig};
use bench::{CLAIMS, CLASSES, CONTENTS, SNAPSHOTS};

/// A machine with one volume, `data`, and classes `delete` (the default one) and `keep`.
async fn machine() -> Rig {
    let rig = Rig::start().await;
    rig.snapshot_class("delete", DRIVER, "Delete", true).await;
    rig.snapshot_class("keep", DRIVER, "Retain", false).await;
    rig.driver_volume("data", "dir").await;
    rig
}

#[tokio::test]
async fn a_snapshot_is_cut_and_deleted() {
    let rig = machine().await;
    rig.snapshot("one", json!({"source": {"persistentVolumeClaimName": "data"}})).await;
    let snapshot = rig.ready(SNAPSHOTS, "one").await;
    let uid = snapshot["metadata"]["uid"].as_str().unwrap();
    assert_eq!(snapshot["spec"]["volumeSnapshotClassName"], "delete");
    let content = rig.read(CONTENTS, &format!("snapcontent-{uid}")).await.unwrap();
    assert_eq!(snapshot["status"]["boundVolumeSnapshotContentName"], content["metadata"]["name"]);
    assert_eq!(content["spec"]["sourceVolumeMode"], "Filesystem");
    assert_eq!(content["spec"]["deletionPolicy"], "Delete");
    assert_eq!(content["spec"]["volumeSnapshotRef"]["uid"], uid);
    assert_eq!(content["metadata"]["labels"]["snapshot.storage.kubernetes.io/managed-by"], "node-1");
    assert!(content["status"]["creationTime"].as_i64().unwrap() > 1_700_000_000_000_000_000);
    assert!(snapshot["status"]["creationTime"].as_str().unwrap().starts_with("20"));
    assert!(snapshot["status"]["restoreSize"].is_string(), "{snapshot}");
    let there = rig.told().await;
    assert_eq!(there.len(), 1);
    assert_eq!(content["status"]["snapshotHandle"], there[0].snapshot_id);
    assert_eq!(content["status"]["restoreSize"], there[0].size_bytes);
    rig.until("nothing is being created any more", async |rig| {
        let content = rig.read(CONTENTS, &format!("snapcontent-{uid}")).await?;
        content["metadata"].get("annotations").is_none().then_some(())
    })
    .await;
    for reason in ["CreatingSnapshot", "SnapshotCreated", "SnapshotReady"] {
        rig.event("one", reason, "").await;
    }
    rig.claim_is_free("data").await;
    rig.delete(SNAPSHOTS, "one").await;
    rig.gone(SNAPSHOTS, "one").await;
    assert!(rig.all(CONTENTS).await.is_empty());
    assert!(rig.told().await.is_empty());
}

#[tokio::test]
async fn a_snapshot_that_is_to_stay_stays_and_can_be_bound_again() {
    let rig = machine().await;
    rig.snapshot(
        "one",
        json!({"volumeSnapshotClassName": "keep", "source": {"persistentVolumeClaimName": "data"}}),
    )
    .await;
    let snapshot = rig.ready(SNAPSHOTS, "one").await;
    let content = snapshot["status"]["boundVolumeSnapshotContentName"].as_str().unwrap();
    rig.delete(SNAPSHOTS, "one").await;
    rig.gone(SNAPSHOTS, "one").await;
    let kept = rig.read(CONTENTS, content).await.unwrap();
    assert_eq!(
        kept["metadata"]["annotations"]["snapshot.storage.kubernetes.io/volumesnapshot-being-deleted"],
        "yes"
    );
    assert_eq!(rig.told().await.len(), 1);
    rig.delete(CONTENTS, content).await;
    rig.gone(CONTENTS, content).await;
    let there = rig.told().await;
    assert_eq!(there.len(), 1);
    // Under another name, of a content that an administrator writes; the snapshot comes before its content.
    rig.snapshot("two", json!({"source": {"volumeSnapshotContentName": "there"}})).await;
    rig.refused("two", "SnapshotContentMissing", "VolumeSnapshotContent there is not there").await;
    rig.content("there", &there[0].snapshot_id, "two", "Delete").await;
    let two = rig.ready(SNAPSHOTS, "two").await;
    assert_eq!(two["status"]["boundVolumeSnapshotContentName"], "there");
    assert!(two["status"].get("error").is_none_or(Value::is_null), "{two}");
    let bound = rig.read(CONTENTS, "there").await.unwrap();
    assert_eq!(bound["spec"]["volumeSnapshotRef"]["uid"], two["metadata"]["uid"]);
    assert_eq!(bound["status"]["snapshotHandle"], there[0].snapshot_id);
    assert_eq!(bound["status"]["restoreSize"], there[0].size_bytes);
    // Who is not meant does not get it.
    rig.snapshot("three", json!({"source": {"volumeSnapshotContentName": "there"}})).await;
    rig.refused("three", "SnapshotContentMisbound", "for another VolumeSnapshot, default/two").await;
    rig.delete(SNAPSHOTS, "three").await;
    rig.gone(SNAPSHOTS, "three").await;
    rig.delete(SNAPSHOTS, "two").await;
    rig.gone(SNAPSHOTS, "two").await;
    assert!(rig.told().await.is_empty());
}

#[tokio::test]
async fn a_snapshot_that_is_not_there_is_told_of_by_the_driver() {
    let rig = machine().await;
    rig.content("lost", "default-snapshot-00000000000000000000000000000000", "one", "Retain").await;
    rig.snapshot("one", json!({"source": {"volumeSnapshotContentName": "lost"}})).await;
    rig.failed(SNAPSHOTS, "one", "has no snapshot").await;
    rig.delete(SNAPSHOTS, "one").await;
    rig.gone(SNAPSHOTS, "one").await;
}

#[tokio::test]
async fn what_is_missing_is_told_and_waited_for() {
    let rig = machine().await;
    let of = |claim: &str, class: Value| {
        let mut spec = json!({"source": {"persistentVolumeClaimName": claim}});
        if !class.is_null() {
            spec["volumeSnapshotClassName"] = class;
        }
        spec
    };
    let reason = "SnapshotContentCreationFailed";
    rig.snapshot("classless", of("data", json!("nightly"))).await;
    rig.refused("classless", reason, "VolumeSnapshotClass nightly is not there").await;
    rig.snapshot("early", of("later", Value::Null)).await;
    rig.refused("early", reason, "claim later is not there").await;
    rig.snapshot("foreign", of("data", json!("foreign"))).await;
    rig.snapshot_class("foreign", "other.example.com", "Delete", false).await;
    rig.refused("foreign", reason, "of driver other.example.com").await;
    rig.snapshot_class("second", DRIVER, "Delete", true).await;
    rig.snapshot("torn", of("data", Value::Null)).await;
    rig.refused("torn", reason, "several default ones: delete, second").await;
    assert!(rig.all(CONTENTS).await.is_empty());
    rig.claim_is_free("data").await;
    // Each gets what it lacked.
    rig.delete(CLASSES, "second").await;
    rig.snapshot_class("nightly", DRIVER, "Delete", false).await;
    rig.driver_volume("later", "dir").await;
    for name in ["classless", "early", "torn"] {
        let snapshot = rig.ready(SNAPSHOTS, name).await;
        assert!(snapshot["status"].get("error").is_none_or(Value::is_null), "{snapshot}");
    }
    assert_eq!(rig.told().await.len(), 3);
    for name in ["classless", "early", "torn", "foreign"] {
        rig.delete(SNAPSHOTS, name).await;
        rig.gone(SNAPSHOTS, name).await;
    }
    assert!(rig.told().await.is_empty());
}

#[tokio::test]
async fn a_snapshot_that_a_claim_is_restored_from_stays() {
    let rig = machine().await;
    rig.snapshot("one", json!({"source": {"persistentVolumeClaimName": "data"}})).await;
    rig.ready(SNAPSHOTS, "one").await;
    // Of a class whose provisioner is not there.
    rig.class("slow", "nobody.example.com", json!({})).await;
    rig.claim(
        "restored",
        json!({"storageClassName": "slow", "dataSource":
        {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "one"}}),
    )
    .await;
    rig.delete(SNAPSHOTS, "one").await;
    rig.event("one", "SnapshotDeletePending", "").await;
    assert!(rig.read(SNAPSHOTS, "one").await.is_some());
    assert_eq!(rig.told().await.len(), 1);
    rig.forget_claim("restored").await;
    rig.gone(SNAPSHOTS, "one").await;
    assert!(rig.told().await.is_empty());
}

#[tokio::test]
async fn a_snapshot_that_the_provisioner_holds_stays() {
    let rig = machine().await;
    rig.snapshot("one", json!({"source": {"persistentVolumeClaimName": "data"}})).await;
    rig.ready(SNAPSHOTS, "one").await;
    // As a provisioner does before the claim that it restores is known to every cache.
    let held = "provisioner.storage.kubernetes.io/volumesnapshot-as-source-protection";
    let mut finalizers = rig.finalizers(SNAPSHOTS, "one").await;
    finalizers.push(held.into());
    rig.set_finalizers(SNAPSHOTS, "one", &finalizers).await;
    rig.delete(SNAPSHOTS, "one").await;
    rig.event("one", "SnapshotDeletePending", "").await;
    assert_eq!(rig.told().await.len(), 1);
    let mut finalizers = rig.finalizers(SNAPSHOTS, "one").await;
    assert_eq!(finalizers.len(), 3, "{finalizers:?}");
    finalizers.retain(|finalizer| finalizer != held);
    rig.set_finalizers(SNAPSHOTS, "one", &finalizers).await;
    rig.gone(SNAPSHOTS, "one").await;
    assert!(rig.told().await.is_empty());
}

#[tokio::test]
async fn a_claim_goes_free_when_all_its_snapshots_end_at_once_or_while_nobody_looks() {
    let mut rig = machine().await;
    rig.kill("driver");
    let names: Vec<String> = (0..6).map(|count| format!("s-{count}")).collect();
    for name in &names {
        rig.snapshot(name, json!({"source": {"persistentVolumeClaimName": "data"}})).await;
    }
    rig.until("all contents are there", async |rig| (rig.all(CONTENTS).await.len() == 6).then_some(())).await;
    let held = "snapshot.storage.kubernetes.io/pvc-as-source-protection";
    assert!(rig.finalizers(CLAIMS, "data").await.iter().any(|finalizer| finalizer == held));
    for name in &names {
        rig.delete(SNAPSHOTS, name).await;
    }
    rig.again("driver");
    for name in &names {
        rig.gone(SNAPSHOTS, name).await;
    }
    rig.claim_is_free("data").await;
    // As controllers leave it that are killed in between.
    rig.kill("control");
    rig.set_finalizers(CLAIMS, "data", &[held.into()]).await;
    rig.again("control");
    rig.claim_is_free("data").await;
    assert!(rig.told().await.is_empty());
}

#[tokio::test]
async fn a_snapshot_goes_with_its_content_though_the_driver_was_away_from_first_to_last() {
    let mut rig = machine().await;
    let spec = json!({"volumeSnapshotClassName": "keep", "source": {"persistentVolumeClaimName": "data"}});
    rig.snapshot("one", spec).await;
    rig.ready(SNAPSHOTS, "one").await;
    let handle = rig.told().await[0].snapshot_id.clone();
    rig.kill("driver");
    rig.words_have("control", &format!("driver {DRIVER} is gone")).await;
    rig.content("there", &handle, "two", "Delete").await;
    rig.snapshot("two", json!({"source": {"volumeSnapshotContentName": "there"}})).await;
    rig.until("it is bound", async |rig| {
        rig.read(SNAPSHOTS, "two").await?["status"]["boundVolumeSnapshotContentName"].as_str().map(drop)
    })
    .await;
    rig.delete(SNAPSHOTS, "two").await;
    rig.until("the content is to go", async |rig| {
        rig.read(CONTENTS, "there").await?["metadata"].get("deletionTimestamp").map(drop)
    })
    .await;
    rig.again("driver");
    rig.gone(SNAPSHOTS, "two").await;
    assert!(rig.told().await.is_empty());
}

#[tokio::test]
async fn a_driver_may_be_away() {
    let mut rig = machine().await;
    rig.kill("driver");
    rig.snapshot("one", json!({"source": {"persistentVolumeClaimName": "data"}})).await;
    rig.until("the content is there", async |rig| (!rig.all(CONTENTS).await.is_empty()).then_some(())).await;
    rig.again("driver");
    rig.ready(SNAPSHOTS, "one").await;
    assert_eq!(rig.told().await.len(), 1);
    rig.kill("driver");
    rig.delete(SNAPSHOTS, "one").await;
    rig.until("the content is to go", async |rig| {
        rig.all(CONTENTS)
            .await
            .first()
            .is_some_and(|content| content["metadata"].get("deletionTimestamp").is_some())
            .then_some(())
    })
    .await;
    assert!(rig.read(SNAPSHOTS, "one").await.is_some());
    rig.again("driver");
    rig.gone(SNAPSHOTS, "one").await;
    assert!(rig.told().await.is_empty());
}

#[tokio::test]
async fn where_the_cluster_has_a_snapshot_controller_only_contents_are_looked_after() {
    let mut rig = Rig::bare().await;
    rig.objects().await;
    rig.driver();
    rig.control(&["--no-snapshot-controller"]);
    rig.words_have("control", "driver csi.sextant.dev is at").await;
    rig.snapshot_class("delete", DRIVER, "Delete", true).await;
    rig.driver_volume("data", "dir").await;
    rig.snapshot("one", json!({"source": {"persistentVolumeClaimName": "data"}})).await;
    let snapshot = rig.read(SNAPSHOTS, "one").await.unwrap();
    // As that controller would.
    let volume = rig.handle("data").await;
    rig.put(
        CONTENTS,
        "of-one",
        json!({"spec": {"driver": DRIVER, "deletionPolicy": "Delete",
        "volumeSnapshotClassName": "delete", "source": {"volumeHandle": volume}, "volumeSnapshotRef":
            {"name": "one", "namespace": "default", "uid": snapshot["metadata"]["uid"]}}}),
    )
    .await;
    rig.ready(CONTENTS, "of-one").await;
    assert_eq!(rig.read(SNAPSHOTS, "one").await.unwrap(), snapshot);
    assert_eq!(rig.told().await.len(), 1);
}
