//! Thin volumes through the driver's socket. Needs root and device mapper: `cargo xtask vm` has it where the machine does not.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

#[allow(dead_code, reason = "other tests need more of it")]
mod disk;
#[path = "../driver/rig.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod rig;

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use csi::contract::v1::volume_capability::{AccessType, MountVolume, access_mode::Mode};
use csi::contract::v1::*;
use csi::plugin::PoolConfig;
use grpc::Code;

use disk::Disk;
use rig::{Rig, capability, device, from_snapshot, map, published, refusal, request, text};

const MIB: i64 = 1 << 20;

fn pool(folder: &Path, disk: &Disk) -> PoolConfig {
    PoolConfig { device: Some(disk.path.clone()), ..PoolConfig::new("a", folder.join("pool")) }
}

fn file_system(fs_type: &str) -> VolumeCapability {
    let mount = MountVolume { fs_type: fs_type.into(), ..MountVolume::default() };
    capability(AccessType::Mount(mount), Mode::SingleNodeWriter)
}

async fn capacity(rig: &Rig) -> i64 {
    let request = GetCapacityRequest { volume_capabilities: vec![device()], ..GetCapacityRequest::default() };
    rig.client.get_capacity(request).await.unwrap().available_capacity
}

#[tokio::test]
async fn a_volume_of_each_file_system_lives_its_life() {
    let Some(disk) = Disk::new(2 << 30) else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path(), pool(dir.path(), &disk)).await;
    let all = capacity(&rig).await;
    for fs_type in ["ext4", "xfs", "btrfs"] {
        let wish = |name: &str, bytes| CreateVolumeRequest {
            volume_capabilities: vec![file_system(fs_type)],
            ..request(&format!("{name}-{fs_type}"), bytes)
        };
        let id = rig.create_as(wish("v", 256 * MIB)).await.unwrap().volume_id;
        let mounted = rig.mount(dir.path(), &id).await;
        fs::write(mounted.target.join("file"), fs_type).unwrap();
        let snapshot = rig.snapshot(&format!("s-{fs_type}"), &id).await.unwrap().snapshot_id;
        fs::write(mounted.target.join("file"), "later").unwrap();
        let restore =
            CreateVolumeRequest { volume_content_source: from_snapshot(&snapshot), ..wish("r", 300 * MIB) };
        let restored = rig.create_as(restore).await.unwrap().volume_id;
        let beside = rig.mount(dir.path(), &restored).await;
        assert_eq!(fs::read_to_string(beside.target.join("file")).unwrap(), fs_type);

        // Whoever has it mounted keeps it when the driver is killed; the next one knows.
        rig = rig.again().await;
        assert_eq!(fs::read_to_string(mounted.target.join("file")).unwrap(), "later");
        let capacity_range = Some(CapacityRange { required_bytes: 512 * MIB, limit_bytes: 0 });
        let grow =
            ControllerExpandVolumeRequest { volume_id: id.clone(), capacity_range, ..Default::default() };
        assert_eq!(rig.client.controller_expand_volume(grow).await.unwrap().capacity_bytes, 512 * MIB);
        let told = rustix::fs::statvfs(&mounted.target).unwrap();
        let available = told.f_bavail * told.f_frsize;
        assert!(available > 500 << 20, "{fs_type}: {available}");
        for (id, mounted) in [(id, mounted), (restored, beside)] {
            rig.unmount(mounted).await;
            rig.delete(&id).await.unwrap();
        }
        let gone = DeleteSnapshotRequest { snapshot_id: snapshot, ..Default::default() };
        rig.client.delete_snapshot(gone).await.unwrap();
        disk.until_without_device();
        assert_eq!((capacity(&rig).await, disk.used()), (all, 0));
    }
}

#[tokio::test]
async fn what_can_be_made_is_what_is_said_and_no_more() {
    let Some(disk) = Disk::new(256 << 20) else { return };
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), pool(dir.path(), &disk)).await;
    let raw = |name: &str, bytes| CreateVolumeRequest {
        volume_capabilities: vec![device()],
        ..request(name, bytes)
    };
    let all = capacity(&rig).await;
    assert!(all > 220 * MIB && all < 240 * MIB, "{all}");
    let (code, message) = refusal(rig.create_as(raw("more", all + 1)).await);
    assert!(code == Code::ResourceExhausted, "{message}");
    let id = rig.create_as(raw("all", all)).await.unwrap().volume_id;
    assert_eq!(capacity(&rig).await, 0);

    let (staging, target) = (dir.path().join("s"), dir.path().join("t"));
    rig.stage(&id, &staging, device()).await.unwrap();
    let publish = published(&id, &staging, &target);
    rig.publish(NodePublishVolumeRequest { volume_capability: Some(device()), ..publish }).await.unwrap();
    let open = File::options().read(true).write(true).open(&target).unwrap();
    // All of it can be written.
    let chunk = vec![7; MIB as usize];
    let mut at = 0;
    while at < all as u64 {
        at += open.write_at(&chunk, at).unwrap() as u64;
    }
    open.sync_all().unwrap();
    let (code, message) = refusal(rig.snapshot("s", &id).await);
    assert!(code == Code::ResourceExhausted, "{message}");
    let rig = rig.again().await;
    let mut read = [0; 1];
    open.read_exact_at(&mut read, all as u64 - 1).unwrap();
    assert_eq!(read, [7]);
    drop(open);
    rig.let_go(&id, &target).await;
    rig.unstage(&id, &staging).await.unwrap();
    disk.until_without_device();
    rig.delete(&id).await.unwrap();
    assert_eq!(capacity(&rig).await, all);
}

#[tokio::test]
async fn an_encrypted_block_device_wants_its_secret_where_it_is_staged() {
    let Some(disk) = Disk::new(256 << 20) else { return };
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), pool(dir.path(), &disk)).await;
    let wish = CreateVolumeRequest {
        volume_capabilities: vec![device()],
        parameters: map("encryption", "dm-crypt"),
        ..request("secret", 16 * MIB)
    };
    let id = rig.create_as(wish).await.unwrap().volume_id;
    let (staging, target) = (dir.path().join("s"), dir.path().join("t"));
    let stage = |secrets| NodeStageVolumeRequest {
        volume_id: id.clone(),
        staging_target_path: text(&staging),
        volume_capability: Some(device()),
        secrets,
        ..Default::default()
    };
    let publish = async || {
        let publish = published(&id, &staging, &target);
        rig.publish(NodePublishVolumeRequest { volume_capability: Some(device()), ..publish }).await.unwrap();
        File::options().read(true).write(true).open(&target).unwrap()
    };
    let (code, message) = refusal(rig.client.node_stage_volume(stage(map("other", "x"))).await);
    assert!(code == Code::InvalidArgument && message.contains("secrets[key]: is missing"), "{message}");
    let right = map("key", &"0123456789abcdef".repeat(8));
    rig.client.node_stage_volume(stage(right.clone())).await.unwrap();
    // As of a driver that was killed when it had written down what it is about to do.
    let mut devices = disk.devices();
    devices.sort_by_key(|name| std::cmp::Reverse(name.len()));
    assert_eq!(devices.len(), 2, "{devices:?}");
    devices.iter().for_each(|name| kernel::dm::remove(name, true).unwrap());
    disk.until_without_device();
    rig.client.node_stage_volume(stage(right.clone())).await.unwrap();
    let open = publish().await;
    open.write_all_at(b"what nobody reads", 0).unwrap();
    open.sync_all().unwrap();
    drop(open);
    rig.let_go(&id, &target).await;
    rig.unstage(&id, &staging).await.unwrap();
    disk.until_without_device();
    let wrong = map("key", &"fedcba9876543210".repeat(8));
    let (code, message) = refusal(rig.client.node_stage_volume(stage(wrong)).await);
    assert!(code == Code::FailedPrecondition && message.contains("is not its key"), "{message}");
    disk.until_without_device();
    rig.client.node_stage_volume(stage(right)).await.unwrap();
    let mut read = [0; 17];
    publish().await.read_exact_at(&mut read, 0).unwrap();
    assert_eq!(&read, b"what nobody reads");
    rig.let_go(&id, &target).await;
    rig.unstage(&id, &staging).await.unwrap();
    rig.delete(&id).await.unwrap();
}
