//! What keeps the objects in order.

use super::*;
use crate::controllers::{self, Controllers};
use crate::registry::options::Propagation;
use std::time::Duration;

pub(super) async fn controlled() -> (Rig, Controllers) {
    let rig = Rig::new().await;
    let settings = controllers::Settings {
        authority: Some("certificate".to_owned()),
        ..controllers::Settings::default()
    };
    let running = Controllers::start(&rig.registry, settings).await.unwrap();
    (rig, running)
}

/// Waits until something is so.
pub(super) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..1000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never came to: {what}");
}

async fn gone(rig: &Rig, name: &str) -> bool {
    rig.get(&rig.map(name)).await.is_err_and(|status| status.code == 404)
}

fn owned_by(owner: &Object, blocks: bool) -> Value {
    json!({"ownerReferences": [{
        "apiVersion": "v1", "kind": "ConfigMap", "name": owner.name(), "uid": owner.uid(),
        "blockOwnerDeletion": blocks,
    }]})
}

fn propagated(propagation: Propagation) -> DeleteOptions {
    DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() }
}

#[tokio::test]
async fn every_namespace_has_an_account_and_the_certificate() {
    let (rig, _running) = controlled().await;
    rig.create("v1", "Namespace", "", json!({"metadata": {"name": "n"}})).await.unwrap();
    until("an account in n", async || {
        rig.get(&rig.target("v1", "ServiceAccount", "n", "default")).await.is_ok()
    })
    .await;
    until("a certificate in n", async || {
        let map = rig.get(&rig.target("v1", "ConfigMap", "n", "kube-root-ca.crt")).await;
        map.is_ok_and(|map| map.text(&["data", "ca.crt"]) == "certificate")
    })
    .await;
    for name in ["kube-system", "kube-public", "kube-node-lease"] {
        rig.get(&rig.target("v1", "Namespace", "", name)).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_owned_goes_after_its_owner() {
    let (rig, _running) = controlled().await;
    let owner = rig.create_map("owner", json!({})).await;
    let owned = rig.create_map("owned", owned_by(&owner, false)).await;
    rig.create_map("owned-by-owned", owned_by(&owned, false)).await;
    rig.delete(&rig.map("owner"), &DeleteOptions::default()).await.unwrap();
    until("nothing owned", async || gone(&rig, "owned").await && gone(&rig, "owned-by-owned").await).await;
}

#[tokio::test]
async fn what_is_owned_by_nobody_that_is_there_goes() {
    let (rig, _running) = controlled().await;
    let mut owner = rig.create_map("owner", json!({})).await;
    rig.create_map("kept", owned_by(&owner, false)).await;
    owner.metadata_mut().insert("uid".to_owned(), "of another".into());
    rig.create_map("orphan", owned_by(&owner, false)).await;
    until("no orphan", async || gone(&rig, "orphan").await).await;
    assert!(!gone(&rig, "kept").await);
}

#[tokio::test]
async fn an_owner_in_the_foreground_goes_after_what_it_owns() {
    let (rig, _running) = controlled().await;
    let owner = rig.create_map("owner", json!({})).await;
    let mut metadata = owned_by(&owner, true);
    metadata["finalizers"] = json!(["example.com/held"]);
    rig.create_map("owned", metadata).await;
    rig.delete(&rig.map("owner"), &propagated(Propagation::Foreground)).await.unwrap();
    until("the owned one is being deleted", async || {
        rig.get(&rig.map("owned")).await.is_ok_and(|owned| owned.is_terminating())
    })
    .await;
    let waiting = rig.get(&rig.map("owner")).await.unwrap();
    assert_eq!(waiting.finalizers().collect::<Vec<_>>(), ["foregroundDeletion"]);
    let mut owned = rig.get(&rig.map("owned")).await.unwrap();
    owned.metadata_mut().remove("finalizers");
    rig.update(&rig.map("owned"), &owned).await.unwrap();
    until("both gone", async || gone(&rig, "owned").await && gone(&rig, "owner").await).await;
}

#[tokio::test]
async fn orphans_stay_and_forget_their_owner() {
    let (rig, _running) = controlled().await;
    let owner = rig.create_map("owner", json!({})).await;
    rig.create_map("owned", owned_by(&owner, true)).await;
    // The collector has to have seen it: of what it has not seen it takes no reference off.
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.delete(&rig.map("owner"), &propagated(Propagation::Orphan)).await.unwrap();
    until("no owner", async || gone(&rig, "owner").await).await;
    let owned = rig.get(&rig.map("owned")).await.unwrap();
    assert!(owned.at(&["metadata", "ownerReferences"]).is_none());
}

#[tokio::test]
async fn a_restart_collects_what_was_left_behind() {
    let rig = Rig::new().await;
    let owner = rig.create_map("owner", json!({})).await;
    rig.create_map("owned", owned_by(&owner, false)).await;
    rig.delete(&rig.map("owner"), &DeleteOptions::default()).await.unwrap();
    let _running = Controllers::start(&rig.registry, controllers::Settings::default()).await.unwrap();
    until("nothing owned", async || gone(&rig, "owned").await).await;
}

#[tokio::test]
async fn a_deleted_namespace_is_emptied_and_goes() {
    let (rig, _running) = controlled().await;
    rig.create("v1", "Namespace", "", json!({"metadata": {"name": "n"}})).await.unwrap();
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.com/held"]}});
    rig.create("v1", "ConfigMap", "n", held).await.unwrap();
    rig.create("v1", "ConfigMap", "n", json!({"metadata": {"name": "free"}})).await.unwrap();
    let namespace = rig.target("v1", "Namespace", "", "n");
    rig.delete(&namespace, &DeleteOptions::default()).await.unwrap();
    let ending = rig.get(&namespace).await.unwrap();
    assert_eq!(ending.text(&["status", "phase"]), "Terminating");
    let refused =
        rig.create("v1", "ConfigMap", "n", json!({"metadata": {"name": "late"}})).await.unwrap_err();
    assert_eq!(
        refused.message,
        "configmaps \"late\" is forbidden: unable to create new content in namespace n because it is being terminated"
    );
    until("only the held one is left", async || {
        rig.get(&rig.target("v1", "ConfigMap", "n", "free")).await.is_err()
    })
    .await;
    until("the namespace says what it waits for", async || {
        let ending = rig.get(&namespace).await.unwrap();
        let conditions = ending.at(&["status", "conditions"]).and_then(Value::as_array).cloned();
        conditions.unwrap_or_default().iter().any(|condition| {
            condition["type"] == "NamespaceFinalizersRemaining" && condition["status"] == "True"
        })
    })
    .await;
    let target = rig.target("v1", "ConfigMap", "n", "held");
    let mut held = rig.get(&target).await.unwrap();
    held.metadata_mut().remove("finalizers");
    rig.update(&target, &held).await.unwrap();
    until("no namespace", async || rig.get(&namespace).await.is_err()).await;
}

pub(super) fn definition(plural: &str, group: &str, kind: &str) -> Value {
    json!({
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {
                    "type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
                }},
            }],
        },
    })
}

#[tokio::test]
async fn a_definition_is_served_and_takes_its_objects_with_it() {
    let (rig, _running) = controlled().await;
    const API: &str = "apiextensions.k8s.io/v1";
    const KIND: &str = "CustomResourceDefinition";
    rig.create(API, KIND, "", definition("widgets", "example.com", "Widget")).await.unwrap();
    let served = || rig.registry.resources().find("example.com", "v1", "widgets").is_some();
    until("served", async || served()).await;
    rig.create("example.com/v1", "Widget", "default", json!({"metadata": {"name": "w"}, "spec": {"a": 1}}))
        .await
        .unwrap();
    rig.delete(&rig.target(API, KIND, "", "widgets.example.com"), &DeleteOptions::default()).await.unwrap();
    until("not served", async || !served()).await;
    assert!(rig.registry.every("widgets.example.com", None).unwrap().is_empty());
}

#[tokio::test]
async fn a_definition_of_what_is_built_in_takes_nothing_away() {
    let (rig, _running) = controlled().await;
    const API: &str = "apiextensions.k8s.io/v1";
    const KIND: &str = "CustomResourceDefinition";
    const NAME: &str = "volumesnapshots.snapshot.storage.k8s.io";
    let kept = || rig.target("snapshot.storage.k8s.io/v1", "VolumeSnapshot", "default", "kept");
    let spec = json!({"source": {"persistentVolumeClaimName": "claim"}});
    let snapshot = json!({"metadata": {"name": "kept"}, "spec": spec});
    rig.create("snapshot.storage.k8s.io/v1", "VolumeSnapshot", "default", snapshot).await.unwrap();
    let mut made = definition("volumesnapshots", "snapshot.storage.k8s.io", "VolumeSnapshot");
    made["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": "https://example.com/1"});
    rig.create(API, KIND, "", made).await.unwrap();
    let of_definition = || rig.target(API, KIND, "", NAME);
    until("established", async || {
        rig.get(&of_definition()).await.is_ok_and(|made| crate::crd::status::is_established(&made))
    })
    .await;
    assert!(
        !rig.registry
            .resources()
            .find("snapshot.storage.k8s.io", "v1", "volumesnapshots")
            .unwrap()
            .is_custom()
    );
    rig.delete(&of_definition(), &DeleteOptions::default()).await.unwrap();
    until("gone", async || rig.get(&of_definition()).await.is_err_and(|status| status.code == 404)).await;
    assert_eq!(rig.get(&kept()).await.unwrap().name(), "kept");
}
