//! Pods that nobody looks after any more: on nodes that are gone, on nodes that people say are out of service, deleted before they had a
//! node, or ended and beyond how many are kept.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use client::queue::{Next, Queue};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Error, ResourceExt as _};
use serde_json::{Value, json};

use super::{Context, hands, nodes, pods};

/// A node that is not ready and has this taint runs nothing any more, say people.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

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
    let nodes = context.nodes.all();
    let out: BTreeSet<String> =
        nodes.iter().filter(|node| is_out_of_service(node)).map(|node| node.name_any()).collect();
    let nodes: BTreeSet<String> = nodes.iter().map(|node| node.name_any()).collect();
    let mut refused = Ok(());
    for pod in left(&all, &nodes, &out, ENDED) {
        let is_lost = pods::node(&pod).is_some_and(|node| !nodes.contains(node));
        let ended = async {
            if !is_lost || gone(context, &pod).await? {
                end(context, &pod, is_lost).await?;
            }
            Ok(())
        };
        // One that is refused holds up none of the others.
        refused = refused.and(ended.await);
    }
    refused
}

fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    !nodes::is_well(node) && taints.iter().any(|taint| taint.key == OUT_OF_SERVICE)
}

/// The pods that are left: `out` are the nodes that are out of service.
fn left(all: &[Arc<Pod>], nodes: &BTreeSet<String>, out: &BTreeSet<String>, most: usize) -> Vec<Arc<Pod>> {
    let mut ended: Vec<&Arc<Pod>> =
        all.iter().filter(|pod| pods::is_over(pod) && !pods::is_going(pod)).collect();
    // Those that were evicted first.
    ended.sort_by_key(|pod| {
        let reason = pod.status.as_ref().and_then(|status| status.reason.as_deref());
        let is_evicted = pods::phase(pod) == "Failed" && reason == Some("Evicted");
        (!is_evicted, pod.metadata.creation_timestamp.as_ref().map(|at| at.0), pod.name_any())
    });
    let surplus = ended.len().saturating_sub(most);
    let nowhere = all.iter().filter(|pod| match pods::node(pod) {
        Some(node) => !nodes.contains(node) || pods::is_going(pod) && out.contains(node),
        None => pods::is_going(pod),
    });
    ended.into_iter().take(surplus).chain(nowhere).cloned().collect()
}

/// The cache may not know of a node yet.
async fn gone(context: &Context, pod: &Pod) -> Result<bool, Error> {
    let nodes: Api<Node> = Api::all(context.client.clone());
    Ok(nodes.get_opt(pods::node(pod).unwrap_or_default()).await?.is_none())
}

/// Removes a pod; one that has not ended has failed by that, with the loss of its node as the reason if it `is_lost`.
async fn end(context: &Context, pod: &Pod, is_lost: bool) -> Result<(), Error> {
    if pods::is_over(pod) {
        return force(context, pod).await;
    }
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &pod.namespace().unwrap_or_default());
    let mut status: Value = json!({"phase": "Failed"});
    if is_lost {
        status["conditions"] = json!([{
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists", "lastTransitionTime": format!("{:.0}", Timestamp::now()),
        }]);
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
            pod("stuck", Some("out"), "Running", true),
            pod("stays", Some("out"), "Running", false),
        ];
        let nodes = || ["n", "out"].map(str::to_owned).into();
        let names = |most, out: &[&str]| {
            let out = out.iter().map(ToString::to_string).collect();
            left(&all, &nodes(), &out, most).iter().map(|pod| pod.name_any()).collect::<Vec<_>>()
        };
        assert_eq!(names(2, &[]), ["lost", "given-up"]);
        assert_eq!(names(1, &[]), ["ended-a", "lost", "given-up"]);
        assert_eq!(names(2, &["out"]), ["lost", "given-up", "stuck"]);
    }

    #[test]
    fn those_that_were_evicted_go_first() {
        let pod = |name: &str, reason: Option<&str>| {
            let status = json!({"phase": "Failed", "reason": reason});
            let whole = json!({"metadata": {"name": name}, "spec": {"nodeName": "n", "containers": []}, "status": status});
            Arc::new(serde_json::from_value::<Pod>(whole).unwrap())
        };
        let all = [pod("a", None), pod("b", Some("Evicted"))];
        assert_eq!(left(&all, &["n".to_owned()].into(), &BTreeSet::new(), 1)[0].name_any(), "b");
    }

    #[test]
    fn a_node_is_out_of_service_when_people_say_so_and_it_is_not_ready() {
        let node = |status: &str, key: &str| -> Node {
            serde_json::from_value(
                json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": key, "effect": "NoExecute"}]},
                "status": {"conditions": [{"type": "Ready", "status": status}]}}),
            )
            .unwrap()
        };
        assert!(is_out_of_service(&node("Unknown", OUT_OF_SERVICE)));
        assert!(!is_out_of_service(&node("True", OUT_OF_SERVICE)));
        assert!(!is_out_of_service(&node("False", "node.kubernetes.io/not-ready")));
    }
}
