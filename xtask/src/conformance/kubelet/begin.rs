//! The kubelet, its node, and the driver become known.

use serde_json::{Value, json};

use super::api::*;
use super::place::{DRIVER, NODE};
use super::{Book, Walk, must};
use crate::Result;

/// By which the driver tells nodes apart.
const TOPOLOGY: &str = "topology.csi.sextant.dev/node";

impl Walk {
    /// Nothing goes on without a node.
    pub(super) async fn begin(&mut self, book: &mut Book) -> Result<()> {
        let node = self.api.until(NODES, NODE, "ready", is_ready).await;
        node.map_err(|error| format!("{error}\n{}", last_words(&self.place.programs.words("kubelet"))))?;
        book.note("kubelet: its node is registered and ready", Ok(()));
        book.note(
            "registration: the node's CSINode has the driver, its id and its topology",
            self.registered().await,
        );
        book.note("registration: the node has the driver's topology as a label", self.labelled().await);
        let heard = self.place.programs.hear("driver", "the kubelet has registered it").await;
        book.note("registration: the driver is told", heard);
        book.note("objects: the driver and its classes are taken", self.objects().await);
        book.note("capacity: what the driver has is told for the kubelet's node", self.capacity().await);
        Ok(())
    }

    /// The node's CSINode, as the kubelet has it.
    pub(super) async fn registered(&self) -> Result<()> {
        let has = |node: &Value| node["spec"]["drivers"][0]["name"] == DRIVER;
        let node = self.api.until(CSI_NODES, NODE, "with the driver", has).await?;
        let driver = json!([{"name": DRIVER, "nodeID": NODE, "topologyKeys": [TOPOLOGY]}]);
        must(node["spec"]["drivers"] == driver, || format!("it has {}", node["spec"]))
    }

    async fn labelled(&self) -> Result<()> {
        let has = |node: &Value| node["metadata"]["labels"][TOPOLOGY] == NODE;
        let node = self.api.until(NODES, NODE, "with the driver's label", has).await?;
        let ids = &node["metadata"]["annotations"]["csi.volume.kubernetes.io/nodeid"];
        let own = json!({DRIVER: NODE}).to_string();
        must(ids.as_str() == Some(&own), || format!("its ids are {ids}"))
    }

    async fn objects(&self) -> Result<()> {
        let api = &self.api;
        let spec = json!({"attachRequired": false, "podInfoOnMount": true, "fsGroupPolicy": "File",
            "storageCapacity": true, "volumeLifecycleModes": ["Persistent", "Ephemeral"]});
        api.make(DRIVERS, DRIVER, json!({"spec": spec})).await?;
        for (name, mode) in [("image", "WaitForFirstConsumer"), ("at-once", "Immediate")] {
            let class = json!({"provisioner": DRIVER, "parameters": {"backend": "image"}, "volumeBindingMode": mode,
                "allowVolumeExpansion": true, "reclaimPolicy": "Delete"});
            api.make(CLASSES, name, class).await?;
        }
        api.make(SNAPSHOT_CLASSES, "snapshots", json!({"driver": DRIVER, "deletionPolicy": "Delete"}))
            .await
            .map(drop)
    }

    async fn capacity(&self) -> Result<()> {
        let told = soon(async || {
            let all = self.api.all(CAPACITIES).await?;
            let of_class = all.iter().find(|one| {
                one["storageClassName"] == "image" && one["nodeTopology"]["matchLabels"][TOPOLOGY] == NODE
            });
            Ok(of_class.map(drop))
        });
        told.await?.ok_or_else(|| "no capacity is told of class image".into())
    }
}

/// The end of what a program has said.
fn last_words(words: &str) -> String {
    let last: Vec<&str> = words.lines().rev().take(10).collect();
    last.into_iter().rev().collect::<Vec<_>>().join("\n")
}
