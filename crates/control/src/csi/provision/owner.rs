//! Controllers on each node: which of them makes a claim's volume.

use std::time::Duration;

use client::cache::Name;
use client::queue::Next;
use csi::caller::Driver;
use csi::contract::v1::GetCapacityRequest;
use csi::contract::v1::controller_service_capability::rpc::Type as Call;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt as _;
use serde_json::json;
use tokio::time::Instant;

use super::{Provisioner, has_topology, request, topology};
use crate::csi::{finalizers, names};

/// Nodes do not all ask for a new claim at the same moment, but within this time.
const SPREAD: Duration = Duration::from_secs(2);
/// How long a node that had no room leaves a claim to others.
pub(super) const PAUSE: Duration = Duration::from_secs(20);
/// When a node that has no room looks again.
const ROOM: Duration = Duration::from_secs(60);

impl Provisioner {
    /// Makes a claim this node's, if nobody waits for a pod to say where its volume is to be, and there is room. Of several that ask for
    /// it one is first: the others' change is of a claim that has changed.
    pub(super) async fn own(&self, claim: &PersistentVolumeClaim, driver: &Driver) -> Next {
        let Some(node) = &self.context.setup.node else { return Next::Done };
        let Some(class) = self.context.classes.get(&Name::global(names::class(claim))) else {
            return Next::Done;
        };
        if class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer") {
            return Next::Done;
        }
        let uid = claim.uid().unwrap_or_default();
        let turn = topology::fnv(format!("{uid}/{node}").as_bytes()) % 1000;
        let now = Instant::now();
        let at = *self.turns().entry(uid).or_insert_with(|| now + SPREAD * turn / 1000);
        if at > now {
            return Next::After(at - now);
        }
        let mut labels = None;
        if has_topology(driver) {
            let Ok(places) = self.places(driver).await else { return Next::Again };
            let allowed = class.allowed_topologies.clone().unwrap_or_default();
            if topology::requirement(&claim.name_any(), &allowed, Some(node), &places).is_err() {
                return Next::Done;
            }
            labels = places.into_iter().next().map(|place| place.labels);
        }
        if driver.controls(Call::GetCapacity) {
            // What cannot be asked is found out, and told, where the volume is made.
            let multi_writer = driver.controls(Call::SingleNodeMultiWriter);
            if let Ok(asked) = request::create(claim, &class, multi_writer) {
                let request = GetCapacityRequest {
                    volume_capabilities: asked.volume_capabilities,
                    parameters: request::own_parameters(&class).unwrap_or_default(),
                    accessible_topology: labels.map(|segments| csi::contract::v1::Topology { segments }),
                };
                let room = driver.client.get_capacity(request).await;
                let bytes = asked.capacity_range.unwrap_or_default().required_bytes;
                if room.is_ok_and(|room| room.available_capacity < bytes) {
                    return Next::After(ROOM);
                }
            }
        }
        let selected = json!({"annotations": {names::SELECTED_NODE: node}});
        match finalizers::patch(&self.api(claim), claim, selected).await {
            // The change comes back, and the claim is looked at again.
            Ok(_) => Next::Done,
            Err(_) => Next::Again,
        }
    }
}
