//! The controllers are killed while snapshots come and go.

use std::time::Duration;

use serde_json::json;

use super::bench::{CONTENTS, GROUP_CLASSES, GROUP_CONTENTS, GROUPS, SNAPSHOTS};
use crate::rig::{DRIVER, Rig};

/// Numbers below others, in another sequence for each seed.
fn random(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

#[tokio::test]
async fn whenever_control_is_killed_groups_are_whole_or_gone() {
    let mut rig = Rig::start().await;
    rig.put(GROUP_CLASSES, "group", json!({"driver": DRIVER, "deletionPolicy": "Delete"})).await;
    for name in ["a-1", "a-2"] {
        rig.driver_volume(name, "image").await;
    }
    let seed = u64::from(rig.pid("control"));
    let mut random = random(seed);
    let source = json!({"selector": {"matchLabels": {"app": "a"}}});
    for round in 0..10 {
        let spec = json!({"volumeGroupSnapshotClassName": "group", "source": source});
        rig.put(GROUPS, &format!("g-{round}"), json!({"spec": spec})).await;
        tokio::time::sleep(Duration::from_millis(random(200))).await;
        if round % 2 == 1 {
            rig.delete(GROUPS, &format!("g-{}", round - random(2))).await;
            tokio::time::sleep(Duration::from_millis(random(100))).await;
        }
        rig.kill("control");
        rig.again("control");
    }
    rig.until(&format!("five groups are left, with all their members (seed {seed})"), async |rig| {
        let (groups, members) = (rig.all(GROUPS).await, rig.all(SNAPSHOTS).await);
        let is_ready = groups.iter().chain(&members).all(|object| object["status"]["readyToUse"] == true);
        (groups.len() == 5 && members.len() == 10 && is_ready && rig.told().await.len() == 10).then_some(())
    })
    .await;
    for group in rig.all(GROUPS).await {
        rig.delete(GROUPS, group["metadata"]["name"].as_str().unwrap()).await;
    }
    rig.until(&format!("nothing is left (seed {seed})"), async |rig| {
        let mut left = rig.told().await.len();
        for kind in [GROUPS, GROUP_CONTENTS, SNAPSHOTS, CONTENTS] {
            left += rig.all(kind).await.len();
        }
        (left == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn whenever_control_is_killed_nothing_is_lost_and_nothing_is_left() {
    let mut rig = super::machine().await;
    // Another sequence each time; a failure tells which.
    let seed = u64::from(rig.pid("control"));
    let mut random = random(seed);
    let mut kept = Vec::new();
    for round in 0..15 {
        for side in ["a", "b", "c"] {
            let name = format!("{side}-{round}");
            rig.snapshot(&name, json!({"source": {"persistentVolumeClaimName": "data"}})).await;
            kept.push(name);
        }
        tokio::time::sleep(Duration::from_millis(random(250))).await;
        for _ in 0..2 {
            let index = usize::try_from(random(kept.len() as u64)).unwrap();
            rig.delete(SNAPSHOTS, &kept.swap_remove(index)).await;
        }
        tokio::time::sleep(Duration::from_millis(random(100))).await;
        rig.kill("control");
        rig.again("control");
    }
    for name in &kept {
        rig.ready(SNAPSHOTS, name).await;
    }
    rig.until(&format!("what was deleted is gone (seed {seed})"), async |rig| {
        (rig.all(SNAPSHOTS).await.len() == kept.len()).then_some(())
    })
    .await;
    assert_eq!(rig.told().await.len(), kept.len(), "seed {seed}");
    assert_eq!(rig.all(CONTENTS).await.len(), kept.len(), "seed {seed}");
    rig.claim_is_free("data").await;
    for name in &kept {
        rig.delete(SNAPSHOTS, name).await;
    }
    for name in &kept {
        rig.gone(SNAPSHOTS, name).await;
    }
    assert!(rig.told().await.is_empty(), "seed {seed}");
    assert!(rig.all(CONTENTS).await.is_empty(), "seed {seed}");
}
