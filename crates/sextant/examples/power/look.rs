//! What is there once a machine whose power went is up again.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::load::{deployment_wants, is_ready};
use super::machine::Machine;
use super::marks::Result;
use super::rows;

/// All that there may be.
struct Objects {
    maps: Api<ConfigMap>,
    claims: Api<PersistentVolumeClaim>,
    volumes: Api<PersistentVolume>,
    pods: Api<Pod>,
    deployments: Api<Deployment>,
}

/// Says what is there, and what is wrong with it; whether all is well.
pub(crate) async fn look(machine: &Machine) -> Result<bool> {
    let client = machine.up().await?;
    let objects = Objects::of(&client);
    let mut is_well = true;
    let mut wrong = |what: String| {
        println!("damaged: {what}");
        is_well = false;
    };
    // What was acknowledged is told, though not all comes to be as it should.
    if let Err(error) = machine.until(async || objects.wants(&machine.folder).await).await {
        wrong(error.to_string());
    }
    objects.tell(&machine.folder).await?;
    objects.delete().await?;
    if let Err(error) = machine.until(async || objects.wants(&machine.folder).await).await {
        wrong(format!("after all was deleted: {error}"));
    }
    if let Err(error) = machine.sextant(&["down"]) {
        wrong(error.to_string());
    }
    left(&machine.folder).into_iter().for_each(wrong);
    Ok(is_well)
}

impl Objects {
    fn of(client: &Client) -> Self {
        Self {
            maps: Api::default_namespaced(client.clone()),
            claims: Api::default_namespaced(client.clone()),
            volumes: Api::all(client.clone()),
            pods: Api::default_namespaced(client.clone()),
            deployments: Api::default_namespaced(client.clone()),
        }
    }

    /// What is not yet as the objects ask for, and what is there that none of them does.
    async fn wants(&self, folder: &Path) -> Result<Option<String>> {
        let all = ListParams::default();
        let (mut uids, mut claimed) = (BTreeSet::new(), BTreeSet::new());
        for pod in self.pods.list(&all).await?.items {
            let status = json!(pod.status);
            let meta = pod.metadata;
            if meta.deletion_timestamp.is_some() || !is_ready(&status) {
                let what = if meta.deletion_timestamp.is_some() { "going" } else { "not ready" };
                return Ok(Some(format!("pod {} is {what}: {status}", meta.name.unwrap_or_default())));
            }
            uids.extend(meta.uid);
            let volumes = pod.spec.and_then(|spec| spec.volumes).into_iter().flatten();
            claimed.extend(
                volumes
                    .filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.clone())),
            );
        }
        if let wanted @ Some(_) = deployment_wants(&self.deployments).await? {
            return Ok(wanted);
        }
        let (mut names, mut handles) = (BTreeSet::new(), BTreeSet::new());
        for claim in self.claims.list(&all).await?.items {
            let (meta, status) = (claim.metadata, claim.status.unwrap_or_default());
            let name = meta.name.unwrap_or_default();
            let is_bound = status.phase.as_deref() == Some("Bound");
            if meta.deletion_timestamp.is_some() || (claimed.contains(&name) && !is_bound) {
                return Ok(Some(format!("claim {name} is going, or not bound: {}", json!(status))));
            }
            names.insert(name);
        }
        for volume in self.volumes.list(&all).await?.items {
            let (name, spec) = (volume.metadata.name.unwrap_or_default(), volume.spec.unwrap_or_default());
            let claim = spec.claim_ref.and_then(|claim| claim.name).unwrap_or_default();
            if !names.contains(&claim) {
                return Ok(Some(format!("volume {name} of claim {claim} is there, which is not")));
            }
            handles.extend(spec.csi.map(|csi| csi.volume_handle));
        }
        // Of a pod that runs again after a boot the node knows what it was before, too.
        let kept = entries(&folder.join("cri/pods"));
        let kept = kept.iter().map(|id| uid_of(&folder.join("cri/pods").join(id))).collect();
        let places = [
            ("csi/volumes", entries(&folder.join("csi/volumes")), handles),
            ("agent/pods", entries(&folder.join("agent/pods")), uids.clone()),
            ("cri/pods", kept, uids),
        ];
        let apart = places.into_iter().find(|(_, there, wanted)| there != wanted);
        Ok(apart
            .map(|(place, there, wanted)| format!("{place} has {there:?}, and objects ask for {wanted:?}")))
    }

    /// Says what is there.
    async fn tell(&self, folder: &Path) -> Result<()> {
        let (all, marked) = (ListParams::default(), ListParams::default().labels("power=yes"));
        for map in self.maps.list(&marked).await?.items {
            let number = map.data.unwrap_or_default().remove("number").unwrap_or_default();
            println!("found map/{} {number}", map.metadata.name.unwrap_or_default());
        }
        for pod in self.pods.list(&marked).await?.items {
            let name = pod.metadata.name.unwrap_or_default();
            println!("found pod/{name} there");
            let volumes = folder
                .join("agent/pods")
                .join(pod.metadata.uid.unwrap_or_default())
                .join("volumes/kubernetes.io~csi");
            for volume in entries(&volumes) {
                let rows = fs::File::open(volumes.join(volume).join("mount/rows"));
                match rows.and_then(|file| rows::count(&file)) {
                    Ok(count) => println!("found rows/{name} {count}"),
                    Err(error) => println!("damaged: rows of {name}: {error}"),
                }
            }
        }
        for claim in self.claims.list(&all).await?.items {
            let volume = claim.spec.and_then(|spec| spec.volume_name).unwrap_or_else(|| "unbound".into());
            println!("found claim/{} {volume}", claim.metadata.name.unwrap_or_default());
        }
        for deployment in self.deployments.list(&all).await?.items {
            let replicas = deployment.spec.and_then(|spec| spec.replicas).unwrap_or_default();
            println!("found deployment/{} {replicas}", deployment.metadata.name.unwrap_or_default());
        }
        Ok(())
    }

    async fn delete(&self) -> Result<()> {
        let (how, all) = (DeleteParams::default(), ListParams::default());
        for deployment in self.deployments.list(&all).await?.items {
            self.deployments.delete(&deployment.metadata.name.unwrap_or_default(), &how).await?;
        }
        for pod in self.pods.list(&all.clone().labels("power=yes")).await?.items {
            self.pods.delete(&pod.metadata.name.unwrap_or_default(), &how).await?;
        }
        for claim in self.claims.list(&all).await?.items {
            self.claims.delete(&claim.metadata.name.unwrap_or_default(), &how).await?;
        }
        Ok(())
    }
}

/// Of which pod a pod of the node is.
fn uid_of(pod: &Path) -> String {
    let record = fs::read(pod.join("pod.json")).unwrap_or_default();
    let record: Value = serde_json::from_slice(&record).unwrap_or_default();
    let uid = record.pointer("/config/metadata/uid").and_then(Value::as_str);
    uid.map_or_else(|| format!("none ({})", pod.display()), str::to_owned)
}

/// The names in a folder.
fn entries(folder: &Path) -> BTreeSet<String> {
    let all = fs::read_dir(folder).into_iter().flatten().flatten();
    all.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// What is left of pods and volumes when all was deleted and taken down, on the machine and in the folder.
fn left(folder: &Path) -> Vec<String> {
    let inside = format!("{}/", folder.display());
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mounts = read("/proc/self/mountinfo");
    let mut left: Vec<String> =
        mounts.lines().filter(|line| line.contains(&inside)).map(|line| format!("mount {line}")).collect();
    let links = read("/proc/net/dev");
    let links = links.lines().skip(2).filter_map(|line| line.split(':').next()).map(str::trim);
    left.extend(links.filter(|name| *name != "lo").map(|name| format!("link {name}")));
    for device in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let file = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
        left.extend(file.contains(&inside).then(|| format!("loop device of {file}")));
    }
    for place in ["agent/pods", "cri/pods", "cri/containers", "csi/volumes", "csi/incoming", "csi/gone"] {
        left.extend(entries(&folder.join(place)).into_iter().map(|name| format!("{place}/{name}")));
    }
    left.into_iter().map(|what| format!("{what} is left")).collect()
}
