//! Claims of generic ephemeral volumes: made for a pod, and gone with it.

use std::sync::Arc;

use client::cache::Name;
use client::events::Events;
use client::queue::{Next, Queue};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{Api, PostParams};
use kube::{Error, ResourceExt as _};
use serde_json::json;

use super::{Context, hands, owned, pods};

/// Works until it is dropped.
pub(super) async fn run(context: Arc<Context>) {
    let queue: Arc<Queue<Name>> = Queue::new(super::PACE);
    let its = queue.clone();
    context.pods.listen(move |change| {
        if change.new.as_deref().is_some_and(|pod| pods::is_active(pod) && templates(pod).next().is_some()) {
            its.add(Name::of(&**change.object()));
        }
    });
    let events = context.events("ephemeral_volume");
    let (context, events) = (&context, &events);
    queue
        .run(|name| async move { super::told("the volumes of pod", &name, look(context, events, &name).await) })
        .await;
}

/// The names of claims, with what they are made from.
fn templates(
    pod: &Pod,
) -> impl Iterator<Item = (String, &k8s_openapi::api::core::v1::PersistentVolumeClaimTemplate)> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| {
        let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
        Some((format!("{}-{}", pod.name_any(), volume.name), template))
    })
}

async fn look(context: &Context, events: &Events, name: &Name) -> Result<Next, Error> {
    let Some(pod) = context.pods.get(name).filter(|pod| pods::is_active(pod)) else { return Ok(Next::Done) };
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &name.namespace);
    for (claim, template) in templates(&pod) {
        let mut there = context.claims.get(&Name::new(&name.namespace, &claim)).map(|there| (*there).clone());
        if there.is_none() {
            let meta = template.metadata.clone().unwrap_or_default();
            let made = json!({
                "metadata": {"name": claim, "labels": meta.labels, "annotations": meta.annotations,
                    "ownerReferences": [owned::reference(&*pod)]},
                "spec": template.spec,
            });
            let made: PersistentVolumeClaim = serde_json::from_value(made).map_err(Error::SerdeError)?;
            match api.create(&PostParams::default(), &made).await {
                Ok(_) => {}
                Err(Error::Api(status)) if status.code == 409 => there = api.get_opt(&claim).await?,
                Err(error) => {
                    let text = format!(
                        "ephemeral volume controller failed to create PVC {claim}: {}",
                        hands::says(&error)
                    );
                    events.warning(&*pod, "ClaimCreationFailed", text).await;
                    return Err(error);
                }
            }
        }
        if there.is_some_and(|there| !owned::is_of(&there.metadata, &hands::uid(&*pod))) {
            let text =
                format!("PVC {}/{claim} was not created for pod {name} (pod is not owner)", name.namespace);
            events.warning(&*pod, "ConflictingClaim", text).await;
        }
    }
    Ok(Next::Done)
}
