//! `sextant cloud status`: what people are told of a cluster and its cloud.

use cpi::contract::Error;
use k8s_openapi::api::events::v1::Event;
use serde_json::{Value, json};

use crate::rack::{says, sextant};
use crate::rig::Rig;
use crate::site::{
    NEW, event, expose, has_taint, join, node_is, nothing_was_forbidden, say_ready, service_is, start,
};

/// The line of a table that begins with this.
fn line<'t>(text: &'t str, first: &str) -> &'t str {
    let is = |line: &&str| line.split_whitespace().next() == Some(first);
    text.lines().find(is).unwrap_or_else(|| panic!("no line of {first} in\n{text}"))
}

/// What a table says behind a word.
fn cells(line: &str) -> Vec<&str> {
    line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

#[tokio::test]
async fn a_cluster_without_a_cloud_is_told_what_it_lacks() {
    let rig = Rig::bare().await;
    let told = says(&rig, &["cloud", "status"]);
    for words in ["No nodes.", "No load balancers", "No routes"] {
        assert!(told.contains(words), "{words} is not in\n{told}");
    }
    rig.make::<cpi::contract::Node>(json!({"metadata": {"name": "node-1"}})).await;
    expose(&rig, "web").await;
    let told = says(&rig, &["cloud", "status"]);
    assert!(told.contains("No node is of a cloud."), "{told}");
    assert!(told.contains("1 Service waits for a load balancer"), "{told}");
    let all: Value = serde_json::from_str(&says(&rig, &["cloud", "status", "-o", "json"])).unwrap();
    assert_eq!(
        (&all["nodes"][0]["cloud"], &all["loadBalancers"][0]["state"]),
        (&json!("none"), &json!("pending"))
    );
    let refused = sextant(&rig, &["cloud", "status", "--kubeconfig", "/nowhere"]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("/nowhere"));
}

#[tokio::test]
async fn nodes_load_balancers_and_routes_are_told_with_what_fails() {
    let (rig, cloud) = start(&[]).await;
    join(&rig, &cloud, "node-1").await;
    node_is(&rig, "node-1", "reached", |node| {
        let conditions = node["status"]["conditions"].as_array().unwrap();
        !has_taint(node, NEW) && conditions.iter().any(|one| one["reason"] == "RouteCreated")
    })
    .await;
    let taint = json!({"key": NEW, "value": "true", "effect": "NoSchedule"});
    rig.make::<cpi::contract::Node>(json!({"metadata": {"name": "late"}, "spec": {"taints": [taint]}})).await;
    // One that is not ready and has no instance would be deleted.
    say_ready(&rig, "late", "True").await;
    expose(&rig, "web").await;
    service_is(&rig, "web", "reachable", |web| web["status"]["loadBalancer"]["ingress"].is_array()).await;
    event(&rig, "web", "EnsuredLoadBalancer", "Ensured").await;
    // Who answers for it on the link tells so.
    let web = rig.objects_of::<cpi::contract::Service>("").get("web").await.unwrap();
    let now = k8s_openapi::jiff::Timestamp::now();
    rig.make_here::<Event>(json!({
        "metadata": {"name": "web.1"}, "type": "Normal", "reason": "Announced", "action": "Announced",
        "note": "address 192.0.2.1 is answered for on link eth0 by node node-1", "eventTime": format!("{now:.6}"),
        "reportingController": "announce", "reportingInstance": "node-1",
        "regarding": {"kind": "Service", "apiVersion": "v1", "namespace": "default", "name": "web", "uid": web.metadata.uid},
    }))
    .await;
    cloud.state().failing.insert("ensure", vec![Error::Failed("the quota is used up".into()); 1000]);
    cloud.state().failing.insert("create", vec![Error::Failed("the table is full".into()); 1000]);
    cloud.state().routes.clear();
    event(&rig, "late", "SyncNodeFailed", "the instance is not there").await;
    expose(&rig, "bad").await;
    event(&rig, "bad", "SyncLoadBalancerFailed", "the quota is used up").await;
    event(&rig, "node-1", "FailedToCreateRoute", "the table is full").await;
    node_is(&rig, "node-1", "not reached", |node| {
        let conditions = node["status"]["conditions"].as_array().unwrap();
        conditions.iter().any(|one| one["reason"] == "NoRouteCreated")
    })
    .await;

    let told = says(&rig, &["cloud", "status"]);
    let sections: Vec<&str> = told.split("\n\n").collect();
    let [nodes, balancers, routes, fails, hint] = sections[..] else { panic!("{told}") };
    let late = line(fails, "node/late");
    assert!(late.contains("SyncNodeFailed: cannot initialize node late"), "{late}");
    let id = ["node-1", "initialized", "True", "stand://node-1", "large", "z1", "10.0.0.1"];
    assert_eq!(cells(line(nodes, "node-1")), id);
    assert_eq!(cells(line(nodes, "late"))[1..4], ["uninitialized", "True", "-"]);
    let web = cells(line(balancers, "default/web"));
    assert_eq!((web[1], web[4], web[5]), ("192.0.2.1", "node-1", "ready"), "{balancers}");
    assert!(web[2].starts_with("80:3") && web[2].ends_with("/TCP") && web[3].ends_with('s'), "{balancers}");
    let bad = line(balancers, "default/bad");
    assert!(bad.contains("failing: SyncLoadBalancerFailed") && bad.contains("the quota is used up"), "{bad}");
    let route = line(routes, "node-1");
    assert!(
        route.contains("10.64.1.0/24") && route.contains("True") && route.contains("the table is full"),
        "{route}"
    );
    assert!(hint.contains("1 node without a cloud yet"), "{hint}");

    // Its machine is stopped.
    cloud.state().instances.insert("node-1".into(), true);
    say_ready(&rig, "node-1", "Unknown").await;
    node_is(&rig, "node-1", "stopped", |node| has_taint(node, "node.cloudprovider.kubernetes.io/shutdown"))
        .await;
    let all: Value = serde_json::from_str(&says(&rig, &["cloud", "status", "-o", "json"])).unwrap();
    let of = |list: &str, name: &str| {
        let found = all[list].as_array().unwrap().iter().find(|one| one["name"] == name).cloned();
        found.unwrap_or_else(|| panic!("no {name} in {all}"))
    };
    let node = of("nodes", "node-1");
    assert_eq!((&node["cloud"], &node["ready"]), (&json!("shutdown"), &json!("Unknown")));
    assert_eq!(node["networkUnavailable"]["status"], "True");
    assert!(node["routeFailure"].as_str().unwrap().contains("the table is full"), "{node}");
    let web = of("loadBalancers", "web");
    assert_eq!((&web["announcedBy"], &web["addresses"]), (&json!(["node-1"]), &json!(["192.0.2.1"])));
    assert!(web["since"].as_str().unwrap().parse::<k8s_openapi::jiff::Timestamp>().is_ok(), "{web}");
    nothing_was_forbidden(&rig);
}
