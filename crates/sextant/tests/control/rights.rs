//! What `examples/control.yaml` allows is what the controllers need: without any of its verbs a test here or in `tests/cloud` fails, but
//! for `get` of what is listed anyway, and for what only `--node` reads.

use grpc::Code;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::admit::admit;
use crate::rig::{DRIVER, Rig};
use crate::stand::{STAND_IN, StandIn, State};

/// Where objects are made that the test makes, and looked for.
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const VOLUMES: &str = "/api/v1/persistentvolumes";
const ATTACHMENTS: &str = "/apis/storage.k8s.io/v1/volumeattachments";
const CAPACITIES: &str = "/apis/storage.k8s.io/v1/namespaces/kube-system/csistoragecapacities";
const CLASSES: &str = "/apis/storage.k8s.io/v1/storageclasses";
const SNAPSHOTS: &str = "/apis/snapshot.storage.k8s.io/v1/namespaces/default/volumesnapshots";
const CONTENTS: &str = "/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents";
const SNAPSHOT_CLASSES: &str = "/apis/snapshot.storage.k8s.io/v1/volumesnapshotclasses";
const GROUPS: &str = "/apis/groupsnapshot.storage.k8s.io/v1beta2/namespaces/default/volumegroupsnapshots";
const GROUP_CONTENTS: &str = "/apis/groupsnapshot.storage.k8s.io/v1beta2/volumegroupsnapshotcontents";
const GROUP_CLASSES: &str = "/apis/groupsnapshot.storage.k8s.io/v1beta2/volumegroupsnapshotclasses";

impl Rig {
    async fn post(&self, path: &str, kind: &str, name: &str, mut object: Value) {
        let version = path.trim_start_matches("/apis/").trim_start_matches("/api/");
        let version = version.split("/namespaces/").next().unwrap();
        let version = version.trim_end_matches(path.rsplit_once('/').unwrap().1).trim_end_matches('/');
        object["apiVersion"] = json!(version);
        object["kind"] = json!(kind);
        object["metadata"]["name"] = json!(name);
        let request = http::Request::post(path).header("content-type", "application/json");
        self.client.request::<Value>(request.body(object.to_string().into()).unwrap()).await.unwrap();
    }

    async fn remove(&self, path: &str, name: &str) {
        let request = http::Request::delete(format!("{path}/{name}")).body(Vec::new()).unwrap();
        self.client.request::<Value>(request).await.unwrap();
    }

    /// All objects of a kind.
    async fn all_at(&self, path: &str) -> Vec<Value> {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        let list = self.client.request::<Value>(request).await.unwrap();
        list["items"].as_array().unwrap().clone()
    }

    /// Waits until an object is as wanted. What is not allowed is told at once.
    async fn becomes(&self, path: &str, name: &str, what: &str, is: impl Fn(&Value) -> bool) {
        self.until(&format!("{name}: {what}"), async |rig: &Rig| {
            rig.is_forbidden_nothing();
            rig.all_at(path).await.iter().any(|one| one["metadata"]["name"] == name && is(one)).then_some(())
        })
        .await;
    }

    /// Waits until there is nothing of a kind.
    async fn none_at(&self, path: &str) {
        self.until(&format!("nothing is at {path}"), async |rig: &Rig| {
            rig.is_forbidden_nothing();
            rig.all_at(path).await.is_empty().then_some(())
        })
        .await;
    }

    fn is_forbidden_nothing(&self) {
        let words = self.words("control");
        assert!(!words.contains("forbidden"), "{words}");
    }

    /// Makes a claim of a class, with more fields.
    async fn claim_of(&self, name: &str, class: &str, more: Value) {
        let mut spec = json!({"storageClassName": class, "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "16Mi"}}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let labels = json!({"app": name});
        self.post(
            CLAIMS,
            "PersistentVolumeClaim",
            name,
            json!({"metadata": {"labels": labels}, "spec": spec}),
        )
        .await;
    }
}

/// Everything is at work with the rights of the example, by a driver and by the stand-in.
async fn at_work() -> (Rig, StandIn) {
    let mut rig = Rig::bare().await;
    rig.objects().await;
    rig.node("node-2", STAND_IN, "id-2", &[]).await;
    admit(&rig).await;
    rig.driver();
    let driver = StandIn::start(rig.socket("stand-in"), State::default());
    let kubeconfig = rig.path("kubeconfig");
    rig.control(&["--kubeconfig", kubeconfig.to_str().unwrap(), "--leader-elect", "--bind"]);
    rig.words_have("control", "has lease kube-system/sextant-control").await;
    for name in [DRIVER, STAND_IN] {
        rig.words_have("control", &format!("driver {name} is at")).await;
    }
    (rig, driver)
}

fn is_bound(claim: &Value) -> bool {
    claim["status"]["phase"] == "Bound"
}

fn is_ready(snapshot: &Value) -> bool {
    snapshot["status"]["readyToUse"] == true
}

#[tokio::test]
async fn volumes_come_change_and_go_with_the_rights_of_the_example() {
    let (mut rig, _driver) = at_work().await;
    let waits = json!({"parameters": {"backend": "dir"}, "volumeBindingMode": "WaitForFirstConsumer"});
    rig.class("waits", DRIVER, waits).await;
    rig.until("capacity is told", async |rig| rig.all_at(CAPACITIES).await.pop()).await;
    let told = rig.all_at(CAPACITIES).await.remove(0);
    rig.claim_of("data", "dir", json!({})).await;
    rig.becomes(CLAIMS, "data", "bound", is_bound).await;
    let is_held =
        |class: &Value| class["metadata"]["finalizers"] == json!(["control.sextant.dev/volumes-being-made"]);
    rig.becomes(CLASSES, "dir", "held", is_held).await;
    rig.becomes(CAPACITIES, told["metadata"]["name"].as_str().unwrap(), "less", |capacity| {
        capacity["capacity"] != told["capacity"]
    })
    .await;
    rig.remove(CLASSES, "waits").await;
    rig.none_at(CAPACITIES).await;

    rig.change_claim("data", json!({"resources": {"requests": {"storage": "32Mi"}}})).await;
    rig.becomes(CLAIMS, "data", "larger", |claim| claim["status"]["capacity"]["storage"] == "32Mi").await;
    rig.make::<VolumeAttributesClass>(
        json!({"metadata": {"name": "plain"}, "driverName": DRIVER, "parameters": {"protected": "false"}}),
    )
    .await;
    rig.change_claim("data", json!({"volumeAttributesClassName": "plain"})).await;
    let is_plain = |claim: &Value| claim["status"]["currentVolumeAttributesClassName"] == "plain";
    rig.becomes(CLAIMS, "data", "of another class", is_plain).await;

    let class = json!({"driver": DRIVER, "deletionPolicy": "Delete"});
    rig.post(SNAPSHOT_CLASSES, "VolumeSnapshotClass", "cut", class.clone()).await;
    let source = json!({"persistentVolumeClaimName": "data"});
    let spec = json!({"volumeSnapshotClassName": "cut", "source": source});
    rig.post(SNAPSHOTS, "VolumeSnapshot", "one", json!({"spec": spec})).await;
    rig.becomes(SNAPSHOTS, "one", "ready", is_ready).await;
    let source = json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "one"});
    rig.claim_of(
        "restored",
        "dir",
        json!({"dataSource": source, "resources": {"requests": {"storage": "32Mi"}}}),
    )
    .await;
    rig.becomes(CLAIMS, "restored", "bound", is_bound).await;

    rig.post(GROUP_CLASSES, "VolumeGroupSnapshotClass", "cut", class).await;
    let source = json!({"selector": {"matchLabels": {"app": "data"}}});
    let spec = json!({"volumeGroupSnapshotClassName": "cut", "source": source});
    rig.post(GROUPS, "VolumeGroupSnapshot", "group", json!({"spec": spec})).await;
    rig.becomes(GROUPS, "group", "ready", is_ready).await;

    rig.remove(GROUPS, "group").await;
    rig.remove(SNAPSHOTS, "one").await;
    for path in [GROUPS, GROUP_CONTENTS, SNAPSHOTS, CONTENTS] {
        rig.none_at(path).await;
    }
    for name in ["data", "restored"] {
        rig.remove(CLAIMS, name).await;
    }
    rig.none_at(CLAIMS).await;
    rig.none_at(VOLUMES).await;
    rig.event("data", "VolumeResizeSuccessful", "").await;
    assert_eq!(rig.end("control"), Some(0));
    rig.is_forbidden_nothing();
}

#[tokio::test]
async fn volumes_are_attached_and_watched_with_the_rights_of_the_example() {
    let (mut rig, driver) = at_work().await;
    rig.make_here::<Secret>(json!({"metadata": {"name": "key"}, "stringData": {"token": "hunter2"}})).await;
    rig.bound("data", STAND_IN, "v1").await;
    let secret = json!({"namespace": "default", "name": "key"});
    let source = json!({"driver": STAND_IN, "volumeHandle": "v2", "controllerPublishSecretRef": secret});
    rig.volume("with-secret", STAND_IN, json!({"csi": source})).await;
    for (name, volume) in [("a1", "data"), ("a2", "with-secret")] {
        let source = json!({"persistentVolumeName": volume});
        let spec = json!({"attacher": STAND_IN, "nodeName": "node-2", "source": source});
        rig.post(ATTACHMENTS, "VolumeAttachment", name, json!({"spec": spec})).await;
        rig.becomes(ATTACHMENTS, name, "attached", |one| one["status"]["attached"] == true).await;
        rig.remove(ATTACHMENTS, name).await;
        rig.none_at(ATTACHMENTS).await;
    }
    // What is told again is told by the same event.
    driver.state().failing.insert("expand", Code::Internal);
    rig.class("hand", STAND_IN, json!({})).await;
    rig.change_claim("data", json!({"resources": {"requests": {"storage": "2Gi"}}})).await;
    rig.until("an event is told again", async |rig: &Rig| {
        let events = rig.objects_of::<Event>("").list(&ListParams::default()).await.unwrap();
        let mut failed = events.iter().filter(|event| event.reason.as_deref() == Some("VolumeResizeFailed"));
        failed.any(|event| event.series.is_some()).then_some(())
    })
    .await;
    driver.state().failing.clear();
    rig.becomes(CLAIMS, "data", "larger", |claim| claim["status"]["capacity"]["storage"] == "2Gi").await;
    // The next process knows by the events of this one what was told.
    let driver = driver.again(rig.socket("stand-in"), |state| {
        state.conditions.insert("v1".into(), "a disk is lost".into());
    });
    rig.event("data", "VolumeConditionAbnormal", "").await;
    assert_eq!(rig.end("control"), Some(0));
    let _driver = driver.again(rig.socket("stand-in"), |state| {
        state.conditions.insert("v1".into(), String::new());
    });
    rig.again("control");
    rig.event("data", "VolumeConditionNormal", "").await;
    assert_eq!(rig.end("control"), Some(0));
    rig.is_forbidden_nothing();
    assert!(!rig.words("control").contains("hunter2"));
}

#[tokio::test]
async fn it_works_with_the_rights_of_the_example() {
    let mut rig = Rig::bare().await;
    rig.objects().await;
    admit(&rig).await;
    rig.driver();
    let kubeconfig = rig.path("kubeconfig");
    rig.control(&["--kubeconfig", kubeconfig.to_str().unwrap(), "--leader-elect"]);
    rig.words_have("control", "has lease kube-system/sextant-control").await;
    rig.words_have("control", &format!("driver {DRIVER} is at")).await;
    // The driver goes, and is told to be gone only by a look that comes after the first lists of all kinds were asked for.
    rig.kill("driver");
    rig.words_have("control", &format!("driver {DRIVER} is gone")).await;
    assert_eq!(rig.end("control"), Some(0));
    assert!(!rig.words("control").contains("warning: cannot"), "{}", rig.words("control"));
}
