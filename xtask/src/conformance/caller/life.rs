//! The driver becomes known, volumes are made, attached and used.

use csi::caller::registration::Event;
use csi::contract::v1::NodeGetVolumeStatsRequest;
use serde_json::{Value, json};

use super::api::*;
use super::place::{DRIVER, NODE};
use super::walk::Process;
use super::{Book, Walk, must, text};
use crate::Result;

/// By which the driver tells nodes apart.
const TOPOLOGY: &str = "topology.hostpath.csi/node";
const SELECTED: &str = "volume.kubernetes.io/selected-node";

impl Walk {
    /// The driver is registered and found, and has its classes.
    pub(super) async fn begin(&mut self, book: &mut Book) -> Result<()> {
        let registered = self.register().await;
        let registrar = match registered {
            Ok(registrar) => {
                book.note(
                    "registration: the kubelet's side knows the driver, its node and its topology",
                    Ok(()),
                );
                registrar
            }
            Err(error) => return Err(error),
        };
        let heard = self.place.hear("registrar", "the kubelet has registered driver").await;
        book.note("registration: the registrar is told", heard);
        book.note(
            "registration: a driver that goes is forgotten, and the registrar ends with that",
            self.forgotten(registrar).await,
        );
        book.note("objects: the driver, its node and its classes are taken", self.objects().await);
        let found = format!("driver {DRIVER} is at");
        book.note("controllers: the driver is found", self.place.hear("control", &found).await);
        let told = self.room("waits", 10 << 30).await;
        book.note("capacity: what the driver has is told for the class that waits", told);
        Ok(())
    }

    async fn register(&self) -> Result<Process> {
        self.kubelet.watch(self.place.path("registry"));
        let registrar = self.place.registrar(&self.place.path("registry"))?;
        let came = |event: &Event| match event {
            Event::Came(driver) if driver.driver == DRIVER => Some(driver.clone()),
            _ => None,
        };
        let driver = self.kubelet.hears("the driver has come", came).await?;
        must(driver.node == NODE && driver.endpoint == self.place.socket(), || {
            format!("it is told {driver:?}")
        })?;
        must(driver.topology.get(TOPOLOGY).is_some_and(|node| node == NODE), || {
            format!("it is told {driver:?}")
        })?;
        Ok(registrar)
    }

    /// The driver is killed, and comes back.
    async fn forgotten(&mut self, mut registrar: Process) -> Result<()> {
        if let Some(process) = self.process.take() {
            process.kill()?;
        }
        let code = registrar.ended().await?;
        must(code == Some(1), || format!("the registrar ends with {code:?}"))?;
        let gone = |event: &Event| matches!(event, Event::Gone(driver) if driver == DRIVER).then_some(());
        self.kubelet.hears("the driver has gone", gone).await?;
        self.start_driver().await
    }

    /// Starts the driver, which knows what it knew.
    pub(super) async fn start_driver(&mut self) -> Result<()> {
        let (process, driver) = self.place.driver().await?;
        (self.process, self.driver) = (Some(process), driver);
        Ok(())
    }

    async fn objects(&self) -> Result<()> {
        let api = &self.api;
        let labels = json!({"kubernetes.io/hostname": NODE, TOPOLOGY: NODE});
        api.make(NODES, NODE, json!({"metadata": {"labels": labels}})).await?;
        let on_it = json!([{"name": DRIVER, "nodeID": NODE, "topologyKeys": [TOPOLOGY]}]);
        api.make(CSI_NODES, NODE, json!({"spec": {"drivers": on_it}})).await?;
        self.classes().await
    }

    /// What an administrator makes for the driver.
    pub(super) async fn classes(&self) -> Result<()> {
        let api = &self.api;
        let spec = json!({"attachRequired": true, "podInfoOnMount": true, "storageCapacity": true,
            "fsGroupPolicy": "File", "volumeLifecycleModes": ["Persistent", "Ephemeral"]});
        api.make(DRIVERS, DRIVER, json!({"spec": spec})).await?;
        for (name, kind, mode) in [
            ("fast", "fast", "Immediate"),
            ("waits", "fast", "WaitForFirstConsumer"),
            ("small", "small", "WaitForFirstConsumer"),
        ] {
            let class = json!({"provisioner": DRIVER, "parameters": {"kind": kind}, "volumeBindingMode": mode,
                "allowVolumeExpansion": true, "reclaimPolicy": "Delete"});
            api.make(CLASSES, name, class).await?;
        }
        let class = json!({"driver": DRIVER, "deletionPolicy": "Delete"});
        api.make(SNAPSHOT_CLASSES, "snapshots", class.clone()).await?;
        api.make(GROUP_CLASSES, "groups", class).await?;
        for (name, parameter) in [("gold", "tier"), ("silver", "tier"), ("wrong", "colour")] {
            let class = json!({"driverName": DRIVER, "parameters": {parameter: name}});
            api.make(ATTRIBUTES, name, class).await?;
        }
        Ok(())
    }

    /// Waits until so many bytes are told for a class, where the driver has them.
    pub(super) async fn room(&self, class: &str, bytes: i64) -> Result<()> {
        let mut last = Vec::new();
        let told = soon(async || {
            last = self.api.all(CAPACITIES).await?;
            let mut of_class = last.iter().filter(|one| one["storageClassName"] == class);
            Ok(of_class
                .find(|one| {
                    one["nodeTopology"]["matchLabels"][TOPOLOGY] == NODE
                        && one["capacity"].as_str().and_then(quantity) == Some(bytes)
                })
                .map(drop))
        });
        told.await?.ok_or_else(|| format!("not {bytes} bytes for {class}; there is {}", json!(last)).into())
    }

    /// Asks for a volume of a class, with more or other fields.
    pub(super) async fn claim(&self, name: &str, class: &str, fields: Value) -> Result<()> {
        let mut spec = json!({"storageClassName": class, "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "512Mi"}}});
        if let (Some(spec), Some(fields)) = (spec.as_object_mut(), fields.as_object()) {
            spec.extend(fields.clone());
        }
        let metadata = json!({"labels": {"app": name}});
        self.api.make(CLAIMS, name, json!({"metadata": metadata, "spec": spec})).await.map(drop)
    }

    async fn select(&self, claim: &str) -> Result<()> {
        let change = json!({"metadata": {"annotations": {SELECTED: NODE}}});
        self.api.patch(CLAIMS, claim, change).await.map(drop)
    }

    /// Volumes are made, attached, mounted and written to.
    pub(super) async fn use_volumes(&self, book: &mut Book) {
        book.note("provision: a claim that does not wait is bound", self.at_once().await);
        book.note("provision: the object tells what the driver made", self.told().await);
        book.note(
            "provision: a claim that waits has its volume once a node is selected",
            self.waiting().await,
        );
        book.note(
            "provision: what finds no room is told, and another node may be selected",
            self.too_large().await,
        );
        book.note("provision: a claim for a block device is bound", self.device().await);
        book.note(
            "capacity: it is less by what was made",
            self.room("waits", (10 << 30) - (1536 << 20)).await,
        );
        book.note("attach: a volume can be staged once it is attached", self.attached().await);
        book.note(
            "node: file system and device are staged, published and written to",
            self.published().await,
        );
        book.note("node: statistics are had", self.statistics().await);
    }

    async fn at_once(&self) -> Result<()> {
        self.claim("data", "fast", json!({})).await?;
        self.volume("data").await?;
        self.api.event("data", "ProvisioningSucceeded", "").await
    }

    async fn told(&self) -> Result<()> {
        let claim = self.api.get(CLAIMS, "data").await?;
        let volume = self.volume("data").await?;
        let (meta, spec) = (&volume["metadata"], &volume["spec"]);
        let said = || volume.to_string();
        must(meta["name"] == *format!("pvc-{}", text(&claim["metadata"]["uid"])?), said)?;
        must(meta["annotations"]["pv.kubernetes.io/provisioned-by"] == DRIVER, said)?;
        must(spec["claimRef"]["uid"] == claim["metadata"]["uid"], said)?;
        must(
            spec["capacity"]["storage"] == "512Mi" && spec["persistentVolumeReclaimPolicy"] == "Delete",
            said,
        )?;
        must(spec["csi"]["driver"] == DRIVER && spec["csi"]["volumeAttributes"]["kind"] == "fast", said)?;
        let terms = &spec["nodeAffinity"]["required"]["nodeSelectorTerms"];
        let on = json!([{"matchExpressions": [{"key": TOPOLOGY, "operator": "In", "values": [NODE]}]}]);
        must(*terms == on, said)?;
        let has = self.in_driver().await?;
        must(has == [text(&spec["csi"]["volumeHandle"])?], || format!("the driver has {has:?}"))
    }

    /// The ids of the driver's volumes.
    pub(super) async fn in_driver(&self) -> Result<Vec<String>> {
        let entries = self.driver.volumes().await?;
        Ok(entries.into_iter().filter_map(|entry| Some(entry.volume?.volume_id)).collect())
    }

    async fn waiting(&self) -> Result<()> {
        self.claim("waits", "waits", json!({})).await?;
        self.api.event("waits", "WaitForFirstConsumer", "").await?;
        let before = self.in_driver().await?.len();
        must(before == 1, || format!("the driver has {before} volumes"))?;
        self.select("waits").await?;
        self.volume("waits").await.map(drop)
    }

    async fn too_large(&self) -> Result<()> {
        self.claim("large", "small", json!({"resources": {"requests": {"storage": "2Gi"}}})).await?;
        self.select("large").await?;
        let is_free = |claim: &Value| claim["metadata"]["annotations"].get(SELECTED).is_none();
        self.api.until(CLAIMS, "large", "without a selected node", is_free).await?;
        self.api.event("large", "ProvisioningFailed", "ResourceExhausted").await?;
        self.api.delete(CLAIMS, &["large"]).await?;
        self.api.gone(CLAIMS, "large").await
    }

    async fn device(&self) -> Result<()> {
        self.claim("raw", "fast", json!({"volumeMode": "Block"})).await?;
        let volume = self.volume("raw").await?;
        must(volume["spec"]["volumeMode"] == "Block", || volume.to_string())
    }

    async fn attached(&self) -> Result<()> {
        let used = self.used("data").await?;
        must(self.stage(&used).await.is_err(), || "it is staged though it is not attached".into())?;
        for claim in ["data", "waits", "raw"] {
            self.attach(claim).await?;
        }
        self.stage(&used).await
    }

    async fn published(&self) -> Result<()> {
        for claim in ["data", "raw"] {
            let used = self.used(claim).await?;
            self.stage(&used).await?;
            self.publish(&used).await?;
            used.write("before")?;
            let read = used.read()?;
            must(read == "before", || format!("{claim} holds {read:?}"))?;
        }
        Ok(())
    }

    async fn statistics(&self) -> Result<()> {
        let used = self.used("data").await?;
        let (volume_id, volume_path) = (used.id, used.target.display().to_string());
        let request = NodeGetVolumeStatsRequest { volume_id, volume_path, ..Default::default() };
        let told = self.driver.client.node_get_volume_stats(request).await?;
        must(told.usage.iter().any(|usage| usage.total > 0), || format!("it tells {told:?}"))
    }
}

/// Bytes of a quantity in binary units or none, as our server writes those of capacities.
pub(super) fn quantity(text: &str) -> Option<i64> {
    let units = [("Ki", 10), ("Mi", 20), ("Gi", 30)];
    for (unit, shift) in units {
        if let Some(number) = text.strip_suffix(unit) {
            return Some(number.parse::<i64>().ok()? << shift);
        }
    }
    text.parse().ok()
}
