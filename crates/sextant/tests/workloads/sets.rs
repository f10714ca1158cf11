//! ReplicaSets, StatefulSets, DaemonSets, the endpoints of Services, and budgets.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{
    Endpoints, Node, PersistentVolume, PersistentVolumeClaim, Pod, ResourceQuota, Service,
};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::api::events::v1::Event;
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
    db(&rig, 3, json!({})).await;
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

/// A StatefulSet `db` with a claim `data` for each pod, and volumes for some of them.
async fn db(rig: &Rig, replicas: i32, more: Value) {
    for number in 0..4 {
        rig.make::<PersistentVolume>(json!({"metadata": {"name": format!("v{number}")}, "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "hand",
            "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/nowhere"}}}))
            .await;
    }
    let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "hand",
        "resources": {"requests": {"storage": "1Gi"}}}});
    let mut spec = json!({"replicas": replicas, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
        "template": template("db", "one"), "volumeClaimTemplates": [claim]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    rig.make_here::<StatefulSet>(json!({"metadata": {"name": "db"}, "spec": spec})).await;
}

#[tokio::test]
async fn claims_go_with_pods_that_go_for_good_and_the_next_pod_has_new_ones() {
    let rig = Rig::with_workloads().await;
    let _kubelet = Kubelet::start(&rig.client);
    let policy =
        json!({"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete", "whenDeleted": "Retain"}});
    db(&rig, 2, policy).await;
    let pods = ready(&rig, "app=db", 2, "one").await;
    let claims: Api<PersistentVolumeClaim> = rig.objects_of("");
    let sets: Api<StatefulSet> = rig.objects_of("");
    let change = async |patch: Value| {
        sets.patch("db", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    };
    let old = claims.get("data-db-1").await.unwrap().uid();
    change(json!({"spec": {"replicas": 1}})).await;
    rig.until("the second pod goes", async |rig| {
        let pod = rig.objects_of::<Pod>("").get_opt("db-1").await.ok()?;
        pod.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some()).then_some(())
    })
    .await;
    change(json!({"spec": {"replicas": 2}})).await;
    ready(&rig, "app=db", 2, "one").await;
    let new = claims.get("data-db-1").await.unwrap();
    assert!(
        new.uid() != old && new.metadata.deletion_timestamp.is_none() && new.owner_references().is_empty()
    );
    // Killed between the claim's word and the pod's end, and given its number back: the pod stays, and so does its claim.
    let first = pods.iter().find(|pod| pod.name_any() == "db-0").unwrap();
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "db-0", "uid": first.uid()});
    let with = Patch::Merge(json!({"metadata": {"ownerReferences": [owner]}}));
    claims.patch("data-db-0", &PatchParams::default(), &with).await.unwrap();
    let mut looks = 0;
    while !claims.get("data-db-0").await.unwrap().owner_references().is_empty() {
        looks += 1;
        assert!(looks < 600, "the claim would go with a pod that stays");
        change(json!({"metadata": {"annotations": {"looks": looks.to_string()}}})).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_stateful_set_that_is_made_again_takes_its_pods_as_they_are() {
    let rig = Rig::with_workloads().await;
    let _kubelet = Kubelet::start(&rig.client);
    db(&rig, 2, json!({})).await;
    let uids = |pods: Vec<Pod>| pods.into_iter().map(|pod| pod.uid()).collect::<BTreeSet<_>>();
    let before = uids(ready(&rig, "app=db", 2, "one").await);
    let api: Api<StatefulSet> = rig.objects_of("");
    let set = api.get("db").await.unwrap();
    api.delete("db", &DeleteParams::orphan()).await.unwrap();
    rig.until("it is gone", async |rig| {
        rig.objects_of::<StatefulSet>("").get_opt("db").await.ok()?.is_none().then_some(())
    })
    .await;
    rig.make_here::<StatefulSet>(json!({"metadata": {"name": "db"}, "spec": set.spec})).await;
    rig.until("all are its own, and as they should be", async |rig| {
        let status = rig.objects_of::<StatefulSet>("").get("db").await.ok()?.status?;
        (status.updated_replicas == Some(2) && status.ready_replicas == Some(2)).then_some(())
    })
    .await;
    assert_eq!(uids(rig.pods("app=db").await), before, "they were replaced");
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
    rig.objects_of::<Service>("").delete("web", &DeleteParams::default()).await.unwrap();
    rig.until("nothing is left of the service", async |rig| {
        let old = rig.objects_of::<Endpoints>("").get_opt("web").await.ok()?;
        (old.is_none() && endpoints(rig, "web").await.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_set_that_is_refused_says_so_and_tries_again_later_and_later() {
    let rig = Rig::with_workloads().await;
    let _kubelet = Kubelet::start(&rig.client);
    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}});
    rig.make_here::<ResourceQuota>(quota).await;
    let spec = json!({"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template("web", "one")});
    rig.make_here::<ReplicaSet>(json!({"metadata": {"name": "web"}, "spec": spec})).await;
    let condition = async |rig: &Rig| {
        let status = rig.objects_of::<ReplicaSet>("").get("web").await.ok()?.status?;
        status.conditions?.into_iter().find(|one| one.type_ == "ReplicaFailure")
    };
    let told = rig.until("it says that it is refused", condition).await;
    assert_eq!((told.status.as_str(), told.reason.as_deref()), ("True", Some("FailedCreate")));
    ready(&rig, "app=web", 1, "one").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let events = rig.objects_of::<Event>("").list(&ListParams::default()).await.unwrap();
    // Each try is told with the name of another pod.
    let tries = events.iter().filter(|event| event.reason.as_deref() == Some("FailedCreate")).count();
    assert!((1..30).contains(&tries), "{tries} tries in three seconds");
    let more = Patch::Merge(json!({"spec": {"hard": {"pods": "5"}}}));
    rig.objects_of::<ResourceQuota>("").patch("few", &PatchParams::default(), &more).await.unwrap();
    ready(&rig, "app=web", 3, "one").await;
    rig.until("it says so no more", async |rig| {
        let status = rig.objects_of::<ReplicaSet>("").get("web").await.ok()?.status?;
        status.conditions.is_none_or(|all| all.is_empty()).then_some(())
    })
    .await;
}
