//! One claim.

use client::cache::Name;
use client::queue::Next;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Error, ResourceExt as _};
use serde_json::json;

use super::{BY_CONTROLLER, Binder, CLAIM, COMPLETED, fit, is_user, told, used};
use crate::csi::{finalizers, names};

/// The provisioner of classes whose volumes people make.
const NOBODY: &str = "kubernetes.io/no-provisioner";

impl Binder {
    pub(super) async fn look_at_claim(&self, name: &Name) -> Next {
        let Some(claim) = self.context.claims.get(name) else { return Next::Done };
        let done = match names::volume(&claim) {
            _ if claim.metadata.deletion_timestamp.is_some() => self.let_go(&claim, name).await,
            Some(volume) => self.with_volume(&claim, volume).await,
            None => self.without_volume(&claim).await,
        };
        told("claim", name, done)
    }

    fn claim_api(&self, claim: &PersistentVolumeClaim) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.context.client.clone(), &claim.namespace().unwrap_or_default())
    }

    fn volume_api(&self) -> Api<PersistentVolume> {
        Api::all(self.context.client.clone())
    }

    /// A claim that is being deleted goes when no pod uses it.
    async fn let_go(&self, claim: &PersistentVolumeClaim, name: &Name) -> Result<(), Error> {
        if !finalizers::has(claim, CLAIM) {
            return Ok(());
        }
        let uses = |pod: &Pod| is_user(pod) && used(pod).any(|used| used == *name);
        // The last of them tells when it is gone.
        if !self.pods.find(uses).is_empty() {
            return Ok(());
        }
        // What is deleted is never had again: the cache may be behind.
        let pods: Api<Pod> = Api::namespaced(self.context.client.clone(), &name.namespace);
        if pods.list(&ListParams::default()).await?.iter().any(uses) {
            return Ok(());
        }
        finalizers::remove(&self.claim_api(claim), claim, CLAIM, &[]).await
    }

    async fn without_volume(&self, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        let class_name = names::class(claim);
        let class = self.context.classes.get(&Name::global(class_name));
        let volumes = self.context.volumes.all();
        let mode = class.as_ref().and_then(|class| class.volume_binding_mode.as_deref());
        let waits = mode == Some("WaitForFirstConsumer") && names::selected_node(claim).is_none();
        let node = names::selected_node(claim).filter(|_| mode == Some("WaitForFirstConsumer"));
        let node = node.and_then(|node| self.context.nodes.get(&Name::global(node)));
        let its = fit::best(claim, &volumes, node.as_deref());
        let its = its.filter(|volume| !waits || fit::is_meant(volume, claim));
        if let Some(volume) = its {
            return self.bind(claim, &volume).await;
        }
        let events = &self.context.events;
        match class {
            _ if waits => {
                let (reason, text) = self.waits(&Name::of(claim));
                events.normal(claim, reason, text).await;
            }
            Some(class) if class.provisioner != NOBODY => return self.ask(claim, &class.provisioner).await,
            None if !class_name.is_empty() => {
                let text = format!("storageclass.storage.k8s.io {class_name:?} not found");
                events.warning(claim, "ProvisioningFailed", text).await;
            }
            // Somebody has to make one by hand.
            Some(class) => events.normal(claim, "ExternalProvisioning", asked(&class.provisioner)).await,
            None => {
                let text = "no persistent volumes available for this claim and no storage class is set";
                events.normal(claim, "FailedBinding", text).await;
            }
        }
        Ok(())
    }

    /// What a claim waits for that gets its volume where its first pod is: reason and text.
    fn waits(&self, name: &Name) -> (&'static str, String) {
        let is_waiting = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
            node.is_empty() && !matches!(phase, Some("Succeeded" | "Failed"))
        };
        let waiting = self.pods.find(|pod| is_waiting(pod) && used(pod).any(|used| used == *name));
        let names: Vec<String> = waiting.iter().map(|pod| pod.name_any()).collect();
        match names.as_slice() {
            [] => ("WaitForFirstConsumer", "waiting for first consumer to be created before binding".into()),
            [one] => ("WaitForPodScheduled", format!("waiting for pod {one} to be scheduled")),
            all => ("WaitForPodScheduled", format!("waiting for pods {} to be scheduled", all.join(","))),
        }
    }

    /// Asks a provisioner for a volume.
    async fn ask(&self, claim: &PersistentVolumeClaim, provisioner: &str) -> Result<(), Error> {
        if names::provisioner(claim) != provisioner {
            let annotations = json!({names::PROVISIONER: provisioner, names::PROVISIONER_BETA: provisioner});
            finalizers::patch(&self.claim_api(claim), claim, json!({"annotations": annotations})).await?;
            self.context.events.normal(claim, "ExternalProvisioning", asked(provisioner)).await;
        }
        Ok(())
    }

    /// Gives a volume to a claim: the volume is told first, so that no two claims get it.
    async fn bind(&self, claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Result<(), Error> {
        // It may have one that the cache does not know of: then it must not have a second.
        let claim = match finalizers::again(&self.claim_api(claim), claim).await? {
            Some(claim) if names::volume(&claim).is_none() && claim.metadata.deletion_timestamp.is_none() => {
                claim
            }
            _ => return Ok(()),
        };
        let claim = &claim;
        self.take(claim, volume).await?;
        let patch = json!({
            "metadata": {
                "uid": claim.uid(),
                "resourceVersion": claim.resource_version(),
                "annotations": {COMPLETED: "yes", BY_CONTROLLER: "yes"},
            },
            "spec": {"volumeName": volume.name_any()},
        });
        // What has changed comes back, and the claim is looked at again.
        let (api, name) = (self.claim_api(claim), claim.name_any());
        api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
    }

    /// Writes a claim into a volume.
    async fn take(&self, claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Result<(), Error> {
        let there = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        if there.is_some_and(|there| there.uid == claim.metadata.uid) {
            return Ok(());
        }
        let mut metadata = json!({"uid": volume.uid(), "resourceVersion": volume.resource_version()});
        if there.is_none() {
            metadata["annotations"] = json!({BY_CONTROLLER: "yes"});
        }
        let claim_ref = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": claim.namespace(),
            "name": claim.name_any(), "uid": claim.uid(), "resourceVersion": claim.resource_version(),
        });
        let patch = Patch::Merge(json!({"metadata": metadata, "spec": {"claimRef": claim_ref}}));
        self.volume_api().patch(&volume.name_any(), &PatchParams::default(), &patch).await.map(drop)
    }

    /// A claim that names its volume, by us or by a person.
    async fn with_volume(&self, claim: &PersistentVolumeClaim, name: &str) -> Result<(), Error> {
        let was_bound = claim.annotations().contains_key(COMPLETED);
        let volume = match self.context.volumes.get(&Name::global(name)) {
            Some(volume) if fit::is_meant(&volume, claim) => Some((*volume).clone()),
            // The cache may not know yet that it is the claim's.
            _ => self.volume_api().get_opt(name).await?,
        };
        let owner = volume.as_ref().and_then(super::claim_of);
        match volume {
            // Freed by somebody, it is taken again.
            Some(volume) if fit::is_meant(&volume, claim) || owner.is_none() => {
                let lacks = fit::lacks(&volume, claim);
                let lacks = lacks.or_else(|| fit::lacks_of_class(&volume, claim).filter(|_| owner.is_none()));
                if let Some(lacks) = lacks.filter(|_| !was_bound) {
                    let text = format!("Cannot bind to requested volume {name:?}: {lacks}");
                    self.context.events.warning(claim, "VolumeMismatch", text).await;
                    return Ok(());
                }
                self.take(claim, &volume).await?;
                if !was_bound {
                    let annotations = json!({"annotations": {COMPLETED: "yes"}});
                    finalizers::patch(&self.claim_api(claim), claim, annotations).await?;
                }
                self.bound(claim, &volume).await
            }
            _ if was_bound && names::phase(claim) != "Lost" => {
                let (reason, text) = match owner {
                    None => (
                        "ClaimLost",
                        "Bound claim has lost its PersistentVolume. Data on the volume is lost!",
                    ),
                    Some(_) => (
                        "ClaimMisbound",
                        "Two claims are bound to the same volume, this one is bound incorrectly",
                    ),
                };
                self.context.events.warning(claim, reason, text).await;
                self.status(claim, json!({"phase": "Lost"})).await
            }
            // It may come yet.
            None => Ok(()),
            Some(_) if was_bound => Ok(()),
            Some(_) => {
                let text = format!("volume {name:?} already bound to a different claim.");
                self.context.events.warning(claim, "FailedBinding", text).await;
                Ok(())
            }
        }
    }

    /// The claim is told what it has. Only once: from then on the size is the resizer's to tell.
    async fn bound(&self, claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Result<(), Error> {
        if names::phase(claim) == "Bound" {
            return Ok(());
        }
        let spec = volume.spec.clone().unwrap_or_default();
        let mut status =
            json!({"phase": "Bound", "accessModes": spec.access_modes, "capacity": spec.capacity});
        if let Some(class) = spec.volume_attributes_class_name {
            status["currentVolumeAttributesClassName"] = json!(class);
        }
        self.status(claim, status).await
    }

    async fn status(&self, claim: &PersistentVolumeClaim, status: serde_json::Value) -> Result<(), Error> {
        let patch = Patch::Merge(json!({"metadata": {"uid": claim.uid()}, "status": status}));
        let (api, name) = (self.claim_api(claim), claim.name_any());
        api.patch_status(&name, &PatchParams::default(), &patch).await.map(drop)
    }
}

/// What people are told of a claim whose volume others are to make.
fn asked(provisioner: &str) -> String {
    format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system \
         administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
    )
}
