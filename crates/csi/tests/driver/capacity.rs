//! What is told to be there can be had, and no more.

use std::path::{Path, PathBuf};

use csi::contract::v1::*;
use csi::plugin::PoolConfig;
use grpc::Code;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::rig::{Rig, from_snapshot, from_volume, map, refusal, request};

/// A file system of its own for a pool.
pub(crate) struct Memory(PathBuf);

impl Memory {
    pub(crate) fn at(path: &Path) -> Memory {
        std::fs::create_dir(path).unwrap();
        mount("tmpfs", path, "tmpfs", MountFlags::empty(), Some(c"size=64m")).unwrap();
        Memory(path.into())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

async fn available(rig: &Rig) -> i64 {
    rig.client.get_capacity(GetCapacityRequest::default()).await.unwrap().available_capacity
}

#[tokio::test]
async fn what_is_promised_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let memory = Memory::at(&dir.path().join("pool"));
    let pool = PoolConfig { backends: vec!["dir".into()], ..PoolConfig::new("a", &memory.0) };
    let rig = Rig::start(dir.path(), pool.clone()).await;
    // The pool's own files may have some pages.
    let all = available(&rig).await;
    assert!((60 << 20..=64 << 20).contains(&all), "{all}");
    let first = rig.create("v", 16 << 20).await.unwrap().volume_id;
    let rest = all - (16 << 20);
    assert_eq!(available(&rig).await, rest);
    let (code, message) = refusal(rig.create("w", rest + 4096).await);
    assert!(code == Code::ResourceExhausted && message.contains("bytes left"), "{message}");
    rig.create("w", rest).await.unwrap();
    assert_eq!(available(&rig).await, 0);
    let expand = |bytes: i64| ControllerExpandVolumeRequest {
        volume_id: first.clone(),
        capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
        ..Default::default()
    };
    assert_eq!(refusal(rig.client.controller_expand_volume(expand(17 << 20)).await).0, Code::OutOfRange);
    for smaller in [8 << 20, 0] {
        let done = rig.client.controller_expand_volume(expand(smaller)).await.unwrap();
        assert_eq!(done.capacity_bytes, 16 << 20);
    }
    let elsewhere = GetCapacityRequest {
        accessible_topology: Some(Topology { segments: map("topology.csi.sextant.dev/node", "node-2") }),
        ..Default::default()
    };
    assert_eq!(rig.client.get_capacity(elsewhere).await.unwrap().available_capacity, 0);
    rig.delete(&first).await.unwrap();
    assert_eq!(available(&rig).await, 16 << 20);

    // What others write is theirs, once it is looked at again.
    std::fs::write(memory.0.join("foreign"), vec![1; 8 << 20]).unwrap();

    // Twice as much may be promised.
    let mut rig = rig;
    rig.setup.config.pools[0].overcommit = 2.0;
    let rig = rig.again().await;
    let twice = available(&rig).await;
    let wanted = 2 * (all - (8 << 20)) - rest;
    assert!((wanted - (1 << 20)..=wanted).contains(&twice), "{twice} {wanted}");
    rig.create("x", twice).await.unwrap();
}

#[tokio::test]
async fn two_pools_do_not_promise_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let pool = |name: &str| PoolConfig {
        backends: vec!["dir".into()],
        ..PoolConfig::new(name, dir.path().join(name))
    };
    let setup = csi::plugin::Setup {
        config: csi::plugin::Config { pools: vec![pool("a"), pool("b")] },
        node: "n".into(),
        run: dir.path().join("run"),
        socket: dir.path().join("csi.sock"),
    };
    let refused = csi::plugin::run(setup, std::future::pending(), || ()).await.unwrap_err();
    assert!(refused.to_string().contains("same file system"), "{refused}");
}

#[tokio::test]
async fn calls_at_once_share_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let memory = Memory::at(&dir.path().join("pool"));
    let rig = Rig::start(
        dir.path(),
        PoolConfig { backends: vec!["dir".into()], ..PoolConfig::new("a", &memory.0) },
    )
    .await;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..40 {
        let client = rig.client.clone();
        calls.spawn(
            async move { client.create_volume(request(&format!("v{number}"), 4 << 20)).await.is_ok() },
        );
    }
    let made = calls.join_all().await.into_iter().filter(|made| *made).count();
    // Records have some pages of the 64 MiB, once that is looked at.
    assert!((15..=16).contains(&made), "{made}");
    assert!(available(&rig).await <= 4 << 20);
}

/// A claim of what the first one asked for is good for a copy of it, however that was rounded up.
#[tokio::test]
async fn what_was_asked_for_is_enough_for_a_copy() {
    let dir = tempfile::tempdir().unwrap();
    let pool = |name: &str| PoolConfig {
        backends: vec!["image".into(), "dir".into()],
        overcommit: 100.0,
        ..PoolConfig::new(name, dir.path().join("pool"))
    };
    let mut rig = Rig::start(dir.path(), pool("a")).await;
    for (fs_type, asked, has) in
        [("ext4", 1 << 20, 16 << 20), ("ext4", (20 << 20) + 1, (20 << 20) + 4096), ("", 1, 4096)]
    {
        let backend = if fs_type.is_empty() { "dir" } else { "image" };
        let of = |name: String, bytes: i64, source| CreateVolumeRequest {
            parameters: [("backend", backend), ("csi.storage.k8s.io/fstype", fs_type)]
                .into_iter()
                .filter(|(_, value)| !value.is_empty())
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            volume_content_source: source,
            ..request(&name, bytes)
        };
        let volume = rig.create_as(of(format!("v{asked}"), asked, None)).await.unwrap();
        assert_eq!(volume.capacity_bytes, has);
        rig = rig.again().await;
        let snapshot = rig.snapshot(&format!("s{asked}"), &volume.volume_id).await.unwrap();
        // What external-provisioner compares a claim with.
        assert_eq!(snapshot.size_bytes, asked);
        let sources = [from_snapshot(&snapshot.snapshot_id), from_volume(&volume.volume_id)];
        for (source, name) in sources.into_iter().zip(["restored", "cloned"]) {
            let copy = rig.create_as(of(format!("{name}{asked}"), asked, source)).await.unwrap();
            assert_eq!(copy.capacity_bytes, has, "{name}");
        }
        // One that has grown is as large as it is.
        let expand = ControllerExpandVolumeRequest {
            volume_id: volume.volume_id.clone(),
            capacity_range: Some(CapacityRange { required_bytes: 24 << 20, limit_bytes: 0 }),
            ..Default::default()
        };
        rig.client.controller_expand_volume(expand).await.unwrap();
        let snapshot = rig.snapshot(&format!("t{asked}"), &volume.volume_id).await.unwrap();
        assert_eq!(snapshot.size_bytes, 24 << 20);
        let small = of(format!("small{asked}"), asked, from_snapshot(&snapshot.snapshot_id));
        assert_eq!(refusal(rig.create_as(small).await).0, Code::OutOfRange);
    }
}
