//! Volumes where workloads look for them.

use std::fs;

use csi::contract::v1::volume_capability::access_mode::Mode;
use csi::contract::v1::volume_capability::{AccessType, MountVolume};
use csi::contract::v1::*;
use grpc::Code;

use crate::rig::{Rig, capability, device, directories, files, map, published, refusal, text};

#[tokio::test]
async fn a_volume_is_where_it_was_put_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), directories(dir.path())).await;
    let id = rig.create("v", 1 << 20).await.unwrap().volume_id;
    let [staging, target, second] = ["s", "t", "t2"].map(|name| dir.path().join(name));
    let publish = published(&id, &staging, &target);
    let (code, message) = refusal(rig.publish(publish.clone()).await);
    assert!(code == Code::FailedPrecondition && message.contains("not staged"), "{message}");
    assert!(!target.exists());
    for _ in 0..2 {
        rig.stage(&id, &staging, files(Mode::SingleNodeWriter)).await.unwrap();
    }
    assert_eq!(
        refusal(rig.stage(&id, &second, files(Mode::SingleNodeWriter)).await).0,
        Code::FailedPrecondition
    );
    assert_eq!(
        refusal(rig.stage(&id, &staging, files(Mode::MultiNodeMultiWriter)).await).0,
        Code::AlreadyExists
    );
    assert_eq!(refusal(rig.stage(&id, &staging, device()).await).0, Code::FailedPrecondition);
    for _ in 0..2 {
        rig.publish(publish.clone()).await.unwrap();
    }
    fs::write(target.join("file"), "x").unwrap();
    // Another pod, which may only read.
    let reader = NodePublishVolumeRequest { readonly: true, target_path: text(&second), ..publish.clone() };
    rig.publish(reader).await.unwrap();
    assert_eq!(fs::read_to_string(second.join("file")).unwrap(), "x");
    assert_eq!(
        fs::write(second.join("file"), "y").unwrap_err().kind(),
        std::io::ErrorKind::ReadOnlyFilesystem
    );
    let other = NodePublishVolumeRequest { readonly: true, ..publish };
    assert_eq!(refusal(rig.publish(other).await).0, Code::AlreadyExists);
    for refused in [rig.delete(&id).await, rig.unstage(&id, &staging).await] {
        let (code, message) = refusal(refused);
        assert!(code == Code::FailedPrecondition && message.contains(&text(&target)), "{message}");
    }
    // Somebody has it open.
    let open = fs::File::open(second.join("file")).unwrap();
    let (code, message) = refusal(rig.unpublish(&id, &second).await);
    assert!(code == Code::FailedPrecondition && message.contains("in use"), "{message}");
    drop(open);
    for at in [&target, &second, &second] {
        rig.let_go(&id, at).await;
        assert!(!at.exists());
    }
    rig.unstage(&id, &staging).await.unwrap();
    rig.unstage(&id, &staging).await.unwrap();
    rig.delete(&id).await.unwrap();
}

#[tokio::test]
async fn a_staging_path_that_somebody_unmounted_is_no_volume() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), directories(dir.path())).await;
    let id = rig.create("v", 1 << 20).await.unwrap().volume_id;
    let [staging, target] = ["s", "t"].map(|name| dir.path().join(name));
    rig.stage(&id, &staging, files(Mode::SingleNodeWriter)).await.unwrap();
    let (code, message) = refusal(rig.publish(published(&id, &staging, &staging)).await);
    assert!(code == Code::FailedPrecondition && message.contains("target"), "{message}");
    rustix::mount::unmount(&staging, rustix::mount::UnmountFlags::empty()).unwrap();
    let (code, message) = refusal(rig.publish(published(&id, &staging, &target)).await);
    assert!(code == Code::FailedPrecondition && message.contains("any more"), "{message}");
    assert!(!target.exists());
    rig.stage(&id, &staging, files(Mode::SingleNodeWriter)).await.unwrap();
    rig.publish(published(&id, &staging, &target)).await.unwrap();
    rig.let_go(&id, &target).await;
    rig.unstage(&id, &staging).await.unwrap();
    assert!(!staging.exists(), "it was made here");
}

#[tokio::test]
async fn what_others_have_at_a_path_stays() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), directories(dir.path())).await;
    let [v, w] = [rig.create("v", 4096).await.unwrap(), rig.create("w", 4096).await.unwrap()]
        .map(|made| made.volume_id);
    let mounted = rig.mount(dir.path(), &v).await;
    let writer = || files(Mode::SingleNodeWriter);
    for taken in [&mounted.staging, &mounted.target, &"/proc".into()] {
        assert_eq!(refusal(rig.stage(&w, taken, writer()).await).0, Code::FailedPrecondition, "{taken:?}");
    }
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("/tmp", &link).unwrap();
    let (code, message) = refusal(rig.stage(&w, &link, writer()).await);
    assert!(code == Code::FailedPrecondition && message.contains("no directory"), "{message}");
    // What was there before stays after.
    let there = dir.path().join("there");
    fs::create_dir(&there).unwrap();
    rig.stage(&w, &there, writer()).await.unwrap();
    rig.let_go(&w, &there).await;
    rig.unstage(&w, &there).await.unwrap();
    assert!(there.exists());
    let flagged = MountVolume { mount_flags: vec!["noexec".into(), "bogus".into()], ..Default::default() };
    let flagged = capability(AccessType::Mount(flagged), Mode::SingleNodeWriter);
    let (code, message) = refusal(rig.stage(&w, &there, flagged).await);
    assert!(code == Code::InvalidArgument && message.contains("bogus"), "{message}");
    rig.unmount(mounted).await;
    rig.delete(&w).await.unwrap();
}

#[tokio::test]
async fn one_writer_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), directories(dir.path())).await;
    let id = rig.create("v", 4096).await.unwrap().volume_id;
    let [staging, target, second] = ["s", "t", "t2"].map(|name| dir.path().join(name));
    let alone = files(Mode::SingleNodeSingleWriter);
    rig.stage(&id, &staging, alone.clone()).await.unwrap();
    let publish =
        NodePublishVolumeRequest { volume_capability: Some(alone), ..published(&id, &staging, &target) };
    rig.publish(publish.clone()).await.unwrap();
    let again = NodePublishVolumeRequest { target_path: text(&second), ..publish };
    assert_eq!(refusal(rig.publish(again).await).0, Code::FailedPrecondition);
    assert!(!second.exists());
    rig.let_go(&id, &target).await;
    rig.unstage(&id, &staging).await.unwrap();
}

#[tokio::test]
async fn an_ephemeral_volume_lives_as_long_as_it_is_published() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), directories(dir.path())).await;
    let target = dir.path().join("t");
    let mut publish = published("csi-0123/ü", dir.path(), &target);
    publish.staging_target_path.clear();
    publish.volume_context = map("csi.storage.k8s.io/ephemeral", "true");
    publish.volume_context.insert("size".into(), "much".into());
    let (code, message) = refusal(rig.publish(publish.clone()).await);
    assert!(code == Code::InvalidArgument && message.contains("volume_context[size]"), "{message}");
    publish.volume_context.insert("size".into(), "1Mi".into());
    // Nobody asks for what failed to be unpublished.
    fs::write(&target, "a file").unwrap();
    assert_eq!(refusal(rig.publish(publish.clone()).await).0, Code::FailedPrecondition);
    assert_eq!(fs::read_dir(dir.path().join("pool/volumes")).unwrap().count(), 0);
    fs::remove_file(&target).unwrap();
    rig.publish(publish.clone()).await.unwrap();
    fs::write(target.join("file"), "x").unwrap();
    let rig = rig.again().await;
    rig.publish(publish).await.unwrap();
    assert!(target.join("file").exists());
    let list = rig.client.list_volumes(ListVolumesRequest::default()).await.unwrap();
    assert!(list.entries.is_empty(), "it is its pod's alone");
    let volumes = || fs::read_dir(dir.path().join("pool/volumes")).unwrap().count();
    assert_eq!(volumes(), 1);
    rig.unpublish("csi-0123/ü", &target).await.unwrap();
    rig.unpublish("csi-0123/ü", &target).await.unwrap();
    assert!(volumes() == 0 && !target.exists());
}

#[tokio::test]
async fn it_tells_how_full_a_volume_is() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), directories(dir.path())).await;
    let id = rig.create("v", 16 << 20).await.unwrap().volume_id;
    let asked = |path: &str| NodeGetVolumeStatsRequest {
        volume_id: id.clone(),
        volume_path: path.into(),
        ..Default::default()
    };
    assert_eq!(refusal(rig.client.node_get_volume_stats(asked("some/path")).await).0, Code::NotFound);
    let mounted = rig.mount(dir.path(), &id).await;
    fs::write(mounted.target.join("file"), vec![1; 100_000]).unwrap();
    let told = rig.client.node_get_volume_stats(asked(&text(&mounted.target))).await.unwrap();
    // Some count inodes, too.
    let [bytes, ..] = &told.usage[..] else { panic!("{told:?}") };
    assert!(bytes.total == 16 << 20 && (100_000..300_000).contains(&bytes.used), "{bytes:?}");
    assert!(!told.volume_condition.unwrap().abnormal);
    fs::rename(dir.path().join(format!("pool/volumes/{id}/data")), dir.path().join("stolen")).unwrap();
    let got =
        rig.client.controller_get_volume(ControllerGetVolumeRequest { volume_id: id.clone() }).await.unwrap();
    assert!(got.status.unwrap().volume_condition.unwrap().abnormal);
    rig.unmount(mounted).await;
}
