//! Drivers that come after one that was killed.

use std::fs;

use csi::contract::v1::*;
use grpc::Code;

use crate::rig::{Rig, directories, published, refusal};

#[tokio::test]
async fn the_next_driver_goes_on_where_the_last_one_was() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), directories(dir.path())).await;
    let id = rig.create("v", 1 << 20).await.unwrap().volume_id;
    let mounted = rig.mount(dir.path(), &id).await;
    fs::write(mounted.target.join("file"), "x").unwrap();
    rig.snapshot("s", &id).await.unwrap();
    // What a killed driver leaves: half a volume, one that was being removed, a member without a group.
    let pool = dir.path().join("pool");
    for place in ["incoming/a-1", "gone/a-2"] {
        fs::create_dir_all(pool.join(place).join("data/deep")).unwrap();
    }
    let member = pool.join("snapshots/a-3");
    fs::create_dir(&member).unwrap();
    let volumes = rig.client.list_snapshots(ListSnapshotsRequest::default()).await.unwrap();
    let snapshot = volumes.entries[0].snapshot.clone().unwrap();
    let text =
        fs::read_to_string(pool.join("snapshots").join(&snapshot.snapshot_id).join("snapshot.json")).unwrap();
    let text =
        text.replace("\"group\": \"\"", "\"group\": \"a-group-4\"").replace(&snapshot.snapshot_id, "a-3");
    fs::write(member.join("snapshot.json"), text).unwrap();
    // And what cannot be read keeps nobody from the rest.
    fs::create_dir(pool.join("volumes/a-5")).unwrap();
    fs::write(pool.join("volumes/a-5/volume.json"), "{\"format\": 99").unwrap();
    // A copy that somebody made is not the volume.
    fs::create_dir(pool.join("volumes/a-6")).unwrap();
    fs::copy(pool.join("volumes").join(&id).join("volume.json"), pool.join("volumes/a-6/volume.json"))
        .unwrap();

    let rig = rig.again().await;
    for part in ["incoming", "gone"] {
        assert_eq!(fs::read_dir(pool.join(part)).unwrap().count(), 0, "{part}");
    }
    assert!(!member.exists() && pool.join("volumes/a-5").exists());
    // It is there, and nobody knows as what: it is neither deleted nor forgotten.
    assert_eq!(refusal(rig.delete("a-5").await).0, Code::Internal);
    let (code, message) = refusal(rig.delete("a-6").await);
    assert!(code == Code::Internal && message.contains(&id), "{message}");
    rig.publish(published(&id, &mounted.staging, &mounted.target)).await.unwrap();
    assert_eq!(rig.create("v", 1 << 20).await.unwrap().volume_id, id);
    assert_eq!(fs::read_to_string(mounted.target.join("file")).unwrap(), "x");
    rig.unmount(mounted).await;
    rig.delete(&id).await.unwrap();
}

#[tokio::test]
async fn a_group_that_cannot_be_read_keeps_its_members() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), directories(dir.path())).await;
    let id = rig.create("v", 1 << 20).await.unwrap().volume_id;
    let request = CreateVolumeGroupSnapshotRequest {
        name: "g".into(),
        source_volume_ids: vec![id],
        ..Default::default()
    };
    let made = rig.client.create_volume_group_snapshot(request).await.unwrap().group_snapshot.unwrap();
    let record = dir.path().join("pool/groups").join(&made.group_snapshot_id).join("group.json");
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replace("\"format\": 1", "\"format\": 9")).unwrap();
    let rig = rig.again().await;
    let list = rig.client.list_snapshots(ListSnapshotsRequest::default()).await.unwrap();
    assert_eq!(list.entries.len(), 1);
    let delete =
        DeleteVolumeGroupSnapshotRequest { group_snapshot_id: made.group_snapshot_id, ..Default::default() };
    assert_eq!(refusal(rig.client.delete_volume_group_snapshot(delete).await).0, Code::Internal);
}

#[tokio::test]
async fn a_pool_has_one_driver() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), directories(dir.path())).await;
    let mut setup = rig.setup.clone();
    setup.socket = dir.path().join("other.sock");
    setup.run = dir.path().join("other");
    let refused = csi::plugin::run(setup.clone(), std::future::pending(), || ()).await.unwrap_err();
    assert!(refused.to_string().contains("another driver has the pool"), "{refused}");
    setup.config.pools[0].backends = vec!["zfs".into()];
    let refused = csi::plugin::run(setup, std::future::pending(), || ()).await.unwrap_err();
    assert!(refused.to_string().contains("\"zfs\" is no backend"), "{refused}");
}
