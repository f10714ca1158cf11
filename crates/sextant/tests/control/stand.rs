//! A driver of the tests that stands in for one of a storage system: it attaches, lists, expands and modifies, notes every call, and
//! fails or takes its time where it is told to. There is nothing behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use csi::contract::v1::controller_service_capability::rpc::Type as Call;
use csi::contract::v1::list_volumes_response::{Entry, VolumeStatus};
use csi::contract::v1::node_service_capability::rpc::Type as NodeCall;
use csi::contract::v1::*;
use csi::plugin::Services;
use grpc::{Code, Status};

use crate::stands::Thread;

pub(crate) use crate::stands::{Answer, Named};

/// Its name.
pub(crate) const STAND_IN: &str = "block.example.com";

/// What the driver knows and has been asked: it outlives the process, as a storage system does.
#[derive(Default)]
pub(crate) struct State {
    /// Nodes by volume.
    pub(crate) published: BTreeMap<String, BTreeSet<String>>,
    /// Bytes by volume.
    pub(crate) sizes: BTreeMap<String, i64>,
    /// Each call, with what of it is looked at.
    pub(crate) calls: Vec<String>,
    /// Calls that fail, until they are taken out.
    pub(crate) failing: BTreeMap<&'static str, Code>,
    /// What is wrong with volumes, nothing where it is empty; those named here are listed.
    pub(crate) conditions: BTreeMap<String, String>,
    /// How long a call takes: it is done in the middle of that.
    pub(crate) slow: Duration,
    /// Whether the node has to grow file systems.
    pub(crate) by_node: bool,
    /// Whether it can do nothing on its controller but answer.
    pub(crate) is_node_only: bool,
    /// What was attached, as it was asked for.
    pub(crate) requests: Vec<ControllerPublishVolumeRequest>,
}

/// The driver; it ends with this.
pub(crate) struct StandIn {
    state: Arc<Mutex<State>>,
    thread: Thread,
}

#[derive(Clone)]
struct Served(Arc<Mutex<State>>);

impl StandIn {
    /// Starts it, on a thread of its own.
    pub(crate) fn start(socket: PathBuf, state: State) -> StandIn {
        StandIn::with(socket, Arc::new(Mutex::new(state)))
    }

    fn with(socket: PathBuf, state: Arc<Mutex<State>>) -> StandIn {
        let served = Arc::new(Served(state.clone()));
        let services =
            Services::new().identity(Arc::new(Named(STAND_IN))).controller(served.clone()).node(served);
        StandIn { state, thread: Thread::serve(services, socket, None) }
    }

    /// Ends it, and starts it again as `change` leaves it.
    pub(crate) fn again(mut self, socket: PathBuf, change: impl FnOnce(&mut State)) -> StandIn {
        self.thread.end();
        change(&mut self.state());
        StandIn::with(socket, self.state.clone())
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// How often a call was asked for.
    pub(crate) fn count(&self, call: &str) -> usize {
        self.state().calls.iter().filter(|called| called.starts_with(call)).count()
    }

    /// The last request to attach.
    pub(crate) fn last_publish(&self) -> ControllerPublishVolumeRequest {
        self.state().requests.last().cloned().expect("nothing was attached")
    }
}

impl Served {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Notes a call, and does it, if it is not to fail.
    async fn call<T>(
        &self,
        name: &'static str,
        what: String,
        act: impl FnOnce(&mut State) -> T,
    ) -> Answer<T> {
        let slow = {
            let mut state = self.state();
            state.calls.push(format!("{name} {what}"));
            if let Some(code) = state.failing.get(name) {
                return Err(Status::new(*code, format!("{name} is to fail")));
            }
            state.slow
        };
        tokio::time::sleep(slow / 2).await;
        let done = act(&mut self.state());
        tokio::time::sleep(slow / 2).await;
        Ok(done)
    }
}

impl Controller for Served {
    async fn controller_get_capabilities(
        &self,
        _: ControllerGetCapabilitiesRequest,
    ) -> Answer<ControllerGetCapabilitiesResponse> {
        let all = [
            Call::PublishUnpublishVolume,
            Call::PublishReadonly,
            Call::ListVolumes,
            Call::ListVolumesPublishedNodes,
            Call::VolumeCondition,
            Call::ExpandVolume,
            Call::ModifyVolume,
        ];
        let can = if self.state().is_node_only { &[][..] } else { &all };
        let capabilities = can.iter().map(|call| ControllerServiceCapability::of(*call)).collect();
        Ok(ControllerGetCapabilitiesResponse { capabilities })
    }

    async fn controller_publish_volume(
        &self,
        request: ControllerPublishVolumeRequest,
    ) -> Answer<ControllerPublishVolumeResponse> {
        let what = format!("{} {}", request.volume_id, request.node_id);
        let publish_context = [("device".to_owned(), format!("/dev/{}", request.volume_id))].into();
        self.call("publish", what, |state| {
            state.published.entry(request.volume_id.clone()).or_default().insert(request.node_id.clone());
            state.requests.push(request);
        })
        .await?;
        Ok(ControllerPublishVolumeResponse { publish_context })
    }

    async fn controller_unpublish_volume(
        &self,
        request: ControllerUnpublishVolumeRequest,
    ) -> Answer<ControllerUnpublishVolumeResponse> {
        let what = format!("{} {}", request.volume_id, request.node_id);
        self.call("unpublish", what, |state| {
            let nodes = state.published.entry(request.volume_id.clone()).or_default();
            nodes.remove(&request.node_id);
            if nodes.is_empty() {
                state.published.remove(&request.volume_id);
            }
        })
        .await?;
        Ok(ControllerUnpublishVolumeResponse {})
    }

    async fn list_volumes(&self, _: ListVolumesRequest) -> Answer<ListVolumesResponse> {
        let state = self.state();
        let entry = |id: &String| Entry {
            volume: Some(Volume { volume_id: id.clone(), ..Default::default() }),
            status: Some(VolumeStatus {
                published_node_ids: state.published.get(id).into_iter().flatten().cloned().collect(),
                volume_condition: state.conditions.get(id).map(|message| VolumeCondition {
                    abnormal: !message.is_empty(),
                    message: message.clone(),
                }),
            }),
        };
        let known: BTreeSet<&String> = state.published.keys().chain(state.conditions.keys()).collect();
        let entries = known.into_iter().map(entry).collect();
        Ok(ListVolumesResponse { entries, ..Default::default() })
    }

    async fn controller_expand_volume(
        &self,
        request: ControllerExpandVolumeRequest,
    ) -> Answer<ControllerExpandVolumeResponse> {
        let bytes = request.capacity_range.unwrap_or_default().required_bytes;
        let what = format!("{} {bytes}", request.volume_id);
        let (capacity_bytes, node_expansion_required) = self
            .call("expand", what, |state| {
                let size = state.sizes.entry(request.volume_id).or_default();
                *size = (*size).max(bytes);
                (*size, state.by_node)
            })
            .await?;
        Ok(ControllerExpandVolumeResponse { capacity_bytes, node_expansion_required })
    }

    async fn controller_modify_volume(
        &self,
        request: ControllerModifyVolumeRequest,
    ) -> Answer<ControllerModifyVolumeResponse> {
        let what = format!("{} {:?}", request.volume_id, request.mutable_parameters);
        self.call("modify", what, |_| ()).await?;
        Ok(ControllerModifyVolumeResponse {})
    }
}

impl Node for Served {
    async fn node_get_info(&self, _: NodeGetInfoRequest) -> Answer<NodeGetInfoResponse> {
        Ok(NodeGetInfoResponse { node_id: "here".into(), ..Default::default() })
    }

    async fn node_get_capabilities(
        &self,
        _: NodeGetCapabilitiesRequest,
    ) -> Answer<NodeGetCapabilitiesResponse> {
        Ok(NodeGetCapabilitiesResponse {
            capabilities: vec![NodeServiceCapability::of(NodeCall::ExpandVolume)],
        })
    }
}
