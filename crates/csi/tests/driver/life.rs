//! Volumes and snapshots from their beginning to their end.

use csi::contract::v1::volume_capability::access_mode::Mode;
use csi::contract::v1::*;
use csi::plugin::PoolConfig;
use grpc::Code;

use crate::capacity::Memory;
use crate::rig::{Rig, device, directories, files, from_snapshot, from_volume, map, refusal, request};

/// What each backend has at least.
const LEAST: i64 = 16 << 20;

#[test]
fn the_document_shows_what_is_compiled() {
    let (document, example) =
        (include_str!("../../../../docs/csi.md"), include_str!("../../examples/scratch.rs"));
    assert!(document.contains(&format!("```rust\n{example}```\n")), "docs/csi.md shows another text");
}

#[tokio::test]
async fn data_are_as_they_were_at_the_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), directories(dir.path())).await;
    let volume = rig.create("v", LEAST).await.unwrap();
    let mounted = rig.mount(dir.path(), &volume.volume_id).await;
    std::fs::write(mounted.target.join("file"), "first").unwrap();
    let snapshot = rig.snapshot("s", &volume.volume_id).await.unwrap();
    assert!(
        snapshot.ready_to_use
            && snapshot.size_bytes == LEAST
            && snapshot.source_volume_id == volume.volume_id
    );
    std::fs::write(mounted.target.join("file"), "second").unwrap();
    let restored = CreateVolumeRequest {
        volume_content_source: from_snapshot(&snapshot.snapshot_id),
        ..request("restored", LEAST)
    };
    let restored = rig.create_as(restored).await.unwrap();
    assert_eq!(restored.content_source, from_snapshot(&snapshot.snapshot_id));
    let cloned = CreateVolumeRequest {
        volume_content_source: from_volume(&volume.volume_id),
        ..request("cloned", 2 * LEAST)
    };
    let cloned = rig.create_as(cloned).await.unwrap();
    // The snapshot outlives its volume.
    rig.unmount(mounted).await;
    rig.delete(&volume.volume_id).await.unwrap();
    rig.delete(&volume.volume_id).await.unwrap();
    for (id, wanted) in [(&restored.volume_id, "first"), (&cloned.volume_id, "second")] {
        let mounted = rig.mount(dir.path(), id).await;
        assert_eq!(std::fs::read_to_string(mounted.target.join("file")).unwrap(), wanted);
        rig.unmount(mounted).await;
        rig.delete(id).await.unwrap();
    }
    let delete = DeleteSnapshotRequest { snapshot_id: snapshot.snapshot_id, ..Default::default() };
    rig.client.delete_snapshot(delete.clone()).await.unwrap();
    rig.client.delete_snapshot(delete).await.unwrap();
    for part in ["volumes", "snapshots", "incoming", "gone"] {
        assert_eq!(std::fs::read_dir(dir.path().join("pool").join(part)).unwrap().count(), 0, "{part}");
    }
}

#[tokio::test]
async fn a_name_is_one_volume() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), directories(dir.path())).await;
    let volume = rig.create("v", LEAST).await.unwrap();
    assert_eq!(rig.create("v", LEAST).await.unwrap(), volume);
    let limited = CreateVolumeRequest {
        capacity_range: Some(CapacityRange { required_bytes: 1, limit_bytes: LEAST }),
        ..request("v", 0)
    };
    assert_eq!(rig.create_as(limited).await.unwrap(), volume);
    let snapshot = rig.snapshot("s", &volume.volume_id).await.unwrap();
    assert_eq!(rig.snapshot("s", &volume.volume_id).await.unwrap(), snapshot);
    let other = rig.create("w", LEAST).await.unwrap();
    let (code, message) = refusal(rig.snapshot("s", &other.volume_id).await);
    assert!(code == Code::AlreadyExists && message.contains(&volume.volume_id), "{message}");
    let changed: [(&str, CreateVolumeRequest); 3] = [
        ("capacity_range", request("v", 2 * LEAST)),
        ("parameters", CreateVolumeRequest { parameters: map("protected", "true"), ..request("v", LEAST) }),
        (
            "volume_content_source",
            CreateVolumeRequest {
                volume_content_source: from_snapshot(&snapshot.snapshot_id),
                ..request("v", LEAST)
            },
        ),
    ];
    for (what, request) in changed {
        let (code, message) = refusal(rig.create_as(request).await);
        assert!(code == Code::AlreadyExists && message.contains(what), "{what}: {message}");
    }
}

#[tokio::test]
async fn what_cannot_be_made_is_refused_with_the_field() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), directories(dir.path())).await;
    let plain = || request("v", LEAST);
    let elsewhere = Topology { segments: map("topology.csi.sextant.dev/node", "node-2") };
    let cases: [(Code, &str, CreateVolumeRequest); 9] = [
        (Code::InvalidArgument, "name: is empty", request("", LEAST)),
        (
            Code::InvalidArgument,
            "parameters[pool]",
            CreateVolumeRequest { parameters: map("pool", "b"), ..plain() },
        ),
        (
            Code::InvalidArgument,
            "parameters[backend]",
            CreateVolumeRequest { parameters: map("backend", "zfs"), ..plain() },
        ),
        (
            Code::InvalidArgument,
            "parameters[speed]",
            CreateVolumeRequest { parameters: map("speed", "9"), ..plain() },
        ),
        (
            Code::InvalidArgument,
            "parameters[protected]",
            CreateVolumeRequest { mutable_parameters: map("protected", "yes"), ..plain() },
        ),
        (
            Code::InvalidArgument,
            "block",
            CreateVolumeRequest { volume_capabilities: vec![device()], ..plain() },
        ),
        (
            Code::InvalidArgument,
            "volume_capabilities[1]",
            CreateVolumeRequest {
                volume_capabilities: vec![files(Mode::SingleNodeWriter), device()],
                ..plain()
            },
        ),
        (
            Code::NotFound,
            "no snapshot \"s\"",
            CreateVolumeRequest { volume_content_source: from_snapshot("s"), ..plain() },
        ),
        (
            Code::ResourceExhausted,
            "node-1",
            CreateVolumeRequest {
                accessibility_requirements: Some(TopologyRequirement {
                    requisite: vec![elsewhere],
                    preferred: Vec::new(),
                }),
                ..plain()
            },
        ),
    ];
    for (code, what, request) in cases {
        let refused = refusal(rig.create_as(request).await);
        assert!(refused.0 == code && refused.1.contains(what), "{what}: {refused:?}");
    }
    let list = rig.client.list_volumes(ListVolumesRequest::default()).await.unwrap();
    assert!(list.entries.is_empty());
}

/// Who asks for what a pool of all backends lacks is told what it takes.
#[tokio::test]
async fn what_a_pool_lacks_is_told_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    // In memory: that is no btrfs, whatever else is one here.
    let place = dir.path().join("memory");
    let _memory = Memory::at(&place);
    let rig = Rig::start(dir.path(), PoolConfig::new("a", place.join("pool"))).await;
    let wanted = CreateVolumeRequest { parameters: map("backend", "btrfs"), ..request("v", LEAST) };
    let (code, message) = refusal(rig.create_as(wanted).await);
    assert_eq!(code, Code::InvalidArgument, "{message}");
    assert!(message.contains("parameters[backend]: btrfs cannot be had in the pool \"a\""), "{message}");
    assert!(message.contains("make the pool on a btrfs"), "{message}");
}

#[tokio::test]
async fn a_protected_volume_stays() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), directories(dir.path())).await;
    let protected =
        CreateVolumeRequest { mutable_parameters: map("protected", "true"), ..request("v", LEAST) };
    let volume = rig.create_as(protected).await.unwrap();
    let rig = rig.again().await;
    let (code, message) = refusal(rig.delete(&volume.volume_id).await);
    assert!(code == Code::FailedPrecondition && message.contains("protected"), "{message}");
    let modify = ControllerModifyVolumeRequest {
        volume_id: volume.volume_id.clone(),
        mutable_parameters: map("protected", "false"),
        ..Default::default()
    };
    rig.client.controller_modify_volume(modify).await.unwrap();
    rig.delete(&volume.volume_id).await.unwrap();
}

#[tokio::test]
async fn a_group_has_members_that_go_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), directories(dir.path())).await;
    let ids =
        [rig.create("v", LEAST).await.unwrap().volume_id, rig.create("w", LEAST).await.unwrap().volume_id];
    let group = |name: &str, ids: &[String]| CreateVolumeGroupSnapshotRequest {
        name: name.into(),
        source_volume_ids: ids.to_vec(),
        ..Default::default()
    };
    // Directories cannot be copied as of one moment.
    let (code, message) = refusal(rig.client.create_volume_group_snapshot(group("g", &ids)).await);
    assert!(code == Code::FailedPrecondition && message.contains("one moment"), "{message}");
    let list = || async { rig.client.list_snapshots(ListSnapshotsRequest::default()).await.unwrap().entries };
    assert!(list().await.is_empty());
    let made = rig.client.create_volume_group_snapshot(group("g", &ids[..1])).await.unwrap();
    let made = made.group_snapshot.unwrap();
    let again = rig.client.create_volume_group_snapshot(group("g", &ids[..1])).await.unwrap();
    assert_eq!(again.group_snapshot.unwrap(), made);
    assert_eq!(
        refusal(rig.client.create_volume_group_snapshot(group("g", &ids[1..])).await).0,
        Code::AlreadyExists
    );
    let [member] = &made.snapshots[..] else { panic!("{made:?}") };
    assert_eq!(member.group_snapshot_id, made.group_snapshot_id);
    let delete = DeleteSnapshotRequest { snapshot_id: member.snapshot_id.clone(), ..Default::default() };
    assert_eq!(refusal(rig.client.delete_snapshot(delete).await).0, Code::InvalidArgument);
    let rig = rig.again().await;
    let get = |ids: &[&str]| GetVolumeGroupSnapshotRequest {
        group_snapshot_id: made.group_snapshot_id.clone(),
        snapshot_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        ..Default::default()
    };
    let got = rig.client.get_volume_group_snapshot(get(&[&member.snapshot_id])).await.unwrap();
    assert_eq!(got.group_snapshot.unwrap(), made);
    assert_eq!(refusal(rig.client.get_volume_group_snapshot(get(&["other"])).await).0, Code::InvalidArgument);
    let delete = DeleteVolumeGroupSnapshotRequest {
        group_snapshot_id: made.group_snapshot_id.clone(),
        snapshot_ids: vec![member.snapshot_id.clone()],
        ..Default::default()
    };
    rig.client.delete_volume_group_snapshot(delete.clone()).await.unwrap();
    rig.client.delete_volume_group_snapshot(delete).await.unwrap();
    let left = rig.client.list_snapshots(ListSnapshotsRequest::default()).await.unwrap();
    assert!(left.entries.is_empty());
}
