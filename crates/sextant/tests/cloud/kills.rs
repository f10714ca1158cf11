//! The controllers are killed at any moment, and the provider is started again, while nodes and services come and go: afterwards everything that is wanted is there, and
//! nothing else. `SEXTANT_CLOUD_KILLS=100 cargo test -p sextant --test cloud kills` for more of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cpi::contract::{Node, Service};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams};
use testkit::Random;

use crate::provider::Cloud;
use crate::rig::Rig;
use crate::site::{
    NEW, change, control_as, expose, has_taint, join, node_is, nodes, nothing_was_forbidden, say_ready,
    service_is, start, withdraw,
};

/// So many of each there may be.
const MANY: u64 = 5;

/// Numbers by chance; what they begin with is printed, and may be told (`SEXTANT_CLOUD_SEED`).
pub(crate) fn chance() -> impl FnMut() -> u64 {
    let told = std::env::var("SEXTANT_CLOUD_SEED").ok().map(|seed| seed.parse().expect("a seed"));
    let (mut numbers, seed) = told.map_or_else(Random::fresh, |seed| (Random::new(seed), seed));
    println!("SEXTANT_CLOUD_SEED={seed}");
    move || numbers.number()
}

/// Something that a user does, or the cloud.
async fn act(rig: &Rig, cloud: &Cloud, chance: &mut impl FnMut() -> u64) {
    let (node, service) = (format!("node-{}", chance() % MANY), format!("web-{}", chance() % MANY));
    let services = rig.objects_of::<Service>("");
    let is_there = services.get_opt(&service).await.unwrap();
    let is_going = is_there.as_ref().is_some_and(|one| one.metadata.deletion_timestamp.is_some());
    match (chance() % 4, nodes(rig).get_opt(&node).await.unwrap()) {
        (0, None) => join(rig, cloud, &node).await,
        (0, Some(_)) => {
            cloud.state().instances.remove(&node);
            say_ready(rig, &node, "Unknown").await;
            // It goes as its instance has; whether that is now or later is the controllers' affair.
        }
        // It may be gone by now.
        (1, Some(_)) => drop(nodes(rig).delete(&node, &DeleteParams::default()).await),
        _ if is_there.is_none() => drop(expose(rig, &service).await),
        _ if is_going => {}
        (2, _) => withdraw(rig, &service).await,
        _ => {
            let kind = if chance().is_multiple_of(2) { "LoadBalancer" } else { "ClusterIP" };
            change(rig, &service, serde_json::json!({"spec": {"type": kind}})).await;
        }
    }
}

/// What is not as it is wanted; nothing, once everything is.
async fn unwanted(rig: &Rig, cloud: &Cloud) -> Vec<String> {
    let mut wrong = Vec::new();
    let (mut routes, mut led) = (BTreeSet::new(), BTreeSet::new());
    for node in nodes(rig).list(&ListParams::default()).await.unwrap() {
        let (name, value) = (node.name_any(), serde_json::to_value(&node).unwrap());
        let range = value["spec"]["podCIDR"].as_str().unwrap_or_default().to_owned();
        if !cloud.state().instances.contains_key(&name) {
            wrong.push(format!("{name} has no instance"));
        }
        if has_taint(&value, NEW) || range.is_empty() {
            wrong.push(format!("{name} is not initialized, or has no range"));
        }
        routes.insert((name.clone(), range));
        led.insert(name);
    }
    let ranges: BTreeSet<&String> = routes.iter().map(|(_, range)| range).collect();
    assert!(
        ranges.len() == routes.len() || ranges.contains(&String::new()),
        "two have the same range: {routes:?}"
    );
    if cloud.routes() != routes {
        wrong.push(format!("routes are {:?}, and not {routes:?}", cloud.routes()));
    }
    let (mut balancers, services) = (cloud.state().balancers.clone(), rig.objects_of::<Service>(""));
    for service in services.list(&ListParams::default()).await.unwrap() {
        let (name, value) = (service.name_any(), serde_json::to_value(&service).unwrap());
        let there = balancers.remove(&service.uid().unwrap());
        let is_told = value["status"]["loadBalancer"]["ingress"].is_array();
        let wants = value["spec"]["type"] == "LoadBalancer";
        if value["metadata"]["deletionTimestamp"].is_string() || wants != there.is_some() || wants != is_told
        {
            wrong.push(format!("{name} is not as wanted: {there:?}, {value}"));
        }
        if there.is_some_and(|there| there.nodes != led) {
            wrong.push(format!("{name} does not lead to {led:?}"));
        }
    }
    if !balancers.is_empty() {
        wrong.push(format!("load balancers of nobody: {balancers:?}"));
    }
    wrong
}

#[tokio::test]
async fn whenever_the_controllers_are_killed_all_comes_to_be_as_it_is_wanted() {
    let kills: u64 = std::env::var("SEXTANT_CLOUD_KILLS").map_or(6, |text| text.parse().expect("a number"));
    let (mut rig, mut cloud) = start(&[]).await;
    let mut chance = chance();
    for _ in 0..kills {
        // The controllers connect again, or find another than before as they start.
        if chance().is_multiple_of(3) {
            cloud.restart();
        }
        for _ in 0..chance() % 8 + 2 {
            act(&rig, &cloud, &mut chance).await;
            tokio::time::sleep(Duration::from_millis(chance() % 100)).await;
        }
        rig.kill("control");
        // What happens while nobody looks.
        for _ in 0..chance() % 3 {
            act(&rig, &cloud, &mut chance).await;
        }
        if chance().is_multiple_of(3) {
            cloud.restart();
        }
        rig.again("control");
        tokio::time::sleep(Duration::from_millis(chance() % 2000)).await;
    }
    // Nodes whose instances were taken away from ready ones have said that they are not.
    let names: BTreeMap<String, Node> = nodes(&rig)
        .list(&ListParams::default())
        .await
        .unwrap()
        .into_iter()
        .map(|node| (node.name_any(), node))
        .collect();
    for name in
        names.keys().filter(|name| !cloud.state().instances.contains_key(*name)).cloned().collect::<Vec<_>>()
    {
        say_ready(&rig, &name, "Unknown").await;
    }
    let done = rig
        .until("everything is as wanted", async |rig| unwanted(rig, &cloud).await.is_empty().then_some(()));
    if tokio::time::timeout(crate::rig::PATIENCE * 9 / 10, done).await.is_err() {
        panic!("{:#?}\n{}", unwanted(&rig, &cloud).await, rig.words("control"));
    }
    nothing_was_forbidden(&rig);
}

/// Of two processes one works. The other goes on where that was killed: with a load balancer that is being made, and one that was.
#[tokio::test]
async fn another_leader_goes_on_with_the_cloud() {
    // The usual lease: one that is shorter is lost where the machine rests for a few seconds.
    let election = ["--leader-elect"];
    let (mut rig, cloud) = start(&election).await;
    control_as(&mut rig, "other", &election);
    join(&rig, &cloud, "node-1").await;
    node_is(&rig, "node-1", "initialized", |node| !has_taint(node, NEW)).await;
    let is_told = |service: &serde_json::Value| service["status"]["loadBalancer"]["ingress"].is_array();
    let web = expose(&rig, "web").await;
    service_is(&rig, "web", "reachable", is_told).await;
    assert!(!rig.words("other").contains("has cloud provider"), "it waits: {}", rig.words("other"));

    let late = expose(&rig, "late").await;
    let making = format!("ensure {}", late.uid().unwrap());
    // It may have been made already: then what has changed is made.
    cloud.state().held.insert(making.clone());
    change(&rig, "late", serde_json::json!({"spec": {"ports": [{"port": 81}]}})).await;
    rig.until("it is being made", async |_| cloud.state().waiting.contains(&making).then_some(())).await;
    rig.kill("control");
    cloud.state().held.clear();
    rig.words_have("other", "has cloud provider stand").await;
    service_is(&rig, "late", "reachable", is_told).await;
    rig.until("it is as it was changed", async |_| {
        cloud.balancer(&late).is_some_and(|there| there.ports == [81]).then_some(())
    })
    .await;
    withdraw(&rig, "web").await;
    rig.until("the load balancer of before is gone", async |_| cloud.balancer(&web).is_none().then_some(()))
        .await;
    join(&rig, &cloud, "node-2").await;
    node_is(&rig, "node-2", "initialized", |node| !has_taint(node, NEW)).await;
    rig.until("it leads to both", async |_| {
        cloud.balancer(&late).is_some_and(|there| there.nodes.len() == 2).then_some(())
    })
    .await;
    assert_eq!(cloud.state().instances.len(), 2);
}
