//! What drivers have left, for the scheduler: a CSIStorageCapacity for each class and part of the cluster.
//!
//! Of drivers whose CSIDriver says `storageCapacity: true`, and of classes that wait for a pod: of others no scheduler asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use csi::caller::Driver;
use csi::contract::v1::controller_service_capability::rpc::Type as Call;
use csi::contract::v1::{GetCapacityRequest, GetCapacityResponse, NodeGetInfoRequest, Topology};
use k8s_openapi::api::storage::v1::{CSIDriver, CSIStorageCapacity, StorageClass};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Error, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::provision::topology::{Segment, fnv, segments};
use super::provision::{has_topology, places, request};
use super::{Context, quantity};

/// How often drivers are asked though nothing has changed here.
const REFRESH: Duration = Duration::from_secs(60);
/// Changes come together.
const REST: Duration = Duration::from_secs(1);
const DRIVER: &str = "csi.storage.k8s.io/drivername";
const MANAGER: &str = "csi.storage.k8s.io/managed-by";

struct Capacities {
    context: Arc<Context>,
    /// Who made an object: others' stay.
    manager: String,
}

/// Keeps the objects until it is dropped.
pub(super) async fn run(context: Arc<Context>) {
    let manager = match &context.setup.node {
        Some(node) => format!("sextant-control-{:08x}", fnv(node.as_bytes())),
        None => "sextant-control".into(),
    };
    let it = Capacities { context, manager };
    let changed = Arc::new(Notify::new());
    let tell = changed.clone();
    it.context.csi_nodes.listen(move |_| tell.notify_one());
    let tell = changed.clone();
    it.context.classes.listen(move |_| tell.notify_one());
    let tell = changed.clone();
    it.context.volumes.listen(move |change| {
        if change.old.is_none() || change.new.is_none() {
            tell.notify_one();
        }
    });
    let mut drivers = it.context.drivers.changes();
    loop {
        for driver in it.context.drivers.all() {
            if let Err(error) = it.refresh(&driver).await {
                eprintln!("sextant control: warning: capacity of driver {}: {error}", driver.name);
            }
        }
        tokio::time::sleep(REST).await;
        tokio::select! {
            () = changed.notified() => {}
            _ = drivers.changed() => {}
            () = tokio::time::sleep(REFRESH) => {}
        }
    }
}

impl Capacities {
    /// Asks a driver for all of its capacities, and writes them down.
    async fn refresh(&self, driver: &Driver) -> Result<(), String> {
        if !driver.controls(Call::GetCapacity) {
            return Ok(());
        }
        let failed = |error: Error| error.to_string();
        let api: Api<CSIDriver> = Api::all(self.context.client.clone());
        let Some(owner) = api.get_opt(&driver.name).await.map_err(failed)? else { return Ok(()) };
        let mut wanted = BTreeMap::new();
        if owner.spec.storage_capacity == Some(true) {
            let parts = self.parts(driver).await?;
            for class in self.context.classes.find(|class| is_asked_for(class, &driver.name)) {
                for part in &parts {
                    wanted.insert(
                        name(&self.manager, &driver.name, &class.name_any(), part),
                        (class.clone(), part.clone()),
                    );
                }
            }
        }
        let selector = format!("{DRIVER}={},{MANAGER}={}", driver.name, self.manager);
        let all: Api<CSIStorageCapacity> = Api::all(self.context.client.clone());
        let there = all.list(&ListParams::default().labels(&selector)).await.map_err(failed)?;
        let mut known = BTreeMap::new();
        for object in there {
            if wanted.contains_key(&object.name_any()) {
                known.insert(object.name_any(), object);
            } else {
                let api = self.api(&object.namespace().unwrap_or_default());
                let deleted = api.delete(&object.name_any(), &DeleteParams::default()).await;
                match deleted {
                    Err(Error::Api(status)) if status.code == 404 => {}
                    deleted => drop(deleted.map_err(failed)?),
                }
            }
        }
        for (name, (class, part)) in wanted {
            let room = self.room(driver, &class, &part).await?;
            self.write(&name, known.get(&name), &owner, &class, &part, &room).await.map_err(failed)?;
        }
        Ok(())
    }

    fn api(&self, namespace: &str) -> Api<CSIStorageCapacity> {
        Api::namespaced(self.context.client.clone(), namespace)
    }

    /// The parts of the cluster that a driver tells apart; on a node of our own, that one.
    async fn parts(&self, driver: &Driver) -> Result<BTreeSet<Segment>, String> {
        if !has_topology(driver) {
            return Ok(BTreeSet::from([Segment::new()]));
        }
        if self.context.setup.node.is_none() {
            return Ok(segments(&places(&self.context, &driver.name)));
        }
        let info =
            driver.client.node_get_info(NodeGetInfoRequest {}).await.map_err(|error| error.to_string())?;
        Ok(BTreeSet::from([info.accessible_topology.unwrap_or_default().segments]))
    }

    async fn room(
        &self,
        driver: &Driver,
        class: &StorageClass,
        part: &Segment,
    ) -> Result<GetCapacityResponse, String> {
        let accessible_topology = has_topology(driver).then(|| Topology { segments: part.clone() });
        let parameters = request::own_parameters(class)?;
        let request = GetCapacityRequest { parameters, accessible_topology, ..Default::default() };
        driver.client.get_capacity(request).await.map_err(|error| error.to_string())
    }

    async fn write(
        &self,
        name: &str,
        known: Option<&CSIStorageCapacity>,
        owner: &CSIDriver,
        class: &StorageClass,
        part: &Segment,
        room: &GetCapacityResponse,
    ) -> Result<(), Error> {
        let capacity = quantity::of(room.available_capacity);
        let most = room.maximum_volume_size.as_ref().map(|size| quantity::of(size.value));
        let Some(known) = known else {
            let object = json!({
                "metadata": {
                    "name": name,
                    "labels": {DRIVER: owner.name_any(), MANAGER: self.manager},
                    "ownerReferences": [{
                        "apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "name": owner.name_any(),
                        "uid": owner.uid(),
                    }],
                },
                "storageClassName": class.name_any(),
                "nodeTopology": {"matchLabels": part},
                "capacity": capacity,
                "maximumVolumeSize": most,
            });
            let object = serde_json::from_value(object).map_err(Error::SerdeError)?;
            let api = self.api(self.context.client.default_namespace());
            return match api.create(&PostParams::default(), &object).await {
                Err(Error::Api(status)) if status.code == 409 => Ok(()),
                made => made.map(drop),
            };
        };
        if known.capacity.as_ref() == Some(&capacity) && known.maximum_volume_size == most {
            return Ok(());
        }
        let patch: Value = json!({"capacity": capacity, "maximumVolumeSize": most});
        let api = self.api(&known.namespace().unwrap_or_default());
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
    }
}

fn is_asked_for(class: &StorageClass, driver: &str) -> bool {
    class.provisioner == driver && class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

/// A name that says what an object is about, so that the same is not made twice.
fn name(manager: &str, driver: &str, class: &str, part: &Segment) -> String {
    let text = format!("{manager}\n{driver}\n{class}\n{part:?}");
    format!("csisc-{:08x}{:08x}", fnv(text.as_bytes()), fnv(format!("{part:?}\n{class}\n{text}").as_bytes()))
}
