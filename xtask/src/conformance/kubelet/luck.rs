//! Programs are killed while pods use volumes, and come back.

use serde_json::json;

use super::api::*;
use super::pods::{of_claim, pod};
use super::{Book, Walk, must};
use crate::Result;

impl Walk {
    pub(super) async fn have_bad_luck(&mut self, book: &mut Book) {
        book.note(
            "kill: the driver comes back under a pod, and is registered anew",
            self.driver_again().await,
        );
        book.note(
            "kill: the kubelet comes back, and knows which volumes its pods have",
            self.kubelet_again().await,
        );
        book.note("kill: the controllers come back, and go on", self.control_again().await);
        book.note(
            "kill: the node comes back, and its pods with their volumes were never away",
            self.node_again().await,
        );
    }

    async fn driver_again(&mut self) -> Result<()> {
        self.claim("kept", "image", json!({})).await?;
        self.start(
            "keeps",
            pod("while true; do echo more >> /data/lines; sleep 0.2; done", of_claim("kept")),
        )
        .await?;
        if let Some(driver) = self.driver.take() {
            driver.kill()?;
        }
        self.driver = Some(self.place.driver()?);
        let registered = soon(async || {
            let count = self.place.programs.words("driver").matches("the kubelet has registered it").count();
            Ok((count > 1).then_some(()))
        });
        registered.await?.ok_or("it is not registered again")?;
        self.registered().await?;
        self.says("beside", pod("head -n 1 /data/lines > /said", of_claim("kept")), "more").await
    }

    async fn kubelet_again(&mut self) -> Result<()> {
        let before = self.api.get(PODS, "keeps").await?;
        if let Some(kubelet) = self.kubelet.take() {
            kubelet.kill()?;
        }
        // What is made while it is away is used when it is there again.
        self.claim("left", "image", json!({})).await?;
        self.kubelet = Some(self.place.kubelet(&self.server)?);
        self.says("after", pod("echo here > /data/line; cat /data/line > /said", of_claim("left")), "here")
            .await?;
        let after = self.api.get(PODS, "keeps").await?;
        let id = "containerStatuses";
        must(before["status"][id][0]["containerID"] == after["status"][id][0]["containerID"], || {
            format!("the pod is another: {}", after["status"])
        })
    }

    async fn control_again(&mut self) -> Result<()> {
        if let Some(control) = self.control.take() {
            control.kill()?;
        }
        self.claim("later", "image", json!({})).await?;
        self.control = Some(self.place.control()?);
        self.says("of-later", pod("echo x > /data/x && cat /data/x > /said", of_claim("later")), "x").await
    }

    async fn node_again(&mut self) -> Result<()> {
        let before = self.api.get(PODS, "keeps").await?;
        if let Some(node) = self.node.take() {
            node.kill()?;
        }
        self.node = Some(self.place.node().await?);
        self.says("beside", pod("head -n 1 /data/lines > /said", of_claim("kept")), "more").await?;
        let after = self.api.get(PODS, "keeps").await?;
        let (is, was) = (&after["status"]["containerStatuses"][0], &before["status"]["containerStatuses"][0]);
        must(is["containerID"] == was["containerID"] && is["restartCount"] == 0, || {
            format!("it says {}", after["status"])
        })?;
        self.remove("keeps").await
    }
}
