//! Nodes that join, stop and go.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::provider::Cloud;
use crate::rig::Rig;
use crate::site::{NEW, event, has_taint, join, node_is, nodes, nothing_was_forbidden, say_ready, start};

const SHUTDOWN: &str = "node.cloudprovider.kubernetes.io/shutdown";

async fn is_initialized(rig: &Rig, name: &str) {
    let node = node_is(rig, name, "initialized", |node| {
        !has_taint(node, NEW) && node["status"]["addresses"][0]["address"] == "10.0.0.1"
    })
    .await;
    assert_eq!(node["spec"]["providerID"], format!("stand://{name}"));
    for (key, value) in [
        ("node.kubernetes.io/instance-type", "large"),
        ("beta.kubernetes.io/instance-type", "large"),
        ("topology.kubernetes.io/zone", "z1"),
        ("failure-domain.beta.kubernetes.io/region", "r1"),
        ("example.com/rack", "7"),
    ] {
        assert_eq!(node["metadata"]["labels"][key], value, "{key}");
    }
    event(rig, name, "Synced", "Node synced successfully").await;
}

fn metrics(rig: &Rig) -> String {
    let words = rig.words("control");
    let (_, rest) = words.rsplit_once("answers http://").unwrap();
    let address = rest.split_once("/metrics").unwrap().0;
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

async fn has_routes(rig: &Rig, cloud: &Cloud, wanted: &[(&str, &str)]) {
    let wanted = wanted.iter().map(|(node, to)| ((*node).to_owned(), (*to).to_owned())).collect();
    rig.until(&format!("routes are {wanted:?}"), async |_| (cloud.routes() == wanted).then_some(())).await;
}

#[tokio::test]
async fn a_node_joins_stops_and_goes() {
    let (rig, cloud) = start(&["--leader-elect"]).await;
    join(&rig, &cloud, "node-1").await;
    is_initialized(&rig, "node-1").await;
    let node = node_is(&rig, "node-1", "reached", |node| {
        let conditions = node["status"]["conditions"].as_array().unwrap();
        conditions.iter().any(|one| one["reason"] == "RouteCreated" && one["status"] == "False")
    })
    .await;
    assert_eq!(node["spec"]["podCIDR"], "10.64.1.0/24", "the first is the services'");
    assert_eq!(node["spec"]["podCIDRs"][0], "10.64.1.0/24");
    has_routes(&rig, &cloud, &[("node-1", "10.64.1.0/24")]).await;

    // One whose instance the cloud does not know waits for it.
    let taint = serde_json::json!({"key": NEW, "value": "true", "effect": "NoSchedule"});
    let late = serde_json::json!({"metadata": {"name": "node-2"}, "spec": {"taints": [taint]}});
    rig.make::<cpi::contract::Node>(late).await;
    say_ready(&rig, "node-2", "True").await;
    rig.words_have("control", "failed to get instance metadata for node node-2: the instance is not there")
        .await;
    cloud.state().instances.insert("node-2".into(), false);
    is_initialized(&rig, "node-2").await;
    has_routes(&rig, &cloud, &[("node-1", "10.64.1.0/24"), ("node-2", "10.64.2.0/24")]).await;

    // Stopped, and started again.
    cloud.state().instances.insert("node-1".into(), true);
    say_ready(&rig, "node-1", "Unknown").await;
    node_is(&rig, "node-1", "stopped", |node| has_taint(node, SHUTDOWN)).await;
    say_ready(&rig, "node-1", "True").await;
    node_is(&rig, "node-1", "started", |node| !has_taint(node, SHUTDOWN)).await;

    // A route that somebody takes away comes back; one that nobody wants goes; one that is not the cluster's stays.
    let route = |to: &str| cpi::contract::Route {
        name: to.into(),
        target_node: "gone".into(),
        destination_cidr: to.into(),
        ..Default::default()
    };
    {
        let mut state = cloud.state();
        state.routes.clear();
        state
            .routes
            .insert("ours".into(), cpi::contract::Route { name: "ours".into(), ..route("10.64.7.0/24") });
        state.routes.insert("10.1.0.0/24".into(), route("10.1.0.0/24"));
        state.failing.insert("create", vec![cpi::contract::Error::Failed("throttled".into())]);
    }
    let both = [("gone", "10.1.0.0/24"), ("node-1", "10.64.1.0/24"), ("node-2", "10.64.2.0/24")];
    has_routes(&rig, &cloud, &both).await;
    rig.until("a failed route is told", async |rig| {
        let events = rig.objects_of::<k8s_openapi::api::events::v1::Event>("");
        let events = events.list(&Default::default()).await.ok()?;
        events.iter().any(|event| event.reason.as_deref() == Some("FailedToCreateRoute")).then_some(())
    })
    .await;

    // Its instance is gone: as long as it is ready that may be an error of the cloud.
    cloud.state().instances.remove("node-2");
    let before = cloud.state().calls["list"];
    rig.until("a while", async |_| (cloud.state().calls["list"] > before + 5).then_some(())).await;
    nodes(&rig).get("node-2").await.unwrap();
    say_ready(&rig, "node-2", "False").await;
    rig.until("node-2 is gone", async |rig| nodes(rig).get_opt("node-2").await.ok()?.is_none().then_some(()))
        .await;
    event(
        &rig,
        "node-2",
        "DeletingNode",
        "Deleting node node-2 because it does not exist in the cloud provider",
    )
    .await;
    has_routes(&rig, &cloud, &[("gone", "10.1.0.0/24"), ("node-1", "10.64.1.0/24")]).await;
    nodes(&rig).get("node-1").await.unwrap();

    let metrics = metrics(&rig);
    assert!(metrics.contains("node_controller_initial_node_sync_delay_seconds_count 2"), "{metrics}");
    nothing_was_forbidden(&rig);
}

#[tokio::test]
async fn nodes_wait_for_a_range_until_one_is_free() {
    let (rig, cloud) = start(&["--leader-elect"]).await;
    // Seven parts are free: the services have the eighth.
    for number in 1..=8 {
        join(&rig, &cloud, &format!("node-{number}")).await;
        is_initialized(&rig, &format!("node-{number}")).await;
    }
    event(&rig, "node-8", "CIDRNotAvailable", "Node node-8 status is now: CIDRNotAvailable").await;
    nodes(&rig).delete("node-3", &Default::default()).await.unwrap();
    let node = node_is(&rig, "node-8", "has a range", |node| node["spec"]["podCIDR"].is_string()).await;
    assert_eq!(node["spec"]["podCIDR"], "10.64.3.0/24");
    nothing_was_forbidden(&rig);
}

/// The answer about a node may come after it has changed, and others may have changed while it was waited for.
#[tokio::test]
async fn nodes_that_are_ready_again_when_the_cloud_answers_stay() {
    let (rig, cloud) = start(&[]).await;
    for name in ["node-1", "node-2"] {
        join(&rig, &cloud, name).await;
        is_initialized(&rig, name).await;
    }
    cloud.state().held.extend(["exists node-1".to_owned(), "exists node-2".to_owned()]);
    say_ready(&rig, "node-2", "Unknown").await;
    rig.until("node-2 is asked about", async |_| {
        cloud.state().waiting.contains("exists node-2").then_some(())
    })
    .await;
    say_ready(&rig, "node-1", "Unknown").await;
    cloud.state().held.remove("exists node-2");
    // The next round has both, and comes to the first.
    rig.until("node-1 is asked about", async |_| {
        cloud.state().waiting.contains("exists node-1").then_some(())
    })
    .await;
    cloud.state().instances.clear();
    for name in ["node-1", "node-2"] {
        say_ready(&rig, name, "True").await;
    }
    let before = cloud.state().calls["list"];
    cloud.state().held.clear();
    rig.until("a while", async |_| (cloud.state().calls["list"] > before + 5).then_some(())).await;
    for name in ["node-1", "node-2"] {
        nodes(&rig).get(name).await.unwrap();
    }
    nothing_was_forbidden(&rig);
}

#[tokio::test]
async fn ranges_are_given_before_the_cloud_is_there() {
    let mut rig = Rig::bare().await;
    crate::admit::admit(&rig).await;
    crate::site::control(&mut rig, &[]);
    rig.words_have("control", "it is tried again").await;
    rig.make::<cpi::contract::Node>(serde_json::json!({"metadata": {"name": "node-1"}})).await;
    node_is(&rig, "node-1", "has a range", |node| node["spec"]["podCIDR"] == "10.64.1.0/24").await;
    let cloud = Cloud::serve(rig.path("cloud.sock"));
    rig.words_have("control", "has cloud provider stand").await;
    has_routes(&rig, &cloud, &[("node-1", "10.64.1.0/24")]).await;
    nothing_was_forbidden(&rig);
}
