//! What is told to be there can be had, and no more.

use std::path::{Path, PathBuf};

use csi::contract::v1::*;
use csi::plugin::PoolConfig;
use grpc::Code;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::rig::{Rig, map, refusal, request};

/// A file system of its own for a pool.
struct Memory(PathBuf);

impl Memory {
    fn at(path: &Path) -> Memory {
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
    assert_eq!(available(&rig).await, 64 << 20);
    let first = rig.create("v", 16 << 20).await.unwrap().volume_id;
    assert_eq!(available(&rig).await, 48 << 20);
    let (code, message) = refusal(rig.create("w", (48 << 20) + 1).await);
    assert!(code == Code::ResourceExhausted && message.contains("50331648 bytes left"), "{message}");
    rig.create("w", 48 << 20).await.unwrap();
    assert_eq!(available(&rig).await, 0);
    let expand = |bytes: i64| ControllerExpandVolumeRequest {
        volume_id: first.clone(),
        capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
        ..Default::default()
    };
    assert_eq!(refusal(rig.client.controller_expand_volume(expand(17 << 20)).await).0, Code::OutOfRange);
    assert_eq!(rig.client.controller_expand_volume(expand(8 << 20)).await.unwrap().capacity_bytes, 16 << 20);
    let elsewhere = GetCapacityRequest {
        accessible_topology: Some(Topology { segments: map("topology.csi.sextant.dev/node", "node-2") }),
        ..Default::default()
    };
    assert_eq!(rig.client.get_capacity(elsewhere).await.unwrap().available_capacity, 0);
    rig.delete(&first).await.unwrap();
    assert_eq!(available(&rig).await, 16 << 20);

    // Twice as much may be promised.
    let mut rig = rig;
    rig.setup.config.pools[0].overcommit = 2.0;
    let rig = rig.again().await;
    assert_eq!(available(&rig).await, 80 << 20);
    rig.create("x", 80 << 20).await.unwrap();
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
    assert_eq!(made, 16);
    assert_eq!(available(&rig).await, 0);
}
