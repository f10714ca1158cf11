//! Pods that wait, for an image, for a probe, for their time.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::Test;
use crate::rig::{Rig, condition, container, first, with};

pub(crate) const TESTS: &[Test] = &[
    ("an_image_that_cannot_be_had_is_told_and_tried_again", |rig| Box::pin(image(rig))),
    ("a_container_that_ends_is_started_again_later_and_later", |rig| Box::pin(crash(rig))),
    ("a_container_that_cannot_be_started_has_failed", |rig| Box::pin(unstartable(rig))),
    ("conditions_of_others_stay_while_the_agent_writes", |rig| Box::pin(conditions(rig))),
    ("probes_say_when_a_container_is_ready_and_when_it_is_dead", |rig| Box::pin(probes(rig))),
    ("a_container_out_of_memory_ends_as_a_whole", |rig| Box::pin(out_of_memory(rig))),
    ("what_is_not_there_is_waited_for", |rig| Box::pin(missing(rig))),
];

async fn image(rig: &Rig) {
    let never = with(
        container("never", &["sleep"]),
        json!({"image": "example.com/none:1", "imagePullPolicy": "Never"}),
    );
    let none = with(container("none", &["sleep"]), json!({"image": "127.0.0.1:1/none:1"}));
    rig.pod("image", json!({"containers": [none, never]})).await;
    let reason = |at: usize, wanted: &'static str| {
        move |status: &serde_json::Value| {
            status["containerStatuses"][at]["state"]["waiting"]["reason"] == wanted
        }
    };
    rig.status("image", "ErrImagePull", reason(0, "ErrImagePull")).await;
    let status = rig.status("image", "ImagePullBackOff", reason(0, "ImagePullBackOff")).await;
    assert_eq!(status["phase"], "Pending");
    rig.status("image", "ErrImageNeverPull", reason(1, "ErrImageNeverPull")).await;
    rig.told("image", "Failed", "Failed to pull image \"127.0.0.1:1/none:1\"").await;
    rig.told("image", "BackOff", "Back-off pulling image \"127.0.0.1:1/none:1\"").await;
}

/// On v1 who takes too much ends alone.
async fn out_of_memory(rig: &Rig) {
    let limited = json!({"resources": {"limits": {"memory": "64Mi"}}});
    let asked = json!({"readinessProbe": {"exec": {"command": ["probe", "eat"]}, "periodSeconds": 1, "timeoutSeconds": 60}});
    let main = match std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        true => with(container("main", &["sleep"]), asked),
        false => container("main", &["eat"]),
    };
    rig.pod("eats", json!({"containers": [with(main, limited)], "restartPolicy": "Never"})).await;
    let status = rig.status("eats", "is over", |status| status["phase"] == "Failed").await;
    let ended = &status["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&ended["reason"], &ended["exitCode"]), (&json!("OOMKilled"), &json!(137)), "{status}");
}

async fn crash(rig: &Rig) {
    rig.pod("crash", json!({"containers": [container("main", &["say", "once", "then", "exit", "3"])]})).await;
    let is_held = |status: &serde_json::Value| {
        status["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
            && status["containerStatuses"][0]["restartCount"].as_u64() > Some(0)
    };
    let status = rig.status("crash", "waits", is_held).await;
    let one = first(&status);
    let last = one.last_state.unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (3, Some("Error")));
    let message = one.state.unwrap().waiting.unwrap().message.unwrap();
    assert!(
        message.starts_with("back-off 10s restarting failed container=main pod=crash_default("),
        "{message}"
    );
    assert_eq!(status["phase"], "Running");
    rig.told("crash", "BackOff", "Back-off restarting failed container main in pod crash_default(").await;
    // In its time it comes again.
    rig.status("crash", "is tried again", |status| {
        status["containerStatuses"][0]["restartCount"].as_u64() > Some(1)
    })
    .await;
}

async fn unstartable(rig: &Rig) {
    let nothing = with(container("main", &[]), json!({"command": ["/nothing"]}));
    rig.pod("never", json!({"restartPolicy": "Never", "containers": [nothing]})).await;
    rig.pod("always", json!({"containers": [nothing]})).await;
    let status = rig.status("never", "has failed", |status| status["phase"] == "Failed").await;
    let ended = first(&status).state.unwrap().terminated.unwrap();
    assert_eq!(ended.reason.as_deref(), Some("StartError"), "{ended:?}");
    assert!(ended.exit_code != 0 && ended.message.is_some(), "{ended:?}");
    let is_held = |status: &serde_json::Value| {
        status["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    };
    let one = first(&rig.status("always", "waits", is_held).await);
    assert!(one.restart_count > 0, "{one:?}");
    assert_eq!(one.last_state.unwrap().terminated.unwrap().reason.as_deref(), Some("StartError"));
    rig.told("always", "Failed", "Error: ").await;
}

async fn conditions(rig: &Rig) {
    let gates: Vec<String> = (0..10).map(|number| format!("example.com/{number}")).collect();
    let wanted: Vec<_> = gates.iter().map(|gate| json!({"conditionType": gate})).collect();
    rig.pod("gates", json!({"readinessGates": wanted, "containers": [container("main", &["sleep"])]})).await;
    for gate in &gates {
        let one = json!({"status": {"conditions": [{"type": gate, "status": "True"}]}});
        rig.pods().patch_status("gates", &PatchParams::default(), &Patch::Strategic(one)).await.unwrap();
        let looks = async || {
            let pod = rig.pods().get("gates").await.unwrap();
            (condition(&json!(pod.status), gate) == "True").then_some(())
        };
        rig.until(&format!("{gate} is told"), looks).await;
    }
    let status = rig.ready("gates").await;
    gates.iter().for_each(|gate| assert_eq!(condition(&status, gate), "True", "{gate}: {status}"));
}

async fn probes(rig: &Rig) {
    rig.make::<ConfigMap>(json!({"metadata": {"name": "go"}, "data": {}})).await;
    let mounts = json!({"volumeMounts": [{"name": "go", "mountPath": "/go"}]});
    let tcp = with(
        container("tcp", &["await", "/go/now", "then", "serve", "8080", "hi"]),
        with(
            mounts,
            json!({"ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 1}}),
        ),
    );
    let dead = with(
        container("dead", &["sleep"]),
        json!({"livenessProbe": {"exec": {"command": ["probe", "exit", "1"]}, "periodSeconds": 1, "failureThreshold": 1}}),
    );
    let volumes = json!([{"name": "go", "configMap": {"name": "go"}}]);
    rig.pod("probes", json!({"containers": [tcp], "volumes": volumes})).await;
    rig.pod("dead", json!({"containers": [dead], "terminationGracePeriodSeconds": 1})).await;
    rig.told("probes", "Unhealthy", "Readiness probe failed: dial tcp").await;
    let status = rig.status("probes", "runs", |status| status["phase"] == "Running").await;
    assert_eq!((condition(&status, "Ready"), first(&status).ready), ("False", false), "{status}");
    let maps: Api<ConfigMap> = Api::namespaced(rig.client.clone(), "default");
    let change = Patch::Merge(json!({"data": {"now": ""}}));
    maps.patch("go", &PatchParams::default(), &change).await.unwrap();
    rig.ready("probes").await;
    rig.told("dead", "Unhealthy", "Liveness probe failed").await;
    rig.told("dead", "Killing", "Container dead failed liveness probe, will be restarted").await;
    rig.status("dead", "is started again", |status| {
        status["containerStatuses"][0]["restartCount"].as_u64() > Some(0)
    })
    .await;
}

async fn missing(rig: &Rig) {
    let env =
        json!({"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "later", "key": "a"}}}]});
    rig.pod(
        "missing",
        json!({"containers": [with(container("main", &["environment", "then", "sleep"]), env)]}),
    )
    .await;
    let waits = |status: &serde_json::Value| {
        status["containerStatuses"][0]["state"]["waiting"]["reason"] == "CreateContainerConfigError"
    };
    let status = rig.status("missing", "waits", waits).await;
    assert_eq!(
        status["containerStatuses"][0]["state"]["waiting"]["message"],
        "configmap \"later\" not found"
    );
    rig.pod(
        "claim",
        json!({"containers": [container("main", &["sleep"])],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}),
    )
    .await;
    rig.told("claim", "FailedMount", "Unable to attach or mount volumes: unmounted volumes=[v], ").await;
    rig.make::<ConfigMap>(json!({"metadata": {"name": "later"}, "data": {"a": "there"}})).await;
    rig.ready("missing").await;
    rig.log_has("missing", "main", "A=there").await;
}
