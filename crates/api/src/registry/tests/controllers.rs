//! What keeps the objects in order.

use super::*;
use crate::admission::{Operation, Request};
use crate::controllers::{self, Controllers};
use crate::registry::BoxFuture;
use crate::registry::options::Propagation;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const API: &str = "apiextensions.k8s.io/v1";
const KIND: &str = "CustomResourceDefinition";

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
    for _ in 0..9000 {
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

/// An owner that is being deleted in the foreground, and one that it owns, which something else holds.
async fn deleted_in_the_foreground(rig: &Rig) {
    let owner = rig.create_map("owner", json!({})).await;
    let mut metadata = owned_by(&owner, true);
    metadata["finalizers"] = json!(["example.com/held"]);
    rig.create_map("owned", metadata).await;
    rig.delete(&rig.map("owner"), &propagated(Propagation::Foreground)).await.unwrap();
    until("the owned one is being deleted", async || {
        rig.get(&rig.map("owned")).await.is_ok_and(|owned| owned.is_terminating())
    })
    .await;
}

#[tokio::test]
async fn an_owner_in_the_foreground_goes_after_what_it_owns() {
    let (rig, _running) = controlled().await;
    deleted_in_the_foreground(&rig).await;
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
    for number in 0..50 {
        let mut object = json!({"metadata": owned_by(&owner, true)});
        object["metadata"]["name"] = format!("owned-{number}").into();
        rig.create("v1", "Secret", "default", object).await.unwrap();
    }
    // Nobody may have told the collector of the last ones yet.
    rig.delete(&rig.map("owner"), &propagated(Propagation::Orphan)).await.unwrap();
    until("no owner", async || gone(&rig, "owner").await).await;
    let owned = rig.get(&rig.map("owned")).await.unwrap();
    assert!(owned.at(&["metadata", "ownerReferences"]).is_none());
    let secrets = rig.registry.every("secrets", Some("default")).unwrap();
    assert_eq!(secrets.len(), 50);
    assert!(secrets.iter().all(|secret| secret.at(&["metadata", "ownerReferences"]).is_none()));
}

#[tokio::test]
async fn an_owner_in_the_foreground_does_not_wait_for_what_is_set_free() {
    let (rig, _running) = controlled().await;
    deleted_in_the_foreground(&rig).await;
    let mut owned = rig.get(&rig.map("owned")).await.unwrap();
    owned.metadata_mut().remove("ownerReferences");
    rig.update(&rig.map("owned"), &owned).await.unwrap();
    until("no owner", async || gone(&rig, "owner").await).await;
    assert!(!gone(&rig, "owned").await);
}

#[tokio::test]
async fn two_that_own_each_other_go_in_the_foreground() {
    let (rig, _running) = controlled().await;
    let one = rig.create_map("one", json!({})).await;
    let two = rig.create_map("two", owned_by(&one, true)).await;
    let mut one = rig.get(&rig.map("one")).await.unwrap();
    let owners = owned_by(&two, true);
    one.metadata_mut().insert("ownerReferences".to_owned(), owners["ownerReferences"].clone());
    rig.update(&rig.map("one"), &one).await.unwrap();
    rig.delete(&rig.map("one"), &propagated(Propagation::Foreground)).await.unwrap();
    until("both gone", async || gone(&rig, "one").await && gone(&rig, "two").await).await;
}

#[tokio::test]
async fn a_certificate_that_is_changed_is_brought_back() {
    let (rig, running) = controlled().await;
    running.stop().await;
    let target = rig.target("v1", "ConfigMap", "kube-system", "kube-root-ca.crt");
    let settings = || controllers::Settings {
        authority: Some("another certificate".to_owned()),
        ..controllers::Settings::default()
    };
    let _running = Controllers::start(&rig.registry, settings()).await.unwrap();
    assert_eq!(rig.get(&target).await.unwrap().text(&["data", "ca.crt"]), "another certificate");
}

#[tokio::test]
async fn the_server_says_where_it_is() {
    let rig = Rig::new().await;
    let settings = |address: &str| controllers::Settings {
        address: address.parse().ok(),
        port: 6443,
        ..controllers::Settings::default()
    };
    let endpoints = rig.target("v1", "Endpoints", "default", "kubernetes");
    let slice = rig.target("discovery.k8s.io/v1", "EndpointSlice", "default", "kubernetes");
    for address in ["10.1.2.3", "10.1.2.4", "fd00::1"] {
        let running = Controllers::start(&rig.registry, settings(address)).await.unwrap();
        until(address, async || {
            let (Ok(one), Ok(other)) = (rig.get(&endpoints).await, rig.get(&slice).await) else {
                return false;
            };
            one.0["subsets"][0]["addresses"][0]["ip"] == address
                && other.0["endpoints"][0]["addresses"][0] == address
        })
        .await;
        let told = rig.get(&slice).await.unwrap();
        assert_eq!(told.0["ports"], json!([{"name": "https", "port": 6443, "protocol": "TCP"}]));
        assert_eq!(told.label("kubernetes.io/service-name"), Some("kubernetes"));
        running.stop().await;
    }
    let _running = Controllers::start(&rig.registry, settings("127.0.0.1")).await.unwrap();
    until("nowhere", async || rig.get(&endpoints).await.is_err() && rig.get(&slice).await.is_err()).await;
}

/// Refuses that anything is made but what has the name.
struct Refuser(&'static str);

impl Admission for Refuser {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Create && ![self.0, "default"].contains(&&*request.name())
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(Err(request.forbidden("it is refused"))))
    }
}

#[tokio::test]
async fn what_is_refused_at_the_beginning_keeps_the_server_from_nothing() {
    let rig = Rig::with(Arc::new(Refuser("kube-system"))).await;
    let _running = Controllers::start(&rig.registry, controllers::Settings::default()).await.unwrap();
    let (namespace, public) =
        ["kube-system", "kube-public"].map(|name| rig.target("v1", "Namespace", "", name)).into();
    rig.get(&namespace).await.unwrap();
    assert_eq!(rig.get(&public).await.unwrap_err().code, 404);
    // Where the others are to be is there, or the server says what is wrong.
    let rig = Rig::with(Arc::new(Refuser("nothing"))).await;
    let refused = Controllers::start(&rig.registry, controllers::Settings::default()).await.unwrap_err();
    assert!(refused.message.contains("kube-system"), "{refused}");
}

#[tokio::test]
async fn an_address_that_is_taken_away_comes_again() {
    let (rig, _running) = controlled().await;
    let service = rig.get(&rig.target("v1", "Service", "default", "kubernetes")).await.unwrap();
    let name = service.text(&["spec", "clusterIP"]).to_owned();
    let address = || rig.target("networking.k8s.io/v1", "IPAddress", "", &name);
    let mut uid = String::new();
    for _ in 0..2 {
        until("an address", async || rig.get(&address()).await.is_ok_and(|address| address.uid() != uid))
            .await;
        uid = rig.get(&address()).await.unwrap().uid().to_owned();
        rig.delete(&address(), &DeleteOptions::default()).await.unwrap();
    }
}

/// Refuses that an object is deleted.
struct Holder(&'static str);

impl Admission for Holder {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Delete && request.name() == self.0
    }

    fn validate<'a>(&'a self, request: &'a Request<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(Err(request.forbidden("it is held"))))
    }
}

#[tokio::test]
async fn an_address_that_cannot_be_taken_away_keeps_no_other() {
    let rig = Rig::with(Arc::new(Holder("192.0.2.1"))).await;
    for name in ["192.0.2.1", "192.0.2.2"] {
        let labels = json!({
            "ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
        });
        let stray = json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "gone"}},
        });
        rig.create("networking.k8s.io/v1", "IPAddress", "", stray).await.unwrap();
    }
    let _running = Controllers::start(&rig.registry, controllers::Settings::default()).await.unwrap();
    let address = |name| rig.target("networking.k8s.io/v1", "IPAddress", "", name);
    until("what can be taken away", async || rig.get(&address("192.0.2.2")).await.is_err()).await;
    rig.get(&address("192.0.2.1")).await.unwrap();
}

#[tokio::test]
async fn a_restart_collects_what_was_left_behind() {
    let rig = Rig::new().await;
    let owner = rig.create_map("owner", json!({})).await;
    // More than are read in one go.
    for number in 0..10 {
        rig.create_map(&format!("owned-{number}"), owned_by(&owner, false)).await;
    }
    rig.delete(&rig.map("owner"), &DeleteOptions::default()).await.unwrap();
    let _running = Controllers::start(&rig.registry, controllers::Settings::default()).await.unwrap();
    for number in 0..10 {
        let name = format!("owned-{number}");
        until("nothing owned", async || gone(&rig, &name).await).await;
    }
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

/// Refuses that config maps of a namespace are deleted, until it is let.
#[derive(Default)]
struct Keeper(AtomicBool);

impl Admission for Keeper {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.is(Operation::Delete, "configmaps") && !self.0.load(Ordering::SeqCst)
    }

    fn validate<'a>(&'a self, request: &'a Request<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(Err(request.forbidden("it is kept"))))
    }
}

#[tokio::test]
async fn a_namespace_says_what_it_could_not_delete_and_deletes_the_rest() {
    let keeper = Arc::new(Keeper::default());
    let rig = Rig::with(Arc::clone(&keeper) as Arc<dyn Admission>).await;
    let _running = Controllers::start(&rig.registry, controllers::Settings::default()).await.unwrap();
    rig.create("v1", "Namespace", "", json!({"metadata": {"name": "n"}})).await.unwrap();
    for kind in ["ConfigMap", "Secret"] {
        rig.create("v1", kind, "n", json!({"metadata": {"name": "x"}})).await.unwrap();
    }
    let namespace = rig.target("v1", "Namespace", "", "n");
    rig.delete(&namespace, &DeleteOptions::default()).await.unwrap();
    let condition = async |kind: &str| -> Value {
        let ending = rig.get(&namespace).await.unwrap();
        let conditions = ending.at(&["status", "conditions"]).and_then(Value::as_array).cloned();
        conditions.unwrap_or_default().into_iter().find(|one| one["type"] == kind).unwrap_or_default()
    };
    until("it says so", async || condition("NamespaceDeletionContentFailure").await["status"] == "True")
        .await;
    assert_eq!(
        condition("NamespaceDeletionContentFailure").await["message"],
        "Failed to delete all resource types, 1 remaining: configmaps \"x\" is forbidden: it is kept"
    );
    until("no secret", async || rig.get(&rig.target("v1", "Secret", "n", "x")).await.is_err()).await;
    keeper.0.store(true, Ordering::SeqCst);
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
    rig.create(API, KIND, "", definition("widgets", "example.com", "Widget")).await.unwrap();
    let served = || rig.registry.resources().find("example.com", "v1", "widgets").is_some();
    until("served", async || served()).await;
    rig.create("example.com/v1", "Widget", "default", json!({"metadata": {"name": "w"}, "spec": {"a": 1}}))
        .await
        .unwrap();
    let widget = rig.get(&rig.target("example.com/v1", "Widget", "default", "w")).await.unwrap();
    let owner = json!({"apiVersion": "example.com/v1", "kind": "Widget", "name": "w", "uid": widget.uid()});
    rig.create_map("of-a-widget", json!({"ownerReferences": [owner]})).await;
    rig.delete(&rig.target(API, KIND, "", "widgets.example.com"), &DeleteOptions::default()).await.unwrap();
    until("not served", async || !served()).await;
    assert!(rig.registry.every("widgets.example.com", None).unwrap().is_empty());
    until("nothing owned", async || gone(&rig, "of-a-widget").await).await;
}

#[tokio::test]
async fn a_definition_of_what_is_built_in_takes_nothing_away() {
    let (rig, _running) = controlled().await;
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
