//! A driver of the tests whose volumes are in zones, each with so much room: it attaches, and its volumes have attributes. What it knows
//! is shared by all its processes, as a storage system is; each process is on a node of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use csi::contract::v1::controller_service_capability::rpc::Type as Call;
use csi::contract::v1::plugin_capability::service::Type as Service;
use csi::contract::v1::*;
use csi::plugin::Services;
use grpc::{Code, Status};

use crate::stand::Answer;

/// Its name.
pub(crate) const ZONED: &str = "zones.example.com";
/// The label by which it tells where a node is.
pub(crate) const ZONE: &str = "topology.zones.example.com/zone";

/// A volume that was made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Made {
    pub(crate) id: String,
    pub(crate) zone: String,
    /// The node of the process that made it.
    pub(crate) by: String,
    pub(crate) mutable: BTreeMap<String, String>,
    bytes: i64,
}

/// What the storage system knows.
#[derive(Default)]
pub(crate) struct Storage {
    /// Bytes by zone.
    pub(crate) room: BTreeMap<String, i64>,
    /// By name.
    pub(crate) volumes: BTreeMap<String, Made>,
    pub(crate) attached: BTreeSet<String>,
    /// Calls, with the node of the process that was asked.
    pub(crate) calls: Vec<String>,
}

pub(crate) type Shared = Arc<Mutex<Storage>>;

/// A storage system with so many MiB in each zone.
pub(crate) fn storage(room: &[(&str, i64)]) -> Shared {
    let room = room.iter().map(|(zone, mib)| ((*zone).to_owned(), mib << 20)).collect();
    Arc::new(Mutex::new(Storage { room, ..Default::default() }))
}

/// Serves from now on, as the process of a node in a zone.
pub(crate) fn serve(socket: PathBuf, storage: &Shared, node: &str, zone: &str) {
    let served = Arc::new(Zoned { storage: storage.clone(), node: node.into(), zone: zone.into() });
    let services = Services::new().identity(served.clone()).controller(served.clone()).node(served);
    tokio::spawn(async move { services.serve(&socket, std::future::pending(), || {}).await.unwrap() });
}

struct Zoned {
    storage: Shared,
    node: String,
    zone: String,
}

impl Zoned {
    fn storage(&self, call: &str) -> MutexGuard<'_, Storage> {
        let mut storage = self.storage.lock().unwrap();
        storage.calls.push(format!("{call} by {}", self.node));
        storage
    }
}

fn zone(topology: &Topology) -> String {
    topology.segments.get(ZONE).cloned().unwrap_or_default()
}

impl Identity for Zoned {
    async fn get_plugin_info(&self, _: GetPluginInfoRequest) -> Answer<GetPluginInfoResponse> {
        Ok(GetPluginInfoResponse { name: ZONED.into(), vendor_version: "1".into(), ..Default::default() })
    }

    async fn get_plugin_capabilities(
        &self,
        _: GetPluginCapabilitiesRequest,
    ) -> Answer<GetPluginCapabilitiesResponse> {
        let services = [Service::ControllerService, Service::VolumeAccessibilityConstraints];
        let capabilities = services.into_iter().map(PluginCapability::service).collect();
        Ok(GetPluginCapabilitiesResponse { capabilities })
    }

    async fn probe(&self, _: ProbeRequest) -> Answer<ProbeResponse> {
        Ok(ProbeResponse::default())
    }
}

impl Controller for Zoned {
    async fn controller_get_capabilities(
        &self,
        _: ControllerGetCapabilitiesRequest,
    ) -> Answer<ControllerGetCapabilitiesResponse> {
        let calls =
            [Call::CreateDeleteVolume, Call::PublishUnpublishVolume, Call::GetCapacity, Call::ModifyVolume];
        let capabilities = calls.into_iter().map(ControllerServiceCapability::of).collect();
        Ok(ControllerGetCapabilitiesResponse { capabilities })
    }

    async fn create_volume(&self, request: CreateVolumeRequest) -> Answer<CreateVolumeResponse> {
        let mut storage = self.storage("create");
        let asked = request.accessibility_requirements.unwrap_or_default();
        let wanted = asked.preferred.first().map(zone).unwrap_or_default();
        let bytes = request.capacity_range.unwrap_or_default().required_bytes;
        let made = match storage.volumes.get(&request.name) {
            Some(made) => made.clone(),
            None => {
                let room = storage.room.entry(wanted.clone()).or_default();
                if *room < bytes {
                    return Err(Status::new(
                        Code::ResourceExhausted,
                        format!("zone {wanted} has {room} left"),
                    ));
                }
                *room -= bytes;
                let (mutable, id) = (request.mutable_parameters, format!("id-{}", request.name));
                Made { id, zone: wanted, by: self.node.clone(), mutable, bytes }
            }
        };
        storage.volumes.insert(request.name, made.clone());
        let topology = Topology { segments: [(ZONE.to_owned(), made.zone)].into() };
        let volume = Volume {
            volume_id: made.id,
            capacity_bytes: made.bytes,
            accessible_topology: vec![topology],
            ..Default::default()
        };
        Ok(CreateVolumeResponse { volume: Some(volume) })
    }

    async fn delete_volume(&self, request: DeleteVolumeRequest) -> Answer<DeleteVolumeResponse> {
        let mut storage = self.storage("delete");
        if storage.attached.contains(&request.volume_id) {
            return Err(Status::new(Code::FailedPrecondition, "the volume is attached"));
        }
        let name = storage.volumes.iter().find(|(_, made)| made.id == request.volume_id);
        if let Some(made) = name.map(|(name, _)| name.clone()).and_then(|name| storage.volumes.remove(&name))
        {
            *storage.room.entry(made.zone).or_default() += made.bytes;
        }
        Ok(DeleteVolumeResponse {})
    }

    async fn get_capacity(&self, request: GetCapacityRequest) -> Answer<GetCapacityResponse> {
        let zone = request.accessible_topology.as_ref().map(zone).unwrap_or_default();
        let available_capacity = self.storage.lock().unwrap().room.get(&zone).copied().unwrap_or_default();
        Ok(GetCapacityResponse { available_capacity, ..Default::default() })
    }

    async fn controller_publish_volume(
        &self,
        request: ControllerPublishVolumeRequest,
    ) -> Answer<ControllerPublishVolumeResponse> {
        self.storage("publish").attached.insert(request.volume_id);
        Ok(ControllerPublishVolumeResponse::default())
    }

    async fn controller_unpublish_volume(
        &self,
        request: ControllerUnpublishVolumeRequest,
    ) -> Answer<ControllerUnpublishVolumeResponse> {
        self.storage("unpublish").attached.remove(&request.volume_id);
        Ok(ControllerUnpublishVolumeResponse {})
    }
}

impl Node for Zoned {
    async fn node_get_info(&self, _: NodeGetInfoRequest) -> Answer<NodeGetInfoResponse> {
        let topology = Topology { segments: [(ZONE.to_owned(), self.zone.clone())].into() };
        Ok(NodeGetInfoResponse {
            node_id: self.node.clone(),
            accessible_topology: Some(topology),
            ..Default::default()
        })
    }

    async fn node_get_capabilities(
        &self,
        _: NodeGetCapabilitiesRequest,
    ) -> Answer<NodeGetCapabilitiesResponse> {
        Ok(NodeGetCapabilitiesResponse::default())
    }
}
