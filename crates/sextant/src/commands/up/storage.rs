//! Storage of a machine that `sextant up` runs: a class that claims get which name none, and volumes at `sextant down`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use csi::caller::Client as Driver;
use csi::contract::v1::GetCapacityRequest;
use csi::plugin::NAME;
use k8s_openapi::api::storage::v1::{CSIDriver, StorageClass};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::programs::Places;
use crate::cli::CsiDriver;
use crate::commands::agent;
use crate::commands::csi_driver::Beside;
use crate::failure::{Context, Failure, Result};
use crate::instance::Instance;

/// The class's name.
const CLASS: &str = "sextant";
/// Makes a class the one of claims that name none.
const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
/// Kinds of storage, the best first: as the driver has them.
const BACKENDS: [&str; 4] = ["image", "btrfs", "quota", "dir"];
/// How long the driver and the API server may take altogether.
const PATIENCE: Duration = Duration::from_secs(30);

/// What claims get, and why: what `sextant status` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Storage {
    /// The StorageClass.
    pub(super) class: String,
    /// The driver's kind of storage.
    pub(super) backend: String,
    /// Why that one.
    pub(super) why: String,
}

impl Storage {
    /// What was found when everything came up.
    pub(super) fn read(places: &Places) -> Option<Self> {
        serde_json::from_slice(&fs::read(places.storage()).ok()?).ok()
    }

    /// One line for people.
    pub(super) fn words(&self) -> String {
        format!("storage class {} takes volumes of backend {}: {}", self.class, self.backend, self.why)
    }
}

/// Makes the driver known to the cluster, and a class of its best kind of storage, where they are not there yet.
///
/// # Errors
/// The driver or the API server does not answer, or refuses.
pub(super) fn ensure(places: &Places) -> Result<Storage> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context(|| "make the storage class".into())?;
    let ensuring = async { tokio::time::timeout(PATIENCE, objects(places)).await };
    let storage =
        runtime.block_on(ensuring).map_err(|_| Failure::new("the API server does not answer"))??;
    let text = serde_json::to_vec(&storage).map_err(|error| Failure::new(error.to_string()))?;
    fs::write(places.storage(), text).context(|| format!("write {}", places.storage().display()))?;
    Ok(storage)
}

async fn objects(places: &Places) -> Result<Storage> {
    let config =
        client::kubeconfig::find(Some(&places.kubeconfig()), Path::new("")).await.map_err(Failure::new)?;
    let client = Client::try_from(config).context(|| "reach the API server".into())?;
    let failed = |what: &str, error: &kube::Error| {
        Failure::new(format!("cannot make {what}: {}", client::causes(error)))
    };
    let drivers: Api<CSIDriver> = Api::all(client.clone());
    let driver = json!({"metadata": {"name": NAME}, "spec": {"attachRequired": false, "podInfoOnMount": true,
        "fsGroupPolicy": "File", "storageCapacity": true, "volumeLifecycleModes": ["Persistent", "Ephemeral"]}});
    let made =
        drivers.create(&PostParams::default(), &serde_json::from_value(driver).unwrap_or_default()).await;
    there_already(made).map_err(|error| failed("the CSIDriver", &error))?;
    let classes: Api<StorageClass> = Api::all(client);
    let all =
        classes.list(&ListParams::default()).await.map_err(|error| failed("the storage class", &error))?;
    if let Some(there) = all.items.iter().find(|one| one.metadata.name.as_deref() == Some(CLASS)) {
        let backend = there.parameters.as_ref().and_then(|all| all.get("backend")).cloned();
        let (class, backend) = (CLASS.into(), backend.unwrap_or_else(|| "(the driver's first)".into()));
        return Ok(Storage { class, backend, why: "as the StorageClass says, which was there".into() });
    }
    let is_default = |one: &StorageClass| {
        let annotation = one.metadata.annotations.as_ref().and_then(|all| all.get(DEFAULT));
        annotation.is_some_and(|value| value == "true")
    };
    let is_first = !all.items.iter().any(is_default);
    let (backend, why) = choose(&places.run.join("csi.sock")).await?;
    let class = json!({
        "metadata": {"name": CLASS, "annotations": {DEFAULT: is_first.to_string()}},
        "provisioner": NAME, "parameters": {"backend": backend}, "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer", "allowVolumeExpansion": true,
    });
    let made =
        classes.create(&PostParams::default(), &serde_json::from_value(class).unwrap_or_default()).await;
    there_already(made).map_err(|error| failed("the storage class", &error))?;
    Ok(Storage { class: CLASS.into(), backend: backend.into(), why })
}

fn there_already<K>(made: kube::Result<K>) -> kube::Result<()> {
    match made {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        made => made.map(drop),
    }
}

/// The first kind of storage that the driver says it can have, and what it says of those before.
async fn choose(socket: &Path) -> Result<(&'static str, String)> {
    let failed =
        |error: grpc::Error| Failure::new(format!("cannot ask the CSI driver what storage it has: {error}"));
    let driver = Driver::connect(socket).await.map_err(failed)?.with_deadline(PATIENCE);
    let mut lacking = Vec::new();
    for backend in BACKENDS {
        let parameters = BTreeMap::from([("backend".to_owned(), backend.to_owned())]);
        let request = GetCapacityRequest { parameters, ..GetCapacityRequest::default() };
        match driver.get_capacity(request).await {
            Ok(_) if lacking.is_empty() => {
                return Ok((
                    backend,
                    "of what the data directory's file system can, it holds sizes best".into(),
                ));
            }
            Ok(_) => return Ok((backend, lacking.join("; "))),
            Err(grpc::Error::Call { status, .. }) => lacking.push(status.message),
            Err(error) => return Err(failed(error)),
        }
    }
    Err(Failure::new(format!("the CSI driver has no storage: {}", lacking.join("; "))))
}

/// Has volumes of pods that have ended taken back, by drivers that run: this machine's own does as long as that takes. What was not.
pub(super) fn release(instance: &Instance) -> Vec<String> {
    let folder = instance.data.join("agent");
    beside(instance, &folder, ::agent::release(&folder))
}

/// Takes back what the agent has made for pods that are gone: their volumes by this machine's driver, which lives as long as that takes.
pub(super) fn clear(instance: &Instance) -> Vec<String> {
    let (folder, root) = (instance.data.join("agent"), agent::cgroup_root(&instance.run));
    beside(instance, &folder, ::agent::clear(&folder, &root))
}

/// Does this while this machine's driver is there, if pods have volumes; what was not done.
fn beside(instance: &Instance, folder: &Path, work: impl Future<Output = Vec<String>>) -> Vec<String> {
    let driver = ::agent::has_volumes(folder).then(|| {
        let wanted = CsiDriver {
            socket: None,
            node_id: None,
            pool: Vec::new(),
            config: None,
            registration_dir: None,
            registration_endpoint: None,
        };
        Beside::start(&instance.data, &instance.run, &wanted, "down")
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let mut left = match runtime {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => vec![format!("cannot take volumes back: {error}")],
    };
    // Why a driver did not come matters where something is left that it has.
    match driver {
        Some(Ok(driver)) => left.extend(driver.end().err().map(|failure| failure.to_string())),
        Some(Err(failure)) if !left.is_empty() => left.push(failure.to_string()),
        _ => {}
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_chosen_is_told_by_status() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places { data: dir.path().join("data"), run: dir.path().to_owned() };
        assert_eq!(Storage::read(&places), None);
        fs::create_dir(dir.path().join("up")).unwrap();
        let storage =
            Storage { class: "sextant".into(), backend: "dir".into(), why: "no loop devices".into() };
        fs::write(places.storage(), serde_json::to_vec(&storage).unwrap()).unwrap();
        assert_eq!(Storage::read(&places), Some(storage.clone()));
        assert_eq!(storage.words(), "storage class sextant takes volumes of backend dir: no loop devices");
    }
}
