//! Everything goes, and nothing is left.

use serde_json::json;

use super::api::*;
use super::{Book, Walk, must};
use crate::Result;

const NODE_OWN: [&str; 2] = ["data", "raw"];

impl Walk {
    /// All is taken back.
    pub(super) async fn end(&mut self, book: &mut Book) {
        book.note("node: unpublished and unstaged, nothing is mounted", self.unpublished().await);
        book.note(
            "delete: a volume that is attached stays, and that is told",
            self.held_by_attachment().await,
        );
        book.note("detach: an attachment goes, and then the volume", self.detached().await);
        book.note("detach: a volume cannot be staged any more", self.unattached().await);
        book.note("delete: all claims go, with all that was made of them", self.all_gone().await);
        book.note("end: nothing is left in the API", self.api_is_empty().await);
        book.note("end: nothing is left in the driver", self.driver_is_empty().await);
        book.note("capacity: all is free again", self.room("waits", 10 << 30).await);
        book.note("controllers: they end when they are told to", self.controllers_end().await);
    }

    /// Mounts of anything of this walk's.
    pub(super) fn mounts(&self) -> Result<Vec<String>> {
        let dir = self.place.path("").display().to_string();
        let mounts = std::fs::read_to_string("/proc/thread-self/mounts")?;
        Ok(mounts.lines().filter(|line| line.contains(&dir)).map(str::to_owned).collect())
    }

    async fn unpublished(&self) -> Result<()> {
        for claim in NODE_OWN {
            self.unpublish(&self.used(claim).await?).await?;
        }
        let mounts = self.mounts()?;
        must(mounts.is_empty(), || format!("there is {mounts:?}"))
    }

    async fn held_by_attachment(&self) -> Result<()> {
        let volume = self.volume("data").await?;
        let name = super::text(&volume["metadata"]["name"])?;
        let id = super::text(&volume["spec"]["csi"]["volumeHandle"])?;
        self.api.delete(CLAIMS, &["data"]).await?;
        self.api.gone(CLAIMS, "data").await?;
        self.api.event(name, "VolumeFailedDelete", "still attached").await?;
        let has = self.in_driver().await?;
        must(has.iter().any(|one| one == id), || format!("the driver has {has:?}"))
    }

    async fn detached(&self) -> Result<()> {
        let volume = self.api.get(ATTACHMENTS, "data").await?;
        self.detach("data").await?;
        self.api.gone(VOLUMES, super::text(&volume["spec"]["source"]["persistentVolumeName"])?).await
    }

    async fn unattached(&self) -> Result<()> {
        let used = self.used("waits").await?;
        self.detach("waits").await?;
        must(self.stage(&used).await.is_err(), || "it is staged though it is detached".into())
    }

    async fn all_gone(&self) -> Result<()> {
        self.detach("raw").await?;
        self.api.delete(SNAPSHOTS, &["one"]).await?;
        self.api.gone(SNAPSHOTS, "one").await?;
        for claim in self.api.all(CLAIMS).await? {
            self.api.delete(CLAIMS, &[super::text(&claim["metadata"]["name"])?]).await?;
        }
        let gone = soon(async || {
            let count = self.api.all(CLAIMS).await?.len() + self.api.all(VOLUMES).await?.len();
            Ok((count == 0).then_some(()))
        });
        let left = (self.api.all(CLAIMS).await?, self.api.all(VOLUMES).await?);
        gone.await?.ok_or_else(|| format!("claims and volumes do not all go: of {}", json!(left)).into())
    }

    async fn api_is_empty(&self) -> Result<()> {
        for kind in [CLAIMS, VOLUMES, ATTACHMENTS, SNAPSHOTS, CONTENTS, GROUPS, GROUP_CONTENTS] {
            let left = self.api.all(kind).await?;
            must(left.is_empty(), || format!("there is {}", json!(left)))?;
        }
        Ok(())
    }

    pub(super) async fn driver_is_empty(&self) -> Result<()> {
        let has = (self.in_driver().await?, self.driver.snapshots().await?);
        must(has.0.is_empty() && has.1.is_empty(), || format!("it has {has:?}"))?;
        let mut files = Vec::new();
        for entry in std::fs::read_dir(self.place.path("state"))? {
            files.push(entry?.file_name());
        }
        must(files == ["state.json"], || format!("there is {files:?}"))?;
        let state = self.place.path("state").display().to_string();
        for device in std::fs::read_dir("/sys/block")?.flatten() {
            let file = std::fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
            must(!file.starts_with(&state), || format!("{:?} is of {file}", device.file_name()))?;
        }
        Ok(())
    }

    pub(super) async fn controllers_end(&mut self) -> Result<()> {
        let code = self.control.end().await?;
        must(code == Some(0), || format!("they end with {code:?}"))
    }
}
