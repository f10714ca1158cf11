//! A node that a cloud provider's controllers describe.

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::Test;
use crate::rig::{NODE, Rig, condition};

pub(crate) const TESTS: &[Test] =
    &[("a_node_of_a_cloud_waits_for_its_provider_and_leaves_it_what_it_says", |rig| Box::pin(waits(rig)))];

const PROVIDED: &str = "alpha.kubernetes.io/provided-node-ip";

/// The node, once it is ready, so that the agent has told all of it, and is as it is to be.
async fn ready(rig: &Rig, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let nodes: Api<Node> = Api::all(rig.client.clone());
    rig.until(what, async || {
        let node = json!(nodes.get_opt(NODE).await.unwrap()?);
        (condition(&node["status"], "Ready") == "True" && is(&node)).then_some(node)
    })
    .await
}

/// Has no node, and no agent that would make it again.
async fn without(rig: &Rig) {
    rig.kill("agent");
    Api::<Node>::all(rig.client.clone()).delete(NODE, &DeleteParams::default()).await.unwrap();
}

async fn waits(rig: &Rig) {
    let external = ["--cloud-provider", "external", "--provider-id", "stand://7"];
    without(rig).await;
    rig.agent_with(&[&external[..], &["--node-ip", "127.0.0.1"]].concat());
    let node = ready(rig, "the node is registered", |_| true).await;
    let taint = json!({"key": "node.cloudprovider.kubernetes.io/uninitialized", "value": "true", "effect": "NoSchedule"});
    assert!(node["spec"]["taints"].as_array().unwrap().contains(&taint), "{node}");
    assert_eq!(node["spec"]["providerID"], "stand://7");
    assert_eq!(node["metadata"]["annotations"][PROVIDED], "127.0.0.1");
    assert_eq!(node["status"]["addresses"][0], json!({"type": "InternalIP", "address": "127.0.0.1"}));

    // What the provider says holds, also before the next agent.
    let nodes: Api<Node> = Api::all(rig.client.clone());
    let (none, merge) = (json!({"spec": {"taints": null}}), PatchParams::default());
    nodes.patch(NODE, &merge, &Patch::Merge(none)).await.unwrap();
    let said = json!([{"type": "InternalIP", "address": "192.0.2.7"}, {"type": "ExternalIP", "address": "198.51.100.7"}]);
    let down = json!([{"type": "Ready", "status": "False"}]);
    rig.kill("agent");
    let status = json!({"status": {"addresses": said, "conditions": down}});
    nodes.patch_status(NODE, &merge, &Patch::Merge(status)).await.unwrap();
    rig.agent_with(&external);
    let is_told = |node: &Value| node["metadata"]["annotations"][PROVIDED].is_null();
    let node = ready(rig, "the node is told of by the next agent", is_told).await;
    assert_eq!(node["status"]["addresses"], said, "{node}");
    let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    assert!(!taints.contains(&taint), "it was described already: {taints:?}");
    assert_eq!(node["spec"]["providerID"], "stand://7");

    // Somebody deletes it while the agent runs: it comes back as a new one, whose addresses nobody has named.
    nodes.delete(NODE, &DeleteParams::default()).await.unwrap();
    let is_new = |node: &Value| node["spec"]["taints"].as_array().is_some_and(|all| all.contains(&taint));
    let node = ready(rig, "the node comes back", is_new).await;
    assert!(node["status"]["addresses"].as_array().is_none_or(Vec::is_empty), "{node}");

    // The tests after this one have a node of no cloud.
    without(rig).await;
    rig.agent();
    let node = ready(rig, "the node is registered as it was", |_| true).await;
    assert!(node["spec"]["providerID"].is_null() && !is_new(&node), "{node}");
    assert_eq!(node["status"]["addresses"][0]["address"], "127.0.0.1");
}
