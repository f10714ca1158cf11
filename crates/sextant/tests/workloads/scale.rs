//! Autoscalers, and ReplicationControllers. Metrics are objects of a definition that the test makes: a fake `metrics.k8s.io`.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::hand::Kubelet;
use crate::rig::Rig;

fn pod_metrics() -> ApiResource {
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("metrics.k8s.io", "v1beta1", "PodMetrics"),
        "pods",
    )
}

/// Makes a `metrics.k8s.io/v1beta1` that knows what the test tells it.
async fn fake_metrics(rig: &Rig) {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition: CustomResourceDefinition = rig
        .make(json!({
            "metadata": {"name": "pods.metrics.k8s.io", "annotations": {"api-approved.kubernetes.io": "unapproved, a test"}},
            "spec": {"group": "metrics.k8s.io", "scope": "Namespaced",
                "names": {"kind": "PodMetrics", "plural": "pods"},
                "versions": [{"name": "v1beta1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
        }))
        .await;
    let api: Api<CustomResourceDefinition> = Api::all(rig.client.clone());
    rig.until("the definition is established", async |_| {
        let conditions = api.get(&definition.name_any()).await.ok()?.status?.conditions?;
        conditions.iter().any(|one| one.type_ == "Established" && one.status == "True").then_some(())
    })
    .await;
}

/// Says how much of a processor each of these pods uses.
async fn use_of(rig: &Rig, pods: &[Pod], cpu: &str) {
    let resource = pod_metrics();
    let api: Api<DynamicObject> = Api::namespaced_with(rig.client.clone(), "default", &resource);
    for pod in pods {
        let told: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics",
            "metadata": {"name": pod.name_any(), "labels": pod.labels()},
            "timestamp": k8s_openapi::jiff::Timestamp::now().to_string(), "window": "15s",
            "containers": [{"name": "c", "usage": {"cpu": cpu, "memory": "64Mi"}}],
        }))
        .unwrap();
        let _ = api.delete(&pod.name_any(), &kube::api::DeleteParams::default()).await;
        api.create(&PostParams::default(), &told).await.unwrap();
    }
}

fn condition(of: &HorizontalPodAutoscaler, kind: &str) -> Option<(String, String, String)> {
    let conditions = of.status.as_ref()?.conditions.as_ref()?;
    let one = conditions.iter().find(|one| one.type_ == kind)?;
    Some((one.status.clone(), one.reason.clone()?, one.message.clone()?))
}

async fn controller(rig: &Rig, replicas: i32) {
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [
        {"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m"}}}]}});
    rig.make_here::<ReplicationController>(json!({"metadata": {"name": "web"},
        "spec": {"replicas": replicas, "selector": {"app": "web"}, "template": template}}))
        .await;
}

async fn ready(rig: &Rig, count: usize) -> Vec<Pod> {
    rig.until(&format!("{count} pods are ready"), async |rig: &Rig| {
        let pods = rig.pods("app=web").await;
        let is_ready = |pod: &Pod| {
            let conditions = pod.status.as_ref().and_then(|status| status.conditions.clone());
            conditions.unwrap_or_default().iter().any(|one| one.type_ == "Ready" && one.status == "True")
        };
        (pods.len() == count && pods.iter().all(is_ready)).then_some(pods)
    })
    .await
}

#[tokio::test]
async fn a_replication_controller_keeps_its_pods() {
    let rig = Rig::with_workloads().await;
    let _kubelet = Kubelet::start(&rig.client);
    controller(&rig, 3).await;
    let pods = ready(&rig, 3).await;
    let owner = &pods[0].owner_references()[0];
    assert_eq!((owner.kind.as_str(), owner.controller), ("ReplicationController", Some(true)));
    let api: Api<ReplicationController> = rig.objects_of("");
    let fewer = json!({"spec": {"replicas": 1}});
    api.patch("web", &PatchParams::default(), &Patch::Merge(fewer)).await.unwrap();
    ready(&rig, 1).await;
    rig.until("it counts one", async |_| {
        let status = api.get("web").await.ok()?.status?;
        (status.replicas == 1 && status.ready_replicas == Some(1)).then_some(())
    })
    .await;
}

async fn said(rig: &Rig, kind: &str, reason: &str) -> (String, String) {
    let api: Api<HorizontalPodAutoscaler> = rig.objects_of("");
    let look =
        async |_: &Rig| condition(&api.get("web").await.ok()?, kind).filter(|(_, its, _)| its == reason);
    let (status, _, message) = rig.until(&format!("{kind} says {reason}"), look).await;
    (status, message)
}

#[tokio::test]
async fn an_autoscaler_without_metrics_says_so_and_scales_when_there_are_some() {
    let mut rig = Rig::with_workloads().await;
    let _kubelet = Kubelet::start(&rig.client);
    controller(&rig, 2).await;
    let pods = ready(&rig, 2).await;
    let target = json!({"apiVersion": "v1", "kind": "ReplicationController", "name": "web"});
    let metric = json!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "32Mi"}}});
    rig.make_here::<HorizontalPodAutoscaler>(json!({"metadata": {"name": "web"},
        "spec": {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 3, "metrics": [metric]}}))
        .await;
    let (status, why) = said(&rig, "ScalingActive", "FailedGetResourceMetric").await;
    assert_eq!(status, "False");
    let unknown = "the HPA was unable to compute the replica count: failed to get memory usage: unable to get metrics for resource \
                   memory: unable to fetch metrics from resource metrics API: the server could not find the requested resource \
                   (get pods.metrics.k8s.io)";
    assert_eq!(why, unknown);
    let told = rig.told("web", "FailedComputeMetricsReplicas").await;
    assert!(told.starts_with("invalid metrics (1 invalid out of 1), first error is: failed to get memory resource metric value:"), "{told}");
    // Twice as much as wanted: four pods, of which three may be.
    fake_metrics(&rig).await;
    use_of(&rig, &pods, "10m").await;
    rig.kill("control");
    rig.again("control");
    assert_eq!(
        rig.told("web", "SuccessfulRescale").await,
        "New size: 3; reason: memory resource above target"
    );
    ready(&rig, 3).await;
    let (status, why) = said(&rig, "ScalingLimited", "TooManyReplicas").await;
    let text = "the desired replica count is more than the maximum replica count";
    assert_eq!((status.as_str(), why.as_str()), ("True", text));
    let (status, why) = said(&rig, "ScalingActive", "ValidMetricFound").await;
    let text = "the HPA was able to successfully calculate a replica count from memory resource";
    assert_eq!((status.as_str(), why.as_str()), ("True", text));
    let api: Api<HorizontalPodAutoscaler> = rig.objects_of("");
    let status: Value = json!(api.get("web").await.unwrap().status);
    assert_eq!(status["currentMetrics"][0]["resource"]["current"], json!({"averageValue": "64Mi"}));
    assert!(status["lastScaleTime"].is_string() && status["desiredReplicas"] == 3, "{status}");
}
