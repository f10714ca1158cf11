//! Pods that are evicted.

use super::*;
use crate::admission::{Operation, Request};
use crate::registry::BoxFuture;
use crate::registry::client::Client;
use std::sync::atomic::{AtomicBool, Ordering};

/// The pod begins to run while it is being evicted, once.
#[derive(Default)]
struct Beginner(AtomicBool);

impl Admission for Beginner {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.is(Operation::Delete, "pods")
    }

    fn validate<'a>(&'a self, request: &'a Request<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if self.0.swap(true, Ordering::SeqCst) {
                return Ok(());
            }
            let client = Client::new(request.registry.clone(), "kubelet");
            let run = |live: &Object| {
                let mut changed = live.clone();
                changed.make(&["status"]).insert("phase".to_owned(), "Running".into());
                Ok(changed)
            };
            client.change(request.target, run).await.map(drop)
        })
    }
}

async fn evict(rig: &Rig, name: &str) -> Result<Answer> {
    let target = rig.target("v1", "Pod", "default", name);
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "default"}});
    rig.registry.create_part(&rig.context, &target, "eviction", body(&eviction), View::Full).await
}

async fn pod(rig: &Rig) {
    rig.create("v1", "ServiceAccount", "default", json!({"metadata": {"name": "default"}})).await.unwrap();
    let pod = json!({
        "metadata": {"name": "p", "labels": {"app": "a"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    rig.create("v1", "Pod", "default", pod).await.unwrap();
    let budget = json!({
        "metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}},
    });
    rig.create("policy/v1", "PodDisruptionBudget", "default", budget).await.unwrap();
    let client = Client::new(rig.registry.clone(), "disruption");
    let count = |live: &Object| {
        let mut changed = live.clone();
        changed.make(&["status"]).extend([
            ("observedGeneration".to_owned(), 1.into()),
            ("disruptionsAllowed".to_owned(), 0.into()),
            ("desiredHealthy".to_owned(), 1.into()),
            ("currentHealthy".to_owned(), 0.into()),
        ]);
        Ok(changed)
    };
    client.change(&rig.target("policy/v1", "PodDisruptionBudget", "default", "b"), count).await.unwrap();
}

#[tokio::test]
async fn a_pod_that_waits_to_run_is_no_disruption() {
    let rig = Rig::new().await;
    pod(&rig).await;
    assert_eq!(evict(&rig, "p").await.unwrap().code, 201);
    assert_eq!(rig.get(&rig.target("v1", "Pod", "default", "p")).await.unwrap_err().code, 404);
}

#[tokio::test]
async fn a_pod_that_has_begun_meanwhile_is_judged_again() {
    let rig = Rig::with(Arc::new(Beginner::default())).await;
    pod(&rig).await;
    let refused = evict(&rig, "p").await.unwrap_err();
    assert_eq!(refused.code, 429, "{refused}");
    assert_eq!(refused.message, "Cannot evict pod as it would violate the pod's disruption budget.");
    assert!(rig.get(&rig.target("v1", "Pod", "default", "p")).await.is_ok());
}
