//! Snapshots of groups of volumes.

use serde_json::{Value, json};

use super::bench::{CONTENTS, GROUP_CLASSES, GROUP_CONTENTS, GROUPS, SNAPSHOTS};
use crate::rig::{DRIVER, Rig};

async fn machine(policy: &str) -> Rig {
    let rig = Rig::start().await;
    rig.put(GROUP_CLASSES, "group", json!({"driver": DRIVER, "deletionPolicy": policy})).await;
    for name in ["a-1", "a-2", "b-1"] {
        rig.driver_volume(name, "image").await;
    }
    rig
}

fn of(app: &str) -> Value {
    json!({"spec": {"volumeGroupSnapshotClassName": "group", "source": {"selector": {"matchLabels": {"app": app}}}}})
}

#[tokio::test]
async fn a_group_is_cut_as_one_and_deleted_as_one() {
    let mut rig = machine("Delete").await;
    rig.put(GROUPS, "none", of("c")).await;
    rig.failed(GROUPS, "none", "no claim has the labels").await;
    rig.put(GROUPS, "both", of("a")).await;
    let group = rig.ready(GROUPS, "both").await;
    let uid = group["metadata"]["uid"].as_str().unwrap();
    assert_eq!(group["status"]["boundVolumeGroupSnapshotContentName"], format!("groupsnapcontent-{uid}"));
    let content = rig.read(GROUP_CONTENTS, &format!("groupsnapcontent-{uid}")).await.unwrap();
    assert_eq!(content["status"]["volumeSnapshotInfoList"].as_array().unwrap().len(), 2);
    rig.event("both", "GroupSnapshotReady", "").await;
    let members = rig.all(SNAPSHOTS).await;
    assert_eq!(members.len(), 2);
    for member in &members {
        let name = member["metadata"]["name"].as_str().unwrap();
        let member = rig.ready(SNAPSHOTS, name).await;
        assert_eq!(member["status"]["volumeGroupSnapshotName"], "both");
        assert!(member["spec"]["source"]["persistentVolumeClaimName"].as_str().unwrap().starts_with("a-"));
    }
    let there = rig.told().await;
    assert_eq!(there.len(), 2);
    let handle = content["status"]["volumeGroupSnapshotHandle"].as_str().unwrap();
    assert!(there.iter().all(|snapshot| snapshot.group_snapshot_id == handle));
    // One alone does not go, nor is anything forgotten by who starts anew.
    let name = members[0]["metadata"]["name"].as_str().unwrap();
    rig.delete(SNAPSHOTS, name).await;
    rig.event(name, "SnapshotDeletePending", "").await;
    rig.kill("control");
    rig.again("control");
    rig.delete(GROUPS, "both").await;
    rig.gone(GROUPS, "both").await;
    for member in &members {
        rig.gone(SNAPSHOTS, member["metadata"]["name"].as_str().unwrap()).await;
    }
    assert!(rig.all(GROUP_CONTENTS).await.is_empty());
    assert!(rig.all(CONTENTS).await.is_empty());
    assert!(rig.told().await.is_empty());
}

#[tokio::test]
async fn a_group_that_is_to_stay_stays_and_can_be_bound_again() {
    let rig = machine("Retain").await;
    rig.put(GROUPS, "both", of("a")).await;
    rig.ready(GROUPS, "both").await;
    let content = rig.all(GROUP_CONTENTS).await.remove(0);
    rig.delete(GROUPS, "both").await;
    rig.gone(GROUPS, "both").await;
    rig.until("the members are gone", async |rig| rig.all(SNAPSHOTS).await.is_empty().then_some(())).await;
    assert_eq!(rig.told().await.len(), 2);
    let handle = &content["status"]["volumeGroupSnapshotHandle"];
    let list = content["status"]["volumeSnapshotInfoList"].as_array().unwrap();
    let handles: Vec<&Value> = list.iter().map(|info| &info["snapshotHandle"]).collect();
    rig.put(GROUP_CONTENTS, "there", json!({"spec": {"driver": DRIVER, "deletionPolicy": "Delete",
        "source": {"groupSnapshotHandles": {"volumeGroupSnapshotHandle": handle, "volumeSnapshotHandles": handles}},
        "volumeGroupSnapshotRef": {"name": "again", "namespace": "default"}}}))
        .await;
    rig.put(GROUPS, "again", json!({"spec": {"source": {"volumeGroupSnapshotContentName": "there"}}})).await;
    rig.ready(GROUPS, "again").await;
    rig.delete(GROUPS, "again").await;
    rig.gone(GROUPS, "again").await;
    assert!(rig.told().await.is_empty());
}
