//! Pods that end, and an agent that does.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::Test;
use crate::rig::{NODE, Rig, container, first, with};

pub(crate) const TESTS: &[Test] = &[
    ("a_pod_that_is_deleted_has_its_time", |rig| Box::pin(grace(rig))),
    ("sidecars_are_told_to_end_though_the_pods_time_is_over", |rig| Box::pin(sidecar(rig))),
    ("a_deleted_pod_is_told_to_have_ended_before_it_goes", |rig| Box::pin(finalizer(rig))),
    ("an_agent_that_was_killed_goes_on_with_what_runs", |rig| Box::pin(killed(rig))),
];

async fn grace(rig: &Rig) {
    let mounts = json!({"volumeMounts": [{"name": "host", "mountPath": "/host"}]});
    let hook =
        json!({"lifecycle": {"preStop": {"exec": {"command": ["probe", "write", "/host/hook", "x"]}}}});
    let trap =
        with(container("main", &["trap", "TERM", "then", "write", "/host/term", "x"]), with(mounts, hook));
    let host = rig.path("host");
    rig.pod(
        "grace",
        json!({"containers": [trap], "volumes": [
        {"name": "host", "hostPath": {"path": host, "type": "DirectoryOrCreate"}}]}),
    )
    .await;
    rig.ready("grace").await;
    rig.log_has("grace", "main", "ready").await;
    // Longer than it is waited for: it ends by itself.
    rig.delete("grace", 600).await;
    rig.gone("grace").await;
    assert!(host.join("hook").exists() && host.join("term").exists(), "its hook and its signal came");
    rig.told("grace", "Killing", "Stopping container main").await;
    // One that does not listen is killed when its time is over, and sooner where somebody says so.
    rig.pod("deaf", json!({"containers": [container("main", &["trap", "TERM", "USR1"])]})).await;
    rig.ready("deaf").await;
    rig.log_has("deaf", "main", "ready").await;
    rig.delete("deaf", 600).await;
    rig.delete("deaf", 1).await;
    rig.gone("deaf").await;
}

async fn sidecar(rig: &Rig) {
    let words = ["trap", "TERM", "then", "write", "/host/sidecar", "x"];
    let mounts = json!({"volumeMounts": [{"name": "host", "mountPath": "/host"}], "restartPolicy": "Always"});
    let host = rig.path("sidecar");
    rig.pod(
        "beside",
        json!({"initContainers": [with(container("side", &words), mounts)],
            "containers": [container("main", &["trap", "TERM", "USR1"])],
            "volumes": [{"name": "host", "hostPath": {"path": host, "type": "DirectoryOrCreate"}}]}),
    )
    .await;
    rig.log_has("beside", "side", "ready").await;
    rig.log_has("beside", "main", "ready").await;
    // The one that does not listen takes all of it.
    rig.delete("beside", 1).await;
    rig.gone("beside").await;
    assert!(host.join("sidecar").exists(), "it was killed");
}

async fn finalizer(rig: &Rig) {
    let spec = json!({"nodeName": NODE, "containers": [container("main", &["trap", "TERM"])]});
    let metadata = json!({"name": "counted", "finalizers": ["example.com/count"]});
    rig.make::<Pod>(json!({"metadata": metadata, "spec": spec})).await;
    rig.ready("counted").await;
    rig.log_has("counted", "main", "ready").await;
    rig.delete("counted", 30).await;
    // Who counts pods, as Jobs do, has its finalizer until it has seen this.
    let status = rig.status("counted", "has ended", |status| status["phase"] == "Succeeded").await;
    assert_eq!(first(&status).state.unwrap().terminated.unwrap().exit_code, 0);
    let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    rig.pods().patch("counted", &PatchParams::default(), &none).await.unwrap();
    rig.gone("counted").await;
}

async fn killed(rig: &Rig) {
    rig.pod("stays", json!({"containers": [container("main", &["say", "up", "then", "sleep"])], "terminationGracePeriodSeconds": 1})).await;
    rig.pod(
        "goes",
        json!({"containers": [container("main", &["sleep"])], "terminationGracePeriodSeconds": 1}),
    )
    .await;
    let before = first(&rig.ready("stays").await);
    rig.ready("goes").await;
    rig.kill("agent");
    rig.pods().delete("goes", &DeleteParams::default()).await.unwrap();
    rig.pod("comes", json!({"containers": [container("main", &["sleep"])]})).await;
    rig.agent();
    rig.ready("comes").await;
    rig.gone("goes").await;
    let after = first(&rig.ready("stays").await);
    assert_eq!((after.container_id, after.restart_count), (before.container_id, 0));
    assert_eq!(rig.log("stays", "main").await, "up\n");
    // By force, while nobody is there to see it.
    rig.kill("agent");
    rig.pods().delete("stays", &DeleteParams::default().grace_period(0)).await.unwrap();
    rig.agent();
}
