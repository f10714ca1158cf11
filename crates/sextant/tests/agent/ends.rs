//! Pods that end, and an agent that does.

use std::time::Instant;

use kube::api::DeleteParams;
use serde_json::json;

use crate::Test;
use crate::rig::{Rig, container, first, with};

pub(crate) const TESTS: &[Test] = &[
    ("a_pod_that_is_deleted_has_its_time", |rig| Box::pin(grace(rig))),
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
    let began = Instant::now();
    rig.delete("grace", 60).await;
    rig.gone("grace").await;
    assert!(began.elapsed().as_secs() < 50, "it ended by itself");
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
