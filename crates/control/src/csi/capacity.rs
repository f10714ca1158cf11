//! What drivers have left, for the scheduler: a CSIStorageCapacity for each class and part of the cluster.
//!
//! Of drivers whose CSIDriver says `storageCapacity: true`, and of classes that wait for a pod: of others no scheduler asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use client::cache::Name;
use client::quantity;
use csi::caller::Driver;
use csi::contract::v1::controller_service_capability::rpc::Type as Call;
use csi::contract::v1::{GetCapacityRequest, GetCapacityResponse, NodeGetInfoRequest, Topology};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::{CSIDriver, CSIStorageCapacity, StorageClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Error, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Context;
use super::provision::topology::{Segment, fnv, segments};
use super::provision::{has_topology, places, request};

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
    it.context.csi_drivers.filled().await;
    let changed = Arc::new(watch::Sender::new(()));
    // A chart has its classes before its driver's object.
    let tell = changed.clone();
    it.context.csi_drivers.listen(move |_| tell.send_modify(|()| ()));
    let tell = changed.clone();
    it.context.nodes.listen(move |change| {
        let labels = |node: &Option<Arc<Node>>| node.as_ref().map(|node| node.labels().clone());
        if labels(&change.old) != labels(&change.new) {
            tell.send_modify(|()| ());
        }
    });
    let tell = changed.clone();
    it.context.csi_nodes.listen(move |_| tell.send_modify(|()| ()));
    let tell = changed.clone();
    it.context.classes.listen(move |_| tell.send_modify(|()| ()));
    let tell = changed.clone();
    it.context.volumes.listen(move |change| {
        if change.old.is_none() || change.new.is_none() {
            tell.send_modify(|()| ());
        }
    });
    it.context.drivers.each(|driver| it.follow(driver, changed.subscribe())).await;
}

impl Capacities {
    /// Keeps those of one driver while it is there.
    async fn follow(&self, driver: Arc<Driver>, mut changed: watch::Receiver<()>) {
        loop {
            if let Err(error) = self.refresh(&driver).await {
                eprintln!("sextant control: warning: capacity of driver {}: {error}", driver.name);
            }
            tokio::time::sleep(REST).await;
            tokio::select! {
                Ok(()) = changed.changed() => {}
                () = tokio::time::sleep(REFRESH) => {}
            }
        }
    }

    /// Asks a driver for all of its capacities, and writes them down.
    async fn refresh(&self, driver: &Driver) -> Result<(), String> {
        if !driver.controls(Call::GetCapacity) {
            return Ok(());
        }
        let failed = |error: Error| error.to_string();
        let told = self.context.csi_drivers.get(&Name::global(&driver.name));
        let owner = match told.filter(|driver| driver.spec.storage_capacity == Some(true)) {
            Some(told) => self.owner(&told),
            None => None,
        };
        let mut wanted = BTreeMap::new();
        if owner.is_some() {
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
        // What is wrong with one class keeps nobody from knowing of others.
        let mut errors = Vec::new();
        for (name, (class, part)) in wanted {
            let told = match self.room(driver, &class, &part).await {
                Ok(room) => {
                    let object =
                        Told { name: &name, driver: &driver.name, owner: &owner, class: &class, part: &part };
                    self.write(&object, known.get(&name), &room).await.map_err(failed)
                }
                Err(error) => Err(error),
            };
            errors.extend(told.err().map(|error| format!("class {}: {error}", class.name_any())));
        }
        match errors.is_empty() {
            true => Ok(()),
            false => Err(errors.join("; ")),
        }
    }

    /// With what an object goes: its driver, or, where it tells of one node, with that.
    fn owner(&self, driver: &CSIDriver) -> Option<Value> {
        let of = |kind: &str, version: &str, meta: &ObjectMeta| json!([{"apiVersion": version, "kind": kind, "name": meta.name, "uid": meta.uid}]);
        match &self.context.setup.node {
            Some(node) => {
                let node = self.context.nodes.get(&Name::global(node))?;
                Some(of("Node", "v1", &node.metadata))
            }
            None => Some(of("CSIDriver", "storage.k8s.io/v1", &driver.metadata)),
        }
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
        object: &Told<'_>,
        known: Option<&CSIStorageCapacity>,
        room: &GetCapacityResponse,
    ) -> Result<(), Error> {
        let most = room.maximum_volume_size.as_ref().map(|size| size.value);
        let amounts = json!({"capacity": quantity::of(room.available_capacity), "maximumVolumeSize": most.map(quantity::of)});
        let Some(known) = known else {
            let mut whole = json!({
                "metadata": {
                    "name": object.name,
                    "labels": {DRIVER: object.driver, MANAGER: self.manager},
                    "ownerReferences": object.owner,
                },
                "storageClassName": object.class.name_any(),
                "nodeTopology": {"matchLabels": object.part},
            });
            if let (Value::Object(whole), Value::Object(amounts)) = (&mut whole, amounts) {
                whole.extend(amounts);
            }
            let whole = serde_json::from_value(whole).map_err(Error::SerdeError)?;
            let api = self.api(self.context.client.default_namespace());
            return match api.create(&PostParams::default(), &whole).await {
                Err(Error::Api(status)) if status.code == 409 => Ok(()),
                made => made.map(drop),
            };
        };
        // As amounts: the API server may write them in another way.
        let is_told = known.capacity.as_ref().and_then(quantity::bytes) == Some(room.available_capacity)
            && known.maximum_volume_size.as_ref().map(quantity::bytes) == most.map(Some);
        if is_told {
            return Ok(());
        }
        let api = self.api(&known.namespace().unwrap_or_default());
        api.patch(object.name, &PatchParams::default(), &Patch::Merge(amounts)).await.map(drop)
    }
}

/// What an object is of, besides the amounts.
struct Told<'a> {
    name: &'a str,
    driver: &'a str,
    owner: &'a Option<Value>,
    class: &'a StorageClass,
    part: &'a Segment,
}

fn is_asked_for(class: &StorageClass, driver: &str) -> bool {
    class.provisioner == driver && class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

/// A name that says what an object is about, so that the same is not made twice.
fn name(manager: &str, driver: &str, class: &str, part: &Segment) -> String {
    let text = format!("{manager}\n{driver}\n{class}\n{part:?}");
    format!("csisc-{:08x}{:08x}", fnv(text.as_bytes()), fnv(format!("{part:?}\n{class}\n{text}").as_bytes()))
}
