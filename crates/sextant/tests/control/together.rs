//! Driver and controllers are killed, one or both, at any moment, while users work: what was acknowledged is true, what was deleted is
//! gone, and nothing is left over. `SEXTANT_CONTROL_KILLS=500 cargo test -p sextant --test control together` for more of it.

mod pools;
mod user;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use csi::caller::Driver;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::Api;
use kube::api::{DynamicObject, ListParams};
use tokio::task::{JoinHandle, LocalSet};

use crate::hand::chance;
use crate::rig::{DRIVER, NODE, PATIENCE, Rig};
use pools::Pools;
use user::{Kept, User, contents, snapshots};

/// Users at the same time; each has volumes of one kind.
const USERS: usize = 6;

/// What there is of volumes and snapshots in the driver.
async fn in_driver(rig: &Rig) -> (BTreeSet<String>, BTreeSet<String>) {
    let driver = Driver::connect(&rig.driver_socket()).await.unwrap();
    let volumes = driver.volumes().await.unwrap().into_iter();
    let snapshots = driver.snapshots().await.unwrap().into_iter();
    (
        volumes.map(|entry| entry.volume.unwrap().volume_id).collect(),
        snapshots.map(|snapshot| snapshot.snapshot_id).collect(),
    )
}

/// How many objects of a kind there are.
async fn count<K>(api: Api<K>) -> usize
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    api.list(&ListParams::default()).await.unwrap().items.len()
}

fn mounts_below(folder: &Path) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/thread-self/mounts").unwrap();
    mounts.lines().filter(|line| line.contains(folder.to_str().unwrap())).map(str::to_owned).collect()
}

/// Loop devices on files below a folder.
fn devices_below(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir("/sys/block").unwrap().flatten();
    let files = entries.filter_map(|one| std::fs::read_to_string(one.path().join("loop/backing_file")).ok());
    files.filter(|file| Path::new(file.trim()).starts_with(folder)).collect()
}

#[tokio::test]
async fn whenever_driver_and_controllers_are_killed_together_nothing_is_lost_and_nothing_is_left() {
    let kills: u64 = std::env::var("SEXTANT_CONTROL_KILLS").map_or(8, |text| text.parse().expect("a number"));
    let mut rig = Rig::bare().await;
    rig.objects().await;
    user::snapshot_class(&rig.client).await;
    let pools = Pools::new();
    let kinds = pools.kinds();
    for kind in kinds.iter().filter(|kind| kind.pool != "default") {
        let parameters = serde_json::json!({"backend": kind.backend, "pool": kind.pool});
        rig.class(&kind.class, DRIVER, serde_json::json!({"parameters": parameters})).await;
    }
    let config = rig.path("csi.toml");
    std::fs::write(&config, pools.config(&rig.path("pool"))).unwrap();
    rig.spawn("driver", &["csi-driver", "--config", config.to_str().unwrap(), "--node-id", NODE]);
    rig.control(&["--bind"]);
    rig.words_have("control", &format!("driver {DRIVER} is at")).await;
    let mut chance = chance();
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let local = LocalSet::new();
    let users: Vec<_> = (0..USERS)
        .map(|number| {
            let kind = &kinds[number % kinds.len()];
            local.spawn_local(User::new(&rig, number, kind, chance(), (stop.clone(), done.clone())).works())
        })
        .collect();
    let began = Instant::now();
    let kept = local
        .run_until(async {
            for kill in 0..kills {
                // Every other one comes when something has come of the work since; the rest whenever it pleases.
                let before = done.load(Ordering::Relaxed);
                let waited = Instant::now();
                while kill % 2 == 1 && done.load(Ordering::Relaxed) == before && waited.elapsed() < PATIENCE {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                tokio::time::sleep(Duration::from_millis(chance() % 1200)).await;
                let victims = match chance() % 4 {
                    0 => &["driver"][..],
                    1 => &["control"],
                    _ => &["driver", "control"],
                };
                victims.iter().for_each(|victim| rig.kill(victim));
                victims.iter().for_each(|victim| rig.again(victim));
                if users.iter().any(JoinHandle::is_finished) {
                    break;
                }
            }
            stop.store(true, Ordering::Relaxed);
            let mut kept = Vec::new();
            for user in users {
                // One that has failed says why.
                kept.extend(user.await.unwrap());
            }
            kept
        })
        .await;
    let (took, done) = (began.elapsed(), done.load(Ordering::Relaxed));
    let classes: Vec<_> = kinds.iter().map(|kind| kind.class.as_str()).collect();
    let classes = classes.join(", ");
    eprintln!("{kills} kills in {took:?} of {classes}; {done} steps seen done, {} claims kept", kept.len());
    compare(&rig, &kept).await;
    clear(&rig, kept, &pools).await;
}

/// What users keep is there with what they wrote, and nothing else is.
async fn compare(rig: &Rig, kept: &[Kept]) {
    let claims: Api<PersistentVolumeClaim> = rig.objects_of("");
    let (mut handles, mut cuts) = (BTreeSet::new(), 0);
    for one in kept {
        let user = User::new(rig, USERS, &one.kind, 1, Default::default());
        handles.insert(user.holds(&one.claim, &one.text).await);
        cuts += usize::from(one.snapshot.is_some());
    }
    rig.until("what was deleted is gone, in the API and in the driver", async |rig: &Rig| {
        let (volumes, snapshots) = in_driver(rig).await;
        let is_all = count(claims.clone()).await == kept.len()
            && count::<PersistentVolume>(Api::all(rig.client.clone())).await == kept.len()
            && count::<DynamicObject>(user::snapshots(&rig.client)).await == cuts
            && count::<DynamicObject>(contents(&rig.client)).await == cuts;
        (is_all && volumes == handles && snapshots.len() == cuts).then_some(())
    })
    .await;
}

/// Everything can be taken away, and then nothing is left.
async fn clear(rig: &Rig, kept: Vec<Kept>, pools: &Pools) {
    let claims: Api<PersistentVolumeClaim> = rig.objects_of("");
    for one in kept {
        if let Some(snapshot) = one.snapshot {
            snapshots(&rig.client).delete(&snapshot, &Default::default()).await.unwrap();
        }
        claims.delete(&one.claim, &Default::default()).await.unwrap();
    }
    rig.until("all is gone", async |rig: &Rig| {
        let left = count(claims.clone()).await
            + count::<PersistentVolume>(Api::all(rig.client.clone())).await
            + count::<VolumeAttachment>(Api::all(rig.client.clone())).await
            + count::<DynamicObject>(contents(&rig.client)).await;
        let (volumes, snapshots) = in_driver(rig).await;
        (left + volumes.len() + snapshots.len() == 0).then_some(())
    })
    .await;
    let here = rig.path("");
    assert_eq!((mounts_below(&here), devices_below(&here)), (vec![], vec![]));
    let places = pools.places(&rig.path("pool"));
    let places = places
        .iter()
        .flat_map(|(_, pool)| ["volumes", "snapshots", "incoming", "gone"].map(|part| pool.join(part)));
    for part in places.chain([rig.path("run/uses"), rig.path("users")]) {
        let left: Vec<_> =
            std::fs::read_dir(&part).into_iter().flatten().flatten().map(|one| one.path()).collect();
        assert!(left.is_empty(), "{}: {left:?} on {NODE}", part.display());
    }
    pools.are_empty();
}
