//! Volumes are made larger and changed, fall ill, and their driver is killed.

use csi::contract::v1::ControllerGetVolumeRequest;
use serde_json::{Value, json};

use super::api::*;
use super::{Book, Walk, must, text};
use crate::Result;

impl Walk {
    /// All that happens to a volume while it is there.
    pub(super) async fn change(&mut self, book: &mut Book) {
        book.note(
            "expand: the controller's part is done, and the node's asked for",
            self.larger("data", "1Gi").await,
        );
        book.note("expand: with the node's part it is over", self.expanded("data", 1 << 30, "1Gi").await);
        book.note("expand: what is too large is told, and less is had after it", self.too_much("data").await);
        book.note(
            "modify: a class at creation is the volume's and the claim's",
            self.made_with("classed", "gold").await,
        );
        book.note("modify: a claim goes on to another class", self.modified("classed", "silver").await);
        book.note(
            "modify: what the driver refuses is told, and the class before is had again",
            self.refused().await,
        );
        book.note("driver: killed, it comes back, and all goes on", self.killed().await);
        book.note(
            "health: a volume that has fallen ill is told, and that it is well again",
            self.ill().await,
        );
    }

    async fn ask_for(&self, claim: &str, size: &str) -> Result<()> {
        let spec = json!({"resources": {"requests": {"storage": size}}});
        self.api.patch(CLAIMS, claim, json!({"spec": spec})).await.map(drop)
    }

    async fn larger(&self, claim: &str, size: &str) -> Result<()> {
        self.ask_for(claim, size).await?;
        let pending = |claim: &Value| {
            let conditions = claim["status"]["conditions"].as_array();
            conditions.into_iter().flatten().any(|one| one["type"] == "FileSystemResizePending")
        };
        let claim = self.api.until(CLAIMS, claim, "left to the node", pending).await?;
        let volume = self.api.get(VOLUMES, text(&claim["spec"]["volumeName"])?).await?;
        must(volume["spec"]["capacity"]["storage"] == size, || volume["spec"].to_string())
    }

    async fn expanded(&self, claim: &str, bytes: i64, size: &str) -> Result<()> {
        let used = self.used(claim).await?;
        self.expand(&used, bytes, size).await?;
        let request = ControllerGetVolumeRequest { volume_id: used.id.clone() };
        let told = self.driver.client.controller_get_volume(request).await?.volume.unwrap_or_default();
        must(told.capacity_bytes == bytes, || format!("the driver tells {told:?}"))?;
        let read = used.read()?;
        must(read == "after", || format!("it holds {read:?}"))?;
        let claim = self.api.get(CLAIMS, claim).await?;
        must(claim["status"]["capacity"]["storage"] == size, || claim["status"].to_string())
    }

    async fn too_much(&self, claim: &str) -> Result<()> {
        self.ask_for(claim, "9Gi").await?;
        let told = |claim: &Value| {
            claim["status"]["allocatedResourceStatuses"]["storage"] == "ControllerResizeInfeasible"
        };
        self.api.until(CLAIMS, claim, "told that it is infeasible", told).await?;
        self.larger(claim, "2Gi").await?;
        self.expanded(claim, 2 << 30, "2Gi").await
    }

    async fn made_with(&self, claim: &str, class: &str) -> Result<()> {
        self.claim(claim, "fast", json!({"volumeAttributesClassName": class})).await?;
        let volume = self.volume(claim).await?;
        must(volume["spec"]["volumeAttributesClassName"] == class, || volume["spec"].to_string())?;
        let has = |claim: &Value| claim["status"]["currentVolumeAttributesClassName"] == class;
        self.api.until(CLAIMS, claim, "of its class", has).await.map(drop)
    }

    async fn modified(&self, claim: &str, class: &str) -> Result<()> {
        let spec = json!({"volumeAttributesClassName": class});
        self.api.patch(CLAIMS, claim, json!({"spec": spec})).await?;
        let has = |claim: &Value| {
            claim["status"]["currentVolumeAttributesClassName"] == class
                && claim["status"].get("modifyVolumeStatus").is_none()
        };
        self.api.until(CLAIMS, claim, "of its new class", has).await?;
        let volume = self.volume(claim).await?;
        must(volume["spec"]["volumeAttributesClassName"] == class, || volume["spec"].to_string())
    }

    async fn refused(&self) -> Result<()> {
        let spec = json!({"volumeAttributesClassName": "wrong"});
        self.api.patch(CLAIMS, "classed", json!({"spec": spec})).await?;
        let told = |claim: &Value| claim["status"]["modifyVolumeStatus"]["status"] == "Infeasible";
        let claim = self.api.until(CLAIMS, "classed", "told that it is infeasible", told).await?;
        let current = &claim["status"]["currentVolumeAttributesClassName"];
        must(*current == "silver", || format!("it has {current}"))?;
        self.api.event("classed", "VolumeModifyFailed", "colour").await?;
        self.modified("classed", "silver").await
    }

    async fn killed(&mut self) -> Result<()> {
        let before = self.in_driver().await?;
        if let Some(process) = self.process.take() {
            process.kill()?;
        }
        self.claim("meanwhile", "fast", json!({})).await?;
        self.api.event("meanwhile", "ExternalProvisioning", "").await?;
        self.start_driver().await?;
        self.volume("meanwhile").await?;
        let after = self.in_driver().await?;
        must(before.iter().all(|id| after.contains(id)), || format!("it had {before:?} and has {after:?}"))?;
        let read = self.used("data").await?.read()?;
        must(read == "after", || format!("a published volume holds {read:?}"))
    }

    /// Drivers are asked when they have come: it is killed for that.
    async fn ill(&mut self) -> Result<()> {
        let id = self.id("copy").await?;
        if let Some(process) = self.process.take() {
            process.kill()?;
        }
        let (folder, aside) = (self.place.path("state").join(&id), self.place.path("aside"));
        std::fs::rename(&folder, &aside)?;
        self.start_driver().await?;
        self.api.event("copy", "VolumeConditionAbnormal", "doesn't exist").await?;
        std::fs::rename(aside, folder)?;
        if let Some(process) = self.process.take() {
            process.kill()?;
        }
        self.start_driver().await?;
        self.api.event("copy", "VolumeConditionNormal", "nothing is wrong").await
    }
}
