//! Claims that ask for more, or for another class of attributes: of our driver, and of one that fails and leaves things to the node.

use std::path::PathBuf;
use std::time::Duration;

use csi::caller::Client;
use csi::contract::v1::volume_capability::access_mode::Mode;
use csi::contract::v1::volume_capability::{AccessMode, AccessType, MountVolume};
use csi::contract::v1::{CapacityRange, CreateVolumeRequest, VolumeCapability};
use grpc::Code;
use k8s_openapi::api::core::v1::{PersistentVolume, Pod};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::hand::chance;
use crate::rig::{DRIVER, Rig};
use crate::stand::{STAND_IN, StandIn, State};

/// Tells the kubelet that it has nothing to do.
const NOTHING_FOR_NODE: &str = "volume.kubernetes.io/node-expansion-not-required";

/// A machine with the stand-in.
async fn with_driver(state: State) -> (Rig, StandIn) {
    let mut rig = Rig::bare().await;
    let driver = StandIn::start(rig.socket("stand-in"), state);
    rig.class("hand", STAND_IN, json!({})).await;
    rig.control(&[]);
    rig.words_have("control", &format!("driver {STAND_IN} is at")).await;
    (rig, driver)
}

/// A volume of our driver, made as a provisioner does; its id.
async fn create(socket: PathBuf, name: &str) -> String {
    let capability = VolumeCapability {
        access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
        access_type: Some(AccessType::Mount(MountVolume::default())),
    };
    let request = CreateVolumeRequest {
        name: name.into(),
        capacity_range: Some(CapacityRange { required_bytes: 1 << 30, limit_bytes: 0 }),
        volume_capabilities: vec![capability],
        parameters: [("backend".to_owned(), "dir".to_owned())].into(),
        ..Default::default()
    };
    let answer = Client::connect(&socket).await.unwrap().create_volume(request).await.unwrap();
    answer.volume.unwrap().volume_id
}

fn asks(size: &str) -> Value {
    json!({"resources": {"requests": {"storage": size}}})
}

fn has(size: &str) -> impl Fn(&Value) -> bool {
    move |claim| claim["status"]["capacity"]["storage"] == size && step(claim).is_null()
}

fn step(claim: &Value) -> &Value {
    &claim["status"]["allocatedResourceStatuses"]["storage"]
}

fn condition<'a>(claim: &'a Value, kind: &str) -> Option<&'a Value> {
    claim["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

impl Rig {
    async fn volume_has(&self, name: &str, pointer: &str) -> Value {
        let volume = Api::<PersistentVolume>::all(self.client.clone()).get(name).await.unwrap();
        serde_json::to_value(volume).unwrap().pointer(pointer).cloned().unwrap_or_default()
    }

    async fn attributes(&self, name: &str, driver: &str, parameters: Value) {
        self.make::<VolumeAttributesClass>(
            json!({"metadata": {"name": name}, "driverName": driver, "parameters": parameters}),
        )
        .await;
    }
}

#[tokio::test]
async fn our_volumes_grow_and_are_modified() {
    let rig = Rig::start().await;
    rig.class("hand", DRIVER, json!({})).await;
    let id = create(rig.driver_socket(), "one").await;
    rig.bound("c1", DRIVER, &id).await;
    rig.change_claim("c1", asks("2Gi")).await;
    let claim = rig.claim_is("c1", "has 2 GiB", has("2Gi")).await;
    assert_eq!(claim.metadata.annotations.as_ref().unwrap()[NOTHING_FOR_NODE], "true");
    let claim = serde_json::to_value(claim).unwrap();
    assert_eq!(claim["status"]["allocatedResources"]["storage"], "2Gi");
    assert_eq!(condition(&claim, "Resizing"), None);
    assert_eq!(rig.volume_has("c1", "/spec/capacity/storage").await, "2Gi");
    rig.event("c1", "Resizing", "").await;
    rig.event("c1", "VolumeResizeSuccessful", "").await;

    // The class comes later than the wish.
    rig.change_claim("c1", json!({"volumeAttributesClassName": "kept"})).await;
    rig.claim_is("c1", "waits for the class", |claim| {
        claim["status"]["modifyVolumeStatus"]["status"] == "Pending"
    })
    .await;
    rig.event("c1", "VolumeModifyFailed", "").await;
    rig.attributes("kept", DRIVER, json!({"protected": "true"})).await;
    let is = |claim: &Value| {
        claim["status"]["currentVolumeAttributesClassName"] == "kept"
            && claim["status"]["modifyVolumeStatus"].is_null()
    };
    let claim = serde_json::to_value(rig.claim_is("c1", "is of the class", is).await).unwrap();
    assert_eq!(condition(&claim, "ModifyingVolume"), None);
    assert_eq!(rig.volume_has("c1", "/spec/volumeAttributesClassName").await, "kept");
    rig.event("c1", "VolumeModifySuccessful", "").await;
    let client = Client::connect(&rig.driver_socket()).await.unwrap();
    let request = csi::contract::v1::DeleteVolumeRequest { volume_id: id, ..Default::default() };
    let refused = client.delete_volume(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
}

#[tokio::test]
async fn what_is_the_nodes_is_left_to_the_node() {
    for is_node_only in [false, true] {
        let state = State { by_node: true, is_node_only, ..State::default() };
        let (rig, driver) = with_driver(state).await;
        rig.bound("c1", STAND_IN, "v1").await;
        rig.change_claim("c1", asks("3Gi")).await;
        let pending = |claim: &Value| step(claim) == "NodeResizePending";
        let claim = serde_json::to_value(rig.claim_is("c1", "waits for the node", pending).await).unwrap();
        assert_eq!(claim["status"]["capacity"]["storage"], "1Gi", "the node has not said that it has more");
        assert_eq!(claim["status"]["allocatedResources"]["storage"], "3Gi");
        assert!(condition(&claim, "FileSystemResizePending").is_some(), "{claim}");
        assert_eq!(claim["metadata"]["annotations"][NOTHING_FOR_NODE], Value::Null);
        assert_eq!(rig.volume_has("c1", "/spec/capacity/storage").await, "3Gi");
        rig.event("c1", "FileSystemResizeRequired", "").await;
        // More is asked for only when the node is done.
        let before = driver.count("expand");
        assert_eq!(before, usize::from(!is_node_only));
        rig.change_claim("c1", asks("4Gi")).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(driver.count("expand"), before);
    }
}

#[tokio::test]
async fn what_cannot_be_is_told_and_a_claim_may_shrink_back() {
    let (rig, driver) = with_driver(State::default()).await;
    driver.state().failing.insert("expand", Code::OutOfRange);
    rig.bound("c1", STAND_IN, "v1").await;
    rig.change_claim("c1", asks("900Gi")).await;
    let told = |claim: &Value| step(claim) == "ControllerResizeInfeasible";
    let claim = serde_json::to_value(rig.claim_is("c1", "cannot grow", told).await).unwrap();
    let error = condition(&claim, "ControllerResizeError").unwrap();
    assert!(error["message"].as_str().unwrap().contains("expand is to fail"), "{error}");
    rig.event("c1", "VolumeResizeFailed", "").await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(driver.count("expand"), 1, "the same is not asked for again soon");
    driver.state().failing.clear();
    rig.change_claim("c1", asks("5Gi")).await;
    let claim = serde_json::to_value(rig.claim_is("c1", "has 5 GiB", has("5Gi")).await).unwrap();
    assert_eq!(condition(&claim, "ControllerResizeError"), None);
    assert_eq!(driver.state().calls.last().unwrap(), &format!("expand v1 {}", 5_i64 << 30));
}

#[tokio::test]
async fn what_may_still_go_on_is_brought_to_its_end_first() {
    let (rig, driver) = with_driver(State::default()).await;
    driver.state().failing.insert("expand", Code::DeadlineExceeded);
    rig.bound("c1", STAND_IN, "v1").await;
    rig.change_claim("c1", asks("9Gi")).await;
    rig.event("c1", "VolumeResizeFailed", "").await;
    rig.change_claim("c1", asks("5Gi")).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    driver.state().failing.clear();
    // It may have 9 GiB already: that is what it gets, though less would do now.
    rig.claim_is("c1", "has 9 GiB", has("9Gi")).await;
    assert!(driver.state().calls.iter().all(|call| call.ends_with(&(9_i64 << 30).to_string())));
}

#[tokio::test]
async fn a_driver_that_expands_nothing_in_use_waits_for_the_pod_to_end() {
    let (rig, driver) = with_driver(State::default()).await;
    driver.state().failing.insert("expand", Code::FailedPrecondition);
    rig.bound("c1", STAND_IN, "v1").await;
    rig.make_here::<Pod>(json!({"metadata": {"name": "user"}, "spec": {
        "automountServiceAccountToken": false,
        "containers": [{"name": "c", "image": "none"}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "c1"}}]}}))
        .await;
    rig.change_claim("c1", asks("2Gi")).await;
    rig.event("c1", "VolumeResizeFailed", "").await;
    driver.state().failing.clear();
    tokio::time::sleep(Duration::from_millis(3500)).await;
    assert_eq!(driver.count("expand"), 1, "the driver is asked though the claim is in use");
    let pods: Api<Pod> = rig.objects_of("");
    pods.delete("user", &DeleteParams::default().grace_period(0)).await.unwrap();
    rig.claim_is("c1", "has 2 GiB", has("2Gi")).await;
}

#[tokio::test]
async fn a_class_that_the_driver_refuses_gives_way_to_another() {
    let (rig, driver) = with_driver(State::default()).await;
    driver.state().failing.insert("modify", Code::InvalidArgument);
    rig.attributes("bad", STAND_IN, json!({"iops": "many"})).await;
    rig.attributes("good", STAND_IN, json!({"iops": "100"})).await;
    rig.attributes("foreign", DRIVER, json!({"protected": "true"})).await;
    rig.bound("c1", STAND_IN, "v1").await;
    rig.change_claim("c1", json!({"volumeAttributesClassName": "bad"})).await;
    let told = |claim: &Value| claim["status"]["modifyVolumeStatus"]["status"] == "Infeasible";
    let claim = serde_json::to_value(rig.claim_is("c1", "is refused", told).await).unwrap();
    assert_eq!(claim["status"]["modifyVolumeStatus"]["targetVolumeAttributesClassName"], "bad");
    assert_eq!(condition(&claim, "ModifyVolumeError").unwrap()["reason"], "InvalidArgument");
    rig.event("c1", "VolumeModifyFailed", "").await;
    driver.state().failing.clear();
    rig.change_claim("c1", json!({"volumeAttributesClassName": "foreign"})).await;
    rig.claim_is("c1", "waits", |claim| claim["status"]["modifyVolumeStatus"]["status"] == "Pending").await;
    assert_eq!(driver.count("modify"), 1, "a class of another driver");
    rig.change_claim("c1", json!({"volumeAttributesClassName": "good"})).await;
    let is = |claim: &Value| claim["status"]["currentVolumeAttributesClassName"] == "good";
    let claim = serde_json::to_value(rig.claim_is("c1", "is of the class", is).await).unwrap();
    assert_eq!(condition(&claim, "ModifyVolumeError"), None);
    assert_eq!(driver.state().calls.last().unwrap(), "modify v1 {\"iops\": \"100\"}");
}

#[tokio::test]
async fn claims_get_what_they_ask_for_whenever_the_controllers_are_killed() {
    const CLAIMS: u64 = 4;
    let (mut rig, driver) = with_driver(State::default()).await;
    driver.state().slow = Duration::from_millis(80);
    rig.attributes("gold", STAND_IN, json!({"iops": "100"})).await;
    for claim in 0..CLAIMS {
        rig.bound(&format!("c{claim}"), STAND_IN, &format!("v{claim}")).await;
    }
    let mut chance = chance();
    let mut sizes = vec![1; usize::try_from(CLAIMS).unwrap()];
    for round in 0..8 {
        for (claim, size) in sizes.iter_mut().enumerate() {
            if chance().is_multiple_of(2) {
                *size += 1 + chance() % 3;
                rig.change_claim(&format!("c{claim}"), asks(&format!("{size}Gi"))).await;
            }
            if round == 4 {
                rig.change_claim(&format!("c{claim}"), json!({"volumeAttributesClassName": "gold"})).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(chance() % 900)).await;
        if round == 7 {
            let any = async |_: &Rig| (driver.count("expand") > 0).then_some(());
            rig.until("something is expanded", any).await;
        }
        rig.kill("control");
        rig.again("control");
    }
    // Else nothing was killed in the middle of anything.
    assert!(driver.count("expand") > 0, "nothing was expanded between the kills");
    for (claim, size) in sizes.iter().enumerate() {
        let (name, size) = (format!("c{claim}"), format!("{size}Gi"));
        let is = |claim: &Value| {
            has(&size)(claim)
                && claim["status"]["currentVolumeAttributesClassName"] == "gold"
                && claim["status"]["conditions"].as_array().is_none_or(Vec::is_empty)
        };
        rig.claim_is(&name, "has all", is).await;
        assert_eq!(rig.volume_has(&name, "/spec/capacity/storage").await, size.as_str());
    }
}
