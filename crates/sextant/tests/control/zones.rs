//! Volumes of a driver whose storage is in zones: where they are made, what finds no room, attributes from the beginning, deletion that
//! waits for attachments, and controllers on each node.

mod driver;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Event, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::{
    CSIDriver, CSIStorageCapacity, StorageClass, VolumeAttachment, VolumeAttributesClass,
};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::rig::Rig;
use driver::{Shared, ZONE, ZONED, serve, storage};

const SELECTED: &str = "volume.kubernetes.io/selected-node";

/// Nodes in zones, with the driver on them; classes `now` and `waits`.
async fn cluster(nodes: &[(&str, &str)]) -> Rig {
    let rig = Rig::bare().await;
    for (node, zone) in nodes {
        rig.zoned_node(node, zone).await;
    }
    rig.make::<CSIDriver>(json!({"metadata": {"name": ZONED}, "spec": {"attachRequired": true,
        "storageCapacity": true}}))
        .await;
    rig.class("now", ZONED, json!({})).await;
    rig.class("waits", ZONED, json!({"volumeBindingMode": "WaitForFirstConsumer"})).await;
    rig
}

/// The same with one driver for all, with so many MiB in each zone.
async fn zones(nodes: &[(&str, &str)], room: &[(&str, i64)]) -> (Rig, Shared) {
    let mut rig = cluster(nodes).await;
    let storage = storage(room);
    serve(rig.socket("zoned"), &storage, "n1", "a");
    rig.control(&["--bind"]);
    rig.words_have("control", &format!("driver {ZONED} is at")).await;
    (rig, storage)
}

impl Rig {
    async fn zoned_node(&self, name: &str, zone: &str) {
        let labels = json!({"kubernetes.io/hostname": name, ZONE: zone});
        self.make::<k8s_openapi::api::core::v1::Node>(json!({"metadata": {"name": name, "labels": labels}}))
            .await;
        let drivers = json!([{"name": ZONED, "nodeID": name, "topologyKeys": [ZONE]}]);
        let object = json!({"metadata": {"name": name}, "spec": {"drivers": drivers}});
        self.make::<k8s_openapi::api::storage::v1::CSINode>(object).await;
    }

    fn zoned_claims(&self) -> Api<PersistentVolumeClaim> {
        self.objects_of("")
    }

    async fn ask(&self, name: &str, class: &str, fields: Value) {
        let mut spec = json!({"storageClassName": class, "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "8Mi"}}});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let object = json!({"metadata": {"name": name}, "spec": spec});
        self.make_here::<PersistentVolumeClaim>(object).await;
    }

    async fn select(&self, claim: &str, node: &str) {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {SELECTED: node}}}));
        self.zoned_claims().patch(claim, &PatchParams::default(), &patch).await.unwrap();
    }

    /// The volume of a claim that is bound.
    async fn its_volume(&self, claim: &str) -> PersistentVolume {
        let bound = |claim: &Value| claim["status"]["phase"] == "Bound";
        let claim = self.claim_is(claim, "bound", bound).await;
        Api::all(self.client.clone()).get(&claim.spec.unwrap().volume_name.unwrap()).await.unwrap()
    }

    /// The only zone that a claim's volume is reachable from.
    async fn its_zone(&self, claim: &str) -> String {
        let volume = self.its_volume(claim).await;
        let terms = volume.spec.unwrap().node_affinity.unwrap().required.unwrap().node_selector_terms;
        let [term] = &terms[..] else { panic!("{terms:?}") };
        let [rule] = &term.match_expressions.as_deref().unwrap() else { panic!("{term:?}") };
        assert_eq!(rule.key, ZONE);
        rule.values.clone().unwrap().remove(0)
    }

    /// Waits for an event of a claim or volume, with these words.
    async fn hears(&self, about: &str, reason: &str, words: &str) {
        self.until(&format!("event {reason} of {about}: {words}"), async |rig: &Rig| {
            let events = rig.objects_of::<Event>("").list(&ListParams::default()).await.unwrap();
            let is = |event: &&Event| {
                event.involved_object.name.as_deref() == Some(about)
                    && event.reason.as_deref() == Some(reason)
                    && event.message.as_ref().is_some_and(|message| message.contains(words))
            };
            events.iter().find(is).map(drop)
        })
        .await;
    }

    /// How many events say that a volume could not be deleted. Of one process there is one, that counts.
    async fn failed_deletes(&self, volume: &str) -> usize {
        let events = self.objects_of::<Event>("").list(&ListParams::default()).await.unwrap();
        let is = |event: &&Event| {
            event.involved_object.name.as_deref() == Some(volume)
                && event.reason.as_deref() == Some("VolumeFailedDelete")
        };
        events.iter().filter(is).count()
    }

    async fn delete_claims(&self, names: &[&str]) {
        for name in names {
            self.zoned_claims().delete(name, &DeleteParams::default()).await.unwrap();
        }
    }

    async fn nothing_is_left(&self, storage: &Shared) {
        self.until("claims, volumes and what the driver has are gone", async |rig: &Rig| {
            let volumes = Api::<PersistentVolume>::all(rig.client.clone());
            let left = rig.zoned_claims().list(&ListParams::default()).await.unwrap().items.len()
                + volumes.list(&ListParams::default()).await.unwrap().items.len()
                + storage.lock().unwrap().volumes.len();
            (left == 0).then_some(())
        })
        .await;
    }
}

const THREE: [(&str, &str); 4] = [("n1", "a"), ("n2", "b"), ("n3", "b"), ("n4", "c")];
const ROOM: [(&str, i64); 3] = [("a", 64), ("b", 64), ("c", 64)];

#[tokio::test]
async fn replicas_are_spread_over_zones_and_a_class_keeps_to_its_own() {
    let (rig, storage) = zones(&THREE, &ROOM).await;
    let mut names: Vec<String> = (0..3).map(|number| format!("data-db-{number}")).collect();
    let mut spread = BTreeSet::new();
    for name in &names {
        rig.ask(name, "now", json!({})).await;
        spread.insert(rig.its_zone(name).await);
    }
    assert_eq!(spread.len(), 3, "{spread:?}");
    rig.ask("log-db-1", "now", json!({})).await;
    assert_eq!(rig.its_zone("log-db-1").await, rig.its_zone("data-db-1").await);
    let only = json!({"allowedTopologies": [{"matchLabelExpressions": [{"key": ZONE, "values": ["c"]}]}]});
    rig.class("only-c", ZONED, only).await;
    for number in 0..3 {
        let name = format!("only-{number}");
        rig.ask(&name, "only-c", json!({})).await;
        assert_eq!(rig.its_zone(&name).await, "c");
        names.push(name);
    }
    names.push("log-db-1".into());
    rig.delete_claims(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    rig.nothing_is_left(&storage).await;
}

#[tokio::test]
async fn a_node_whose_zone_has_no_room_is_given_back_and_another_one_is_taken() {
    let (rig, storage) = zones(&THREE, &[("a", 4), ("b", 64)]).await;
    rig.ask("data", "waits", json!({})).await;
    rig.select("data", "n1").await;
    rig.claim_is("data", "given back", |claim| claim["metadata"]["annotations"].get(SELECTED).is_none())
        .await;
    rig.hears("data", "ProvisioningFailed", "zone a has").await;
    let held = rig.zoned_claims().get("data").await.unwrap().metadata.finalizers.unwrap();
    assert_eq!(held, ["kubernetes.io/pvc-protection"], "nothing is being made");
    assert!(storage.lock().unwrap().volumes.is_empty());
    rig.select("data", "n3").await;
    assert_eq!(rig.its_zone("data").await, "b");
    // Where no scheduler chooses it is tried again, until there is room.
    rig.class(
        "only-a",
        ZONED,
        json!({"allowedTopologies": [
        {"matchLabelExpressions": [{"key": ZONE, "values": ["a"]}]}]}),
    )
    .await;
    rig.ask("stays", "only-a", json!({})).await;
    rig.hears("stays", "ProvisioningFailed", "zone a has").await;
    storage.lock().unwrap().room.insert("a".into(), 64 << 20);
    assert_eq!(rig.its_zone("stays").await, "a");
    rig.delete_claims(&["data", "stays"]).await;
    rig.nothing_is_left(&storage).await;
}

#[tokio::test]
async fn a_volume_has_its_attributes_from_the_beginning() {
    let (rig, storage) = zones(&THREE, &ROOM).await;
    rig.ask("data", "now", json!({"volumeAttributesClassName": "gold"})).await;
    rig.hears("data", "ProvisioningFailed", "volume attributes class \"gold\" is not there").await;
    assert!(storage.lock().unwrap().volumes.is_empty());
    let class = json!({"metadata": {"name": "gold"}, "driverName": ZONED, "parameters": {"iops": "900"}});
    rig.make::<VolumeAttributesClass>(class).await;
    let volume = rig.its_volume("data").await;
    assert_eq!(volume.spec.unwrap().volume_attributes_class_name.as_deref(), Some("gold"));
    rig.claim_is("data", "of its class", |claim| {
        claim["status"]["currentVolumeAttributesClassName"] == "gold"
    })
    .await;
    let made = storage.lock().unwrap().volumes.values().next().cloned().unwrap();
    assert_eq!(made.mutable, BTreeMap::from([("iops".to_owned(), "900".to_owned())]));
    let class =
        json!({"metadata": {"name": "other"}, "driverName": "x.example.com", "parameters": {"a": "b"}});
    rig.make::<VolumeAttributesClass>(class).await;
    rig.ask("wrong", "now", json!({"volumeAttributesClassName": "other"})).await;
    rig.hears("wrong", "ProvisioningFailed", "is driver x.example.com's").await;
    rig.delete_claims(&["data", "wrong"]).await;
    rig.nothing_is_left(&storage).await;
}

#[tokio::test]
async fn a_volume_is_deleted_once_it_is_attached_nowhere() {
    let (mut rig, storage) = zones(&THREE, &ROOM).await;
    rig.ask("data", "now", json!({})).await;
    let name = rig.its_volume("data").await.name_any();
    let attachments: Api<VolumeAttachment> = Api::all(rig.client.clone());
    rig.make::<VolumeAttachment>(json!({"metadata": {"name": "a1"}, "spec": {"attacher": ZONED,
        "nodeName": "n1", "source": {"persistentVolumeName": name}}}))
        .await;
    rig.until("it is attached", async |_: &Rig| {
        attachments.get("a1").await.unwrap().status.filter(|status| status.attached)
    })
    .await;
    rig.delete_claims(&["data"]).await;
    rig.hears(&name, "VolumeFailedDelete", "still attached to node n1").await;
    // Not by one that has just come, either: it says so, too, in an event of its own.
    rig.kill("control");
    let before = rig.failed_deletes(&name).await;
    rig.again("control");
    rig.until("it has looked again", async |rig: &Rig| {
        (rig.failed_deletes(&name).await > before).then_some(())
    })
    .await;
    let asked = |what: &str| storage.lock().unwrap().calls.iter().any(|call| call.starts_with(what));
    assert!(!asked("delete"), "{:?}", storage.lock().unwrap().calls);
    attachments.delete("a1", &DeleteParams::default()).await.unwrap();
    rig.nothing_is_left(&storage).await;
    let storage = storage.lock().unwrap();
    let at = |what: &str| storage.calls.iter().position(|call| call.starts_with(what)).unwrap();
    assert!(at("unpublish") < at("delete"), "{:?}", storage.calls);
}

#[tokio::test]
async fn controllers_on_each_node_look_after_what_their_driver_has() {
    let mut rig = cluster(&[("n1", "a"), ("n2", "b")]).await;
    let storages = [("n1", "a"), ("n2", "b")].map(|(node, zone)| {
        let storage = storage(&[(zone, 64)]);
        serve(rig.socket(&format!("on-{node}")), &storage, node, zone);
        storage
    });
    for (node, bind) in [("n1", true), ("n2", false)] {
        let socket = rig.socket(&format!("on-{node}"));
        let mut args = vec!["control", "--node", node, "--csi-socket", socket.to_str().unwrap()];
        args.extend(bind.then_some("--bind"));
        rig.spawn(node, &args);
        rig.words_have(node, &format!("driver {ZONED} is at")).await;
    }
    // The scheduler's choice is whose it is.
    for (claim, node) in [("on-a", "n1"), ("on-b", "n2")] {
        rig.ask(claim, "waits", json!({})).await;
        rig.select(claim, node).await;
    }
    assert_eq!((rig.its_zone("on-a").await, rig.its_zone("on-b").await), ("a".into(), "b".into()));
    // Where nobody chooses, one takes it: the one that has room, in the end.
    let names: Vec<String> = (0..6).map(|number| format!("any-{number}")).collect();
    for name in &names {
        rig.ask(name, "now", json!({"resources": {"requests": {"storage": "16Mi"}}})).await;
    }
    for name in &names {
        rig.its_zone(name).await;
    }
    for (storage, node) in storages.iter().zip(["n1", "n2"]) {
        let storage = storage.lock().unwrap();
        assert!(
            storage
                .volumes
                .values()
                .all(|made| made.by == node && made.zone == ["a", "b"][usize::from(node == "n2")])
        );
        assert!(storage.volumes.len() <= 4, "{node} has room for 56 MiB after its first");
    }
    // Each tells what its own has, and its node owns that.
    let capacities: Api<CSIStorageCapacity> = rig.objects_of("");
    rig.until("both tell their capacity", async |_: &Rig| {
        let all = capacities.list(&ListParams::default()).await.unwrap();
        let owners: BTreeSet<String> =
            all.iter().filter_map(|one| Some(one.owner_references().first()?.name.clone())).collect();
        (owners == ["n1".to_owned(), "n2".to_owned()].into()).then_some(())
    })
    .await;
    let all: Vec<&str> = names.iter().map(String::as_str).chain(["on-a", "on-b"]).collect();
    rig.delete_claims(&all).await;
    for storage in &storages {
        rig.nothing_is_left(storage).await;
    }
    for (storage, node) in storages.iter().zip(["n1", "n2"]) {
        let storage = storage.lock().unwrap();
        let made = storage.calls.iter().filter(|call| call.starts_with("create")).count();
        let deleted = storage.calls.iter().filter(|call| call.starts_with("delete")).count();
        assert!(deleted >= 1 && deleted <= made, "{node}: {:?}", storage.calls);
    }
    let classes: Api<StorageClass> = Api::all(rig.client.clone());
    for class in ["now", "waits"] {
        classes.delete(class, &DeleteParams::default()).await.unwrap();
        rig.until("a class goes at once that nothing is made of", async |_: &Rig| {
            classes.get_opt(class).await.unwrap().is_none().then_some(())
        })
        .await;
    }
}
