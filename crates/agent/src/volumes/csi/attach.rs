//! Attachments: where a driver's volumes have to be attached, the agent asks for it by an object, and controllers do it.
//!
//! It is what a kubelet does whose node no controller attaches for: the agent's nodes do not bear the annotation
//! `volumes.kubernetes.io/controller-managed-attach-detach`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::cache::{Cache, Name};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::runtime::watcher;
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;

use super::record::{Id, hex};
use super::{Csi, Wanted};
use crate::agent::Agent;
use crate::names::AGENT;
use crate::volumes::Failed;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long an attachment that nobody knows may take to be deleted.
const SWEEPING: Duration = Duration::from_secs(10);

/// The bytes that a label's value may have.
const LABEL: usize = 63;

/// What a volume's attachment to a node is called, as kubelets call it.
pub(super) fn name(node: &str, id: &Id) -> String {
    format!("csi-{}", hex(&format!("{}{}{node}", id.handle, id.driver)))
}

/// The node as the value of a label, which is shorter than names of nodes may be.
fn label(node: &str) -> String {
    if node.len() <= LABEL { node.to_owned() } else { hex(node)[..LABEL].to_owned() }
}

/// Has a volume attached; what the driver said of it. Everything else about the volume waits meanwhile.
pub(super) async fn attach(
    agent: &Arc<Agent>,
    pod: &Pod,
    wanted: &Wanted,
    name: &str,
) -> Result<BTreeMap<String, String>, Failed> {
    let attaching = tokio::time::timeout(PATIENCE, ask(agent, pod, wanted, name)).await;
    let attached = attaching.unwrap_or_else(|_| {
        Err("timed out waiting for external-attacher of the driver to attach the volume".into())
    });
    attached.map_err(|why| Failed {
        reason: "FailedAttachVolume",
        ..Failed::new(format!("AttachVolume.Attach failed for volume {:?} : {why}", wanted.name))
    })
}

async fn ask(
    agent: &Arc<Agent>,
    pod: &Pod,
    wanted: &Wanted,
    name: &str,
) -> Result<BTreeMap<String, String>, String> {
    let api: Api<VolumeAttachment> = Api::all(agent.client.clone());
    let cache =
        Cache::follow(api.clone(), watcher::Config::default().fields(&format!("metadata.name={name}")));
    let changes = watch::Sender::new(());
    let mut changed = changes.subscribe();
    cache.filled().await;
    cache.listen(move |_| {
        changes.send_replace(());
    });
    let node = &agent.setup.node;
    let object = json!({
        "metadata": {"name": name, "labels": {AGENT: label(node)}},
        "spec": {"attacher": wanted.id.driver, "nodeName": node, "source": {"persistentVolumeName": wanted.name}},
    });
    let object = serde_json::from_value(object).map_err(|error| error.to_string())?;
    let mut is_made = false;
    loop {
        changed.mark_unchanged();
        match cache.get(&Name::global(name)) {
            // One of before goes first, and is made anew.
            Some(there) if there.metadata.deletion_timestamp.is_some() => {}
            Some(there) => {
                let status = there.status.clone().unwrap_or_default();
                if status.attached {
                    if is_made {
                        let words = format!("AttachVolume.Attach succeeded for volume {:?}", wanted.name);
                        agent.events.normal(pod, "SuccessfulAttachVolume", words);
                    }
                    return Ok(status.attachment_metadata.unwrap_or_default());
                }
                is_made = true;
                if let Some(error) = status.attach_error {
                    return Err(error.message.unwrap_or_else(|| "the driver does not say why".into()));
                }
            }
            None => {
                is_made = true;
                match api.create(&PostParams::default(), &object).await {
                    Err(kube::Error::Api(status)) if status.code == 409 => {}
                    Err(error) => return Err(client::causes(&error)),
                    Ok(_) => {}
                }
            }
        }
        changed.changed().await.map_err(|_| "the API server is not asked any more".to_owned())?;
    }
}

/// Takes an attachment back. Controllers detach the volume then.
pub(super) async fn detach(csi: &Csi, client: &Client, id: &Id, name: &str) -> Result<(), String> {
    let api: Api<VolumeAttachment> = Api::all(client.clone());
    match api.delete(name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => {
            return Err(format!("cannot delete VolumeAttachment {name}: {}", client::causes(&error)));
        }
        Ok(_) => {}
    }
    super::lock(&csi.attached).remove(id);
    Ok(())
}

/// Takes back what an agent of this node asked for and no record tells of: it was taken from the node while there was no API server.
pub(super) async fn sweep(csi: &Csi, client: &Client, node: &str) -> Result<(), String> {
    let api: Api<VolumeAttachment> = Api::all(client.clone());
    let its = ListParams::default().labels(&format!("{AGENT}={}", label(node)));
    let all = api.list(&its).await.map_err(|error| client::causes(&error))?;
    for one in all {
        let Some(name) = one.metadata.name.filter(|_| one.metadata.deletion_timestamp.is_none()) else {
            continue;
        };
        // Asked for each anew: a pod may have asked since, and none takes it over while it goes.
        let _held = csi.attaching.lock().await;
        if super::record::held(&csi.folder).iter().all(|held| held.attachment.as_ref() != Some(&name)) {
            // Mounts wait for it: not for an API server that does not answer.
            let ended = tokio::time::timeout(SWEEPING, api.delete(&name, &DeleteParams::default())).await;
            match ended.map_err(|_| format!("cannot delete {name}: the API server does not answer"))? {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(client::causes(&error)),
                Ok(_) => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_with_long_names_attach_too() {
        assert_eq!(label("node-1"), "node-1");
        let long = ["a", "b"].map(|end| label(&format!("{}.{end}", "n".repeat(61))));
        assert_eq!(long[0], format!("{}.a", "n".repeat(61)));
        let longer = ["a", "b"].map(|end| label(&format!("{}.{end}", "n".repeat(62))));
        assert!(
            longer
                .iter()
                .all(|label| label.len() == LABEL && label.bytes().all(|b| b.is_ascii_alphanumeric()))
        );
        assert_ne!(longer[0], longer[1]);
    }
}
