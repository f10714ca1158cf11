//! What claims and volumes say of an expansion.

use client::quantity;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::{Value, json};

use super::super::claims::Bound;
use super::super::failure::Failure;
use super::super::volume::now;
use super::Resizer;

/// The conditions that are about expansion.
const CONDITIONS: [&str; 4] =
    ["Resizing", "FileSystemResizePending", "ControllerResizeError", "NodeResizeError"];
/// Tells the kubelet that the controller has done all.
const NOTHING_FOR_NODE: &str = "volume.kubernetes.io/node-expansion-not-required";

impl Resizer {
    /// That the volume is going to be expanded: before the driver is asked, and only if the claim is still what was read. Where the
    /// same was tried before (`is_same`), who is at it and what went wrong stay.
    pub(super) async fn tell_begin(&self, bound: &Bound, to: i64, is_same: bool) -> Result<(), Failure> {
        let mut status = json!({
            "allocatedResources": { "storage": quantity::of(to) },
            "conditions": conditions("Resizing", "", if is_same { &[] } else { &CONDITIONS }),
        });
        if !is_same {
            status["allocatedResourceStatuses"] = json!({ "storage": "ControllerResizeInProgress" });
        }
        bound.patch_claim(&self.claims.context, true, json!({ NOTHING_FOR_NODE: null }), status).await
    }

    /// That the driver has done its part.
    pub(super) async fn tell_end(&self, bound: &Bound, bytes: i64, by_node: bool) -> Result<(), Failure> {
        bound
            .patch_volume(&self.claims.context, json!({ "capacity": { "storage": quantity::of(bytes) } }))
            .await?;
        let events = &self.claims.context.events;
        if by_node {
            let text = "the file system grows on the node, when a pod uses the claim";
            let status = json!({
                "allocatedResourceStatuses": { "storage": "NodeResizePending" },
                "conditions": conditions("FileSystemResizePending", text, &[]),
            });
            bound.patch_claim(&self.claims.context, false, json!({ NOTHING_FOR_NODE: null }), status).await?;
            events.normal(&*bound.claim, "FileSystemResizeRequired", text).await;
            return Ok(());
        }
        let status = json!({
            "capacity": { "storage": quantity::of(bytes) },
            "allocatedResourceStatuses": { "storage": null },
            "conditions": conditions("", "", &CONDITIONS),
        });
        bound.patch_claim(&self.claims.context, false, json!({ NOTHING_FOR_NODE: "true" }), status).await?;
        let text = format!("volume {} has {} now", bound.volume_name(), quantity::of(bytes).0);
        events.normal(&*bound.claim, "VolumeResizeSuccessful", text).await;
        Ok(())
    }

    /// That the driver has said no.
    pub(super) async fn tell_failure(
        &self,
        bound: &Bound,
        failure: &Failure,
        is_infeasible: bool,
    ) -> Result<(), Failure> {
        let mut status =
            json!({ "conditions": conditions("ControllerResizeError", &failure.message(), &[]) });
        if is_infeasible {
            status["allocatedResourceStatuses"] = json!({ "storage": "ControllerResizeInfeasible" });
        }
        bound.patch_claim(&self.claims.context, false, json!({}), status).await
    }
}

/// Whether a claim has a condition.
pub(super) fn has(claim: &PersistentVolumeClaim, kind: &str) -> bool {
    let conditions = claim.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == kind && condition.status == "True")
}

/// A strategic patch of conditions: one is there (none, if its name is empty), and those others are not.
fn conditions(kind: &str, message: &str, gone: &[&str]) -> Value {
    let gone = gone.iter().filter(|other| **other != kind);
    let mut patch: Vec<Value> = gone.map(|other| json!({ "$patch": "delete", "type": other })).collect();
    if !kind.is_empty() {
        let mut condition = json!({ "type": kind, "status": "True", "lastTransitionTime": now() });
        if !message.is_empty() {
            condition["message"] = json!(message);
        }
        patch.push(condition);
    }
    Value::Array(patch)
}
