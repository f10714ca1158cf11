//! StatefulSets, DaemonSets, the endpoints of Services, and budgets.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Endpoints, Node, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::hand::Kubelet;
use crate::rig::Rig;

fn template(app: &str, image: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}}, "spec": {"containers": [
        {"name": "c", "image": image, "ports": [{"name": "web", "containerPort": 8080}]}]}})
}

async fn ready(rig: &Rig, label: &str, count: usize, image: &str) -> Vec<Pod> {
    let look = async |rig: &Rig| {
        let pods = rig.pods(label).await;
        let is_ready = |pod: &Pod| {
            let conditions =
                pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
            conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True")
        };
        let is_of = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some(image);
        (pods.len() == count && pods.iter().all(|pod| is_ready(pod) && is_of(pod))).then_some(pods)
    };
    rig.until(&format!("{count} pods {label} of {image} are ready"), look).await
}

#[tokio::test]
async fn a_stateful_set_has_names_and_claims_and_is_updated_from_the_end() {
    let rig = Rig::with_workloads().await;
    let _kubelet = Kubelet::start(&rig.client);
    let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "hand",
        "resources": {"requests": {"storage": "1Gi"}}}});
    for number in 0..3 {
        rig.make::<k8s_openapi::api::core::v1::PersistentVolume>(json!({"metadata": {"name": format!("v{number}")},
            "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "hand",
            "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/nowhere"}}}))
            .await;
    }
    let spec = json!({"replicas": 3, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
        "template": template("db", "one"), "volumeClaimTemplates": [claim]});
    rig.make_here::<StatefulSet>(json!({"metadata": {"name": "db"}, "spec": spec})).await;
    let mut pods = ready(&rig, "app=db", 3, "one").await;
    pods.sort_by_key(|pod| pod.name_any());
    let names: Vec<_> = pods.iter().map(|pod| pod.name_any()).collect();
    assert_eq!(names, ["db-0", "db-1", "db-2"]);
    let first = &pods[0];
    assert_eq!(first.labels()["statefulset.kubernetes.io/pod-name"], "db-0");
    let spec = first.spec.as_ref().unwrap();
    assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("db-0"), Some("db")));
    let claims = rig.objects_of::<PersistentVolumeClaim>("").list(&ListParams::default()).await.unwrap();
    let claims: Vec<_> = claims.iter().map(|claim| claim.name_any()).collect();
    assert_eq!(claims, ["data-db-0", "data-db-1", "data-db-2"]);
    let api: Api<StatefulSet> = rig.objects_of("");
    let change = async |spec: Value| {
        api.patch("db", &PatchParams::default(), &Patch::Strategic(json!({"spec": spec}))).await.unwrap();
    };
    change(json!({"updateStrategy": {"rollingUpdate": {"partition": 2}}, "template": template("db", "two")}))
        .await;
    rig.until("the last pod alone is new", async |rig| {
        let pods = rig.objects_of::<Pod>("").list(&ListParams::default().labels("app=db")).await.ok()?;
        let image = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
        let images: Vec<_> = pods.iter().map(image).collect();
        (images == ["one", "one", "two"]).then_some(())
    })
    .await;
    change(json!({"updateStrategy": {"rollingUpdate": {"partition": 0}}})).await;
    ready(&rig, "app=db", 3, "two").await;
    rig.until("its revision is current", async |rig| {
        let status = rig.objects_of::<StatefulSet>("").get("db").await.ok()?.status?;
        (status.current_revision == status.update_revision && status.current_replicas == Some(3))
            .then_some(())
    })
    .await;
    change(json!({"replicas": 1})).await;
    let left = ready(&rig, "app=db", 1, "two").await;
    assert_eq!(left[0].name_any(), "db-0");
    assert_eq!(
        rig.objects_of::<PersistentVolumeClaim>("").list(&ListParams::default()).await.unwrap().items.len(),
        3
    );
}

#[tokio::test]
async fn a_daemon_set_is_on_each_node_and_goes_with_them() {
    let rig = Rig::with_workloads().await;
    let _kubelet = Kubelet::start(&rig.client);
    rig.machine("node-2", json!({"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]})).await;
    let spec = json!({"selector": {"matchLabels": {"app": "log"}}, "template": template("log", "one")});
    rig.make_here::<DaemonSet>(json!({"metadata": {"name": "log"}, "spec": spec})).await;
    let pods = ready(&rig, "app=log", 1, "one").await;
    assert_eq!(pods[0].spec.as_ref().unwrap().node_name.as_deref(), Some("node-1"));
    let nodes: Api<Node> = Api::all(rig.client.clone());
    let clean = Patch::Merge(json!({"spec": {"taints": null}}));
    nodes.patch("node-2", &PatchParams::default(), &clean).await.unwrap();
    ready(&rig, "app=log", 2, "one").await;
    let api: Api<DaemonSet> = rig.objects_of("");
    let two = Patch::Strategic(json!({"spec": {"template": template("log", "two")}}));
    api.patch("log", &PatchParams::default(), &two).await.unwrap();
    ready(&rig, "app=log", 2, "two").await;
    rig.until("it says so", async |rig| {
        let status = rig.objects_of::<DaemonSet>("").get("log").await.ok()?.status?;
        (status.number_available == Some(2) && status.updated_number_scheduled == Some(2)).then_some(())
    })
    .await;
    nodes.delete("node-2", &DeleteParams::default()).await.unwrap();
    let left = ready(&rig, "app=log", 1, "two").await;
    assert_eq!(left[0].spec.as_ref().unwrap().node_name.as_deref(), Some("node-1"));
}

async fn endpoints(rig: &Rig, service: &str) -> Vec<Endpoint> {
    let label = format!("kubernetes.io/service-name={service}");
    let slices =
        rig.objects_of::<EndpointSlice>("").list(&ListParams::default().labels(&label)).await.unwrap();
    slices.into_iter().flat_map(|slice| slice.endpoints.unwrap_or_default()).collect()
}

#[tokio::test]
async fn endpoints_follow_readiness_and_a_budget_holds_evictions() {
    let rig = Rig::with_workloads().await;
    let _kubelet = Kubelet::start(&rig.client);
    let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "web"}]});
    rig.make_here::<Service>(json!({"metadata": {"name": "web"}, "spec": spec})).await;
    let spec = json!({"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template("web", "one")});
    rig.make_here::<Deployment>(json!({"metadata": {"name": "web"}, "spec": spec})).await;
    let budget = json!({"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}});
    rig.make_here::<PodDisruptionBudget>(json!({"metadata": {"name": "web"}, "spec": budget})).await;
    let pods = ready(&rig, "app=web", 2, "one").await;
    let are_ready = async |rig: &Rig, count: usize| {
        let is_ready =
            |one: &&Endpoint| one.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true);
        let all = endpoints(rig, "web").await;
        (all.iter().filter(is_ready).count() == count).then_some(all)
    };
    let two = rig.until("two endpoints are ready", async |rig| are_ready(rig, 2).await).await;
    assert_eq!(two.len(), 2);
    let slice = rig
        .objects_of::<EndpointSlice>("")
        .list(&ListParams::default().labels("kubernetes.io/service-name=web"))
        .await;
    let slice = slice.unwrap().items.remove(0);
    assert_eq!(slice.labels()["endpointslice.kubernetes.io/managed-by"], "endpointslice-controller.k8s.io");
    assert_eq!(slice.ports.unwrap()[0].port, Some(8080));
    let api: Api<Pod> = rig.objects_of("");
    let sick = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    api.patch_status(&pods[0].name_any(), &PatchParams::default(), &Patch::Strategic(sick)).await.unwrap();
    let all = rig.until("one endpoint is ready", async |rig| are_ready(rig, 1).await).await;
    assert_eq!(all.len(), 2, "the other is told, too");
    let old = rig.objects_of::<Endpoints>("").get("web").await.unwrap().subsets.unwrap();
    assert_eq!(old[0].ports.as_ref().unwrap()[0].port, 8080);
    // One is sick: another may not go.
    rig.until("the budget says so", async |rig| {
        let status = rig.objects_of::<PodDisruptionBudget>("").get("web").await.ok()?.status?;
        let counts = (
            status.expected_pods,
            status.current_healthy,
            status.desired_healthy,
            status.disruptions_allowed,
        );
        (counts == (Some(2), Some(1), Some(1), Some(0))).then_some(())
    })
    .await;
    // kube-rs asks again and again where it is told to wait.
    let name = pods[1].name_any();
    let how = EvictParams::default();
    let refused = tokio::time::timeout(Duration::from_secs(2), api.evict(&name, &how)).await;
    assert!(!matches!(refused, Ok(Ok(_))), "a pod was evicted that the budget holds");
    assert!(api.get(&name).await.unwrap().metadata.deletion_timestamp.is_none());
    let well = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    api.patch_status(&pods[0].name_any(), &PatchParams::default(), &Patch::Strategic(well)).await.unwrap();
    rig.until("it may be evicted", async |rig| {
        rig.objects_of::<Pod>("").evict(&name, &EvictParams::default()).await.ok()
    })
    .await;
    rig.until("another has taken its place", async |rig| are_ready(rig, 2).await).await;
}
