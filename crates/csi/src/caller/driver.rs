//! A driver as its callers know it: who it is, and what it can do.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::Client;
use crate::contract::v1::controller_service_capability::{self, rpc::Type as ControllerCall};
use crate::contract::v1::node_service_capability::{self, rpc::Type as NodeCall};
use crate::contract::v1::plugin_capability::{self, service::Type as Service};
use crate::contract::v1::*;

/// How long a driver may take to say who it is and what it can do.
const QUESTION: Duration = Duration::from_secs(5);
/// How long it may take for any other call.
const CALL: Duration = Duration::from_secs(60);

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
}

impl Driver {
    /// Connects to a driver's socket and asks. Its calls end after 60 seconds ([`Client::with_deadline`]).
    ///
    /// # Errors
    /// Nobody listens there, or it does not answer as a driver must.
    pub async fn connect(socket: &Path) -> Result<Driver, grpc::Error> {
        Driver::ask(Client::connect(socket).await?.with_deadline(CALL)).await
    }

    /// Asks a driver who it is and what it can do.
    ///
    /// # Errors
    /// It does not answer as a driver must, each question within 5 seconds. One that has no node service is no failure.
    pub async fn ask(client: Client) -> Result<Driver, grpc::Error> {
        let asked = client.with_deadline(QUESTION);
        let info = asked.get_plugin_info(GetPluginInfoRequest {}).await?;
        let told = asked.get_plugin_capabilities(GetPluginCapabilitiesRequest {}).await?;
        let mut services = BTreeSet::new();
        for capability in told.capabilities {
            if let Some(plugin_capability::Type::Service(service)) = capability.r#type {
                services.insert(service.r#type);
            }
        }
        let mut controller = BTreeSet::new();
        if services.contains(&Service::ControllerService.into()) {
            let told = asked.controller_get_capabilities(ControllerGetCapabilitiesRequest {}).await?;
            for capability in told.capabilities {
                if let Some(controller_service_capability::Type::Rpc(rpc)) = capability.r#type {
                    controller.insert(rpc.r#type);
                }
            }
        }
        let node = match asked.node_get_capabilities(NodeGetCapabilitiesRequest {}).await {
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
        Ok(Driver { client, name, version, services, controller, node })
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

    /// All volumes, whatever the size of its pages.
    ///
    /// # Errors
    /// The driver's, or it begins anew in the middle: a page's token repeats.
    pub async fn volumes(&self) -> Result<Vec<list_volumes_response::Entry>, grpc::Error> {
        let mut all = Vec::new();
        let mut tokens = BTreeSet::new();
        let mut starting_token = String::new();
        loop {
            let page =
                self.client.list_volumes(ListVolumesRequest { max_entries: 0, starting_token }).await?;
            all.extend(page.entries);
            if page.next_token.is_empty() {
                return Ok(all);
            }
            starting_token = next("ListVolumes", &mut tokens, page.next_token)?;
        }
    }

    /// All snapshots, whatever the size of its pages.
    ///
    /// # Errors
    /// The driver's, or it begins anew in the middle: a page's token repeats.
    pub async fn snapshots(&self) -> Result<Vec<Snapshot>, grpc::Error> {
        let mut all = Vec::new();
        let mut tokens = BTreeSet::new();
        let mut starting_token = String::new();
        loop {
            let request = ListSnapshotsRequest { starting_token, ..Default::default() };
            let page = self.client.list_snapshots(request).await?;
            all.extend(page.entries.into_iter().filter_map(|entry| entry.snapshot));
            if page.next_token.is_empty() {
                return Ok(all);
            }
            starting_token = next("ListSnapshots", &mut tokens, page.next_token)?;
        }
    }
}

/// The token of the next page, which must be another than all before: else the pages would never end.
fn next(method: &'static str, tokens: &mut BTreeSet<String>, token: String) -> Result<String, grpc::Error> {
    if tokens.insert(token.clone()) {
        return Ok(token);
    }
    let message =
        format!("the driver gives the token {token:?} for a next page twice, so its list has no end");
    Err(grpc::Error::Call { method, status: grpc::Status::new(grpc::Code::Internal, message) })
}
