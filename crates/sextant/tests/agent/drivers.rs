//! Volumes of any driver, and an agent that is killed in the middle of what it asks of one.

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Secret};
use k8s_openapi::api::storage::v1::{CSINode, VolumeAttachment};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::Test;
use crate::claims::ensure;
use crate::rig::{NODE, Rig, container, with};
use crate::stand::{STAND, Stand};

pub(crate) const TESTS: &[Test] = &[
    ("a_driver_is_told_all_that_it_has_to_know", |rig| Box::pin(told(rig))),
    ("an_agent_killed_while_it_mounts_goes_on", |rig| Box::pin(killed_mounting(rig))),
    ("an_agent_killed_while_it_unmounts_goes_on", |rig| Box::pin(killed_unmounting(rig))),
    ("a_pod_that_is_forced_away_while_it_unmounts_leaves_nothing", |rig| Box::pin(forced(rig))),
];

/// The driver, registered, and a claim `disk` with a volume of it.
async fn begin(rig: &Rig) -> Stand {
    let socket = rig.path("stand.sock");
    let stand = Stand::start(socket.clone(), rig.path("data/agent/plugins_registry"));
    rig.control(&["--csi-socket", socket.to_str().unwrap()]);
    rig.until("the node has the driver", async || {
        let node = Api::<CSINode>::all(rig.client.clone()).get_opt(NODE).await.unwrap()?;
        let entry = node.spec.drivers.into_iter().find(|one| one.name == STAND)?;
        assert_eq!(
            (entry.node_id.as_str(), entry.allocatable.and_then(|all| all.count)),
            ("stand-1", Some(9))
        );
        assert_eq!(entry.topology_keys, Some(vec!["example.com/rack".into()]));
        Some(())
    })
    .await;
    let node = Api::<Node>::all(rig.client.clone()).get(NODE).await.unwrap();
    assert_eq!(node.metadata.labels.unwrap()["example.com/rack"], "r1");
    let secret = json!({"name": "disk", "namespace": "default"});
    rig.make::<Secret>(json!({"metadata": {"name": "disk"}, "stringData": {"key": "xyzzy"}})).await;
    ensure::<PersistentVolume>(
        rig,
        json!({"metadata": {"name": "disk"}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
        "persistentVolumeReclaimPolicy": "Retain", "mountOptions": ["noatime"],
        "csi": {"driver": STAND, "volumeHandle": "d1", "fsType": "ext4", "volumeAttributes": {"a": "b"},
            "nodePublishSecretRef": secret}}}),
    )
    .await;
    rig.make::<PersistentVolumeClaim>(json!({"metadata": {"name": "disk"}, "spec": {"storageClassName": "",
        "volumeName": "disk", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}))
    .await;
    stand
}

async fn end(rig: &Rig, stand: Stand) {
    rig.until("nothing is attached", async || {
        let all =
            Api::<VolumeAttachment>::all(rig.client.clone()).list(&ListParams::default()).await.unwrap();
        all.items.is_empty().then_some(())
    })
    .await;
    // Either may be asked for twice, by a controller that has not seen its own write yet.
    let calls = stand.state().calls.clone();
    let last = |call: &str| calls.iter().rposition(|one| one == call);
    assert!(last("detach done") > last("attach done"), "{calls:?}");
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(rig.client.clone(), "default");
    claims.delete("disk", &DeleteParams::default()).await.unwrap();
    let volumes: Api<PersistentVolume> = Api::all(rig.client.clone());
    volumes.delete("disk", &DeleteParams::default()).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(rig.client.clone(), "default");
    secrets.delete("disk", &DeleteParams::default()).await.unwrap();
    rig.until("the volume is gone", async || volumes.get_opt("disk").await.unwrap().is_none().then_some(()))
        .await;
    rig.kill("control");
}

fn spec() -> Value {
    let mounts = json!({"volumeMounts": [{"name": "data", "mountPath": "/data"}]});
    json!({"securityContext": {"fsGroup": 4711}, "terminationGracePeriodSeconds": 1,
        "containers": [with(container("main", &["write", "/data/file", "", "then", "sleep"]), mounts)],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "disk"}}]})
}

async fn told(rig: &Rig) {
    let stand = begin(rig).await;
    stand.state().failing.insert("publish");
    rig.pod("disk", spec()).await;
    rig.told("disk", "SuccessfulAttachVolume", "AttachVolume.Attach succeeded for volume \"disk\"").await;
    let words =
        "MountVolume.SetUp failed for volume \"disk\" : rpc error: code = Internal desc = publish is to fail";
    rig.told("disk", "FailedMount", words).await;
    stand.state().failing.clear();
    rig.ready("disk").await;
    let published = stand.state().published.clone().unwrap();
    assert_eq!(published.publish_context["disk"], "7");
    assert_eq!(published.secrets["key"], "xyzzy");
    assert_eq!(published.volume_context, [("a".to_owned(), "b".to_owned())].into());
    assert!(
        published.target_path.ends_with("/volumes/kubernetes.io~csi/disk/mount"),
        "{}",
        published.target_path
    );
    let staging = "/data/agent/plugins/kubernetes.io/csi/stand.example.com/";
    assert!(published.staging_target_path.contains(staging), "{}", published.staging_target_path);
    let capability = format!("{:?}", published.volume_capability);
    for part in ["\"ext4\"", "\"noatime\"", "volume_mount_group: \"4711\""] {
        assert!(capability.contains(part), "{capability}");
    }
    rig.until("the node says what is attached", async || {
        let node = json!(Api::<Node>::all(rig.client.clone()).get(NODE).await.unwrap().status);
        let name = format!("kubernetes.io/csi/{STAND}^d1");
        (node["volumesInUse"][0] == name && node["volumesAttached"][0]["name"] == name).then_some(())
    })
    .await;
    grow(rig, &stand).await;
    rig.delete("disk", 1).await;
    rig.gone("disk").await;
    // It was over before the pod's object went.
    let calls = stand.state().calls.clone();
    let at =
        |call: &str| calls.iter().rposition(|one| one == call).unwrap_or_else(|| panic!("{call}: {calls:?}"));
    assert!(at("stage done") < at("publish done") && at("publish done") < at("unpublish done"), "{calls:?}");
    assert!(at("unpublish done") < at("unstage done"), "{calls:?}");
    end(rig, stand).await;
}

/// What the resizer leaves to the node, as objects say it.
async fn grow(rig: &Rig, stand: &Stand) {
    let volumes: Api<PersistentVolume> = Api::all(rig.client.clone());
    let larger = Patch::Merge(json!({"spec": {"capacity": {"storage": "2Gi"}}}));
    volumes.patch("disk", &PatchParams::default(), &larger).await.unwrap();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(rig.client.clone(), "default");
    let waits =
        Patch::Merge(json!({"status": {"allocatedResourceStatuses": {"storage": "NodeResizePending"},
        "conditions": [{"type": "FileSystemResizePending", "status": "True"}]}}));
    claims.patch_status("disk", &PatchParams::default(), &waits).await.unwrap();
    rig.until("the claim has grown", async || {
        let status = json!(claims.get("disk").await.unwrap().status);
        (status["capacity"]["storage"] == "2Gi"
            && status.get("allocatedResourceStatuses").is_none_or(|all| all["storage"].is_null()))
        .then_some(())
    })
    .await;
    assert_eq!(stand.state().grown.clone().unwrap().capacity_range.unwrap().required_bytes, 2 << 30);
    rig.told(
        "disk",
        "FileSystemResizeSuccessful",
        "MountVolume.NodeExpandVolume succeeded for volume \"disk\"",
    )
    .await;
}

async fn killed_mounting(rig: &Rig) {
    let stand = begin(rig).await;
    for (pod, call) in [("one", "stage"), ("two", "publish")] {
        stand.hold(call);
        let begun = stand.count(call);
        rig.pod(pod, spec()).await;
        rig.until("the driver is asked", async || (stand.count(call) > begun).then_some(())).await;
        rig.kill("agent");
        stand.let_go();
        rig.agent();
        rig.ready(pod).await;
        rig.delete(pod, 1).await;
        rig.gone(pod).await;
        assert_eq!(rig.left().await, "", "{pod}");
    }
    // One that is deleted while nothing looks after it, before it ever ran.
    stand.hold("publish");
    let begun = stand.count("publish");
    rig.pod("three", spec()).await;
    rig.until("the driver is asked", async || (stand.count("publish") > begun).then_some(())).await;
    rig.kill("agent");
    rig.delete("three", 0).await;
    rig.gone("three").await;
    stand.let_go();
    rig.agent();
    rig.until("it is taken back", async || rig.is_clean().then_some(())).await;
    assert_eq!(
        stand.state().calls.last().map(String::as_str).filter(|call| call.starts_with("publish")),
        None
    );
    end(rig, stand).await;
}

async fn killed_unmounting(rig: &Rig) {
    let stand = begin(rig).await;
    for (pod, call) in [("one", "unpublish"), ("two", "unstage")] {
        rig.pod(pod, spec()).await;
        rig.ready(pod).await;
        stand.hold(call);
        let begun = stand.count(call);
        rig.delete(pod, 1).await;
        rig.until("the driver is asked", async || (stand.count(call) > begun).then_some(())).await;
        rig.kill("agent");
        // Somebody loses patience meanwhile; it may be gone.
        let _ = rig.pods().delete(pod, &DeleteParams::default().grace_period(0)).await;
        stand.let_go();
        rig.agent();
        rig.gone(pod).await;
        rig.until("it is taken back", async || rig.is_clean().then_some(())).await;
        assert!(stand.count("unstage done") >= 1);
    }
    end(rig, stand).await;
}

async fn forced(rig: &Rig) {
    let stand = begin(rig).await;
    rig.pod("one", spec()).await;
    rig.ready("one").await;
    stand.hold("unstage");
    rig.delete("one", 1).await;
    rig.until("the driver is asked", async || (stand.count("unstage") > 0).then_some(())).await;
    // The agent runs on, and nobody waits for what it does for the pod any more.
    rig.delete("one", 0).await;
    rig.gone("one").await;
    assert_eq!(stand.count("unstage done"), 0);
    stand.let_go();
    rig.until("it is taken back", async || rig.is_clean().then_some(())).await;
    end(rig, stand).await;
}
