//! Claims of generic ephemeral volumes: made for a pod, and gone with it.

use std::sync::Arc;

use client::cache::Name;
use client::events::Events;
use client::queue::{Next, Queue};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimTemplate, Pod};
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

/// The names of volumes and their claims, with what these are made from.
fn templates(pod: &Pod) -> impl Iterator<Item = (&str, String, &PersistentVolumeClaimTemplate)> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| {
        let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
        Some((volume.name.as_str(), format!("{}-{}", pod.name_any(), volume.name), template))
    })
}

async fn look(context: &Context, events: &Events, name: &Name) -> Result<Next, Error> {
    let Some(pod) = context.pods.get(name).filter(|pod| pods::is_active(pod)) else { return Ok(Next::Done) };
    for (volume, claim, template) in templates(&pod) {
        let made = make(context, &pod, &claim, template).await;
        let why = match &made {
            Ok(true) => continue,
            Ok(false) => {
                format!("PVC {}/{claim} was not created for pod {name} (pod is not owner)", name.namespace)
            }
            Err(error) => format!("create PVC {claim}: {}", hands::says(error)),
        };
        events.warning(&*pod, "FailedBinding", format!("ephemeral volume {volume}: {why}")).await;
        made?;
    }
    Ok(Next::Done)
}

/// Makes a claim of a pod, if it is not there; whether it is the pod's.
async fn make(
    context: &Context,
    pod: &Pod,
    claim: &str,
    template: &PersistentVolumeClaimTemplate,
) -> Result<bool, Error> {
    let namespace = pod.namespace().unwrap_or_default();
    let is_its = |there: &PersistentVolumeClaim| owned::is_of(&there.metadata, &hands::uid(pod));
    if let Some(there) = context.claims.get(&Name::new(&namespace, claim)) {
        return Ok(is_its(&there));
    }
    let meta = template.metadata.clone().unwrap_or_default();
    let made = json!({
        "metadata": {"name": claim, "labels": meta.labels, "annotations": meta.annotations,
            "ownerReferences": [owned::reference(pod)]},
        "spec": template.spec,
    });
    let made: PersistentVolumeClaim = serde_json::from_value(made).map_err(Error::SerdeError)?;
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &namespace);
    match api.create(&PostParams::default(), &made).await {
        // The cache may not know of it yet.
        Err(Error::Api(status)) if status.code == 409 => {
            Ok(api.get_opt(claim).await?.is_none_or(|there| is_its(&there)))
        }
        done => done.map(|_| true),
    }
}
