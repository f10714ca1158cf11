//! Claims that ask for another class of attributes: their volumes are modified.
//!
//! To which class a volume is being modified stands in the claim's `modifyVolumeStatus` before the driver is asked.

mod look;
mod plan;
mod told;

use std::sync::Arc;

use client::cache::Name;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::Context;
use super::claims::Claims;

struct Modifier {
    claims: Claims,
}

/// Modifies volumes until it is dropped.
pub(super) async fn run(context: Arc<Context>) {
    // A cluster may know no such classes.
    context.attributes.filled().await;
    let modifier = Modifier { claims: Claims::new(context.clone(), is_news) };
    // What waits for its class.
    let (waiting, claims) = (modifier.claims.queue.clone(), context.claims.clone());
    context.attributes.listen(move |change| {
        let class = Name::of(&**change.object()).name;
        let waits = |claim: &PersistentVolumeClaim| wanted(claim) == class && current(claim) != class;
        waiting.add_all(claims.find(waits).iter().map(|claim| Name::of(&**claim)));
    });
    modifier.claims.run(|bound| modifier.look(bound)).await;
}

/// Whether something changed that others have to say: what this controller writes itself is no reason to look again, but for an end,
/// after which there may be a next class.
fn is_news(old: &PersistentVolumeClaim, new: &PersistentVolumeClaim) -> bool {
    let phase = |claim: &PersistentVolumeClaim| claim.status.as_ref().and_then(|status| status.phase.clone());
    let is_idle = new.status.as_ref().is_none_or(|status| status.modify_volume_status.is_none());
    wanted(old) != wanted(new) || phase(old) != phase(new) || (is_idle && wanted(new) != current(new))
}

/// The class that a claim asks for, or nothing.
fn wanted(claim: &PersistentVolumeClaim) -> &str {
    let class = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
    class.unwrap_or_default()
}

/// The class that its volume has, or nothing.
fn current(claim: &PersistentVolumeClaim) -> &str {
    let status = claim.status.as_ref();
    status.and_then(|status| status.current_volume_attributes_class_name.as_deref()).unwrap_or_default()
}
