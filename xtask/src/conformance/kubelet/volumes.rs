//! Pods use volumes: file systems, devices, those of a pod's own; they grow, and are copied.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::api::*;
use super::place::STATISTICS;
use super::pods::{of_claim, pod, pod_mounting, pod_of, pod_with_device};
use super::{Book, Walk, must, text};
use crate::Result;

/// Waits until the volume has so many MiB, and says how many it has then.
const GROWN: &str = "size() { df -m /data | awk 'END { print $2 }'; }
until [ $(size) -gt 900 ]; do sleep 0.2; done
size > /said";
/// Waits until the device has a 1024th MiB, and says what is in the first.
const DEVICE_GROWN: &str = "last() { dd if=/dev/volume bs=1M skip=1023 count=1 2>/dev/null | wc -c; }
until [ $(last) = 1048576 ]; do sleep 0.2; done
head -c 5 /dev/volume > /said";

impl Walk {
    /// What volumes are for.
    pub(super) async fn use_volumes(&mut self, book: &mut Book) {
        book.note("claim: one that waits has its volume where its pod is scheduled", self.scheduled().await);
        book.note("pod: a user in the volume's group writes", self.written().await);
        book.note(
            "pod: another reads what was written, and cannot write where it only reads",
            self.read().await,
        );
        book.note("pod: a folder of a volume is mounted alone", self.folder().await);
        book.note("kubelet: it tells what is in a volume", self.statistics().await);
        book.note("expansion: a volume grows while its pod runs", self.grown().await);
        book.note("block: a pod writes to a device", self.device_written().await);
        book.note("block: another pod reads from it, and it grows", self.device_read().await);
        book.note("ephemeral: a pod has a volume of its own, which goes with it", self.ephemeral().await);
        book.note("snapshot: a pod reads from a volume that was restored", self.restored().await);
        book.note("clone: a pod reads from a copy of a volume", self.cloned().await);
        book.note("claim: a volume made at once is used on its node", self.at_once().await);
    }

    async fn scheduled(&self) -> Result<()> {
        self.claim("data", "image", json!({})).await?;
        self.api.event("data", "WaitForFirstConsumer", "").await?;
        self.start("holder", pod("echo held > /data/held; sync; exec sleep 600", of_claim("data"))).await?;
        let volume = self.volume("data").await?;
        must(volume["spec"]["csi"]["driver"] == super::place::DRIVER, || volume["spec"].to_string())?;
        self.remove("holder").await
    }

    async fn written(&self) -> Result<()> {
        let script = "echo first > /data/line && sync && echo $(id -u) $(stat -c %g /data/line) > /said";
        let user = json!({"securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 2000}});
        self.says("writer", pod_of(user, pod(script, of_claim("data"))), "1000 2000").await
    }

    async fn read(&self) -> Result<()> {
        let script =
            "{ cat /data/held /data/line; touch /data/new 2>/dev/null && echo written; } > /said; true";
        self.says("reader", pod_mounting(json!({"readOnly": true}), script, of_claim("data")), "held\nfirst")
            .await
    }

    async fn folder(&self) -> Result<()> {
        let below = json!({"subPath": "below/it"});
        self.says("below", pod_mounting(below, "echo deep > /data/line && sync", of_claim("data")), "")
            .await?;
        self.says("above", pod("cat /data/below/it/line > /said", of_claim("data")), "deep").await
    }

    async fn statistics(&self) -> Result<()> {
        self.start("measured", pod("exec sleep 600", of_claim("data"))).await?;
        let mut told = Value::Null;
        let found = soon(async || {
            told = summary()?;
            let pods = told["pods"].as_array().into_iter().flatten();
            let volumes = pods.filter_map(|pod| pod["volume"].as_array()).flatten();
            let mut of_claim = volumes.filter(|one| one["pvcRef"]["name"] == "data");
            Ok(of_claim.find_map(|one| one["capacityBytes"].as_i64()))
        });
        let bytes = found.await?.ok_or_else(|| format!("it tells {}", told["pods"]))?;
        must((500 << 20..560 << 20).contains(&bytes), || format!("it tells {bytes} bytes"))?;
        self.remove("measured").await
    }

    async fn grown(&self) -> Result<()> {
        self.start("grows", pod(GROWN, of_claim("data"))).await?;
        self.grow("data").await?;
        let said = self.said("grows").await?;
        let size: i64 = said.parse().map_err(|_| format!("it says {said:?}"))?;
        must((1000..1080).contains(&size), || format!("it has {size} MiB"))?;
        self.remove("grows").await
    }

    /// Has a claim grow to 1 GiB, and waits until it has.
    async fn grow(&self, claim: &str) -> Result<()> {
        let size = json!({"spec": {"resources": {"requests": {"storage": "1Gi"}}}});
        self.api.patch(CLAIMS, claim, size).await?;
        let has = |claim: &Value| claim["status"]["capacity"]["storage"] == "1Gi";
        let claim = self.api.until(CLAIMS, claim, "grown", has).await?;
        let waits = claim["status"]["conditions"].as_array().is_some_and(|all| !all.is_empty());
        must(!waits, || format!("it says {}", claim["status"]))
    }

    async fn device_written(&self) -> Result<()> {
        self.claim("raw", "image", json!({"volumeMode": "Block"})).await?;
        let script = "echo block | dd of=/dev/volume conv=fsync 2>/dev/null";
        self.says("raw-writer", pod_with_device(script, "raw"), "").await
    }

    async fn device_read(&self) -> Result<()> {
        self.start("raw-reader", pod_with_device(DEVICE_GROWN, "raw")).await?;
        self.grow("raw").await?;
        let said = self.said("raw-reader").await?;
        must(said == "block", || format!("it says {said:?}"))?;
        self.remove("raw-reader").await
    }

    async fn ephemeral(&self) -> Result<()> {
        let attributes = json!({"backend": "image", "size": "300Mi"});
        let volume = json!({"csi": {"driver": super::place::DRIVER, "volumeAttributes": attributes}});
        let before = self.kept()?;
        let script = "echo own > /data/line && cat /data/line > /said && df -m /data | awk 'END { print ($2 > 280 && $2 < 340) }' >> /said";
        self.says("has-own", pod(script, volume), "own\n1").await?;
        let gone = soon(async || Ok((self.kept()? == before).then_some(())));
        gone.await?.ok_or_else(|| format!("the pool has more than before: {:?}", self.kept()).into())
    }

    async fn restored(&self) -> Result<()> {
        let source = json!({"persistentVolumeClaimName": "data"});
        let spec = json!({"volumeSnapshotClassName": "snapshots", "source": source});
        self.api.make(SNAPSHOTS, "cut", json!({"spec": spec})).await?;
        let ready = |one: &Value| one["status"]["readyToUse"] == true;
        self.api.until(SNAPSHOTS, "cut", "ready", ready).await?;
        let source = json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "cut"});
        self.copied("restored", source).await
    }

    async fn cloned(&self) -> Result<()> {
        self.copied("cloned", json!({"kind": "PersistentVolumeClaim", "name": "data"})).await
    }

    /// A claim with a source of 1 GiB has what `data` has.
    async fn copied(&self, name: &str, source: Value) -> Result<()> {
        let size = json!({"requests": {"storage": "1Gi"}});
        self.claim(name, "image", json!({"dataSource": source, "resources": size})).await?;
        let pod = pod("cat /data/held /data/line > /said", of_claim(name));
        self.says(&format!("reads-{name}"), pod, "held\nfirst").await
    }

    async fn at_once(&self) -> Result<()> {
        self.claim("at-once", "at-once", json!({})).await?;
        let volume = self.volume("at-once").await?;
        let terms = &volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"];
        must(text(&terms[0]["matchExpressions"][0]["values"][0])? == super::place::NODE, || {
            volume["spec"].to_string()
        })?;
        self.says("of-at-once", pod("echo x > /data/x && cat /data/x > /said", of_claim("at-once")), "x")
            .await
    }
}

/// What the kubelet tells of its pods.
fn summary() -> Result<Value> {
    let mut stream = TcpStream::connect(STATISTICS)?;
    write!(stream, "GET /stats/summary HTTP/1.0\r\nHost: {STATISTICS}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    Ok(serde_json::from_str(body).unwrap_or_default())
}
