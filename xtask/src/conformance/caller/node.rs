//! A volume as a kubelet has it: attached, staged, published, and back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use csi::contract::v1::volume_capability::access_mode::Mode;
use csi::contract::v1::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use csi::contract::v1::*;
use serde_json::{Value, json};

use super::api::{ATTACHMENTS, CLAIMS, VOLUMES};
use super::place::{DRIVER, NODE};
use super::{Walk, text};
use crate::Result;

/// A claim's volume on the node.
pub(super) struct Used {
    pub(super) claim: String,
    pub(super) id: String,
    capability: VolumeCapability,
    context: BTreeMap<String, String>,
    staging: PathBuf,
    pub(super) target: PathBuf,
}

impl Walk {
    /// The volume's object of a claim that is bound.
    pub(super) async fn volume(&self, claim: &str) -> Result<Value> {
        let bound = |claim: &Value| claim["status"]["phase"] == "Bound";
        let found = self.api.until(CLAIMS, claim, "bound", bound).await?;
        self.api.until(VOLUMES, text(&found["spec"]["volumeName"])?, "bound", bound).await
    }

    /// What the driver calls a claim's volume.
    pub(super) async fn id(&self, claim: &str) -> Result<String> {
        Ok(text(&self.volume(claim).await?["spec"]["csi"]["volumeHandle"])?.to_owned())
    }

    /// A claim's volume, as it is used on the node.
    pub(super) async fn used(&self, claim: &str) -> Result<Used> {
        let volume = self.volume(claim).await?;
        let spec = &volume["spec"];
        let access_type = match text(&spec["volumeMode"])? {
            "Block" => AccessType::Block(BlockVolume {}),
            _ => AccessType::Mount(MountVolume::default()),
        };
        let capability = VolumeCapability {
            access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
            access_type: Some(access_type),
        };
        Ok(Used {
            claim: claim.into(),
            id: text(&spec["csi"]["volumeHandle"])?.into(),
            capability,
            context: serde_json::from_value(spec["csi"]["volumeAttributes"].clone())?,
            staging: self.place.path(&format!("pods/{claim}-staging")),
            target: self.place.path(&format!("pods/{claim}")),
        })
    }

    /// Attaches a claim's volume, as the controller of attachments has it.
    pub(super) async fn attach(&self, claim: &str) -> Result<()> {
        let volume = self.volume(claim).await?;
        let source = json!({"persistentVolumeName": volume["metadata"]["name"]});
        let spec = json!({"attacher": DRIVER, "nodeName": NODE, "source": source});
        self.api.make(ATTACHMENTS, claim, json!({"spec": spec})).await?;
        let attached = |one: &Value| one["status"]["attached"] == true;
        self.api.until(ATTACHMENTS, claim, "attached", attached).await.map(drop)
    }

    pub(super) async fn detach(&self, claim: &str) -> Result<()> {
        self.api.delete(ATTACHMENTS, &[claim]).await?;
        self.api.gone(ATTACHMENTS, claim).await
    }

    pub(super) async fn stage(&self, used: &Used) -> Result<()> {
        let request = NodeStageVolumeRequest {
            volume_id: used.id.clone(),
            staging_target_path: shown(&used.staging),
            volume_capability: Some(used.capability.clone()),
            volume_context: used.context.clone(),
            ..Default::default()
        };
        Ok(self.driver.client.node_stage_volume(request).await.map(drop)?)
    }

    pub(super) async fn publish(&self, used: &Used) -> Result<()> {
        let request = NodePublishVolumeRequest {
            volume_id: used.id.clone(),
            staging_target_path: shown(&used.staging),
            target_path: shown(&used.target),
            volume_capability: Some(used.capability.clone()),
            volume_context: used.context.clone(),
            ..Default::default()
        };
        Ok(self.driver.client.node_publish_volume(request).await.map(drop)?)
    }

    pub(super) async fn unpublish(&self, used: &Used) -> Result<()> {
        let (volume_id, target_path) = (used.id.clone(), shown(&used.target));
        self.driver
            .client
            .node_unpublish_volume(NodeUnpublishVolumeRequest { volume_id, target_path })
            .await?;
        let (volume_id, staging_target_path) = (used.id.clone(), shown(&used.staging));
        let request = NodeUnstageVolumeRequest { volume_id, staging_target_path };
        Ok(self.driver.client.node_unstage_volume(request).await.map(drop)?)
    }

    /// What a claim's volume holds, which is attached, staged, published and given back for it.
    pub(super) async fn held(&self, claim: &str) -> Result<String> {
        self.attach(claim).await?;
        let used = self.used(claim).await?;
        self.stage(&used).await?;
        self.publish(&used).await?;
        let held = used.read();
        self.unpublish(&used).await?;
        self.detach(claim).await?;
        held
    }

    /// What the node does of an expansion, and tells of it.
    pub(super) async fn expand(&self, used: &Used, bytes: i64, size: &str) -> Result<()> {
        let request = NodeExpandVolumeRequest {
            volume_id: used.id.clone(),
            volume_path: shown(&used.target),
            staging_target_path: shown(&used.staging),
            capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
            volume_capability: Some(used.capability.clone()),
            ..Default::default()
        };
        self.driver.client.node_expand_volume(request).await?;
        let status =
            json!({"capacity": {"storage": size}, "conditions": null, "allocatedResourceStatuses": null});
        self.api.patch(CLAIMS, &used.claim, json!({"status": status})).await.map(drop)
    }
}

impl Used {
    fn is_device(&self) -> bool {
        matches!(self.capability.access_type, Some(AccessType::Block(_)))
    }

    /// Writes a line: into a file, or at the device's beginning.
    pub(super) fn write(&self, line: &str) -> Result<()> {
        use std::io::Write as _;
        let mut file = match self.is_device() {
            true => std::fs::File::options().write(true).open(&self.target)?,
            false => std::fs::File::create(self.target.join("data"))?,
        };
        file.write_all(format!("{line}\n").as_bytes())?;
        Ok(file.sync_all()?)
    }

    /// The line that was written.
    pub(super) fn read(&self) -> Result<String> {
        use std::io::Read as _;
        let path = if self.is_device() { self.target.clone() } else { self.target.join("data") };
        let mut bytes = Vec::new();
        std::fs::File::open(&path)?.take(512).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
