//! Volumes of claims, of this machine's driver: what pods write is kept, and nothing is left on the node.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, StorageClass};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::Test;
use crate::rig::{NODE, Rig, container, with};

pub(crate) const TESTS: &[Test] = &[
    ("what_is_written_to_a_claim_is_kept", |rig| Box::pin(kept(rig))),
    ("claims_that_wait_for_a_pod_and_claims_of_a_pod", |rig| Box::pin(of_pods(rig))),
    ("a_claim_is_waited_for_and_told_of", |rig| Box::pin(waited_for(rig))),
    ("block_devices_grow_and_are_devices", |rig| Box::pin(devices(rig))),
    ("paths_of_the_node_are_volumes", |rig| Box::pin(paths(rig))),
];

const DRIVER: &str = "csi.sextant.dev";

/// Makes an object of the cluster, where it is not there.
pub(crate) async fn ensure<K>(rig: &Rig, object: Value)
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>
        + Clone
        + Serialize
        + DeserializeOwned
        + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object).unwrap();
    match Api::all(rig.client.clone()).create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        made => drop(made.unwrap()),
    }
}

/// The controllers, the driver's object and its classes; waits until the node has the driver.
async fn begin(rig: &Rig) {
    rig.control(&[]);
    ensure::<CSIDriver>(
        rig,
        json!({"metadata": {"name": DRIVER}, "spec": {"attachRequired": false, "podInfoOnMount": true,
            "fsGroupPolicy": "File", "volumeLifecycleModes": ["Persistent", "Ephemeral"]}}),
    )
    .await;
    for (name, mode) in [("dir", "Immediate"), ("image", "Immediate"), ("late", "WaitForFirstConsumer")] {
        let backend = if name == "image" { "image" } else { "dir" };
        ensure::<StorageClass>(
            rig,
            json!({"metadata": {"name": name}, "provisioner": DRIVER, "parameters": {"backend": backend},
                "volumeBindingMode": mode, "allowVolumeExpansion": true}),
        )
        .await;
    }
    rig.until("the node has the driver", async || {
        let node = Api::<CSINode>::all(rig.client.clone()).get_opt(NODE).await.unwrap()?;
        node.spec.drivers.into_iter().find(|one| one.name == DRIVER)
    })
    .await;
}

fn claims(rig: &Rig) -> Api<PersistentVolumeClaim> {
    Api::namespaced(rig.client.clone(), "default")
}

async fn claim(rig: &Rig, name: &str, class: &str, mode: &str) {
    rig.make::<PersistentVolumeClaim>(json!({
        "metadata": {"name": name},
        "spec": {"storageClassName": class, "volumeMode": mode, "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "16Mi"}}},
    }))
    .await;
}

/// Deletes all claims; their volumes go, too.
async fn end(rig: &Rig) {
    claims(rig).delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    rig.until("all volumes are gone", async || {
        let all =
            Api::<PersistentVolume>::all(rig.client.clone()).list(&ListParams::default()).await.unwrap();
        all.items.is_empty().then_some(())
    })
    .await;
    rig.kill("control");
}

/// A pod with a claim at /data.
fn spec(claim: &str, words: &[&str]) -> Value {
    let mounts = json!({"volumeMounts": [{"name": "data", "mountPath": "/data"},
        {"name": "data", "mountPath": "/part", "subPath": "inner"}]});
    json!({"securityContext": {"fsGroup": 4711}, "terminationGracePeriodSeconds": 1,
        "containers": [with(container("main", words), mounts)],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]})
}

async fn kept(rig: &Rig) {
    begin(rig).await;
    for class in ["dir", "image"] {
        claim(rig, class, class, "Filesystem").await;
        let words = [
            "write",
            "/data/file",
            "kept",
            "then",
            "write",
            "/part/deep",
            "too",
            "then",
            "look",
            "/data",
            "then",
            "sleep",
        ];
        rig.pod("writes", spec(class, &words)).await;
        rig.log_has("writes", "main", "\"/data\":").await;
        let log = rig.log("writes", "main").await;
        let seen: Value = serde_json::from_str(&log).unwrap();
        assert_eq!(seen["paths"]["/data"]["gid"], 4711, "{class}: {log}");
        // Somebody else on the node has it at the same time.
        rig.pod(
            "reads",
            spec(
                class,
                &[
                    "read",
                    "/data/file",
                    "then",
                    "read",
                    "/data/inner/deep",
                    "then",
                    "say",
                    "",
                    "then",
                    "sleep",
                ],
            ),
        )
        .await;
        rig.log_has("reads", "main", "kepttoo").await;
        // An agent that is started anew finds all of it as it was.
        rig.kill("agent");
        rig.agent();
        rig.delete("writes", 1).await;
        rig.gone("writes").await;
        rig.pod("again", spec(class, &["read", "/data/file", "then", "say", "", "then", "sleep"])).await;
        rig.log_has("again", "main", "kept").await;
        for pod in ["reads", "again"] {
            rig.delete(pod, 1).await;
            rig.gone(pod).await;
        }
        assert_eq!(rig.left().await, "", "{class}");
    }
    end(rig).await;
}

async fn of_pods(rig: &Rig) {
    begin(rig).await;
    claim(rig, "late", "late", "Filesystem").await;
    let template = json!({"spec": {"storageClassName": "late", "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "16Mi"}}}});
    let mounts = json!({"volumeMounts": [{"name": "late", "mountPath": "/late"},
        {"name": "own", "mountPath": "/own"}, {"name": "inline", "mountPath": "/inline"}]});
    let words = [
        "write",
        "/late/a",
        "",
        "then",
        "write",
        "/own/a",
        "",
        "then",
        "write",
        "/inline/a",
        "",
        "then",
        "say",
        "all",
        "then",
        "sleep",
    ];
    let volumes = json!([{"name": "late", "persistentVolumeClaim": {"claimName": "late"}},
        {"name": "own", "ephemeral": {"volumeClaimTemplate": template}},
        {"name": "inline", "csi": {"driver": DRIVER, "volumeAttributes": {"size": "16Mi", "backend": "dir"}}}]);
    // The scheduler finds the node, and where the claims' volumes are to be.
    rig.make::<Pod>(json!({"metadata": {"name": "three"}, "spec": {"volumes": volumes,
        "terminationGracePeriodSeconds": 1, "containers": [with(container("main", &words), mounts)]}}))
        .await;
    rig.log_has("three", "main", "all").await;
    let own = claims(rig).get("three-own").await.unwrap();
    assert_eq!(own.metadata.owner_references.unwrap()[0].name, "three");
    rig.delete("three", 1).await;
    rig.gone("three").await;
    end(rig).await;
}

async fn waited_for(rig: &Rig) {
    begin(rig).await;
    rig.pod("early", spec("absent", &["say", "here", "then", "sleep"])).await;
    let words = "Unable to attach or mount volumes: unmounted volumes=[data], unattached volumes=[], failed to process volumes=[data]: \
                 error processing PVC default/absent: failed to fetch PVC from API server: persistentvolumeclaims \"absent\" not found";
    rig.told("early", "FailedMount", words).await;
    claim(rig, "absent", "dir", "Filesystem").await;
    rig.log_has("early", "main", "here").await;
    // A claim that is another pod's is none of this one's.
    claim(rig, "other-own", "dir", "Filesystem").await;
    let template = json!({"spec": {"storageClassName": "dir", "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "16Mi"}}}});
    rig.pod(
        "other",
        json!({"containers": [container("main", &["sleep"])],
        "volumes": [{"name": "own", "ephemeral": {"volumeClaimTemplate": template}}]}),
    )
    .await;
    rig.told(
        "other",
        "FailedMount",
        "PVC default/other-own was not created for pod default/other (pod is not owner)",
    )
    .await;
    for pod in ["early", "other"] {
        rig.delete(pod, 1).await;
        rig.gone(pod).await;
    }
    end(rig).await;
}

async fn devices(rig: &Rig) {
    begin(rig).await;
    claim(rig, "raw", "image", "Block").await;
    let device = json!({"volumeDevices": [{"name": "data", "devicePath": "/dev/xvda"}]});
    let mut with_device = spec("raw", &["look", "/dev/xvda", "then", "sleep"]);
    with_device["containers"][0] = with(container("main", &["look", "/dev/xvda", "then", "sleep"]), device);
    rig.pod("raw", with_device).await;
    rig.log_has("raw", "main", "/dev/xvda").await;
    let log = rig.log("raw", "main").await;
    assert!(log.contains("\"mode\""), "{log}");
    rig.pod("wrong", spec("raw", &["sleep"])).await;
    rig.told("wrong", "FailedMount", "has volumeMode Block, but is specified in volumeMounts").await;
    let more = Patch::Merge(json!({"spec": {"resources": {"requests": {"storage": "32Mi"}}}}));
    claims(rig).patch("raw", &PatchParams::default(), &more).await.unwrap();
    rig.until("the claim has grown", async || {
        let status = json!(claims(rig).get("raw").await.unwrap().status);
        (status["capacity"]["storage"] == "32Mi" && status["conditions"].as_array().is_none_or(Vec::is_empty))
            .then_some(())
    })
    .await;
    for pod in ["raw", "wrong"] {
        rig.delete(pod, 1).await;
        rig.gone(pod).await;
    }
    end(rig).await;
}

async fn paths(rig: &Rig) {
    rig.control(&[]);
    let local = rig.path("local");
    std::fs::create_dir_all(local.join("inner")).unwrap();
    std::fs::write(local.join("file"), "mine").unwrap();
    let affinity = json!({"required": {"nodeSelectorTerms": [{"matchFields":
        [{"key": "metadata.name", "operator": "In", "values": [NODE]}]}]}});
    for (name, source) in [
        ("local", json!({"local": {"path": local}, "nodeAffinity": affinity})),
        ("host", json!({"hostPath": {"path": local, "type": "Directory"}})),
    ] {
        let spec =
            json!({"capacity": {"storage": "1Mi"}, "accessModes": ["ReadWriteMany"], "storageClassName": ""});
        ensure::<PersistentVolume>(rig, json!({"metadata": {"name": name}, "spec": with(spec, source)}))
            .await;
        rig.make::<PersistentVolumeClaim>(json!({"metadata": {"name": name}, "spec": {"storageClassName": "",
            "volumeName": name, "accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Mi"}}}}))
            .await;
        rig.pod(name, spec_of(name)).await;
        rig.log_has(name, "main", "mine").await;
        rig.delete(name, 1).await;
        rig.gone(name).await;
    }
    claims(rig).delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    let volumes: Api<PersistentVolume> = Api::all(rig.client.clone());
    volumes.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    rig.until("all volumes are gone", async || {
        volumes.list(&ListParams::default()).await.unwrap().items.is_empty().then_some(())
    })
    .await;
    assert_eq!(std::fs::read_to_string(local.join("file")).unwrap(), "mine");
    rig.kill("control");
}

fn spec_of(claim: &str) -> Value {
    spec(claim, &["read", "/data/file", "then", "say", "", "then", "sleep"])
}
