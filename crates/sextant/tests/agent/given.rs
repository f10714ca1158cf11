//! A node that others have given up.

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::Test;
use crate::rig::{NODE, Rig, condition};

pub(crate) const TESTS: &[Test] =
    &[("a_node_that_was_given_up_says_again_that_it_is_well", |rig| Box::pin(given_up(rig)))];

async fn given_up(rig: &Rig) {
    let nodes: Api<Node> = Api::all(rig.client.clone());
    let ready = async |wanted: &'static str| {
        let look = async || {
            let node = nodes.get(NODE).await.ok()?;
            (condition(&json!(node.status), "Ready") == wanted).then_some(())
        };
        rig.until(&format!("Ready is {wanted}"), look).await;
    };
    ready("True").await;
    // As a controller does that has not heard of it for a while. An agent that has just begun tells once more how it is; then it has
    // nothing new to tell, and would for five minutes.
    let unknown = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
    let patch = Patch::Strategic(unknown);
    for _ in 0..2 {
        let given = nodes.patch_status(NODE, &PatchParams::default(), &patch).await.unwrap();
        assert_eq!(condition(&json!(given.status), "Ready"), "Unknown");
        ready("True").await;
    }
}
