//! Services with load balancers.

use std::time::Duration;

use cpi::contract::Error;
use serde_json::json;

use crate::provider::{Balancer, Cloud};
use crate::rig::Rig;
use crate::site::{change, event, expose, join, node_is, nothing_was_forbidden, service_is, start, withdraw};

const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";

fn is_held(service: &serde_json::Value) -> bool {
    service["metadata"]["finalizers"].as_array().is_some_and(|all| all.iter().any(|one| one == FINALIZER))
}

fn leads(ports: &[i32], nodes: &[&str]) -> Balancer {
    Balancer { ports: ports.to_vec(), nodes: nodes.iter().map(ToString::to_string).collect() }
}

async fn becomes(rig: &Rig, cloud: &Cloud, service: &cpi::contract::Service, wanted: Option<Balancer>) {
    let is = async |_: &Rig| (cloud.balancer(service) == wanted).then_some(());
    rig.until(&format!("the load balancer is {wanted:?}"), is).await;
}

#[tokio::test]
async fn a_load_balancer_is_made_changed_and_removed() {
    let (rig, cloud) = start(&[]).await;
    join(&rig, &cloud, "node-1").await;
    node_is(&rig, "node-1", "initialized", |node| node["spec"]["providerID"].is_string()).await;
    let web = expose(&rig, "web").await;
    service_is(&rig, "web", "reachable", |web| {
        web["status"]["loadBalancer"]["ingress"][0]["ip"] == "192.0.2.1"
    })
    .await;
    service_is(&rig, "web", "held", is_held).await;
    becomes(&rig, &cloud, &web, Some(leads(&[80], &["node-1"]))).await;
    event(&rig, "web", "EnsuringLoadBalancer", "Ensuring load balancer").await;
    event(&rig, "web", "EnsuredLoadBalancer", "Ensured load balancer").await;

    // What is not the cloud's, or wants nothing of it, is left alone.
    let ensured = cloud.state().calls["ensure"];
    let ports = json!([{"port": 80}]);
    let class = json!({"type": "LoadBalancer", "loadBalancerClass": "example.com/mine", "ports": ports});
    rig.make_here::<cpi::contract::Service>(json!({"metadata": {"name": "classy"}, "spec": class})).await;
    rig.make_here::<cpi::contract::Service>(json!({"metadata": {"name": "plain"}, "spec": {"ports": ports}}))
        .await;
    change(&rig, "web", json!({"metadata": {"labels": {"a": "b"}}})).await;

    // Other nodes, other ports.
    join(&rig, &cloud, "node-2").await;
    becomes(&rig, &cloud, &web, Some(leads(&[80], &["node-1", "node-2"]))).await;
    event(&rig, "web", "UpdatedLoadBalancer", "Updated load balancer with new hosts").await;
    assert_eq!(cloud.state().calls["ensure"], ensured, "it was led there, and nothing else was made");
    let exclude = kube::api::Patch::Merge(
        json!({"metadata": {"labels": {"node.kubernetes.io/exclude-from-external-load-balancers": ""}}}),
    );
    crate::site::nodes(&rig).patch("node-1", &Default::default(), &exclude).await.unwrap();
    becomes(&rig, &cloud, &web, Some(leads(&[80], &["node-2"]))).await;
    change(&rig, "web", json!({"spec": {"ports": [{"port": 81}]}})).await;
    becomes(&rig, &cloud, &web, Some(leads(&[81], &["node-2"]))).await;

    // Not yet, as the provider says: it is asked again after the time that it wants.
    let later = Error::RetryAfter { message: "half made".into(), after: Duration::from_millis(50) };
    cloud.state().failing.insert("ensure", vec![later.clone(), later]);
    change(&rig, "web", json!({"metadata": {"annotations": {"a": "b"}}, "spec": {"ports": [{"port": 82}]}}))
        .await;
    event(
        &rig,
        "web",
        "SyncLoadBalancerFailed",
        "Error syncing load balancer: failed to ensure load balancer: half made",
    )
    .await;
    becomes(&rig, &cloud, &web, Some(leads(&[82], &["node-2"]))).await;

    // Not wanted any more; wanted again; gone.
    change(&rig, "web", json!({"spec": {"type": "ClusterIP"}})).await;
    becomes(&rig, &cloud, &web, None).await;
    service_is(&rig, "web", "as it was", |web| {
        !is_held(web) && web["status"]["loadBalancer"]["ingress"].is_null()
    })
    .await;
    event(&rig, "web", "DeletedLoadBalancer", "Deleted load balancer").await;
    change(&rig, "web", json!({"spec": {"type": "LoadBalancer"}})).await;
    becomes(&rig, &cloud, &web, Some(leads(&[82], &["node-2"]))).await;
    cloud.state().failing.insert("delete", vec![Error::Failed("throttled".into())]);
    withdraw(&rig, "web").await;
    event(&rig, "web", "SyncLoadBalancerFailed", "failed to delete load balancer: throttled").await;
    let services = rig.objects_of::<cpi::contract::Service>("");
    let held = services.get_opt("web").await.unwrap();
    assert!(held.is_some() || cloud.balancer(&web).is_none(), "it went before its load balancer");
    rig.until("the service is gone", async |_| services.get_opt("web").await.ok()?.is_none().then_some(()))
        .await;
    assert!(cloud.state().balancers.is_empty());
    nothing_was_forbidden(&rig);
}

#[tokio::test]
async fn never_two_calls_run_for_one_service() {
    let (rig, cloud) = start(&[]).await;
    join(&rig, &cloud, "node-1").await;
    let web = expose(&rig, "web").await;
    becomes(&rig, &cloud, &web, Some(leads(&[80], &["node-1"]))).await;
    service_is(&rig, "web", "reachable", |web| {
        web["status"]["loadBalancer"]["ingress"][0]["ip"] == "192.0.2.1"
    })
    .await;
    // While it is led to another node, it is changed, and nodes change again.
    let update = format!("update {}", web.metadata.uid.as_deref().unwrap());
    cloud.state().held.insert(update.clone());
    join(&rig, &cloud, "node-2").await;
    rig.until("it is led to node-2", async |_| cloud.state().waiting.contains(&update).then_some(())).await;
    change(&rig, "web", json!({"spec": {"ports": [{"port": 81}]}})).await;
    join(&rig, &cloud, "node-3").await;
    let before = cloud.state().calls["list"];
    rig.until("a while", async |_| (cloud.state().calls["list"] > before + 5).then_some(())).await;
    cloud.state().held.clear();
    becomes(&rig, &cloud, &web, Some(leads(&[81], &["node-1", "node-2", "node-3"]))).await;
    assert_eq!(cloud.state().met, Vec::<String>::new());
    // One that could not be led is made as wanted.
    cloud.state().failing.insert("update", vec![Error::Failed("throttled".into())]);
    join(&rig, &cloud, "node-4").await;
    let all = ["node-1", "node-2", "node-3", "node-4"];
    becomes(&rig, &cloud, &web, Some(leads(&[81], &all))).await;
    event(&rig, "web", "UpdateLoadBalancerFailed", "error: throttled").await;
    nothing_was_forbidden(&rig);
}

/// What a call has left half made is found by nobody, and goes all the same.
#[tokio::test]
async fn what_was_not_made_whole_is_taken_away() {
    let (rig, cloud) = start(&[]).await;
    cloud.state().failing.insert("ensure", vec![Error::Failed("half made".into()); 1000]);
    expose(&rig, "web").await;
    event(&rig, "web", "SyncLoadBalancerFailed", "failed to ensure load balancer: half made").await;
    withdraw(&rig, "web").await;
    let services = rig.objects_of::<cpi::contract::Service>("");
    rig.until("the service is gone", async |_| services.get_opt("web").await.ok()?.is_none().then_some(()))
        .await;
    assert!(cloud.state().calls.contains_key("delete"), "{:?}", cloud.state().calls);
    nothing_was_forbidden(&rig);
}
