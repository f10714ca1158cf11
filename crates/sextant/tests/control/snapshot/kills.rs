//! The controllers are killed while snapshots come and go.

use std::time::Duration;

use serde_json::json;

use super::bench::{CONTENTS, SNAPSHOTS};

#[tokio::test]
async fn whenever_control_is_killed_nothing_is_lost_and_nothing_is_left() {
    let mut rig = super::machine().await;
    // Another sequence each time; a failure tells which.
    let seed = u64::from(rig.pid("control"));
    let mut state = seed;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
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
