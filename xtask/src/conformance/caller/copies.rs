//! Snapshots, groups of them, and what is made of them.

use serde_json::{Value, json};

use super::api::*;
use super::{Book, Walk, must, text};
use crate::Result;

impl Walk {
    /// Snapshots are cut and restored, claims cloned.
    pub(super) async fn copy(&self, book: &mut Book) {
        book.note("snapshot: it is ready, and tells what the driver tells", self.cut("one", "data").await);
        book.note("restore: a volume of a snapshot holds what was there then", self.restored().await);
        book.note("clone: a volume of a claim holds what is there now", self.cloned().await);
        book.note("snapshot: a device's is restored, too", self.device_restored().await);
        book.note("snapshot: one that is deleted is gone in the driver", self.snapshot_goes().await);
        book.note("group: snapshots of several claims are cut as one", self.group().await);
        book.note("group: a member is restored", self.member().await);
        book.note("group: it goes with its members", self.group_goes().await);
    }

    /// Cuts a snapshot of a claim.
    async fn cut(&self, name: &str, claim: &str) -> Result<()> {
        let source = json!({"persistentVolumeClaimName": claim});
        let spec = json!({"volumeSnapshotClassName": "snapshots", "source": source});
        self.api.make(SNAPSHOTS, name, json!({"spec": spec})).await?;
        let snapshot = self.ready(SNAPSHOTS, name).await?;
        let of = text(&snapshot["status"]["boundVolumeSnapshotContentName"])?;
        let content = self.api.get(CONTENTS, of).await?;
        let said = || format!("{} of {}", snapshot["status"], content["status"]);
        let told = self.driver.snapshots().await?;
        let its = told.iter().find(|one| content["status"]["snapshotHandle"] == *one.snapshot_id);
        let its = its.ok_or("the driver has no such snapshot")?;
        must(its.source_volume_id == self.id(claim).await?, said)?;
        must(snapshot["status"]["creationTime"].is_string(), said)?;
        must(
            snapshot["status"]["restoreSize"] == "512Mi"
                && content["status"]["restoreSize"] == its.size_bytes,
            said,
        )
    }

    async fn ready(&self, kind: Kind, name: &str) -> Result<Value> {
        self.api.until(kind, name, "ready", |one| one["status"]["readyToUse"] == true).await
    }

    /// Makes a claim of a source, and has its data.
    async fn of(&self, claim: &str, group: &str, kind: &str, source: &str, fields: Value) -> Result<String> {
        let mut fields = fields;
        fields["dataSource"] = json!({"apiGroup": group, "kind": kind, "name": source});
        self.claim(claim, "fast", fields).await?;
        self.held(claim).await
    }

    async fn of_snapshot(&self, claim: &str, snapshot: &str, fields: Value) -> Result<String> {
        self.of(claim, "snapshot.storage.k8s.io", "VolumeSnapshot", snapshot, fields).await
    }

    async fn restored(&self) -> Result<()> {
        self.used("data").await?.write("after")?;
        let held = self.of_snapshot("restored", "one", json!({})).await?;
        must(held == "before", || format!("it holds {held:?}"))
    }

    async fn cloned(&self) -> Result<()> {
        let held = self.of("copy", "", "PersistentVolumeClaim", "data", json!({})).await?;
        must(held == "after", || format!("it holds {held:?}"))
    }

    async fn device_restored(&self) -> Result<()> {
        self.cut("device", "raw").await?;
        self.used("raw").await?.write("after")?;
        let held = self.of_snapshot("raw-restored", "device", json!({"volumeMode": "Block"})).await?;
        must(held == "before", || format!("it holds {held:?}"))
    }

    async fn snapshot_goes(&self) -> Result<()> {
        self.api.delete(SNAPSHOTS, &["device"]).await?;
        self.api.gone(SNAPSHOTS, "device").await?;
        let told = self.driver.snapshots().await?;
        must(told.len() == 1, || format!("the driver has {told:?}"))
    }

    async fn group(&self) -> Result<()> {
        for claim in ["data", "waits"] {
            self.api.patch(CLAIMS, claim, json!({"metadata": {"labels": {"group": "g"}}})).await?;
        }
        let source = json!({"selector": {"matchLabels": {"group": "g"}}});
        let spec = json!({"volumeGroupSnapshotClassName": "groups", "source": source});
        self.api.make(GROUPS, "both", json!({"spec": spec})).await?;
        let group = self.ready(GROUPS, "both").await?;
        let of = text(&group["status"]["boundVolumeGroupSnapshotContentName"])?.to_owned();
        let content = self.api.get(GROUP_CONTENTS, &of).await?;
        let handle = text(&content["status"]["volumeGroupSnapshotHandle"])?;
        let mut last = Vec::new();
        let members = soon(async || {
            last = self.api.all(SNAPSHOTS).await?;
            let of_group = last.iter().filter(|one| one["status"]["volumeGroupSnapshotName"] == "both");
            Ok((of_group.filter(|one| one["status"]["readyToUse"] == true).count() == 2).then_some(()))
        });
        members.await?.ok_or_else(|| format!("there are no two members: {}", json!(last)))?;
        let told = self.driver.snapshots().await?;
        let count = told.iter().filter(|one| one.group_snapshot_id == handle).count();
        must(count == 2, || format!("the driver has {told:?}"))
    }

    async fn member(&self) -> Result<()> {
        let data = self.id("data").await?;
        let told = self.driver.snapshots().await?;
        let its = told.iter().find(|one| !one.group_snapshot_id.is_empty() && one.source_volume_id == data);
        let its = &its.ok_or("no member is of the claim's volume")?.snapshot_id;
        let contents = self.api.all(CONTENTS).await?;
        let content = contents.iter().find(|one| one["status"]["snapshotHandle"] == **its);
        let content = content.ok_or("no content tells of it")?;
        let snapshot = text(&content["spec"]["volumeSnapshotRef"]["name"])?;
        let held = self.of_snapshot("of-member", snapshot, json!({})).await?;
        must(held == "after", || format!("it holds {held:?}"))
    }

    async fn group_goes(&self) -> Result<()> {
        self.api.delete(GROUPS, &["both"]).await?;
        self.api.gone(GROUPS, "both").await?;
        let gone = soon(async || {
            let count = self.api.all(SNAPSHOTS).await?.len() + self.api.all(CONTENTS).await?.len();
            Ok((count == 2).then_some(()))
        });
        gone.await?.ok_or("its members do not go")?;
        let told = self.driver.snapshots().await?;
        must(told.len() == 1, || format!("the driver has {told:?}"))
    }
}
