//! A driver as its callers know it: who it is, and what it can do.

use std::collections::BTreeSet;
use std::path::Path;

use super::Client;
use crate::contract::v1::controller_service_capability::{self, rpc::Type as ControllerCall};
use crate::contract::v1::node_service_capability::{self, rpc::Type as NodeCall};
use crate::contract::v1::plugin_capability::{self, service::Type as Service};
use crate::contract::v1::*;

/// A driver that has said what it can do.
#[derive(Clone, Debug)]
pub struct Driver {
    /// The connection to it.
    pub client: Client,
    /// Its name, as in a StorageClass's `provisioner`.
    pub name: String,
    /// Its own version.
    pub version: String,
    services: BTreeSet<i32>,
    controller: BTreeSet<i32>,
    node: BTreeSet<i32>,
    expands_online: bool,
}

impl Driver {
    /// Connects to a driver's socket and asks.
    ///
    /// # Errors
    /// Nobody listens there, or it does not answer as a driver must.
    pub async fn connect(socket: &Path) -> Result<Driver, grpc::Error> {
        Driver::ask(Client::connect(socket).await?).await
    }

    /// Asks a driver who it is and what it can do.
    ///
    /// # Errors
    /// It does not answer as a driver must. One that has no node service is no failure.
    pub async fn ask(client: Client) -> Result<Driver, grpc::Error> {
        let info = client.get_plugin_info(GetPluginInfoRequest {}).await?;
        let told = client.get_plugin_capabilities(GetPluginCapabilitiesRequest {}).await?;
        let mut services = BTreeSet::new();
        let mut expands_online = false;
        for kind in told.capabilities.into_iter().filter_map(|capability| capability.r#type) {
            match kind {
                plugin_capability::Type::Service(service) => {
                    services.insert(service.r#type);
                }
                plugin_capability::Type::VolumeExpansion(how) => {
                    expands_online |= how.r#type() == plugin_capability::volume_expansion::Type::Online;
                }
            }
        }
        let mut controller = BTreeSet::new();
        if services.contains(&Service::ControllerService.into()) {
            let told = client.controller_get_capabilities(ControllerGetCapabilitiesRequest {}).await?;
            for capability in told.capabilities {
                if let Some(controller_service_capability::Type::Rpc(rpc)) = capability.r#type {
                    controller.insert(rpc.r#type);
                }
            }
        }
        let node = match client.node_get_capabilities(NodeGetCapabilitiesRequest {}).await {
            Ok(told) => told
                .capabilities
                .into_iter()
                .filter_map(|capability| capability.r#type)
                .map(|node_service_capability::Type::Rpc(rpc)| rpc.r#type)
                .collect(),
            Err(error) if error.code() == grpc::Code::Unimplemented => BTreeSet::new(),
            Err(error) => return Err(error),
        };
        let GetPluginInfoResponse { name, vendor_version: version, .. } = info;
        Ok(Driver { client, name, version, services, controller, node, expands_online })
    }

    /// Whether it has a service.
    #[must_use]
    pub fn has(&self, service: Service) -> bool {
        self.services.contains(&service.into())
    }

    /// Whether its controller has a call.
    #[must_use]
    pub fn controls(&self, call: ControllerCall) -> bool {
        self.controller.contains(&call.into())
    }

    /// Whether its node has a call.
    #[must_use]
    pub fn serves_node(&self, call: NodeCall) -> bool {
        self.node.contains(&call.into())
    }

    /// Whether volumes grow while they are in use.
    #[must_use]
    pub fn expands_online(&self) -> bool {
        self.expands_online
    }

    /// All volumes, whatever the size of its pages.
    ///
    /// # Errors
    /// The driver's.
    pub async fn volumes(&self) -> Result<Vec<list_volumes_response::Entry>, grpc::Error> {
        let mut all = Vec::new();
        let mut starting_token = String::new();
        loop {
            let page =
                self.client.list_volumes(ListVolumesRequest { max_entries: 0, starting_token }).await?;
            all.extend(page.entries);
            if page.next_token.is_empty() {
                return Ok(all);
            }
            starting_token = page.next_token;
        }
    }

    /// All snapshots, whatever the size of its pages.
    ///
    /// # Errors
    /// The driver's.
    pub async fn snapshots(&self) -> Result<Vec<Snapshot>, grpc::Error> {
        let mut all = Vec::new();
        let mut starting_token = String::new();
        loop {
            let request = ListSnapshotsRequest { starting_token, ..Default::default() };
            let page = self.client.list_snapshots(request).await?;
            all.extend(page.entries.into_iter().filter_map(|entry| entry.snapshot));
            if page.next_token.is_empty() {
                return Ok(all);
            }
            starting_token = page.next_token;
        }
    }
}
