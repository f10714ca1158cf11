//! Volumes, snapshots and groups from their beginning to their end.

use csi::contract::v1::volume_capability::access_mode::Mode;
use csi::contract::v1::*;
use grpc::Code;
use kernel::btrfs;

use crate::rig::{device, files, from_snapshot, from_volume, map, published, refusal, request};
use crate::{MIB, Own};

#[tokio::test]
async fn a_volume_lives_its_life() {
    let mut own = Own::start(2 << 30).await;
    let before = own.available().await;
    let volume = own.rig.create("v", 64 * MIB).await.unwrap();
    let id = volume.volume_id.clone();
    let mounted = own.rig.mount(own.path(), &id).await;
    std::fs::write(mounted.target.join("file"), "first").unwrap();
    let snapshot = own.rig.snapshot("s", &id).await.unwrap();
    assert!(snapshot.ready_to_use && snapshot.size_bytes == 64 * MIB);
    std::fs::write(mounted.target.join("file"), "second").unwrap();
    let of = |name: &str, bytes, source| CreateVolumeRequest {
        volume_content_source: source,
        ..request(name, bytes)
    };
    let restored =
        own.rig.create_as(of("r", 64 * MIB, from_snapshot(&snapshot.snapshot_id))).await.unwrap().volume_id;
    let cloned = own.rig.create_as(of("c", 128 * MIB, from_volume(&id))).await.unwrap().volume_id;
    // A driver that was killed finds all of it, and goes on.
    own.rig = own.rig.again().await;
    assert_eq!(own.rig.create("v", 64 * MIB).await.unwrap(), volume);
    assert_eq!(own.expand(&id, 96 * MIB).await.capacity_bytes, 96 * MIB);
    let (usage, condition) = own.stats(&id, &mounted.target).await;
    assert!(usage.total == 96 * MIB && usage.used < MIB && usage.available > 95 * MIB, "{usage:?}");
    assert!(!condition.abnormal, "{condition:?}");
    own.rig.unmount(mounted).await;
    own.rig.delete(&id).await.unwrap();
    for (id, wanted, bytes) in [(&restored, "first", 64 * MIB), (&cloned, "second", 128 * MIB)] {
        let mounted = own.rig.mount(own.path(), id).await;
        assert_eq!(std::fs::read_to_string(mounted.target.join("file")).unwrap(), wanted);
        std::fs::write(mounted.target.join("file"), "third").unwrap();
        let (usage, condition) = own.stats(id, &mounted.target).await;
        assert!(usage.total == bytes && !condition.abnormal, "{usage:?} {condition:?}");
        own.rig.unmount(mounted).await;
        own.rig.delete(id).await.unwrap();
    }
    own.remove_snapshot(&snapshot.snapshot_id).await;
    for part in ["volumes", "snapshots", "incoming", "gone"] {
        assert_eq!(own.disk.path().join("pool").join(part).read_dir().unwrap().count(), 0, "{part}");
    }
    assert!(own.subvolumes().is_empty());
    // All of it is given back once the kernel has taken it away.
    own.groups_become(1).await;
    let after = own.available().await;
    assert!((before - 2 * MIB..=before + 2 * MIB).contains(&after), "{before} {after}");
}

impl Own {
    /// Waits until so many subvolumes have a quota group. Whoever asks for what is gone has the rest swept up.
    async fn groups_become(&self, wanted: usize) {
        for _ in 0..3600 {
            btrfs::commit(self.root()).unwrap();
            self.rig.delete("nobody").await.unwrap();
            let groups = btrfs::groups(self.root()).unwrap();
            if groups.len() == wanted {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("{:?}", btrfs::groups(self.root()).unwrap());
    }
}

#[tokio::test]
async fn what_it_does_not_have_is_refused() {
    let own = Own::start(1 << 30).await;
    // Nothing of the file system is changed before there is a volume.
    let uuid = btrfs::uuid(own.root()).unwrap();
    assert_eq!(btrfs::quotas(&uuid).unwrap(), btrfs::Quotas::Off);
    let block = CreateVolumeRequest { volume_capabilities: vec![device()], ..request("b", 64 * MIB) };
    let (code, message) = refusal(own.rig.create_as(block).await);
    assert!(code == Code::InvalidArgument && message.contains("block"), "{message}");
    let other = CreateVolumeRequest {
        parameters: map("csi.storage.k8s.io/fstype", "ext4"),
        ..request("e", 64 * MIB)
    };
    let (code, message) = refusal(own.rig.create_as(other).await);
    assert!(code == Code::InvalidArgument && message.contains("image"), "{message}");
    assert!(own.subvolumes().is_empty());
    // Less than its least is as much as that.
    assert_eq!(own.rig.create("small", MIB).await.unwrap().capacity_bytes, 16 * MIB);
    assert_eq!(btrfs::quotas(&uuid).unwrap(), btrfs::Quotas::Full { inconsistent: false });
}

#[tokio::test]
async fn whoever_reads_does_not_write() {
    let own = Own::start(1 << 30).await;
    let id = own.rig.create("v", 64 * MIB).await.unwrap().volume_id;
    let mounted = own.rig.mount(own.path(), &id).await;
    std::fs::write(mounted.target.join("file"), "text").unwrap();
    let reader = own.path().join("reader");
    let read_only = NodePublishVolumeRequest { readonly: true, ..published(&id, &mounted.staging, &reader) };
    own.rig.publish(read_only).await.unwrap();
    assert_eq!(std::fs::read_to_string(reader.join("file")).unwrap(), "text");
    let refused = std::fs::write(reader.join("file"), "other").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    own.rig.let_go(&id, &reader).await;
    own.rig.unmount(mounted).await;
    let staged = own.path().join("staged");
    own.rig.stage(&id, &staged, files(Mode::MultiNodeReaderOnly)).await.unwrap();
    assert!(std::fs::write(staged.join("file"), "other").is_err());
    own.rig.unstage(&id, &staged).await.unwrap();
}

/// What has its name before it is cut is nothing until it is; what is whole stays, whether its mark went or not.
#[tokio::test]
async fn what_was_never_cut_goes() {
    let mut own = Own::start(1 << 30).await;
    let id = own.rig.create("v", 64 * MIB).await.unwrap().volume_id;
    let whole = own.rig.snapshot("s", &id).await.unwrap().snapshot_id;
    let clone =
        CreateVolumeRequest { volume_content_source: from_snapshot(&whole), ..request("c", 64 * MIB) };
    let clone = own.rig.create_as(clone).await.unwrap().volume_id;
    let pool = own.disk.path().join("pool");
    let (snapshot, volume) = (pool.join("snapshots").join(&whole), pool.join("volumes").join(&clone));
    for (place, record) in [(&snapshot, "snapshot.json"), (&volume, "volume.json")] {
        let unfinished = format!("unfinished-{record}");
        assert!(place.join("data").is_dir() && !place.join(&unfinished).exists());
        std::fs::rename(place.join(record), place.join(&unfinished)).unwrap();
        let other = place.with_file_name("other");
        std::fs::create_dir(&other).unwrap();
        let text = std::fs::read_to_string(place.join(&unfinished)).unwrap();
        let own_id = place.file_name().unwrap().to_str().unwrap();
        std::fs::write(other.join(&unfinished), text.replacen(own_id, "other", 1)).unwrap();
        // What a log keeps of files that nobody synced.
        for (name, file) in [("empty", Some(&unfinished)), ("bare", None)] {
            std::fs::create_dir(place.with_file_name(name)).unwrap();
            if let Some(file) = file {
                std::fs::write(place.with_file_name(name).join(file), "").unwrap();
            }
        }
    }
    // Something is there, and nobody knows as what; or nobody can tell, as on a disk that is damaged.
    std::fs::create_dir_all(pool.join("volumes/unknown/data")).unwrap();
    let hidden = pool.join("volumes/hidden");
    std::fs::create_dir(&hidden).unwrap();
    let text = std::fs::read_to_string(volume.join("unfinished-volume.json")).unwrap();
    let text = text.replacen(&clone, "hidden", 1);
    std::fs::write(hidden.join("unfinished-volume.json"), text).unwrap();
    std::os::unix::fs::symlink("data", hidden.join("data")).unwrap();
    own.rig = own.rig.again().await;
    for (part, count) in [("snapshots", 1), ("volumes", 4), ("gone", 0)] {
        assert_eq!(pool.join(part).read_dir().unwrap().count(), count, "{part}");
    }
    for (place, record) in [(&snapshot, "snapshot.json"), (&volume, "volume.json")] {
        assert!(place.join(record).is_file() && !place.join(format!("unfinished-{record}")).exists());
    }
    assert_eq!(own.subvolumes().len(), 3);
}

/// Somebody counts nothing any more: it is told, and the next driver sees to it.
#[tokio::test]
async fn quotas_that_were_disabled_are_enabled_again() {
    let mut own = Own::start(1 << 30).await;
    let id = own.rig.create("v", 64 * MIB).await.unwrap().volume_id;
    let off =
        std::process::Command::new("btrfs").args(["quota", "disable"]).arg(own.disk.path()).output().unwrap();
    assert!(off.status.success(), "{off:?}");
    let condition = async |own: &Own| {
        let request = ControllerGetVolumeRequest { volume_id: id.clone() };
        own.rig.client.controller_get_volume(request).await.unwrap().status.unwrap().volume_condition.unwrap()
    };
    let told = condition(&own).await;
    assert!(told.abnormal && told.message.contains("quotas of its pool are off"), "{told:?}");
    own.rig = own.rig.again().await;
    assert!(!condition(&own).await.abnormal);
    let mounted = own.rig.mount(own.path(), &id).await;
    assert_eq!(own.stats(&id, &mounted.target).await.0.total, 64 * MIB);
    own.rig.unmount(mounted).await;
}
