//! Pods that run.

use k8s_openapi::api::core::v1::{ConfigMap, Event, Node, Secret};
use kube::Api;
use kube::api::{DeleteParams, ListParams, LogParams, Patch, PatchParams};
use serde_json::json;

use crate::Test;
use crate::rig::{IMAGE, NODE, Rig, condition, container, first, with};

pub(crate) const TESTS: &[Test] = &[
    ("the_node_tells_what_it_is", |rig| Box::pin(node(rig))),
    ("a_pod_runs_and_its_log_can_be_read", |rig| Box::pin(runs(rig))),
    ("files_of_objects_are_there_and_follow_them", |rig| Box::pin(files(rig))),
    ("what_a_pod_has_of_an_object_stays_when_that_goes", |rig| Box::pin(kept(rig))),
    ("an_image_is_a_volume_and_had_once", |rig| Box::pin(image(rig))),
    ("a_pod_has_users_of_its_own", |rig| Box::pin(users(rig))),
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
    // What others tell of it stays.
    rig.kill("agent");
    let others = json!([{"type": "Other", "status": "True"}, {"type": "Ready", "status": "False"}]);
    let nodes: Api<Node> = Api::all(rig.client.clone());
    let patch = Patch::Strategic(json!({"status": {"conditions": others}}));
    nodes.patch_status(NODE, &PatchParams::default(), &patch).await.unwrap();
    rig.agent();
    let ready = async || {
        let status = json!(nodes.get(NODE).await.unwrap().status);
        (condition(&status, "Ready") == "True").then_some(status)
    };
    let status = rig.until("the node is ready again", ready).await;
    assert_eq!(condition(&status, "Other"), "True", "{status}");
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
    let end = LogParams { container: Some("main".into()), tail_lines: Some(2), ..LogParams::default() };
    let end = rig.pods().logs("web", &end).await.unwrap();
    assert!(end.lines().count() == 2 && log.ends_with(&end), "{end}\n{log}");
    rig.told("web", "Pulled", &format!("Container image {IMAGE:?} already present on machine and can be"))
        .await;
    for reason in ["Pulled", "Created", "Started"] {
        rig.told("web", reason, "").await;
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

async fn kept(rig: &Rig) {
    rig.make::<ConfigMap>(json!({"metadata": {"name": "going"}, "data": {"a": "kept"}})).await;
    let words = ["read", "/map/a", "then", "say", "", "then", "await", "/host/go", "then", "exit", "1"];
    let mounts = json!({"volumeMounts": [
        {"name": "map", "mountPath": "/map"}, {"name": "host", "mountPath": "/host"}]});
    let host = rig.path("kept");
    rig.pod(
        "kept",
        json!({"containers": [with(container("main", &words), mounts)], "volumes": [
        {"name": "map", "configMap": {"name": "going"}},
        {"name": "host", "hostPath": {"path": host, "type": "DirectoryOrCreate"}}]}),
    )
    .await;
    rig.log_has("kept", "main", "kept").await;
    let maps: Api<ConfigMap> = Api::namespaced(rig.client.clone(), "default");
    maps.delete("going", &DeleteParams::default()).await.unwrap();
    rig.told("kept", "FailedMount", "configmap \"going\" not found").await;
    std::fs::write(host.join("go"), "").unwrap();
    let again =
        |status: &serde_json::Value| status["containerStatuses"][0]["restartCount"].as_u64() > Some(0);
    rig.status("kept", "is started again", again).await;
    rig.log_has("kept", "main", "kept").await;
}

async fn image(rig: &Rig) {
    let mounts = json!({"volumeMounts": [{"name": "image", "mountPath": "/image"}]});
    let main = with(
        container("main", &["await", "/image/bin/probe", "then", "say", "there", "then", "sleep"]),
        mounts,
    );
    let labels = json!({"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]});
    let pod = rig
        .pod(
            "image-volume",
            json!({"containers": [main], "volumes": [
            {"name": "image", "image": {"reference": IMAGE, "pullPolicy": "IfNotPresent"}},
            {"name": "labels", "downwardAPI": labels}]}),
        )
        .await;
    rig.log_has("image-volume", "main", "there").await;
    // Each of these is a look at the pod.
    let uid = pod.metadata.uid.unwrap();
    let told = rig.path(&format!("data/agent/pods/{uid}/volumes/kubernetes.io~downward-api/labels/labels"));
    for count in 0..3 {
        let label = Patch::Merge(json!({"metadata": {"labels": {"count": count.to_string()}}}));
        rig.pods().patch("image-volume", &PatchParams::default(), &label).await.unwrap();
        let words = format!("count=\"{count}\"");
        let look = async || std::fs::read_to_string(&told).is_ok_and(|text| text == words).then_some(());
        rig.until(&format!("the pod is told of {words}"), look).await;
    }
    let events: Api<Event> = Api::namespaced(rig.client.clone(), "default");
    let of = |one: &Event| {
        one.involved_object.name.as_deref() == Some("image-volume") && one.reason.as_deref() == Some("Pulled")
    };
    let times = |one: &Event| one.series.as_ref().and_then(|series| series.count).unwrap_or(1);
    let both = async || {
        let said = events.list(&ListParams::default()).await.unwrap().items;
        Some(said.iter().filter(|one| of(one)).map(times).sum::<i32>()).filter(|sum| *sum > 1)
    };
    let told = rig.until("both images are told of", both).await;
    assert_eq!(told, 2, "once for the container, once for the volume");
}

async fn users(rig: &Rig) {
    let mounts = json!({"volumeMounts": [{"name": "own", "mountPath": "/own"}]});
    let words = ["read", "/proc/self/uid_map", "then", "write", "/own/file", "text", "then", "sleep"];
    let main = with(container("main", &words), mounts);
    let spec =
        json!({"hostUsers": false, "containers": [main], "volumes": [{"name": "own", "emptyDir": {}}]});
    let pod = rig.pod("users", spec).await;
    rig.ready("users").await;
    rig.log_has("users", "main", "65536").await;
    let map = rig.log("users", "main").await;
    let ids: Vec<u64> = map.split_whitespace().map(|id| id.parse().unwrap()).collect();
    assert!(ids[0] == 0 && ids[1] >= 65_536 && ids[2] == 65_536, "{map}");
    let uid = pod.metadata.uid.unwrap();
    let file = rig.path(&format!("data/agent/pods/{uid}/volumes/kubernetes.io~empty-dir/own/file"));
    let made = rig.until("it has written", async || std::fs::metadata(&file).ok()).await;
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), 0, "inside it is root's, and outside too");
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
