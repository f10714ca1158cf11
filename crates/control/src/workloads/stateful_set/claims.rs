//! The claims of the pods of a StatefulSet.

use client::cache::Name;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Error, Resource, ResourceExt as _};
use serde_json::{Value, json};

use super::plan;
use crate::workloads::hands::{self, Hands};
use crate::workloads::{Context, owned};

/// What the claim of a template for a pod is called.
pub(super) fn name(template: &PersistentVolumeClaim, set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", template.name_any(), set.name_any())
}

/// What becomes of claims: when the set is deleted, and when it has fewer pods.
fn goes_with(set: &StatefulSet) -> (bool, bool) {
    let policy = set.spec.as_ref().and_then(|spec| spec.persistent_volume_claim_retention_policy.clone());
    let policy = policy.unwrap_or_default();
    (policy.when_deleted.as_deref() == Some("Delete"), policy.when_scaled.as_deref() == Some("Delete"))
}

/// Makes the claims of a pod that are not there; whether all are to stay: with one that is being deleted no pod begins.
pub(super) async fn make(
    context: &Context,
    hands: &Hands,
    set: &StatefulSet,
    ordinal: i32,
) -> Result<bool, Error> {
    let spec = set.spec.clone().unwrap_or_default();
    let namespace = set.namespace().unwrap_or_default();
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &namespace);
    for template in spec.volume_claim_templates.iter().flatten() {
        let name = Name::new(&namespace, name(template, set, ordinal));
        if let Some(there) = context.claims.get(&name) {
            // One that goes with a pod that is gone is not the next one's.
            let its = format!("{}-{ordinal}", set.name_any());
            let is_left =
                there.owner_references().iter().any(|owner| owner.kind == "Pod" && owner.name == its);
            if there.metadata.deletion_timestamp.is_some() || is_left {
                return Ok(false);
            }
            continue;
        }
        let mut labels = template.metadata.labels.clone().unwrap_or_default();
        labels.extend(spec.selector.match_labels.clone().unwrap_or_default());
        let owner = goes_with(set).0.then(|| vec![reference(set)]);
        let claim = json!({
            "metadata": {
                "name": name.name, "namespace": namespace, "labels": labels,
                "annotations": template.metadata.annotations, "ownerReferences": owner,
            },
            "spec": template.spec,
        });
        let claim: PersistentVolumeClaim = serde_json::from_value(claim).map_err(Error::SerdeError)?;
        let (set_name, pod) = (set.name_any(), format!("{}-{ordinal}", set.name_any()));
        let text = format!("Create Claim {} Pod {pod} in StatefulSet {set_name} success", name.name);
        match api.create(&PostParams::default(), &claim).await {
            Ok(_) => hands.events.normal(set, "SuccessfulCreate", text).await,
            Err(Error::Api(status)) if status.code == 409 => {}
            Err(error) => {
                let why = hands::says(&error);
                let text = format!(
                    "Create Claim {} for Pod {pod} in StatefulSet {set_name} failed error: {why}",
                    name.name
                );
                hands.events.warning(set, "FailedCreate", text).await;
                return Err(error);
            }
        }
    }
    Ok(true)
}

/// A claim belongs to what it goes with, and is not controlled by it.
fn reference<K: Resource<DynamicType = ()>>(owner: &K) -> Value {
    let mut reference = owned::reference(owner);
    if let Some(fields) = reference.as_object_mut() {
        fields.remove("controller");
        fields.remove("blockOwnerDeletion");
    }
    reference
}

/// The claims of a pod of a set: their names.
fn names(set: &StatefulSet, pod: &Pod) -> Vec<String> {
    let ordinal = plan::ordinal(&set.name_any(), pod);
    let templates = set.spec.as_ref().and_then(|spec| spec.volume_claim_templates.as_ref());
    let names = templates.into_iter().flatten().filter_map(|template| Some(name(template, set, ordinal?)));
    names.collect()
}

/// Says whose claims are, where they are there.
async fn give(context: &Context, set: &StatefulSet, claim: &str, owners: Value) -> Result<(), Error> {
    let api: Api<PersistentVolumeClaim> =
        Api::namespaced(context.client.clone(), &set.namespace().unwrap_or_default());
    let patch = Patch::Strategic(json!({"metadata": {"ownerReferences": owners}}));
    match api.patch(claim, &PatchParams::default(), &patch).await {
        Err(Error::Api(status)) if status.code == 404 => Ok(()),
        done => done.map(drop),
    }
}

/// Has claims go with a pod that goes for good, where that is asked for.
pub(super) async fn condemn(context: &Context, set: &StatefulSet, pod: &Pod) -> Result<(), Error> {
    if !goes_with(set).1 {
        return Ok(());
    }
    for claim in names(set, pod) {
        // With the set as another owner it would outlive the pod.
        let owners = json!([reference(pod), {"$patch": "delete", "uid": set.uid()}]);
        give(context, set, &claim, owners).await?;
    }
    Ok(())
}

/// Takes that back of a pod that stays after all: it was not deleted yet when the set was given its number back.
pub(super) async fn spare(context: &Context, set: &StatefulSet, pod: &Pod) -> Result<(), Error> {
    for claim in names(set, pod) {
        let Some(there) = context.claims.get(&Name::new(set.namespace().unwrap_or_default(), &claim)) else {
            continue;
        };
        if !there.owner_references().iter().any(|owner| Some(&owner.uid) == pod.metadata.uid.as_ref()) {
            continue;
        }
        let mut owners = vec![json!({"$patch": "delete", "uid": pod.uid()})];
        owners.extend(goes_with(set).0.then(|| reference(set)));
        give(context, set, &claim, json!(owners)).await?;
    }
    Ok(())
}
