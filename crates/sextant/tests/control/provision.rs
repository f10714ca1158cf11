//! Claims get volumes of the real driver, and what is deleted is gone there, too.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use csi::caller::Driver;
use csi::contract::v1::CreateSnapshotRequest;
use k8s_openapi::api::core::v1::{Event, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::{CSIStorageCapacity, StorageClass};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::rig::{DRIVER, NODE, PATIENCE, Rig};

const FINALIZER: &str = "control.sextant.dev/volume-being-made";

async fn start() -> Rig {
    let mut rig = Rig::bare().await;
    rig.objects().await;
    rig.driver();
    rig.control(&["--bind"]);
    rig
}

fn claims(rig: &Rig) -> Api<PersistentVolumeClaim> {
    rig.objects_of("")
}

fn volumes(rig: &Rig) -> Api<PersistentVolume> {
    Api::all(rig.client.clone())
}

/// Makes a claim of class `dir`, with more or other fields.
async fn claim(rig: &Rig, name: &str, fields: Value) -> PersistentVolumeClaim {
    let mut spec = json!({"storageClassName": "dir", "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "16Mi"}}});
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    rig.make_here(json!({"metadata": {"name": name}, "spec": spec})).await
}

/// The volume of a claim, once it is bound and nothing is left to be done for it.
async fn bound(rig: &Rig, name: &str) -> PersistentVolume {
    let volume = rig
        .until(&format!("claim {name} is bound"), async |rig: &Rig| {
            let claim = claims(rig).get(name).await.unwrap();
            let is_done =
                claim.status?.phase? == "Bound" && !claim.metadata.finalizers?.contains(&FINALIZER.into());
            claim.spec?.volume_name.filter(|_| is_done)
        })
        .await;
    rig.until(&format!("volume {volume} is bound"), async |rig: &Rig| {
        let volume = volumes(rig).get(&volume).await.unwrap();
        (volume.status.clone()?.phase? == "Bound").then_some(volume)
    })
    .await
}

async fn delete(rig: &Rig, name: &str) {
    claims(rig).delete(name, &DeleteParams::default()).await.unwrap();
}

/// The ids of all that the driver has.
async fn in_driver(rig: &Rig) -> BTreeSet<String> {
    let driver = Driver::connect(&rig.driver_socket()).await.unwrap();
    let all = driver.volumes().await.unwrap();
    all.into_iter().filter_map(|entry| entry.volume).map(|volume| volume.volume_id).collect()
}

fn handle(volume: &PersistentVolume) -> String {
    volume.spec.clone().unwrap().csi.unwrap().volume_handle
}

/// Waits until there is nothing any more: no claim, no volume, nothing in the driver.
async fn all_gone(rig: &Rig) {
    rig.until("claims and volumes are gone", async |rig: &Rig| {
        let claims = claims(rig).list(&ListParams::default()).await.unwrap();
        let volumes = volumes(rig).list(&ListParams::default()).await.unwrap();
        (claims.items.is_empty() && volumes.items.is_empty()).then_some(())
    })
    .await;
    assert_eq!(in_driver(rig).await, BTreeSet::new());
}

/// Waits for an event of a claim; its text.
async fn event(rig: &Rig, claim: &str, reason: &str) -> String {
    rig.until(&format!("event {reason} of {claim}"), async |rig: &Rig| {
        let events = rig.objects_of::<Event>("").list(&ListParams::default()).await.unwrap();
        let mut of = events.items.into_iter();
        of.find(|event| {
            event.involved_object.name.as_deref() == Some(claim) && event.reason.as_deref() == Some(reason)
        })?
        .message
    })
    .await
}

#[tokio::test]
async fn a_claim_gets_a_volume_that_goes_with_it() {
    let rig = start().await;
    claim(&rig, "data", json!({})).await;
    let volume = bound(&rig, "data").await;
    assert_eq!(in_driver(&rig).await, BTreeSet::from([handle(&volume)]));
    let uid = claims(&rig).get("data").await.unwrap().uid().unwrap();
    assert_eq!(volume.name_any(), format!("pvc-{uid}"));
    assert_eq!(volume.annotations()["pv.kubernetes.io/provisioned-by"], DRIVER);
    let spec = volume.spec.unwrap();
    let terms = spec.node_affinity.unwrap().required.unwrap().node_selector_terms;
    assert_eq!(terms[0].match_expressions.as_ref().unwrap()[0].key, "topology.csi.sextant.dev/node");
    assert!(event(&rig, "data", "ProvisioningSucceeded").await.contains(&uid));
    delete(&rig, "data").await;
    all_gone(&rig).await;
}

#[tokio::test]
async fn a_volume_that_is_to_be_retained_stays() {
    let rig = start().await;
    rig.class("keep", DRIVER, json!({"parameters": {"backend": "dir"}, "reclaimPolicy": "Retain"})).await;
    claim(&rig, "data", json!({"storageClassName": "keep"})).await;
    let name = bound(&rig, "data").await.name_any();
    delete(&rig, "data").await;
    let volume = rig
        .until("the volume is released", async |rig: &Rig| {
            let volume = volumes(rig).get(&name).await.unwrap();
            (volume.status.clone()?.phase? == "Released").then_some(volume)
        })
        .await;
    // A claim of another class goes the whole way meanwhile.
    claim(&rig, "other", json!({})).await;
    bound(&rig, "other").await;
    delete(&rig, "other").await;
    rig.until("the other volume is gone", async |rig: &Rig| (in_driver(rig).await.len() == 1).then_some(()))
        .await;
    assert_eq!(in_driver(&rig).await, BTreeSet::from([handle(&volume)]));
    let policy = Patch::Merge(json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}}));
    volumes(&rig).patch(&name, &PatchParams::default(), &policy).await.unwrap();
    all_gone(&rig).await;
}

#[tokio::test]
async fn what_is_wrong_is_told_and_tried_again_when_it_is_right() {
    let rig = start().await;
    claim(&rig, "early", json!({"storageClassName": "later"})).await;
    assert!(event(&rig, "early", "ProvisioningFailed").await.contains("\"later\" not found"));
    rig.class("later", DRIVER, json!({"parameters": {"backend": "dir"}})).await;
    bound(&rig, "early").await;
    rig.class("wrong", DRIVER, json!({"parameters": {"colour": "red"}})).await;
    claim(&rig, "odd", json!({"storageClassName": "wrong"})).await;
    assert!(event(&rig, "odd", "ProvisioningFailed").await.contains("colour"));
    delete(&rig, "odd").await;
    delete(&rig, "early").await;
    all_gone(&rig).await;
}

#[tokio::test]
async fn a_claim_that_waits_for_a_pod_gets_its_volume_on_the_selected_node() {
    let rig = start().await;
    let fields = json!({"parameters": {"backend": "dir"}, "volumeBindingMode": "WaitForFirstConsumer"});
    rig.class("waits", DRIVER, fields).await;
    claim(&rig, "data", json!({"storageClassName": "waits"})).await;
    event(&rig, "data", "WaitForFirstConsumer").await;
    let select = async |node: &str| {
        let patch = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": node}}});
        claims(&rig).patch("data", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    };
    // The driver is not on that node: the scheduler is to choose again.
    select("node-9").await;
    rig.until("the node is taken back", async |rig: &Rig| {
        let claim = claims(rig).get("data").await.unwrap();
        (!claim.annotations().contains_key("volume.kubernetes.io/selected-node")).then_some(())
    })
    .await;
    assert!(event(&rig, "data", "ProvisioningFailed").await.contains("node-9"));
    select("node-1").await;
    bound(&rig, "data").await;
    delete(&rig, "data").await;
    all_gone(&rig).await;
}

#[tokio::test]
async fn a_clone_and_a_restored_snapshot_are_volumes_of_their_own() {
    let rig = start().await;
    claim(&rig, "data", json!({})).await;
    let volume = bound(&rig, "data").await;
    let source = json!({"kind": "PersistentVolumeClaim", "name": "data"});
    claim(&rig, "copy", json!({"dataSource": source})).await;
    let copy = bound(&rig, "copy").await;
    assert_ne!(handle(&copy), handle(&volume));

    let driver = Driver::connect(&rig.driver_socket()).await.unwrap();
    let cut =
        CreateSnapshotRequest { source_volume_id: handle(&volume), name: "s".into(), ..Default::default() };
    let id = driver.client.create_snapshot(cut).await.unwrap().snapshot.unwrap().snapshot_id;
    snapshot(&rig, &id).await;
    let source = json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"});
    claim(&rig, "small", json!({"dataSource": source, "resources": {"requests": {"storage": "1Mi"}}})).await;
    assert!(event(&rig, "small", "ProvisioningFailed").await.contains("less than its"));
    delete(&rig, "small").await;
    claim(&rig, "restored", json!({"dataSource": source})).await;
    bound(&rig, "restored").await;
    for name in ["data", "copy", "restored"] {
        delete(&rig, name).await;
    }
    all_gone(&rig).await;
}

/// What the claim of a source asks for counts, as with external-provisioner, though its volume has less for as long as it grows.
#[tokio::test]
async fn a_clone_has_to_ask_for_what_its_source_asks_for_though_that_is_not_there_yet() {
    let rig = start().await;
    claim(&rig, "data", json!({})).await;
    bound(&rig, "data").await;
    let asks = async |size: &str| {
        let patch = Patch::Merge(json!({"spec": {"resources": {"requests": {"storage": size}}}}));
        claims(&rig).patch("data", &PatchParams::default(), &patch).await.unwrap();
    };
    // Nobody has so much: it stays what it asks for.
    asks("1Ei").await;
    event(&rig, "data", "VolumeResizeFailed").await;
    let source = json!({"kind": "PersistentVolumeClaim", "name": "data"});
    let fields = json!({"dataSource": source, "resources": {"requests": {"storage": "32Mi"}}});
    claim(&rig, "copy", fields).await;
    let told = event(&rig, "copy", "ProvisioningFailed").await;
    assert!(told.contains(&format!("less than its {}", 1_i64 << 60)), "{told}");
    // Whoever gives that up has it cloned.
    asks("32Mi").await;
    bound(&rig, "copy").await;
    for name in ["copy", "data"] {
        delete(&rig, name).await;
    }
    all_gone(&rig).await;
}

/// A snapshot of the driver, told to Kubernetes by hand.
async fn snapshot(rig: &Rig, id: &str) {
    let kind =
        |kind: &str| ApiResource::from_gvk(&GroupVersionKind::gvk("snapshot.storage.k8s.io", "v1", kind));
    let snapshots: Api<DynamicObject> =
        Api::namespaced_with(rig.client.clone(), "default", &kind("VolumeSnapshot"));
    let contents: Api<DynamicObject> = Api::all_with(rig.client.clone(), &kind("VolumeSnapshotContent"));
    let object = json!({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
        "metadata": {"name": "s"}, "spec": {"source": {"volumeSnapshotContentName": "c"}}});
    let object = serde_json::from_value(object).unwrap();
    let uid = snapshots.create(&PostParams::default(), &object).await.unwrap().uid();
    let object = json!({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent",
        "metadata": {"name": "c"}, "spec": {"driver": DRIVER, "deletionPolicy": "Retain",
        "source": {"snapshotHandle": id},
        "volumeSnapshotRef": {"namespace": "default", "name": "s", "uid": uid}}});
    let object = serde_json::from_value(object).unwrap();
    contents.create(&PostParams::default(), &object).await.unwrap();
    let status = Patch::Merge(json!({"status": {"snapshotHandle": id, "readyToUse": true}}));
    contents.patch_status("c", &PatchParams::default(), &status).await.unwrap();
    let status = json!({"boundVolumeSnapshotContentName": "c", "readyToUse": true, "restoreSize": "16Mi"});
    let status = Patch::Merge(json!({"status": status}));
    snapshots.patch_status("s", &PatchParams::default(), &status).await.unwrap();
}

#[tokio::test]
async fn a_driver_that_comes_back_goes_on() {
    let mut rig = start().await;
    claim(&rig, "before", json!({})).await;
    bound(&rig, "before").await;
    rig.kill("driver");
    claim(&rig, "meanwhile", json!({})).await;
    event(&rig, "meanwhile", "ExternalProvisioning").await;
    delete(&rig, "before").await;
    rig.again("driver");
    bound(&rig, "meanwhile").await;
    delete(&rig, "meanwhile").await;
    all_gone(&rig).await;
}

#[tokio::test]
async fn controllers_that_are_killed_lose_and_leave_nothing() {
    let mut rig = start().await;
    let began = Instant::now();
    let mut random = u64::from(std::process::id()) | 1;
    let mut made = 0_u64;
    while began.elapsed() < Duration::from_secs(8) {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        claim(&rig, &format!("c{made}"), json!({})).await;
        made += 1;
        tokio::time::sleep(Duration::from_millis((random >> 33) % 300)).await;
        if made > 2 && random >> 62 != 0 {
            // Some are bound by now, some are being made, some are not begun.
            delete(&rig, &format!("c{}", made - 1)).await;
            // And one more is, when the controllers are killed.
            claim(&rig, &format!("again{made}"), json!({})).await;
        }
        rig.kill("control");
        rig.again("control");
    }
    let wanted: Vec<String> = claims(&rig)
        .list(&ListParams::default())
        .await
        .unwrap()
        .iter()
        .filter(|claim| claim.metadata.deletion_timestamp.is_none())
        .map(|claim| claim.name_any())
        .collect();
    assert!(!wanted.is_empty());
    let mut handles = BTreeSet::new();
    for name in &wanted {
        handles.insert(handle(&bound(&rig, name).await));
    }
    rig.until("the driver has what claims have, and no more", async |rig: &Rig| {
        (in_driver(rig).await == handles).then_some(())
    })
    .await;
    for name in &wanted {
        delete(&rig, name).await;
    }
    all_gone(&rig).await;
    eprintln!("{made} claims, each with a kill, in {:?} of {PATIENCE:?}", began.elapsed());
}

#[tokio::test]
async fn what_the_driver_has_left_is_told_for_classes_that_wait_for_a_pod() {
    let rig = start().await;
    let fields = json!({"parameters": {"backend": "dir"}, "volumeBindingMode": "WaitForFirstConsumer"});
    // What nobody can be asked about keeps nobody from knowing the rest.
    for number in 0..4 {
        let mut fields = fields.clone();
        fields["parameters"] = json!({"csi.storage.k8s.io/speed": "9"});
        rig.class(&format!("wrong-{number}"), DRIVER, fields).await;
    }
    rig.class("waits", DRIVER, fields).await;
    let capacities: Api<CSIStorageCapacity> = rig.objects_of("");
    let told = rig
        .until("the capacity is told", async |_: &Rig| {
            capacities.list(&ListParams::default()).await.unwrap().items.pop()
        })
        .await;
    assert_eq!(told.storage_class_name, "waits");
    assert_eq!(told.labels()["csi.storage.k8s.io/drivername"], DRIVER);
    assert_eq!(told.node_topology.unwrap().match_labels.unwrap()["topology.csi.sextant.dev/node"], "node-1");
    assert_ne!(told.capacity.unwrap().0, "0");
    let classes: Api<StorageClass> = Api::all(rig.client.clone());
    classes.delete("waits", &DeleteParams::default()).await.unwrap();
    rig.until("nobody asks, so nothing is told", async |_: &Rig| {
        capacities.list(&ListParams::default()).await.unwrap().items.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn of_controllers_on_several_nodes_one_makes_a_volume() {
    let mut rig = Rig::bare().await;
    rig.objects().await;
    rig.driver();
    // The driver says to both that it is on `node-1`, so that both may delete what it has.
    rig.spawn_control("first", &["--bind", "--node", NODE]);
    rig.spawn_control("second", &["--node", "node-2"]);
    for name in ["first", "second"] {
        rig.words_have(name, &format!("driver {DRIVER} is at")).await;
    }
    let names: Vec<String> = (0..8).map(|number| format!("c{number}")).collect();
    for name in &names {
        claim(&rig, name, json!({})).await;
    }
    let mut handles = BTreeSet::new();
    for name in &names {
        handles.insert(handle(&bound(&rig, name).await));
        let claim = claims(&rig).get(name).await.unwrap();
        let node = &claim.annotations()["volume.kubernetes.io/selected-node"];
        assert!([NODE, "node-2"].contains(&node.as_str()), "{node}");
    }
    assert_eq!((in_driver(&rig).await, handles.len()), (handles, names.len()));
    for name in &names {
        delete(&rig, name).await;
    }
    all_gone(&rig).await;
}

/// A volume that somebody made in the driver, told to Kubernetes by hand.
async fn by_hand(rig: &Rig, name: &str, metadata: Value, spec: Value) -> PersistentVolume {
    let mut object = json!({"metadata": {"name": name}, "spec": {"capacity": {"storage": "16Mi"},
        "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Delete", "storageClassName": "hand",
        "csi": {"driver": DRIVER, "volumeHandle": name}}});
    for (field, more) in [("metadata", metadata), ("spec", spec)] {
        object[field].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    }
    rig.make(object).await
}

#[tokio::test]
async fn a_volume_that_a_claim_names_must_be_what_it_asks_for() {
    let rig = start().await;
    let named = |volume: &str| json!({"storageClassName": "hand", "volumeName": volume});
    by_hand(&rig, "small", json!({}), json!({"capacity": {"storage": "1Mi"}})).await;
    claim(&rig, "large", named("small")).await;
    assert!(event(&rig, "large", "VolumeMismatch").await.contains("16777216 are asked for"));
    claim(&rig, "early", named("late")).await;
    by_hand(&rig, "late", json!({}), json!({})).await;
    assert_eq!(bound(&rig, "early").await.name_any(), "late");
    let small = volumes(&rig).get("small").await.unwrap();
    assert_eq!(small.spec.unwrap().claim_ref, None);
}

#[tokio::test]
async fn a_volume_that_a_claim_never_had_is_freed_not_deleted() {
    let rig = start().await;
    claim(&rig, "data", json!({})).await;
    bound(&rig, "data").await;
    let uid = claims(&rig).get("data").await.unwrap().uid();
    let to = json!({"claimRef": {"namespace": "default", "name": "data", "uid": uid}});
    by_hand(
        &rig,
        "ours",
        json!({"annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}}),
        to.clone(),
    )
    .await;
    by_hand(&rig, "theirs", json!({}), to).await;
    for (name, is_kept) in [("ours", false), ("theirs", true)] {
        rig.until(&format!("volume {name} is free"), async |rig: &Rig| {
            let volume = volumes(rig).get(name).await.unwrap();
            let claim = volume.spec?.claim_ref;
            let is_free =
                claim.as_ref().is_none_or(|claim| claim.uid.is_none()) && claim.is_some() == is_kept;
            (is_free && volume.status?.phase? == "Available").then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_claim_stays_while_a_pod_on_a_node_uses_it() {
    let rig = start().await;
    let pods: Api<Pod> = rig.objects_of("");
    for (name, node) in [("data", Some(NODE)), ("spare", None)] {
        claim(&rig, name, json!({})).await;
        bound(&rig, name).await;
        rig.make_here::<Pod>(json!({"metadata": {"name": name}, "spec": {"nodeName": node,
            "containers": [{"name": "a", "image": "a"}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": name}}]}}))
            .await;
        delete(&rig, name).await;
    }
    rig.until("what no node uses is gone", async |rig: &Rig| {
        claims(rig).get_opt("spare").await.unwrap().is_none().then_some(())
    })
    .await;
    let held = claims(&rig).get("data").await.unwrap();
    assert_eq!(held.metadata.finalizers, Some(vec!["kubernetes.io/pvc-protection".into()]));
    pods.delete("data", &DeleteParams::default().grace_period(0)).await.unwrap();
    all_gone(&rig).await;
}
