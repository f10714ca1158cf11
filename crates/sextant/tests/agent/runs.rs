//! Pods that run.

use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::Test;
use crate::rig::{NODE, Rig, condition, container, first, with};

pub(crate) const TESTS: &[Test] = &[
    ("the_node_tells_what_it_is", |rig| Box::pin(node(rig))),
    ("a_pod_runs_and_its_log_can_be_read", |rig| Box::pin(runs(rig))),
    ("files_of_objects_are_there_and_follow_them", |rig| Box::pin(files(rig))),
    ("init_containers_and_sidecars_come_in_order", |rig| Box::pin(order(rig))),
];

async fn node(rig: &Rig) {
    let node = Api::<Node>::all(rig.client.clone()).get(NODE).await.unwrap();
    let status = json!(node.status);
    assert_eq!(node.metadata.labels.unwrap()["kubernetes.io/hostname"], NODE);
    assert_eq!(status["capacity"]["pods"], "110");
    assert!(status["nodeInfo"]["containerRuntimeVersion"].as_str().unwrap().contains("://"), "{status}");
    assert!(status["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64().unwrap() > 0);
    for kind in ["MemoryPressure", "PIDPressure"] {
        assert_eq!(condition(&status, kind), "False", "{status}");
    }
    let leases: Api<k8s_openapi::api::coordination::v1::Lease> =
        Api::namespaced(rig.client.clone(), "kube-node-lease");
    let lease =
        rig.until("there is a lease", async || leases.get_opt(NODE).await.unwrap()).await.spec.unwrap();
    assert_eq!((lease.holder_identity.as_deref(), lease.lease_duration_seconds), (Some(NODE), Some(40)));
}

async fn runs(rig: &Rig) {
    let one = with(
        container("main", &["say", "$(GREETING)", "then", "environment", "then", "sleep"]),
        json!({"env": [
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "GREETING", "value": "hello $(NAME)"}],
            "resources": {"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}}}),
    );
    rig.pod("web", json!({"containers": [one]})).await;
    let status = rig.ready("web").await;
    assert_eq!((&status["phase"], &status["qosClass"]), (&json!("Running"), &json!("Burstable")));
    for kind in ["PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady"] {
        assert_eq!(condition(&status, kind), "True", "{kind}: {status}");
    }
    let container = first(&status);
    assert_eq!((container.ready, container.started, container.restart_count), (true, Some(true), 0));
    let ip = status["podIP"].as_str().unwrap();
    rig.log_has("web", "main", &format!("IP={ip}")).await;
    let log = rig.log("web", "main").await;
    assert!(log.starts_with("hello web\n"), "{log}");
    assert!(log.contains("KUBERNETES_SERVICE_HOST="), "{log}");
    for reason in ["Pulled", "Created", "Started"] {
        assert_eq!(rig.events("web", reason).await.len(), 1, "{reason}");
    }
}

async fn files(rig: &Rig) {
    rig.make::<ConfigMap>(json!({"metadata": {"name": "map"}, "data": {"a": "first"}})).await;
    rig.make::<Secret>(json!({"metadata": {"name": "secret"}, "stringData": {"word": "xyzzy"}})).await;
    let token = "/var/run/secrets/kubernetes.io/serviceaccount";
    let words = [
        "read",
        "/map/a",
        "then",
        "read",
        "/secret/word",
        "then",
        "read",
        "/down/labels",
        "then",
        "read",
        "/sub",
        "then",
        "look",
        "/empty",
        token,
        "then",
        "await",
        &format!("{token}/token"),
        "then",
        "await",
        &format!("{token}/ca.crt"),
        "then",
        "say",
        "now",
        "then",
        "await",
        "/map/b",
        "then",
        "read",
        "/map/a",
        "then",
        "say",
        "",
        "then",
        "sleep",
    ];
    let mounts = json!({"volumeMounts": [
        {"name": "map", "mountPath": "/map"}, {"name": "secret", "mountPath": "/secret"},
        {"name": "down", "mountPath": "/down"}, {"name": "empty", "mountPath": "/empty"},
        {"name": "map", "mountPath": "/sub", "subPath": "a"}]});
    rig.pod("files", json!({"containers": [with(container("main", &words), mounts)], "volumes": [
        {"name": "map", "configMap": {"name": "map"}}, {"name": "secret", "secret": {"secretName": "secret"}},
        {"name": "down", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        {"name": "empty", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]}))
        .await;
    rig.log_has("files", "main", "now").await;
    let log = rig.log("files", "main").await;
    assert!(log.starts_with("firstxyzzyfilesfirst"), "{log}");
    let maps: Api<ConfigMap> = Api::namespaced(rig.client.clone(), "default");
    let change = Patch::Merge(json!({"data": {"a": "second", "b": ""}}));
    maps.patch("map", &PatchParams::default(), &change).await.unwrap();
    rig.log_has("files", "main", "second").await;
}

async fn order(rig: &Rig) {
    let mounts = json!({"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]});
    let init = with(container("init", &["write", "/shared/a", "by-init"]), mounts.clone());
    let side = with(
        container(
            "side",
            &[
                "read",
                "/shared/a",
                "then",
                "say",
                "",
                "then",
                "write",
                "/shared/b",
                "by-side",
                "then",
                "sleep",
            ],
        ),
        with(
            mounts.clone(),
            json!({"restartPolicy": "Always",
            "startupProbe": {"exec": {"command": ["probe", "read", "/shared/b"]}, "periodSeconds": 1}}),
        ),
    );
    let main = with(container("main", &["read", "/shared/a", "then", "read", "/shared/b"]), mounts);
    rig.pod(
        "order",
        json!({"restartPolicy": "Never", "initContainers": [init, side], "containers": [main],
        "volumes": [{"name": "shared", "emptyDir": {}}], "terminationGracePeriodSeconds": 1}),
    )
    .await;
    let status = rig.status("order", "succeeded", |status| status["phase"] == "Succeeded").await;
    assert_eq!(rig.log("order", "main").await, "by-initby-side");
    assert_eq!(rig.log("order", "side").await, "by-init\n");
    let init = &status["initContainerStatuses"];
    assert_eq!(init[0]["state"]["terminated"]["reason"], "Completed");
    assert!(init[1]["state"]["terminated"].is_object(), "the sidecar has ended: {init}");
    let ready = status["conditions"].as_array().unwrap().iter().find(|one| one["type"] == "Ready").unwrap();
    assert_eq!(ready["reason"], "PodCompleted");
}
