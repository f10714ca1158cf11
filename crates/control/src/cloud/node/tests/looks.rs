//! What the controller does about a node, to the last request: the situations of Kubernetes' own tests of it that are no matter of the
//! plan alone, by their names there, and our own.

use std::sync::Arc;

use client::queue::Next;
use cpi::contract::Error;
use serde_json::{Value, json};

use super::super::super::UNINITIALIZED;
use super::super::super::tests::stand::{Server, Told, was_told};
use super::super::super::trouble::OfNodes;
use super::super::{Controller, Written};

fn new() -> Value {
    json!({"metadata": {"name": "node0"}, "spec": {"taints": [
        {"key": "a", "effect": "NoSchedule"}, {"key": UNINITIALIZED, "value": "true", "effect": "NoSchedule"}]}})
}

fn is_tainted(node: &Value) -> bool {
    node["spec"]["taints"].as_array().is_some_and(|all| all.iter().any(|taint| taint["key"] == UNINITIALIZED))
}

async fn controller(server: &Server) -> Controller {
    let context = server.context().await;
    let failing = OfNodes::start(&context).await.sync;
    Controller::new(context, Arc::<Written>::default(), failing)
}

/// What was told, once that is so much: events come after the rest.
async fn told(server: &Server, count: usize) -> Vec<String> {
    while server.state().told.len() < count {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    server.state().told.clone()
}

#[tokio::test]
async fn node_initialized_with_provider_id_and_its_addresses() {
    let (server, cloud) = (Server::with([new()]), Told::default());
    let it = controller(&server).await;
    assert_eq!(it.look(&cloud, "node0").await.unwrap(), Next::Done);
    let node = server.node("node0").unwrap();
    assert_eq!(node["spec"]["providerID"], "fake://12345");
    assert_eq!(node["spec"]["taints"], json!([{"key": "a", "effect": "NoSchedule"}]));
    assert_eq!(node["status"]["addresses"][0]["address"], "10.0.0.1");
    assert_eq!(server.state().writes, ["PATCH node0", "PATCH node0/status"]);
    assert_eq!(told(&server, 1).await, ["Synced"]);
    assert_eq!(cloud.calls(), ["metadata node0"]);
    let text = it.context.metrics.render();
    for line in [
        "node_controller_cloud_provider_taint_removal_delay_seconds_count 1",
        "node_controller_initial_node_sync_delay_seconds_count 1",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn nil_instance_metadata_provided_by_instance_v2() {
    let (server, cloud) = (Server::with([new()]), Told { metadata: Ok(None), ..Told::default() });
    let it = controller(&server).await;
    assert_eq!(it.look(&cloud, "node0").await.unwrap(), Next::Done, "until it changes");
    assert!(is_tainted(&server.node("node0").unwrap()) && server.state().writes.is_empty());
    // Ours: people are told once.
    it.look(&cloud, "node0").await.unwrap();
    it.events.told().await;
    assert_eq!(server.state().told, ["SyncNodeFailed"]);
}

/// Ours: whoever looks at the node is told, once as long as it is the same, and when it is over.
#[tokio::test]
async fn a_node_whose_addresses_cannot_be_asked_for_is_told_once() {
    let initialized = json!({"metadata": {"name": "node0"}});
    let server = Server::with([initialized]);
    let it = controller(&server).await;
    let node = it.context.nodes.get(&client::cache::Name::global("node0")).unwrap();
    let say = |seconds: u8| Told {
        metadata: Err(Error::Failed(format!("throttled for {seconds} s"))),
        ..Told::default()
    };
    for seconds in [1, 2, 30] {
        it.keep_addresses_of(&say(seconds), &node).await;
    }
    it.keep_addresses_of(&Told { metadata: Err(Error::Failed("denied".into())), ..Told::default() }, &node)
        .await;
    it.events.told().await;
    assert_eq!(server.state().told, ["SyncNodeFailed", "SyncNodeFailed"]);
    for _ in 0..2 {
        it.keep_addresses_of(&Told::default(), &node).await;
    }
    it.events.told().await;
    assert_eq!(server.state().told, ["SyncNodeFailed", "SyncNodeFailed", "Synced"]);
}

/// Ours: the process before has told that it fails; this one tells that it does still to nobody, and that it is over.
#[tokio::test]
async fn what_the_process_before_has_told_of_a_node_is_known() {
    let server = Server::with([json!({"metadata": {"name": "node0"}})]);
    server.state().events.push(was_told(
        "node0",
        "SyncNodeFailed",
        "cannot ask for the addresses of node node0: denied",
    ));
    let it = controller(&server).await;
    let node = it.context.nodes.get(&client::cache::Name::global("node0")).unwrap();
    let failing = Told { metadata: Err(Error::Failed("denied".into())), ..Told::default() };
    it.keep_addresses_of(&failing, &node).await;
    it.events.told().await;
    assert_eq!(server.state().told, [""; 0]);
    for _ in 0..2 {
        it.keep_addresses_of(&Told::default(), &node).await;
    }
    it.events.told().await;
    assert_eq!(server.state().told, ["Synced"]);
}

/// Ours: that a node is initialized is told once, also where it failed before, and only when all of it is.
#[tokio::test]
async fn a_node_is_told_once_that_it_is_synced() {
    let (server, cloud) = (Server::with([new()]), Told::default());
    let it = controller(&server).await;
    let failing = Told { metadata: Err(Error::Failed("throttled".into())), ..Told::default() };
    let failed = it.look(&failing, "node0").await.unwrap_err();
    it.tell_failed("node0", &failed).await;
    it.look(&cloud, "node0").await.unwrap();
    it.events.told().await;
    assert_eq!(server.state().told, ["SyncNodeFailed", "Synced"]);
    // Its addresses are not written.
    let server = Server::with([new()]);
    server.state().refuses = Some("PATCH node0/status".into());
    let it = controller(&server).await;
    it.look(&cloud, "node0").await.unwrap();
    it.events.told().await;
    assert!(!is_tainted(&server.node("node0").unwrap()));
    assert_eq!(server.state().told, ["SyncNodeFailed"]);
    // They are now.
    server.state().refuses = None;
    let node = serde_json::from_value(server.node("node0").unwrap()).unwrap();
    let addresses = cloud.metadata.clone().unwrap().unwrap().node_addresses;
    assert!(it.tell_addresses(&node, &addresses).await);
    it.events.told().await;
    assert_eq!(server.state().told, ["SyncNodeFailed", "Synced"]);
}

#[tokio::test]
async fn error_getting_instance_metadata() {
    for (error, says) in [
        (
            Error::InstanceNotFound,
            "failed to get instance metadata for node node0: the instance is not there",
        ),
        (Error::Failed("throttled".into()), "failed to get instance metadata for node node0: throttled"),
    ] {
        let (server, cloud) = (Server::with([new()]), Told { metadata: Err(error), ..Told::default() });
        let it = controller(&server).await;
        assert_eq!(it.look(&cloud, "node0").await.unwrap_err().to_string(), says);
        assert!(is_tainted(&server.node("node0").unwrap()) && server.state().writes.is_empty());
    }
}

/// Whatever others have written while the cloud was asked stays, and the cloud is not asked again.
#[tokio::test]
async fn a_node_that_has_changed_meanwhile_is_initialized_by_the_same_answer() {
    let (server, cloud) = (Server::with([new()]), Told::default());
    let it = controller(&server).await;
    let its = server.clone();
    *cloud.during.lock().unwrap() = Some(Box::new(move || {
        let mut node = its.node("node0").unwrap();
        node["spec"]["podCIDR"] = json!("10.64.1.0/24");
        node["spec"]["taints"].as_array_mut().unwrap().push(json!({"key": "b", "effect": "NoExecute"}));
        its.put(node);
    }));
    it.look(&cloud, "node0").await.unwrap();
    let node = server.node("node0").unwrap();
    assert_eq!(
        (&node["spec"]["podCIDR"], &node["spec"]["providerID"]),
        (&json!("10.64.1.0/24"), &json!("fake://12345"))
    );
    let taints: Vec<&Value> =
        node["spec"]["taints"].as_array().unwrap().iter().map(|one| &one["key"]).collect();
    assert_eq!(taints, ["a", "b"]);
    assert_eq!(cloud.calls(), ["metadata node0"]);
    assert_eq!(server.state().writes, ["PATCH node0", "PATCH node0", "PATCH node0/status"], "a conflict");
}

/// It was made anew under its name, or somebody else has initialized it.
#[tokio::test]
async fn an_answer_about_another_is_not_written() {
    for change in [json!({"spec": {"taints": []}}), json!({"spec": {"providerID": "fake://other"}})] {
        let (server, cloud) = (Server::with([new()]), Told::default());
        let it = controller(&server).await;
        let (its, told) = (server.clone(), change.clone());
        *cloud.during.lock().unwrap() = Some(Box::new(move || {
            let mut node = its.node("node0").unwrap();
            let spec = node["spec"].as_object_mut().unwrap();
            spec.extend(told["spec"].as_object().unwrap().clone());
            its.put(node);
        }));
        it.look(&cloud, "node0").await.unwrap();
        let node = server.node("node0").unwrap();
        assert_ne!(node["spec"]["providerID"], "fake://12345", "{change}");
        assert_eq!(server.state().writes, ["PATCH node0"], "{change}");
    }
}

/// The cache shows what was written a moment later; a node that is looked at in between is not asked about.
#[tokio::test]
async fn nobody_is_asked_about_a_node_that_was_written_and_is_not_shown_so_yet() {
    let (server, cloud) = (Server::with([new()]), Told::default());
    let it = controller(&server).await;
    it.look(&cloud, "node0").await.unwrap();
    it.look(&cloud, "node0").await.unwrap();
    assert_eq!(cloud.calls(), ["metadata node0"]);
    assert_eq!(server.state().writes.len(), 2);
}

/// TestUpdateNodeStatus, TestNodeAddressesNotUpdateV2: each node is asked about once, and one that is not initialized never.
#[tokio::test]
async fn addresses_of_all_nodes_are_kept() {
    for workers in [1, 5, 30] {
        let named = |number: usize| json!({"metadata": {"name": format!("node{number}")}});
        let mut tainted = new();
        tainted["metadata"]["name"] = json!("late");
        let server = Server::with((0..20).map(named).chain([tainted]));
        let mut it = controller(&server).await;
        Arc::get_mut(&mut it.context).unwrap().setup.node_syncs = workers;
        let cloud = Told::default();
        tokio::select! {
            () = it.keep_addresses(&cloud) => {}
            () = async {
                while server.state().writes.len() < 20 {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
            } => {}
        }
        let mut calls = cloud.calls();
        calls.sort();
        let mut wanted: Vec<String> = (0..20).map(|number| format!("metadata node{number}")).collect();
        wanted.sort();
        assert_eq!(calls, wanted, "{workers} workers");
        assert_eq!(server.node("node7").unwrap()["status"]["addresses"][0]["address"], "10.0.0.1");
        assert_eq!(server.node("late").unwrap()["status"], Value::Null);
    }
}
