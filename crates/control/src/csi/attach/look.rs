//! What there is to do for one attachment, and for one volume that is being deleted.

use client::cache::Name;
use client::queue::Next;
use csi::caller::Driver;
use csi::contract::v1::controller_service_capability::rpc::Type as Call;
use csi::contract::v1::{ControllerPublishVolumeRequest, ControllerUnpublishVolumeRequest};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeSpec};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::claims::driver;
use super::super::failure::Failure;
use super::super::finalizers;
use super::super::volume::{capability, source};
use super::{Attacher, NODE_ID, finalizer, is_attached};

/// The volume of an attachment: an object, or part of the attachment.
pub(super) enum Attached {
    Volume(Arc<PersistentVolume>),
    Inline(Arc<VolumeAttachment>),
}

impl Attached {
    pub(super) fn spec(&self) -> Result<&PersistentVolumeSpec, String> {
        match self {
            Self::Volume(volume) => volume.spec.as_ref(),
            Self::Inline(attachment) => attachment.spec.source.inline_volume_spec.as_ref(),
        }
        .ok_or_else(|| "the volume has no spec".to_owned())
    }
}

impl Attacher {
    pub(super) async fn attachment(&self, name: Name) -> Next {
        let Some(attachment) =
            self.context.attachments.get(&name).filter(|attachment| self.is_ours(attachment))
        else {
            self.forced().remove(&name);
            return Next::Done;
        };
        // One that comes has everything looked at.
        let Some(driver) = self.context.drivers.get(&attachment.spec.attacher) else { return Next::Done };
        let is_leaving = attachment.metadata.deletion_timestamp.is_some();
        let outcome = match (driver.controls(Call::PublishUnpublishVolume), is_leaving) {
            (true, false) => self.attach(&attachment, &driver).await,
            (true, true) => self.detach(&attachment, &driver).await,
            (false, false) => self.mark(&attachment).await,
            (false, true) => self.let_go(&attachment).await,
        };
        match outcome {
            Ok(()) => {
                self.forced().remove(&name);
                Next::Done
            }
            Err(Failure::Stale) => Next::Again,
            Err(failure) => {
                let field = if is_leaving { "detachError" } else { "attachError" };
                self.tell(&attachment, field, &failure).await;
                Next::Again
            }
        }
    }

    /// The volume of an attachment.
    pub(super) fn attached(&self, attachment: &Arc<VolumeAttachment>) -> Result<Attached, String> {
        let source = &attachment.spec.source;
        match (&source.persistent_volume_name, &source.inline_volume_spec) {
            (Some(name), None) => match self.context.volumes.get(&Name::global(name)) {
                Some(volume) => Ok(Attached::Volume(volume)),
                None => Err(format!("there is no PersistentVolume {name}")),
            },
            (None, Some(_)) => Ok(Attached::Inline(attachment.clone())),
            _ => Err("spec.source has to have one of persistentVolumeName and inlineVolumeSpec".to_owned()),
        }
    }

    /// What the driver calls a node, as the node's kubelet says.
    fn node(&self, attachment: &VolumeAttachment) -> Result<String, String> {
        let (node, driver) = (&attachment.spec.node_name, &attachment.spec.attacher);
        let Some(found) = self.context.csi_nodes.get(&Name::global(node)) else {
            return Err(format!("there is no CSINode {node}"));
        };
        let mut drivers = found.spec.drivers.iter();
        let entry = drivers.find(|entry| entry.name == *driver);
        entry.map(|entry| entry.node_id.clone()).ok_or_else(|| {
            format!("CSINode {node} does not name driver {driver}: is it registered with the kubelet?")
        })
    }

    /// The same, of a node that may be gone or has lost its driver.
    pub(super) fn remembered_node(&self, attachment: &VolumeAttachment) -> Result<String, String> {
        let remembered =
            attachment.metadata.annotations.as_ref().and_then(|annotations| annotations.get(NODE_ID));
        self.node(attachment).or_else(|error| remembered.cloned().ok_or(error))
    }

    async fn secrets(&self, spec: &PersistentVolumeSpec) -> Result<BTreeMap<String, String>, String> {
        match &source(spec)?.controller_publish_secret_ref {
            Some(secret) => {
                let (namespace, name) = (secret.namespace.as_deref(), secret.name.as_deref());
                self.context.secret(namespace.unwrap_or_default(), name.unwrap_or_default()).await
            }
            None => Ok(BTreeMap::new()),
        }
    }

    async fn attach(&self, attachment: &Arc<VolumeAttachment>, driver: &Driver) -> Result<(), Failure> {
        if is_attached(attachment) && !self.forced().contains(&Name::of(&**attachment)) {
            return Ok(());
        }
        // All that may be wrong is found before the finalizer, which would keep the attachment from being deleted.
        let attached = self.attached(attachment)?;
        let spec = attached.spec()?;
        let source = source(spec)?;
        let request = ControllerPublishVolumeRequest {
            volume_id: source.volume_handle.clone(),
            node_id: self.node(attachment)?,
            volume_capability: Some(capability(spec, driver)?),
            // Only drivers that know of it may be told (spec, ControllerPublishVolumeRequest).
            readonly: source.read_only == Some(true) && driver.controls(Call::PublishReadonly),
            secrets: self.secrets(spec).await?,
            volume_context: source.volume_attributes.clone().unwrap_or_default(),
        };
        if let Attached::Volume(volume) = &attached {
            if volume.metadata.deletion_timestamp.is_some() {
                return Err(Failure::Other("the volume is being deleted".into()));
            }
            self.hold_volume(volume, &finalizer(&driver.name)).await?;
        }
        self.hold(attachment, &request.node_id).await?;
        let answer = driver.client.controller_publish_volume(request).await?;
        self.mark_attached(attachment, answer.publish_context).await
    }

    async fn detach(&self, attachment: &Arc<VolumeAttachment>, driver: &Driver) -> Result<(), Failure> {
        let is_held = finalizers::has(&**attachment, &finalizer(&driver.name));
        if !is_held && !self.forced().contains(&Name::of(&**attachment)) {
            return Ok(());
        }
        let attached = self.attached(attachment)?;
        let spec = attached.spec()?;
        let request = ControllerUnpublishVolumeRequest {
            volume_id: source(spec)?.volume_handle.clone(),
            node_id: self.remembered_node(attachment)?,
            secrets: self.secrets(spec).await?,
        };
        driver.client.controller_unpublish_volume(request).await?;
        self.let_go(attachment).await
    }

    /// A driver that attaches nothing: it is as good as attached.
    async fn mark(&self, attachment: &VolumeAttachment) -> Result<(), Failure> {
        match is_attached(attachment) {
            true => Ok(()),
            false => self.mark_attached(attachment, BTreeMap::new()).await,
        }
    }

    /// Takes the finalizer from a volume that is being deleted and that no attachment names.
    pub(super) async fn volume(&self, name: Name) -> Next {
        let Some(volume) = self.context.volumes.get(&name).filter(|volume| super::is_leaving(volume)) else {
            return Next::Done;
        };
        let Some(driver) = driver(&volume).and_then(|driver| self.context.drivers.get(driver)) else {
            return Next::Done;
        };
        let is_of_it = |attachment: &VolumeAttachment| {
            attachment.spec.source.persistent_volume_name.as_ref() == Some(&name.name)
        };
        if !self.context.attachments.find(is_of_it).is_empty() {
            return Next::Done;
        }
        match self.release_volume(&volume, &finalizer(&driver.name)).await {
            Ok(()) => Next::Done,
            Err(Failure::Stale) => Next::Again,
            Err(failure) => {
                eprintln!("sextant control: warning: volume {name}: {failure}");
                Next::Again
            }
        }
    }
}
