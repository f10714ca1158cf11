//! What is done to a machine while its power may go.

use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use oci_image::archive::{Content, Part, build};
use oci_image::contract::{Compression, ContainerConfig};
use oci_image::store::Store;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::machine::Machine;
use super::marks::{Marks, Result};

const IMAGE: &str = "docker.io/library/power:1";
/// Who change objects, and who have pods with volumes come and go, at the same time.
const WRITERS: u64 = 2;
const OWNERS: u64 = 2;
/// How many objects each makes for each pod.
const MAPS: u64 = 6;

/// Who changes something, and marks what it does.
#[derive(Clone)]
struct Writer<'a> {
    machine: &'a Machine,
    client: Client,
    marks: Arc<Marks>,
    disk: &'a Path,
}

pub(crate) async fn write(machine: &Machine, disk: &Path, pods: u64) -> Result<()> {
    make_image(machine)?;
    let marks = Arc::new(Marks::open(disk)?);
    let client = machine.up().await?;
    let writer = Writer { machine, client, marks, disk };
    let maps = (0..WRITERS).map(|number| writer.maps(number, pods * MAPS));
    let owners = (0..OWNERS).map(|number| writer.pods(number, pods));
    let all = futures_util::future::try_join3(
        futures_util::future::try_join_all(maps),
        futures_util::future::try_join_all(owners),
        writer.rolls(pods),
    );
    all.await.map(drop)
}

/// An image of the program that runs in pods.
fn make_image(machine: &Machine) -> Result<()> {
    let store = Store::open(machine.folder.join("images"))?;
    let program = Content::File("/bin/up_power_pod".into());
    let parts = [Part { path: "bin/up_power_pod".into(), content: program, mode: 0o755 }];
    build(&store, IMAGE, &parts, ContainerConfig::default(), Compression::None)?;
    Ok(())
}

fn object<K: DeserializeOwned>(value: Value) -> Result<K> {
    Ok(serde_json::from_value(value)?)
}

impl Writer<'_> {
    fn begin(&self, what: &str, state: &str) -> Result<()> {
        self.marks.mark(&format!("begin {what} {state}"))
    }

    fn ack(&self, what: &str, state: &str) -> Result<()> {
        self.marks.mark(&format!("ack {what} {state}"))
    }

    /// Makes and changes maps, and deletes two of three a while later.
    async fn maps(&self, number: u64, count: u64) -> Result<()> {
        let maps: Api<ConfigMap> = Api::default_namespaced(self.client.clone());
        let name = |order: u64| format!("m{number}-{order}");
        for order in 1..=count {
            let (name, what) = (name(order), format!("map/{}", name(order)));
            // Of all sizes, so that pages of the store are split and joined.
            let pad = "x".repeat(usize::try_from(order * 1311 % 5000)?);
            let map = json!({"metadata": {"name": name, "labels": {"power": "yes"}}, "data": {"number": "1", "pad": pad}});
            self.begin(&what, "1")?;
            maps.create(&PostParams::default(), &object(map)?).await?;
            self.ack(&what, "1")?;
            self.begin(&what, "2")?;
            let next = Patch::Merge(json!({"data": {"number": "2"}}));
            maps.patch(&name, &PatchParams::default(), &next).await?;
            self.ack(&what, "2")?;
            if let Some(earlier) = order.checked_sub(2).filter(|earlier| earlier % 3 > 0) {
                let (name, what) = (format!("m{number}-{earlier}"), format!("map/m{number}-{earlier}"));
                self.begin(&what, "gone")?;
                maps.delete(&name, &DeleteParams::default()).await?;
                self.ack(&what, "gone")?;
            }
        }
        Ok(())
    }

    /// Has pods with a volume each come, one after the other, and every second one go again.
    async fn pods(&self, number: u64, count: u64) -> Result<()> {
        for order in 1..=count {
            let name = format!("p{number}-{order}");
            self.pod(&name).await?;
            if order.is_multiple_of(2) {
                self.end(&name).await?;
            }
        }
        Ok(())
    }

    /// A claim, and a pod that writes to its volume.
    async fn pod(&self, name: &str) -> Result<()> {
        let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(self.client.clone());
        let pods: Api<Pod> = Api::default_namespaced(self.client.clone());
        let (claim, pod) = (format!("claim/{name}"), format!("pod/{name}"));
        let wanted =
            json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "32Mi"}}});
        self.begin(&claim, "unbound")?;
        claims
            .create(&PostParams::default(), &object(json!({"metadata": {"name": name}, "spec": wanted}))?)
            .await?;
        self.ack(&claim, "unbound")?;
        // It marks by itself what it has synced, so it is given the disk.
        let container = json!({"name": "main", "image": IMAGE, "imagePullPolicy": "Never", "command": ["/bin/up_power_pod", name, self.disk],
            "securityContext": {"privileged": true}, "volumeMounts": [{"name": "data", "mountPath": "/data"}]});
        let volume = json!({"name": "data", "persistentVolumeClaim": {"claimName": name}});
        let spec =
            json!({"containers": [container], "volumes": [volume], "terminationGracePeriodSeconds": 1});
        let labels = json!({"power": "yes"});
        self.begin(&pod, "there")?;
        let made = json!({"metadata": {"name": name, "labels": labels}, "spec": spec});
        pods.create(&PostParams::default(), &object(made)?).await?;
        self.ack(&pod, "there")?;
        self.machine
            .until(async || {
                let claim = claims.get(name).await?;
                let phase = claim.status.and_then(|status| status.phase);
                Ok((phase.as_deref() != Some("Bound")).then(|| format!("claim {name} is {phase:?}")))
            })
            .await?;
        let volume = claims.get(name).await?.spec.and_then(|spec| spec.volume_name);
        self.ack(&claim, &volume.ok_or("a bound claim names no volume")?)?;
        self.machine
            .until(async || {
                let pod = json!(pods.get(name).await?.status);
                Ok((!is_ready(&pod)).then(|| format!("pod {name} is not ready: {pod}")))
            })
            .await
    }

    /// The end of both.
    async fn end(&self, name: &str) -> Result<()> {
        let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(self.client.clone());
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let pods: Api<Pod> = Api::default_namespaced(self.client.clone());
        let (claim, pod) = (format!("claim/{name}"), format!("pod/{name}"));
        self.begin(&pod, "gone")?;
        pods.delete(name, &DeleteParams::default()).await?;
        self.machine
            .until(async || {
                let there = pods.get_opt(name).await?;
                Ok(there.map(|pod| format!("pod {name} is there: {}", json!(pod.status))))
            })
            .await?;
        self.ack(&pod, "gone")?;
        let volume = claims.get(name).await?.spec.and_then(|spec| spec.volume_name).unwrap_or_default();
        self.begin(&claim, "gone")?;
        claims.delete(name, &DeleteParams::default()).await?;
        self.machine
            .until(async || {
                let there = volumes.get_opt(&volume).await?;
                Ok(there.map(|volume| format!("volume of {name} is there: {}", json!(volume.status))))
            })
            .await?;
        self.ack(&claim, "gone")
    }

    /// A deployment that has more replicas, and fewer, so many times.
    async fn rolls(&self, count: u64) -> Result<()> {
        let deployments: Api<Deployment> = Api::default_namespaced(self.client.clone());
        let container = json!({"name": "main", "image": IMAGE, "imagePullPolicy": "Never", "command": ["/bin/up_power_pod"]});
        let labels = json!({"app": "web"});
        let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 1}});
        let spec = json!({"replicas": 2, "selector": {"matchLabels": labels}, "template": template});
        let what = "deployment/web";
        self.begin(what, "2")?;
        deployments
            .create(&PostParams::default(), &object(json!({"metadata": {"name": "web"}, "spec": spec}))?)
            .await?;
        self.ack(what, "2")?;
        for roll in 1..=count {
            self.machine.until(async || deployment_wants(&deployments).await).await?;
            let replicas = 1 + roll % 3;
            self.begin(what, &replicas.to_string())?;
            let change = Patch::Merge(json!({"spec": {"replicas": replicas}}));
            deployments.patch("web", &PatchParams::default(), &change).await?;
            self.ack(what, &replicas.to_string())?;
        }
        Ok(())
    }
}

/// What a deployment still waits for; one that is not there waits for nothing.
pub(crate) async fn deployment_wants(deployments: &Api<Deployment>) -> Result<Option<String>> {
    let Some(deployment) = deployments.get_opt("web").await? else { return Ok(None) };
    let wanted = deployment.spec.and_then(|spec| spec.replicas);
    let status = deployment.status.unwrap_or_default();
    let is_done = status.observed_generation == deployment.metadata.generation
        && [status.replicas, status.updated_replicas, status.available_replicas] == [wanted; 3];
    Ok((!is_done).then(|| format!("deployment web wants {wanted:?} replicas: {}", json!(status))))
}

/// Whether a pod with this status is ready.
pub(crate) fn is_ready(status: &Value) -> bool {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
}
