//! Pods use the driver's volumes: `sextant agent` in the place of the kubelet, `sextant node` in that of the runtime.

use std::path::Path;

use serde_json::{Value, json};

use super::api::*;
use super::place::{DRIVER, NODE};
use super::walk::Process;
use super::{Book, Walk, must, text};
use crate::Result;

const IMAGE: &str = "registry.sextant.example/shop:1";

/// What runs beside the walk.
struct Beside {
    /// None while it is away.
    agent: Option<Process>,
    _node: Process,
    registrar: Process,
}

/// A container that keeps orders in the folder `/data`.
fn database() -> Value {
    json!({"name": "main", "image": IMAGE, "args": ["database", "/data"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "readinessProbe": {"periodSeconds": 1, "httpGet": {"port": 8080, "path": "/healthz"}}})
}

impl Walk {
    /// From the driver's registration to a machine with nothing of it.
    pub(super) async fn pods(&mut self, kubeconfig: &Path, book: &mut Book) -> Result<()> {
        std::fs::create_dir_all(self.place.drivers())?;
        let node = self.place.node()?;
        let agent = self.place.agent(kubeconfig)?;
        let mut beside = Beside {
            agent: Some(agent),
            _node: node,
            registrar: self.place.registrar(&self.place.drivers())?,
        };
        let made = self.classes().await;
        book.note("objects: the driver and its classes are taken", made);
        book.note("registration: the node has the driver, with its topology", self.on_node().await);
        book.note(
            "claim: a pod that wants it has a volume, where it waits for one",
            self.first("waits").await,
        );
        book.note("attach: the agent asks for it, and the driver attaches", self.is_attached("waits").await);
        book.note("use: what the pod writes is in the driver's volume", self.written("waits", 2).await);
        book.note(
            "kill: a killed agent goes on, and the pod runs",
            self.survives(&mut beside, kubeconfig).await,
        );
        book.note(
            "driver: killed, it comes back, and the pod's volume is there",
            self.without_driver(&mut beside).await,
        );
        book.note("expand: the node's part is done while the pod runs", self.grown("waits").await);
        book.note("next: another pod finds what the first one wrote", self.next("waits").await);
        book.note("device: a pod has a block device", self.device_of_pod().await);
        book.note("inline: a pod has a volume of its own, which goes with it", self.inline().await);
        book.note("too large: a claim that finds no room is told, and its pod waits", self.no_room().await);
        book.note("end: pods go, and with them attachments and mounts", self.pods_gone().await);
        book.note("end: nothing is left in the driver", self.claims_gone().await);
        book.note("controllers: they end when they are told to", self.controllers_end().await);
        drop(beside);
        // Of pods that a failure has left, too.
        self.place.reset()
    }

    async fn on_node(&self) -> Result<()> {
        let has = |one: &Value| one["spec"]["drivers"][0]["name"] == DRIVER;
        let of = self.api.until(CSI_NODES, NODE, "with the driver", has).await?;
        let driver = &of["spec"]["drivers"][0];
        must(driver["nodeID"] == NODE && driver["topologyKeys"][0] == "topology.hostpath.csi/node", || {
            of.to_string()
        })?;
        let is_on =
            |node: &Value| is_ready(node) && node["metadata"]["labels"]["topology.hostpath.csi/node"] == NODE;
        self.api.until(NODES, NODE, "ready and labelled", is_on).await.map(drop)
    }

    /// Makes a pod with a volume.
    async fn pod(&self, name: &str, container: Value, volume: Value) -> Result<()> {
        let mut spec = json!({"containers": [container], "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsUser": 1000, "fsGroup": 1000}});
        if !volume.is_null() {
            spec["volumes"] = json!([volume]);
        }
        self.api.make(PODS, name, json!({"spec": spec})).await.map(drop)
    }

    fn of_claim(claim: &str) -> Value {
        json!({"name": "data", "persistentVolumeClaim": {"claimName": claim}})
    }

    async fn pod_ready(&self, name: &str) -> Result<Value> {
        self.api.until(PODS, name, "ready", is_ready).await
    }

    async fn first(&self, claim: &str) -> Result<()> {
        self.claim(claim, "waits", json!({})).await?;
        self.pod("first", database(), Self::of_claim(claim)).await?;
        self.volume(claim).await?;
        self.pod_ready("first").await.map(drop)
    }

    async fn is_attached(&self, claim: &str) -> Result<()> {
        let volume = self.volume(claim).await?;
        let all = self.api.all(ATTACHMENTS).await?;
        let of = |one: &&Value| one["spec"]["source"]["persistentVolumeName"] == volume["metadata"]["name"];
        let attached = all.iter().find(of).is_some_and(|one| one["status"]["attached"] == true);
        must(attached, || format!("there is {}", json!(all)))?;
        self.api.event("first", "SuccessfulAttachVolume", "").await
    }

    /// A customer orders twice; so many orders are in the volume's folder after that.
    async fn written(&self, claim: &str, orders: usize) -> Result<()> {
        let pod = self.pod_ready("first").await?;
        self.order("customer", text(&pod["status"]["podIP"])?).await?;
        let file = self.place.path("state").join(self.id(claim).await?).join("orders");
        let kept = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        must(kept.lines().count() == orders, || format!("it has {kept:?}"))
    }

    async fn order(&self, name: &str, address: &str) -> Result<()> {
        let container =
            json!({"name": "main", "image": IMAGE, "args": ["order", format!("{address}:8080"), "2"]});
        let spec = json!({"containers": [container], "restartPolicy": "Never"});
        self.api.make(PODS, name, json!({"spec": spec})).await?;
        let pod = self.api.until(PODS, name, "over", has_ended).await?;
        must(pod["status"]["phase"] == "Succeeded", || pod["status"].to_string())?;
        self.pod_away(name).await
    }

    async fn pod_away(&self, name: &str) -> Result<()> {
        self.api.delete(PODS, &[name]).await?;
        self.api.gone(PODS, name).await
    }

    async fn survives(&self, beside: &mut Beside, kubeconfig: &Path) -> Result<()> {
        let before = self.pod_ready("first").await?;
        if let Some(agent) = beside.agent.take() {
            agent.kill()?;
        }
        beside.agent = Some(self.place.agent(kubeconfig)?);
        // What it starts it starts beside what runs.
        self.order("after", text(&before["status"]["podIP"])?).await?;
        let after = self.pod_ready("first").await?;
        let id = |pod: &Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
        must(id(&before) == id(&after), || format!("{} is {} now", id(&before), id(&after)))
    }

    async fn without_driver(&mut self, beside: &mut Beside) -> Result<()> {
        if let Some(process) = self.process.take() {
            process.kill()?;
        }
        // It ends with its driver, and whoever has started it starts it anew.
        beside.registrar.ended().await?;
        self.start_driver().await?;
        beside.registrar = self.place.registrar(&self.place.drivers())?;
        let pod = self.pod_ready("first").await?;
        self.order("later", text(&pod["status"]["podIP"])?).await
    }

    async fn grown(&self, claim: &str) -> Result<()> {
        let spec = json!({"resources": {"requests": {"storage": "1Gi"}}});
        self.api.patch(CLAIMS, claim, json!({"spec": spec})).await?;
        let is = |claim: &Value| claim["status"]["capacity"]["storage"] == "1Gi";
        self.api.until(CLAIMS, claim, "larger", is).await?;
        self.api.event("first", "FileSystemResizeSuccessful", "").await
    }

    async fn next(&self, claim: &str) -> Result<()> {
        self.pod_away("first").await?;
        self.pod("second", database(), Self::of_claim(claim)).await?;
        self.pod_ready("second").await?;
        let file = self.place.path("state").join(self.id(claim).await?).join("orders");
        let kept = std::fs::read_to_string(file)?.lines().count();
        must(kept == 6, || format!("there are {kept} orders"))
    }

    async fn device_of_pod(&self) -> Result<()> {
        self.claim("raw", "waits", json!({"volumeMode": "Block"})).await?;
        let container = json!({"name": "main", "image": IMAGE, "args": ["serve"],
            "volumeDevices": [{"name": "data", "devicePath": "/dev/data"}]});
        self.pod("device", container, Self::of_claim("raw")).await?;
        self.pod_ready("device").await?;
        self.pod_away("device").await
    }

    async fn inline(&self) -> Result<()> {
        let before = self.in_driver().await?;
        let volume = json!({"name": "data", "csi": {"driver": DRIVER, "volumeAttributes": {"kind": "fast", "size": "1Mi"}}});
        self.pod("inline", database(), volume).await?;
        self.pod_ready("inline").await?;
        let during = self.in_driver().await?;
        must(during.len() == before.len() + 1, || format!("the driver has {during:?}, and had {before:?}"))?;
        self.pod_away("inline").await?;
        let after = self.in_driver().await?;
        must(after == before, || format!("the driver has {after:?}, and had {before:?}"))
    }

    async fn no_room(&self) -> Result<()> {
        self.claim("large", "small", json!({"resources": {"requests": {"storage": "2Gi"}}})).await?;
        self.pod("waits", database(), Self::of_claim("large")).await?;
        self.api.event("waits", "FailedScheduling", "").await?;
        self.pod_away("waits").await?;
        self.api.delete(CLAIMS, &["large"]).await?;
        self.api.gone(CLAIMS, "large").await
    }

    async fn pods_gone(&self) -> Result<()> {
        self.pod_away("second").await?;
        let mut left = (Vec::new(), Vec::new());
        let gone = soon(async || {
            left = (self.api.all(ATTACHMENTS).await?, self.mounts()?);
            // The network of pods is nobody's volume.
            left.1.retain(|mount| mount.contains("kubernetes.io~csi") || mount.contains("globalmount"));
            Ok((left.0.is_empty() && left.1.is_empty()).then_some(()))
        });
        gone.await?.ok_or_else(|| format!("there is {}", json!(left)).into())
    }

    async fn claims_gone(&self) -> Result<()> {
        self.api.delete(CLAIMS, &["waits", "raw"]).await?;
        for claim in ["waits", "raw"] {
            self.api.gone(CLAIMS, claim).await?;
        }
        let empty = soon(async || Ok(self.api.all(VOLUMES).await?.is_empty().then_some(())));
        empty.await?.ok_or("there are volumes")?;
        self.driver_is_empty().await
    }
}
