//! Pods that nobody looks after any more: on nodes that are gone, deleted before they had a node, or ended and beyond how many are
//! kept.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use client::queue::{Next, Queue};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Error, ResourceExt as _};
use serde_json::{Value, json};

use super::{Context, hands, pods};

/// How often it is looked, as in Kubernetes: nothing here is urgent.
const PERIOD: Duration = Duration::from_secs(20);
/// More pods than this that have ended are not kept.
const ENDED: usize = 12_500;

/// Works until it is dropped.
pub(super) async fn run(context: Arc<Context>) {
    let queue: Arc<Queue<()>> = Queue::new(super::PACE);
    queue.add(());
    let it = &context;
    queue
        .run(|()| async move {
            if let Err(error) = look(it).await {
                eprintln!(
                    "sextant control: warning: cannot remove pods that are left: {}",
                    hands::says(&error)
                );
            }
            Next::After(PERIOD)
        })
        .await;
}

async fn look(context: &Context) -> Result<(), Error> {
    let all = context.pods.all();
    let nodes: BTreeSet<String> = context.nodes.all().iter().map(|node| node.name_any()).collect();
    for pod in left(&all, &nodes, ENDED) {
        let is_lost = pods::node(&pod).is_some_and(|node| !nodes.contains(node));
        if is_lost && gone(context, &pod).await? {
            lost(context, &pod).await?;
        } else if !is_lost {
            force(context, &pod).await?;
        }
    }
    Ok(())
}

/// The pods that are left.
fn left(all: &[Arc<Pod>], nodes: &BTreeSet<String>, most: usize) -> Vec<Arc<Pod>> {
    let mut ended: Vec<&Arc<Pod>> =
        all.iter().filter(|pod| pods::is_over(pod) && !pods::is_going(pod)).collect();
    ended.sort_by_key(|pod| (pod.metadata.creation_timestamp.as_ref().map(|at| at.0), pod.name_any()));
    let surplus = ended.len().saturating_sub(most);
    let nowhere = all.iter().filter(|pod| match pods::node(pod) {
        Some(node) => !nodes.contains(node),
        None => pods::is_going(pod),
    });
    ended.into_iter().take(surplus).chain(nowhere).cloned().collect()
}

/// The cache may not know of a node yet.
async fn gone(context: &Context, pod: &Pod) -> Result<bool, Error> {
    let nodes: Api<Node> = Api::all(context.client.clone());
    Ok(nodes.get_opt(pods::node(pod).unwrap_or_default()).await?.is_none())
}

/// Says of a pod that it is lost, and removes it.
async fn lost(context: &Context, pod: &Pod) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &pod.namespace().unwrap_or_default());
    let mut status: Value = json!({"conditions": [{
        "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
        "message": "PodGC: node no longer exists", "lastTransitionTime": format!("{:.0}", Timestamp::now()),
    }]});
    if !pods::is_over(pod) {
        status["phase"] = json!("Failed");
    }
    let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": status}));
    match api.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await {
        Err(Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => force(context, pod).await,
    }
}

async fn force(context: &Context, pod: &Pod) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &pod.namespace().unwrap_or_default());
    let same = Preconditions { uid: pod.uid(), resource_version: None };
    let how = DeleteParams { preconditions: Some(same), ..DeleteParams::default().grace_period(0) };
    match api.delete(&pod.name_any(), &how).await {
        Err(Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        done => done.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_left_is_found() {
        let pod = |name: &str, node: Option<&str>, phase: &str, going: bool| {
            let gone = going.then_some("2026-01-01T00:00:00Z");
            Arc::new(
                serde_json::from_value::<Pod>(json!({"metadata": {"name": name, "deletionTimestamp": gone},
                    "spec": {"nodeName": node, "containers": []}, "status": {"phase": phase}}))
                .unwrap(),
            )
        };
        let all = [
            pod("runs", Some("n"), "Running", false),
            pod("lost", Some("gone"), "Running", false),
            pod("waits", None, "Pending", false),
            pod("given-up", None, "Pending", true),
            pod("ended-a", Some("n"), "Succeeded", false),
            pod("ended-b", Some("n"), "Failed", false),
        ];
        let names = |most| {
            left(&all, &["n".to_owned()].into(), most).iter().map(|pod| pod.name_any()).collect::<Vec<_>>()
        };
        assert_eq!(names(2), ["lost", "given-up"]);
        assert_eq!(names(1), ["ended-a", "lost", "given-up"]);
    }
}
