//! Volumes in images, through the driver's socket: the life of each kind. Needs root, and mkfs of each file system.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

#[path = "../driver/rig.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod rig;

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use csi::contract::v1::volume_capability::{AccessType, MountVolume, access_mode::Mode};
use csi::contract::v1::*;
use csi::plugin::PoolConfig;
use grpc::{Code, Error};
use kernel::capability::{Capability, Sets};

use rig::{Rig, capability, device, files, from_snapshot, map, published, refusal, request, text};

const MIB: i64 = 1 << 20;

fn images(folder: &Path) -> PoolConfig {
    // Sparse: more may be promised than this machine happens to have left.
    PoolConfig {
        backends: vec!["image".into()],
        overcommit: 100.0,
        ..PoolConfig::new("a", folder.join("pool"))
    }
}

fn file_system(fs_type: &str) -> VolumeCapability {
    let mount = MountVolume { fs_type: fs_type.into(), ..MountVolume::default() };
    capability(AccessType::Mount(mount), Mode::SingleNodeWriter)
}

async fn expand(rig: &Rig, id: &str, bytes: i64) -> Result<ControllerExpandVolumeResponse, Error> {
    let capacity_range = Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 });
    let request =
        ControllerExpandVolumeRequest { volume_id: id.into(), capacity_range, ..Default::default() };
    rig.client.controller_expand_volume(request).await
}

async fn usage(rig: &Rig, id: &str, path: &Path) -> VolumeUsage {
    let request =
        NodeGetVolumeStatsRequest { volume_id: id.into(), volume_path: text(path), ..Default::default() };
    let stats = rig.client.node_get_volume_stats(request).await.unwrap();
    stats.usage.into_iter().find(|usage| usage.unit() == volume_usage::Unit::Bytes).unwrap()
}

/// The loop devices of a volume, which are tagged with what its id ends with.
fn devices(id: &str) -> usize {
    let (_, own) = id.rsplit_once('-').unwrap();
    kernel::loopdev::attached(|tag| tag.contains(own)).unwrap().len()
}

/// The bytes of a block device.
fn size(mut device: &File) -> u64 {
    device.seek(SeekFrom::End(0)).unwrap()
}

/// A device goes a moment after its mount, or after whoever looks at all devices has closed it.
fn until_without_device(id: &str) {
    for _ in 0..36_000 {
        if devices(id) == 0 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("{id} still has a device");
}

#[tokio::test]
async fn a_volume_of_each_file_system_lives_its_life() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path(), images(dir.path())).await;
    for fs_type in ["ext4", "xfs", "btrfs"] {
        let wish = |name: &str, bytes| CreateVolumeRequest {
            volume_capabilities: vec![file_system(fs_type)],
            ..request(&format!("{name}-{fs_type}"), bytes)
        };
        let volume = rig.create_as(wish("v", 256 * MIB)).await.unwrap();
        assert_eq!(volume.capacity_bytes, 256 * MIB);
        let id = volume.volume_id;
        let mounted = rig.mount(dir.path(), &id).await;
        fs::write(mounted.target.join("file"), fs_type).unwrap();
        let used = usage(&rig, &id, &mounted.target).await;
        assert_eq!((used.total, used.available + used.used), (256 * MIB, 256 * MIB), "{fs_type}");

        let snapshot = rig.snapshot(&format!("s-{fs_type}"), &id).await.unwrap().snapshot_id;
        fs::write(mounted.target.join("file"), "later").unwrap();
        let restore =
            CreateVolumeRequest { volume_content_source: from_snapshot(&snapshot), ..wish("r", 300 * MIB) };
        let restored = rig.create_as(restore).await.unwrap().volume_id;
        let beside = rig.mount(dir.path(), &restored).await;
        assert_eq!(fs::read_to_string(beside.target.join("file")).unwrap(), fs_type);
        assert_eq!(usage(&rig, &restored, &beside.target).await.total, 300 * MIB);

        // Whoever has it mounted keeps it when the driver is killed; the next one knows.
        rig = rig.again().await;
        assert_eq!(fs::read_to_string(mounted.target.join("file")).unwrap(), "later");
        let grown = expand(&rig, &id, 512 * MIB).await;
        if fs_type == "ext4" && !Sets::current().unwrap().effective.contains(Capability::SysResource) {
            let (code, message) = refusal(grown);
            assert!(code == Code::FailedPrecondition && message.contains("CAP_SYS_RESOURCE"), "{message}");
        } else {
            assert_eq!(grown.unwrap().capacity_bytes, 512 * MIB);
            assert_eq!(usage(&rig, &id, &mounted.target).await.total, 512 * MIB);
            let told = rustix::fs::statvfs(&mounted.target).unwrap();
            let available = told.f_bavail * told.f_frsize;
            assert!(available > 500 << 20, "{fs_type}: {available}");
        }
        for (id, mounted) in [(id, mounted), (restored, beside)] {
            rig.unmount(mounted).await;
            until_without_device(&id);
            rig.delete(&id).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_block_device_has_its_size_and_tells_what_changed() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), images(dir.path())).await;
    let wish = CreateVolumeRequest { volume_capabilities: vec![device()], ..request("raw", 8 * MIB) };
    let id = rig.create_as(wish).await.unwrap().volume_id;
    let (staging, target) = (dir.path().join("s"), dir.path().join("t"));
    let publish = async || {
        rig.stage(&id, &staging, device()).await.unwrap();
        let publish = published(&id, &staging, &target);
        rig.publish(NodePublishVolumeRequest { volume_capability: Some(device()), ..publish }).await.unwrap();
        File::options().read(true).write(true).open(&target).unwrap()
    };
    // Not every pool cuts snapshots of a device in use.
    let unpublish = async |open: File| {
        drop(open);
        rig.let_go(&id, &target).await;
        rig.unstage(&id, &staging).await.unwrap();
        until_without_device(&id);
    };
    let open = publish().await;
    assert_eq!(size(&open), 8 << 20);
    open.write_all_at(&[1; 65_536], 1 << 20).unwrap();
    unpublish(open).await;
    let first = rig.snapshot("first", &id).await.unwrap().snapshot_id;
    let open = publish().await;
    open.write_all_at(&[2; 4096], (1 << 20) + 8192).unwrap();
    open.write_all_at(&[3; 4096], 6 << 20).unwrap();
    unpublish(open).await;
    let second = rig.snapshot("second", &id).await.unwrap().snapshot_id;

    let allocated = GetMetadataAllocatedRequest { snapshot_id: first.clone(), ..Default::default() };
    let mut stream = rig.client.get_metadata_allocated(allocated).await.unwrap();
    let mut told = Vec::new();
    while let Some(message) = stream.next().await.unwrap() {
        assert_eq!(message.volume_capacity_bytes, 8 * MIB);
        told.extend(message.block_metadata.into_iter().map(|range| (range.byte_offset, range.size_bytes)));
    }
    assert_eq!(told, [(MIB, 65_536)]);
    // One range a message.
    let delta = GetMetadataDeltaRequest {
        base_snapshot_id: first,
        target_snapshot_id: second,
        max_results: 1,
        ..Default::default()
    };
    let mut stream = rig.client.get_metadata_delta(delta).await.unwrap();
    let (mut told, mut messages) = (Vec::new(), 0);
    while let Some(message) = stream.next().await.unwrap() {
        messages += 1;
        told.extend(message.block_metadata.into_iter().map(|range| (range.byte_offset, range.size_bytes)));
    }
    assert_eq!(told, [(MIB + 8192, 4096), (6 * MIB, 4096)]);
    assert!(messages >= 2, "{messages}");

    let open = publish().await;
    let rig = rig.again().await;
    assert_eq!(expand(&rig, &id, 16 * MIB).await.unwrap().capacity_bytes, 16 * MIB);
    assert_eq!(size(&open), 16 << 20);
    drop(open);
    rig.let_go(&id, &target).await;
    rig.unstage(&id, &staging).await.unwrap();
    until_without_device(&id);
    rig.delete(&id).await.unwrap();
}

#[tokio::test]
async fn an_encrypted_volume_wants_its_secret_where_it_is_staged() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), images(dir.path())).await;
    let wish =
        CreateVolumeRequest { parameters: map("encryption", "fscrypt"), ..request("secret", 32 * MIB) };
    let id = rig.create_as(wish).await.unwrap().volume_id;
    let (staging, target) = (dir.path().join("s"), dir.path().join("t"));
    let stage = |secrets| NodeStageVolumeRequest {
        volume_id: id.clone(),
        staging_target_path: text(&staging),
        volume_capability: Some(files(Mode::SingleNodeWriter)),
        secrets,
        ..Default::default()
    };
    let (code, message) = refusal(rig.client.node_stage_volume(stage(map("other", "x"))).await);
    assert!(code == Code::InvalidArgument && message.contains("secrets[key]: is missing"), "{message}");
    let right = map("key", &"0123456789abcdef".repeat(8));
    rig.client.node_stage_volume(stage(right.clone())).await.unwrap();
    rig.publish(published(&id, &staging, &target)).await.unwrap();
    let needle = "what nobody finds in the pool";
    fs::write(target.join("file"), needle).unwrap();
    rig.let_go(&id, &target).await;
    rig.unstage(&id, &staging).await.unwrap();
    until_without_device(&id);

    let image = fs::read(dir.path().join("pool/volumes").join(&id).join("image")).unwrap();
    assert!(!image.windows(needle.len()).any(|window| window == needle.as_bytes()));
    let wrong = map("key", &"fedcba9876543210".repeat(8));
    let (code, message) = refusal(rig.client.node_stage_volume(stage(wrong)).await);
    assert!(code == Code::FailedPrecondition && message.contains("is not its key"), "{message}");
    rig.client.node_stage_volume(stage(right)).await.unwrap();
    rig.publish(published(&id, &staging, &target)).await.unwrap();
    assert_eq!(fs::read_to_string(target.join("file")).unwrap(), needle);
    rig.let_go(&id, &target).await;
    rig.unstage(&id, &staging).await.unwrap();
    rig.delete(&id).await.unwrap();
}
