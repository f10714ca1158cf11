//! A driver that fails, is slow, and wants secrets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use csi::contract::v1::controller_service_capability::rpc::Type as Call;
use csi::contract::v1::*;
use csi::plugin::Services;
use grpc::Code;
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use super::bench::{CLASSES, CONTENTS, SNAPSHOTS};
use crate::rig::{DRIVER, Rig};
use crate::stand::{Answer, Named};

const NAME: &str = "stubborn.example.com";

/// Stands in for drivers in front of storage far away: a first call's outcome is not known, the next one fails, and what is cut is
/// ready only later.
#[derive(Default)]
struct Stubborn(Mutex<State>);

#[derive(Default)]
struct State {
    calls: Vec<CreateSnapshotRequest>,
    /// When they came.
    times: Vec<Instant>,
    snapshots: BTreeMap<String, Snapshot>,
    deleted_with: Vec<BTreeMap<String, String>>,
    /// What else a snapshot ends with that is to be cut.
    refuses: Option<Code>,
    /// Whether calls to cut one do not end.
    hangs: bool,
}

impl Controller for Stubborn {
    async fn controller_get_capabilities(
        &self,
        _: ControllerGetCapabilitiesRequest,
    ) -> Answer<ControllerGetCapabilitiesResponse> {
        let calls = [Call::CreateDeleteSnapshot, Call::ListSnapshots];
        let capabilities = calls.map(ControllerServiceCapability::of).into();
        Ok(ControllerGetCapabilitiesResponse { capabilities })
    }

    async fn create_snapshot(&self, request: CreateSnapshotRequest) -> Answer<CreateSnapshotResponse> {
        if self.0.lock().unwrap().hangs {
            self.0.lock().unwrap().calls.push(request);
            return std::future::pending().await;
        }
        let mut state = self.0.lock().unwrap();
        state.calls.push(request.clone());
        state.times.push(Instant::now());
        let count = state.calls.len();
        // The first call's snapshot is there, though nobody was told.
        let snapshot = state.snapshots.entry(request.name.clone()).or_insert_with(|| Snapshot {
            snapshot_id: format!("id of {}", request.name),
            source_volume_id: request.source_volume_id,
            size_bytes: 4096,
            ..Default::default()
        });
        snapshot.ready_to_use = count > 3;
        let answer = CreateSnapshotResponse { snapshot: Some(snapshot.clone()) };
        if let Some(code) = state.refuses {
            return Err(grpc::Status::new(code, "the array has another of that name"));
        }
        match count {
            1 => Err(grpc::Status::new(Code::Unavailable, "the array does not answer")),
            2 => Err(grpc::Status::new(Code::Internal, "the array is confused")),
            _ => Ok(answer),
        }
    }

    /// All that is far away, `far-0` to `far-2`, whatever is asked for, one a page.
    async fn list_snapshots(&self, request: ListSnapshotsRequest) -> Answer<ListSnapshotsResponse> {
        let page: i64 = request.starting_token.parse().unwrap_or_default();
        let snapshot = Snapshot {
            snapshot_id: format!("far-{page}"),
            size_bytes: 4096 << page,
            ready_to_use: true,
            ..Default::default()
        };
        let entries = vec![list_snapshots_response::Entry { snapshot: Some(snapshot) }];
        let next_token = if page < 2 { (page + 1).to_string() } else { String::new() };
        Ok(ListSnapshotsResponse { entries, next_token })
    }

    async fn delete_snapshot(&self, request: DeleteSnapshotRequest) -> Answer<DeleteSnapshotResponse> {
        let mut state = self.0.lock().unwrap();
        state.deleted_with.push(request.secrets);
        if state.deleted_with.len() == 1 {
            return Err(grpc::Status::new(Code::Internal, "the array is confused again"));
        }
        state.snapshots.retain(|_, snapshot| snapshot.snapshot_id != request.snapshot_id);
        Ok(DeleteSnapshotResponse {})
    }
}

/// Starts that driver.
fn stubborn(rig: &Rig, state: State) -> Arc<Stubborn> {
    let driver = Arc::new(Stubborn(Mutex::new(state)));
    let socket = rig.socket("stubborn");
    let services = Services::new().identity(Arc::new(Named(NAME))).controller(driver.clone());
    tokio::spawn(async move { services.serve(&socket, std::future::pending(), || {}).await });
    driver
}

/// A machine with that driver alone.
async fn machine() -> (Rig, Arc<Stubborn>) {
    let mut rig = Rig::bare().await;
    let driver = stubborn(&rig, State::default());
    rig.control(&[]);
    (rig, driver)
}

#[tokio::test]
async fn a_driver_that_hangs_holds_no_other() {
    let rig = super::machine().await;
    let driver = stubborn(&rig, State { hangs: true, ..Default::default() });
    rig.snapshot_class("stubborn", NAME, "Delete", false).await;
    rig.bound_claim("far", NAME, "volume-1", json!({})).await;
    // More than there are workers.
    for count in 0..12 {
        let spec =
            json!({"volumeSnapshotClassName": "stubborn", "source": {"persistentVolumeClaimName": "far"}});
        rig.snapshot(&format!("far-{count}"), spec).await;
    }
    let calls = || driver.0.lock().unwrap().calls.len();
    rig.until("as many calls hang as there can be", async |_| (calls() == 10).then_some(())).await;
    let began = Instant::now();
    rig.snapshot("near", json!({"source": {"persistentVolumeClaimName": "data"}})).await;
    rig.ready(SNAPSHOTS, "near").await;
    // Nor has it waited for those calls to be given up.
    assert!(calls() == 10 && began.elapsed() < Duration::from_secs(50), "{} calls", calls());
    assert_eq!(rig.told().await.len(), 1, "of {DRIVER}");
}

#[tokio::test]
async fn what_may_be_there_under_its_name_is_not_forgotten() {
    let (rig, driver) = machine().await;
    {
        let mut state = driver.0.lock().unwrap();
        state.refuses = Some(Code::AlreadyExists);
        // That fails once is another test's.
        state.deleted_with.push(BTreeMap::new());
    }
    rig.snapshot_class("stubborn", NAME, "Delete", true).await;
    rig.bound_claim("data", NAME, "volume-1", json!({})).await;
    rig.snapshot("one", json!({"source": {"persistentVolumeClaimName": "data"}})).await;
    rig.failed(
        SNAPSHOTS,
        "one",
        "take annotation snapshot.storage.kubernetes.io/volumesnapshot-being-created",
    )
    .await;
    rig.delete(SNAPSHOTS, "one").await;
    rig.until("the content is to go", async |rig| {
        let contents = rig.all(CONTENTS).await;
        contents[0]["metadata"].get("deletionTimestamp").map(|_| ())
    })
    .await;
    let before = driver.0.lock().unwrap().calls.len();
    rig.until("the driver is asked again", async |_| {
        (driver.0.lock().unwrap().calls.len() > before).then_some(())
    })
    .await;
    assert_eq!(rig.all(CONTENTS).await.len(), 1, "what the driver may have is forgotten");
    driver.0.lock().unwrap().refuses = None;
    rig.gone(SNAPSHOTS, "one").await;
    assert!(driver.0.lock().unwrap().snapshots.is_empty());
    rig.claim_is_free("data").await;
}

#[tokio::test]
async fn a_driver_that_lists_all_it_has_is_read_to_the_end() {
    let (rig, _) = machine().await;
    for (name, handle) in [("there", "far-2"), ("lost", "far-3")] {
        let spec = json!({"driver": NAME, "deletionPolicy": "Retain", "source": {"snapshotHandle": handle},
            "volumeSnapshotRef": {"name": name, "namespace": "default"}});
        rig.put(CONTENTS, name, json!({"spec": spec})).await;
        rig.snapshot(name, json!({"source": {"volumeSnapshotContentName": name}})).await;
    }
    let there = rig.ready(SNAPSHOTS, "there").await;
    assert_eq!(there["status"]["restoreSize"], "16Ki");
    rig.failed(SNAPSHOTS, "lost", "has no snapshot far-3").await;
}

#[tokio::test]
async fn a_driver_that_fails_is_asked_again_until_it_has_done_it() {
    let (rig, driver) = machine().await;
    rig.make_here::<Secret>(json!({"metadata": {"name": "of-one"}, "stringData": {"key": "value"}})).await;
    rig.put(
        CLASSES,
        "stubborn",
        json!({"driver": NAME, "deletionPolicy": "Delete", "parameters": {
        "speed": "low", "csi.storage.k8s.io/snapshotter-secret-name": "of-${volumesnapshot.name}",
        "csi.storage.k8s.io/snapshotter-secret-namespace": "${volumesnapshot.namespace}"}}),
    )
    .await;
    rig.bound_claim("data", NAME, "volume-1", json!({})).await;
    let spec =
        json!({"volumeSnapshotClassName": "stubborn", "source": {"persistentVolumeClaimName": "data"}});
    rig.snapshot("one", spec).await;
    rig.failed(SNAPSHOTS, "one", "the array does not answer").await;
    let content = rig.all(CONTENTS).await.remove(0);
    let annotations = &content["metadata"]["annotations"];
    assert_eq!(annotations["snapshot.storage.kubernetes.io/deletion-secret-name"], "of-one");
    rig.failed(SNAPSHOTS, "one", "the array is confused").await;
    let snapshot = rig.ready(SNAPSHOTS, "one").await;
    assert_eq!(snapshot["status"]["restoreSize"], "4Ki");
    {
        let state = driver.0.lock().unwrap();
        assert!(state.calls.len() >= 4);
        // It is left alone for a while, longer each time, whatever is written down of its failures.
        for (call, pause) in [(0, 900), (1, 1900), (2, 3900)] {
            let passed = state.times[call + 1] - state.times[call];
            assert!(passed >= Duration::from_millis(pause), "call {call}: {passed:?}");
        }
        let uid = snapshot["metadata"]["uid"].as_str().unwrap();
        for call in &state.calls {
            assert_eq!(call.name, format!("snapshot-{uid}"));
            assert_eq!(call.source_volume_id, "volume-1");
            assert_eq!(call.parameters, [("speed".into(), "low".into())].into());
            assert_eq!(call.secrets, [("key".into(), "value".into())].into());
        }
    }
    rig.delete(SNAPSHOTS, "one").await;
    rig.gone(SNAPSHOTS, "one").await;
    let state = driver.0.lock().unwrap();
    assert!(state.snapshots.is_empty());
    assert!(state.deleted_with.iter().all(|secrets| secrets["key"] == "value"), "not with the secret");
}

#[tokio::test]
async fn a_snapshot_that_may_have_been_cut_is_not_forgotten_when_it_is_deleted() {
    let (mut rig, driver) = machine().await;
    rig.snapshot_class("stubborn", NAME, "Delete", true).await;
    rig.bound_claim("data", NAME, "volume-1", json!({})).await;
    // As an earlier controller left it, killed when the driver had been called.
    driver.0.lock().unwrap().calls.push(CreateSnapshotRequest::default());
    driver.0.lock().unwrap().calls.push(CreateSnapshotRequest::default());
    rig.kill("control");
    let spec =
        json!({"source": {"persistentVolumeClaimName": "data"}, "volumeSnapshotClassName": "stubborn"});
    let held = json!({"finalizers": ["snapshot.storage.kubernetes.io/volumesnapshot-as-source-protection"]});
    rig.put(SNAPSHOTS, "one", json!({"metadata": held, "spec": spec})).await;
    let uid = rig.read(SNAPSHOTS, "one").await.unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    rig.put(
        CONTENTS,
        &format!("snapcontent-{uid}"),
        json!({
        "metadata": {"finalizers": ["snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection"],
            "annotations": {"snapshot.storage.kubernetes.io/volumesnapshot-being-created": "yes"}},
        "spec": {"driver": NAME, "deletionPolicy": "Delete", "source": {"volumeHandle": "volume-1"},
            "volumeSnapshotClassName": "stubborn",
            "volumeSnapshotRef": {"name": "one", "namespace": "default", "uid": uid}}}),
    )
    .await;
    rig.delete(CONTENTS, &format!("snapcontent-{uid}")).await;
    rig.again("control");
    rig.until("the driver is called again", async |_| {
        (driver.0.lock().unwrap().calls.len() > 2).then_some(())
    })
    .await;
    rig.delete(SNAPSHOTS, "one").await;
    rig.gone(SNAPSHOTS, "one").await;
    let state = driver.0.lock().unwrap();
    assert!(state.snapshots.is_empty());
    assert!(!state.deleted_with.is_empty());
}
