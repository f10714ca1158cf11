//! Pods that get other resources while they run.

use k8s_openapi::api::core::v1::Node;
use kernel::cgroup::{Cgroup, Limits};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::Test;
use crate::rig::{NODE, Rig, condition, container, first, with};

pub(crate) const TESTS: &[Test] = &[
    ("resources_change_in_place", |rig| Box::pin(in_place(rig))),
    ("a_resize_that_was_cut_short_leaves_no_higher_limit", |rig| Box::pin(cut_short(rig))),
    ("a_resize_waits_for_room_or_is_refused", |rig| Box::pin(refused(rig))),
];

fn same(cpu: &str, memory: &str) -> Value {
    let amounts = json!({"cpu": cpu, "memory": memory});
    json!({"limits": amounts, "requests": amounts})
}

async fn resize(rig: &Rig, name: &str, resources: Value) {
    let patch = Patch::Strategic(json!({"spec": {"containers": [{"name": "main", "resources": resources}]}}));
    rig.pods().patch_subresource("resize", name, &PatchParams::default(), &patch).await.unwrap();
}

/// What the status tells of the container once it has all that it is to have.
fn has(status: &Value, resources: &Value) -> bool {
    let told = &status["containerStatuses"][0];
    told["resources"] == *resources
        && told["allocatedResources"] == resources["requests"]
        && condition(status, "PodResizeInProgress").is_empty()
}

async fn in_place(rig: &Rig) {
    let policy = json!([{"resourceName": "cpu", "restartPolicy": "NotRequired"},
        {"resourceName": "memory", "restartPolicy": "NotRequired"}]);
    let fields = json!({"resources": same("200m", "64Mi"), "resizePolicy": policy});
    let pod = rig.pod("grows", json!({"containers": [with(container("main", &["sleep"]), fields)]})).await;
    let status = rig.ready("grows").await;
    assert!(has(&status, &same("200m", "64Mi")), "{status}");
    let id = first(&status).container_id;
    let group = rig.cgroups().join(format!("pod{}", pod.metadata.uid.unwrap()));
    let limit = || Cgroup::at(&group).unwrap().usage().memory_limit;
    assert_eq!(limit(), Some(64 << 20));
    for (cpu, memory, bytes) in [("300m", "128Mi", 128 << 20), ("100m", "48Mi", 48 << 20)] {
        resize(rig, "grows", same(cpu, memory)).await;
        let status = rig.status("grows", "has it", |status| has(status, &same(cpu, memory))).await;
        assert_eq!((first(&status).container_id, first(&status).restart_count), (id.clone(), 0));
        assert_eq!(limit(), Some(bytes), "of the pod as a whole");
    }
    rig.told("grows", "ResizeStarted", "Pod resize started: {").await;
    rig.told("grows", "ResizeCompleted", "\"cpu\":\"100m\"").await;
    // Less than it uses cannot be had: what it has stays, and that is told.
    resize(rig, "grows", same("100m", "1Ki")).await;
    let failed = |status: &Value| condition(status, "PodResizeInProgress") == "True";
    let status = rig.status("grows", "has not shrunk", failed).await;
    let told = status["conditions"].as_array().unwrap().iter().find(|one| one["reason"] == "Error");
    assert!(
        told.is_none_or(|one| one["message"].as_str().unwrap().contains("below current usage")),
        "{status}"
    );
    assert_eq!(first(&status).container_id, id);
    assert_eq!(limit(), Some(48 << 20));
    let fields = json!({"resources": same("100m", "64Mi"),
        "resizePolicy": [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]});
    let spec = json!({"containers": [with(container("main", &["sleep"]), fields)], "terminationGracePeriodSeconds": 1});
    let pod = rig.pod("anew", spec).await;
    rig.ready("anew").await;
    let group = rig.cgroups().join(format!("pod{}", pod.metadata.uid.unwrap()));
    resize(rig, "anew", same("100m", "80Mi")).await;
    let anew = |status: &Value| {
        has(status, &same("100m", "80Mi")) && status["containerStatuses"][0]["restartCount"] == 1
    };
    rig.status("anew", "is started anew", anew).await;
    assert_eq!(Cgroup::at(&group).unwrap().usage().memory_limit, Some(80 << 20), "of the pod as a whole");
    rig.told("anew", "Killing", "Container main resize requires restart").await;
}

async fn cut_short(rig: &Rig) {
    let fields = json!({"resources": same("100m", "64Mi")});
    let pod = rig.pod("cut", json!({"containers": [with(container("main", &["sleep"]), fields)]})).await;
    let before = first(&rig.ready("cut").await);
    let group = Cgroup::at(&rig.cgroups().join(format!("pod{}", pod.metadata.uid.unwrap()))).unwrap();
    // As an agent leaves it that is killed after its containers have less, and before the pod has.
    rig.kill("agent");
    group.apply(&Limits { memory: Some(128 << 20), ..Limits::default() }).unwrap();
    assert_eq!(group.usage().memory_limit, Some(128 << 20));
    rig.agent();
    let has = async || (group.usage().memory_limit == Some(64 << 20)).then_some(());
    rig.until("the pod has the limit of its containers", has).await;
    let after = first(&rig.ready("cut").await);
    assert_eq!((after.container_id, after.restart_count), (before.container_id, 0));
}

async fn refused(rig: &Rig) {
    let nodes: Api<Node> = Api::all(rig.client.clone());
    let capacity = nodes.get(NODE).await.unwrap().status.unwrap().capacity.unwrap();
    let cpus: u64 = capacity["cpu"].0.parse().unwrap();
    let most = format!("{}m", cpus * 1000 - 150);
    let asks =
        |cpu: &str| with(container("main", &["sleep"]), json!({"resources": {"requests": {"cpu": cpu}}}));
    rig.pod("big", json!({"containers": [asks(&most)], "terminationGracePeriodSeconds": 0})).await;
    rig.pod("small", json!({"containers": [asks("100m")]})).await;
    rig.ready("big").await;
    rig.ready("small").await;
    let pending = |reason: &'static str| {
        move |status: &Value| {
            let all = status["conditions"].as_array().unwrap();
            all.iter().any(|one| one["type"] == "PodResizePending" && one["reason"] == reason)
        }
    };
    resize(rig, "small", json!({"requests": {"cpu": "1000"}})).await;
    let status = rig.status("small", "is refused", pending("Infeasible")).await;
    assert!(has(&status, &json!({"requests": {"cpu": "100m"}})), "{status}");
    rig.told("small", "ResizeInfeasible", "Node didn't have enough capacity: cpu, requested: 1000000").await;
    resize(rig, "small", json!({"requests": {"cpu": "200m"}})).await;
    rig.status("small", "waits", pending("Deferred")).await;
    // An agent that starts anew knows what was given.
    rig.kill("agent");
    rig.agent();
    rig.delete("big", 0).await;
    let had = |status: &Value| has(status, &json!({"requests": {"cpu": "200m"}}));
    let status = rig.status("small", "has it", had).await;
    assert_eq!((condition(&status, "PodResizePending"), first(&status).restart_count), ("", 0));
}
