//! Claims that ask for more than they have: their volumes are expanded, and what is left for the node is handed to its kubelet.
//!
//! How far an expansion is stands in the claim: `allocatedResources` says to what size, `allocatedResourceStatuses` who is at it. Both are
//! written before the driver is asked, so that a claim that is shrunk meanwhile is brought to where the driver may already be.

mod look;
mod plan;
mod told;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::Context;
use super::claims::Claims;

struct Resizer {
    claims: Claims,
}

/// Expands volumes until it is dropped.
pub(super) async fn run(context: Arc<Context>) {
    let resizer = Resizer { claims: Claims::new(context, is_news) };
    resizer.claims.run(|bound| resizer.look(bound)).await;
}

/// Whether something changed that others have to say.
fn is_news(old: &PersistentVolumeClaim, new: &PersistentVolumeClaim) -> bool {
    let bound = |claim: &PersistentVolumeClaim| claim.status.as_ref().and_then(|status| status.phase.clone());
    asked(old) != asked(new)
        || capacity(old) != capacity(new)
        || bound(old) != bound(new)
        || (step(old) != step(new) && !step(new).starts_with("Controller"))
}

fn storage(amounts: Option<&BTreeMap<String, Quantity>>) -> Option<i64> {
    amounts?.get("storage").and_then(client::quantity::bytes)
}

/// What a claim asks for.
fn asked(claim: &PersistentVolumeClaim) -> Option<i64> {
    let resources = claim.spec.as_ref()?.resources.as_ref()?;
    storage(resources.requests.as_ref())
}

/// What it has.
fn capacity(claim: &PersistentVolumeClaim) -> Option<i64> {
    storage(claim.status.as_ref()?.capacity.as_ref())
}

/// Who is at it: `allocatedResourceStatuses` of the storage.
fn step(claim: &PersistentVolumeClaim) -> &str {
    let statuses = claim.status.as_ref().and_then(|status| status.allocated_resource_statuses.as_ref());
    statuses.and_then(|statuses| statuses.get("storage")).map_or("", String::as_str)
}
