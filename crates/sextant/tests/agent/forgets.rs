//! A runtime that has forgotten what ran: after `sextant down`, or a boot.

use cri::caller::Client;
use cri::contract::v1::{ListPodSandboxRequest, RemovePodSandboxRequest, StopPodSandboxRequest};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::Test;
use crate::rig::{Rig, container, first, with};

pub(crate) const TESTS: &[Test] =
    &[("a_pod_that_the_runtime_has_forgotten_is_started_once_more", |rig| Box::pin(forgotten(rig)))];

/// Has the runtime forget all pods, and their logs go.
async fn forget(rig: &Rig) {
    let cri = Client::connect(&rig.path("run/cri.sock")).await.unwrap();
    for pod in cri.list_pod_sandbox(ListPodSandboxRequest::default()).await.unwrap().items {
        cri.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: pod.id.clone() }).await.unwrap();
        cri.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: pod.id }).await.unwrap();
    }
    std::fs::remove_dir_all(rig.path("logs")).unwrap();
}

async fn forgotten(rig: &Rig) {
    let map = json!({"metadata": {"name": "needed"}, "data": {"a": "b"}});
    rig.make::<ConfigMap>(map.clone()).await;
    let init = container("first", &["say", "done"]);
    let main =
        with(container("main", &["sleep"]), json!({"volumeMounts": [{"name": "map", "mountPath": "/map"}]}));
    let volumes = json!([{"name": "map", "configMap": {"name": "needed"}}]);
    let spec = json!({"initContainers": [init], "containers": [main], "volumes": volumes, "terminationGracePeriodSeconds": 0});
    rig.pod("again", spec).await;
    let before = first(&rig.ready("again").await);
    assert_eq!(before.restart_count, 0);
    rig.kill("agent");
    forget(rig).await;
    let maps: Api<ConfigMap> = Api::namespaced(rig.client.clone(), "default");
    maps.delete("needed", &DeleteParams::default()).await.unwrap();
    rig.agent();
    // It is told of before the next one can be started: the first look that starts it is another one.
    let lost = |status: &Value| status["containerStatuses"][0]["state"]["waiting"].is_object();
    let status = rig.status("again", "has lost its container", lost).await;
    let told = first(&status);
    let last = told.last_state.unwrap().terminated.unwrap();
    assert_eq!((told.restart_count, last.reason.as_deref()), (1, Some("ContainerStatusUnknown")), "{status}");
    rig.told("again", "FailedMount", "needed").await;
    rig.make::<ConfigMap>(map).await;
    let after = first(&rig.ready("again").await);
    assert_eq!(after.restart_count, 1);
    assert_ne!(after.container_id, before.container_id);
    let init = json!(rig.pods().get("again").await.unwrap().status)["initContainerStatuses"][0].clone();
    assert_eq!(init["restartCount"], 1, "{init}");
    // And once more, without anything in the way.
    rig.kill("agent");
    forget(rig).await;
    rig.agent();
    let again = |status: &Value| {
        let told = first(status);
        told.ready && told.container_id != after.container_id
    };
    assert_eq!(first(&rig.status("again", "is ready again", again).await).restart_count, 2);
}
