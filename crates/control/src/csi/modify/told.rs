//! What claims and volumes say of a modification.

use serde_json::{Value, json};

use super::super::claims::Bound;
use super::super::failure::Failure;
use super::super::volume::now;
use super::Modifier;

const MODIFYING: &str = "ModifyingVolume";
const ERROR: &str = "ModifyVolumeError";

impl Modifier {
    /// That the class is waited for.
    pub(super) async fn tell_pending(&self, bound: &Bound) -> Result<(), Failure> {
        let status = json!({ "modifyVolumeStatus": { "status": "Pending" } });
        bound.patch_claim(&self.claims.context, true, json!({}), status).await
    }

    /// That the volume is going to be modified: before the driver is asked, and only if the claim is still what was read.
    pub(super) async fn tell_begin(&self, bound: &Bound, class: &str) -> Result<(), Failure> {
        let text = format!("the volume is being modified to class {class:?}");
        let status = json!({
            "modifyVolumeStatus": { "status": "InProgress", "targetVolumeAttributesClassName": class },
            "conditions": [condition(bound, MODIFYING, "", &text)],
        });
        bound.patch_claim(&self.claims.context, true, json!({}), status).await
    }

    /// That it has been.
    pub(super) async fn tell_end(&self, bound: &Bound, class: &str) -> Result<(), Failure> {
        bound.patch_volume(&self.claims.context, json!({ "volumeAttributesClassName": class })).await?;
        let status = json!({
            "modifyVolumeStatus": null,
            "currentVolumeAttributesClassName": class,
            "conditions": [gone(MODIFYING), gone(ERROR)],
        });
        bound.patch_claim(&self.claims.context, false, json!({}), status).await?;
        let text = format!("volume {} has class {class} now", bound.volume_name());
        self.claims.context.events.normal(&*bound.claim, "VolumeModifySuccessful", text).await;
        Ok(())
    }

    /// That the driver, or what stands before it, has said no.
    pub(super) async fn tell_failure(
        &self,
        bound: &Bound,
        class: &str,
        failure: &Failure,
        is_infeasible: bool,
    ) -> Result<(), Failure> {
        let what = if failure.is_final() { "failed, and is tried again" } else { "goes on" };
        let text = format!("modification to class {class:?} {what}");
        let reason = failure.code().map(|code| code.to_string()).unwrap_or_default();
        let step = if is_infeasible { "Infeasible" } else { "InProgress" };
        let status = json!({
            "modifyVolumeStatus": { "status": step, "targetVolumeAttributesClassName": class },
            "conditions": [
                condition(bound, MODIFYING, "", &text),
                condition(bound, ERROR, &reason, &failure.message()),
            ],
        });
        bound.patch_claim(&self.claims.context, false, json!({}), status).await
    }

    /// That nobody asks for it any more. What the last try came to stays in `modifyVolumeStatus`.
    pub(super) async fn tell_forgotten(&self, bound: &Bound) -> Result<(), Failure> {
        if !bound.status().conditions.iter().flatten().any(|condition| condition.type_ == MODIFYING) {
            return Ok(());
        }
        let text = "the claim asks for no class any more";
        self.claims.context.events.normal(&*bound.claim, "VolumeModifyCanceled", text).await;
        bound
            .patch_claim(&self.claims.context, true, json!({}), json!({ "conditions": [gone(MODIFYING)] }))
            .await
    }
}

/// A condition that holds. Since when changes with its reason alone.
fn condition(bound: &Bound, kind: &str, reason: &str, message: &str) -> Value {
    let status = bound.status();
    let before = status.conditions.iter().flatten().find(|before| {
        before.type_ == kind
            && before.status == "True"
            && before.reason.as_deref().unwrap_or_default() == reason
    });
    let since = before.and_then(|before| before.last_transition_time.clone()).unwrap_or_else(now);
    let mut condition = json!({
        "type": kind,
        "status": "True",
        "message": message,
        "lastProbeTime": now(),
        "lastTransitionTime": since,
    });
    if !reason.is_empty() {
        condition["reason"] = json!(reason);
    }
    condition
}

fn gone(kind: &str) -> Value {
    json!({ "$patch": "delete", "type": kind })
}
