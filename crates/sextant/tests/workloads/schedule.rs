//! Pods get nodes, or are told why not.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::hand::Kubelet;
use crate::rig::Rig;

fn pod(name: &str, cpu: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [
        {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]}})
}

async fn node_of(rig: &Rig, name: &str) -> String {
    let bound = async |rig: &Rig| {
        let pod = rig.objects_of::<Pod>("").get(name).await.ok()?;
        pod.spec?.node_name.filter(|node| !node.is_empty())
    };
    rig.until(&format!("pod {name} has a node"), bound).await
}

async fn unschedulable(rig: &Rig, name: &str) -> String {
    let look = async |rig: &Rig| {
        let pod = rig.objects_of::<Pod>("").get(name).await.ok()?;
        let conditions = pod.status?.conditions?;
        let told = conditions.into_iter().find(|one| one.type_ == "PodScheduled" && one.status == "False")?;
        (told.reason.as_deref() == Some("Unschedulable")).then_some(told.message?)
    };
    rig.until(&format!("pod {name} is told why"), look).await
}

#[tokio::test]
async fn a_pod_that_fits_nowhere_says_why_and_goes_when_there_is_room() {
    let rig = Rig::with_workloads().await;
    let _kubelet = Kubelet::start(&rig.client);
    rig.make_here::<Pod>(pod("first", "3")).await;
    assert_eq!(node_of(&rig, "first").await, "node-1");
    assert_eq!(rig.told("first", "Scheduled").await, "Successfully assigned default/first to node-1");
    rig.make_here::<Pod>(pod("second", "2")).await;
    let why = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are \
               available: 1 No preemption victims found for incoming pod.";
    assert_eq!(unschedulable(&rig, "second").await, why);
    assert_eq!(rig.told("second", "FailedScheduling").await, why);
    rig.objects_of::<Pod>("").delete("first", &DeleteParams::default()).await.unwrap();
    assert_eq!(node_of(&rig, "second").await, "node-1");
    // Another node: the emptier one is taken.
    rig.machine("node-2", json!({})).await;
    // The scheduler may hear of pods before it hears of nodes.
    let mut known = pod("known", "0");
    known["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "node-2"});
    rig.make_here::<Pod>(known).await;
    node_of(&rig, "known").await;
    rig.make_here::<Pod>(pod("third", "1")).await;
    assert_eq!(node_of(&rig, "third").await, "node-2");
}

#[tokio::test]
async fn an_important_pod_takes_the_room_of_another() {
    let rig = Rig::with_workloads().await;
    let _kubelet = Kubelet::start(&rig.client);
    rig.make::<k8s_openapi::api::scheduling::v1::PriorityClass>(
        json!({"metadata": {"name": "high"}, "value": 1000}),
    )
    .await;
    rig.make_here::<Pod>(pod("low", "3")).await;
    node_of(&rig, "low").await;
    let mut high = pod("high", "3");
    high["spec"]["priorityClassName"] = json!("high");
    rig.make_here::<Pod>(high).await;
    assert_eq!(node_of(&rig, "high").await, "node-1");
    assert!(rig.told("low", "Preempted").await.starts_with("Preempted by pod "));
}

#[tokio::test]
async fn room_that_is_being_made_is_nobody_elses() {
    let rig = Rig::with_workloads().await;
    let kubelet = Kubelet::start(&rig.client);
    rig.make::<k8s_openapi::api::scheduling::v1::PriorityClass>(
        json!({"metadata": {"name": "high"}, "value": 1000}),
    )
    .await;
    rig.make_here::<Pod>(pod("low", "3")).await;
    node_of(&rig, "low").await;
    // Who has to go takes its time.
    drop(kubelet);
    let mut high = pod("high", "4");
    high["spec"]["priorityClassName"] = json!("high");
    rig.make_here::<Pod>(high).await;
    rig.until("the less important one is going", async |rig| {
        rig.objects_of::<Pod>("").get("low").await.ok()?.metadata.deletion_timestamp
    })
    .await;
    // There is room for this one now, and would be none for the important one then.
    rig.make_here::<Pod>(pod("small", "1")).await;
    assert!(unschedulable(&rig, "small").await.contains("Insufficient cpu"));
    let _kubelet = Kubelet::start(&rig.client);
    assert_eq!(node_of(&rig, "high").await, "node-1");
    assert_eq!(rig.objects_of::<Pod>("").get("small").await.unwrap().spec.unwrap().node_name, None);
}

#[tokio::test]
async fn a_gated_pod_waits_for_its_gates_and_a_tainted_node_is_left() {
    let rig = Rig::with_workloads().await;
    let mut gated = pod("gated", "1");
    gated["spec"]["schedulingGates"] = json!([{"name": "example.com/wait"}]);
    rig.make_here::<Pod>(gated).await;
    let mut picky = pod("picky", "1");
    picky["spec"]["nodeSelector"] = json!({"disk": "fast"});
    rig.make_here::<Pod>(picky).await;
    assert!(
        unschedulable(&rig, "picky").await.contains("1 node(s) didn't match Pod's node affinity/selector")
    );
    // What came after the gated one was looked at: it was passed over.
    let api: Api<Pod> = rig.objects_of("");
    assert_eq!(api.get("gated").await.unwrap().spec.unwrap().node_name, None);
    let open = Patch::Merge(json!({"spec": {"schedulingGates": null}}));
    api.patch("gated", &PatchParams::default(), &open).await.unwrap();
    node_of(&rig, "gated").await;
    rig.machine("node-2", json!({"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]})).await;
    let mut other = pod("other", "1");
    other["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "node-2"});
    rig.make_here::<Pod>(other).await;
    let why = "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had ";
    let is_told = async |rig: &Rig| unschedulable(rig, "other").await.starts_with(why).then_some(());
    rig.until("why it waits is told of both nodes", is_told).await;
}
