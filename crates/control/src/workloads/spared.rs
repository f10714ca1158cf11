//! Pods that were to be disrupted, and are there still: after a while they are to be no longer.

use std::sync::Arc;

use client::cache::Name;
use client::queue::{Next, Queue};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Api, Patch, PatchParams};
use kube::{Error, ResourceExt as _};
use serde_json::json;

use super::{Context, pods};

/// Who was to go, and has not been asked to for so long, was spared.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);

/// Works until it is dropped.
pub(super) async fn run(context: Arc<Context>) {
    let queue: Arc<Queue<Name>> = Queue::new(super::PACE);
    let its = queue.clone();
    context.pods.listen(move |change| {
        if let Some(pod) = change.new.as_deref().filter(|pod| since(pod).is_some()) {
            its.add(Name::of(pod));
        }
    });
    let context = &context;
    queue.run(|name| async move { super::told("the end of pod", &name, look(context, &name).await) }).await;
}

/// Since when a pod is to go that nobody has asked to.
fn since(pod: &Pod) -> Option<Timestamp> {
    let told = pods::condition(pod, "DisruptionTarget").filter(|told| told.status == "True")?;
    // A kubelet ends its pods itself.
    let is_open = pods::is_active(pod) && told.reason.as_deref() != Some("TerminationByKubelet");
    is_open.then(|| told.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |at| at.0))
}

async fn look(context: &Context, name: &Name) -> Result<Next, Error> {
    let Some(pod) = context.pods.get(name) else { return Ok(Next::Done) };
    let Some(since) = since(&pod) else { return Ok(Next::Done) };
    let now = Timestamp::now();
    let left = PATIENCE - now.duration_since(since);
    if left > SignedDuration::ZERO {
        return Ok(Next::After(left.unsigned_abs()));
    }
    let condition = json!({
        "type": "DisruptionTarget", "status": "False", "reason": null, "message": null,
        "lastTransitionTime": format!("{now:.0}"),
    });
    let metadata = json!({"uid": pod.uid(), "resourceVersion": pod.resource_version()});
    let patch = json!({"metadata": metadata, "status": {"conditions": [condition]}});
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &name.namespace);
    api.patch_status(&name.name, &PatchParams::default(), &Patch::Strategic(patch)).await?;
    Ok(Next::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_to_go_and_was_not_asked_to_is_found() {
        let pod = |status: &str, reason: &str, phase: &str, gone: Option<&str>| {
            let condition = json!({"type": "DisruptionTarget", "status": status, "reason": reason,
                "lastTransitionTime": "2026-01-01T00:00:00Z"});
            let whole = json!({"metadata": {"name": "p", "deletionTimestamp": gone},
                "status": {"phase": phase, "conditions": [condition]}});
            since(&serde_json::from_value(whole).unwrap())
        };
        let at = Some("2026-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(pod("True", "EvictionByEvictionAPI", "Running", None), at);
        assert_eq!(pod("False", "EvictionByEvictionAPI", "Running", None), None);
        assert_eq!(pod("True", "TerminationByKubelet", "Running", None), None);
        assert_eq!(pod("True", "PreemptionByScheduler", "Failed", None), None);
        assert_eq!(pod("True", "PreemptionByScheduler", "Running", Some("2026-01-01T00:00:00Z")), None);
    }
}
