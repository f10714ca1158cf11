//! A driver of this test's own, which can be stopped in the middle of a call: its volumes are attached, staged and published, and are
//! nothing but empty folders.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use csi::caller::registration::Offer;
use csi::contract::v1::controller_service_capability::rpc::Type as Call;
use csi::contract::v1::node_service_capability::rpc::Type as NodeCall;
use csi::contract::v1::*;
use csi::contract::{Code, Failure};
use csi::plugin::Services;

use crate::stands::{Answer, Named, Thread};

/// Its name.
pub(crate) const STAND: &str = "stand.example.com";

/// What it was asked, and what it is to do.
#[derive(Default)]
pub(crate) struct State {
    /// Calls that have come, and those that were answered, in their order.
    pub(crate) calls: Vec<String>,
    /// Calls that are not answered for now.
    pub(crate) held: BTreeSet<&'static str>,
    /// Calls that fail.
    pub(crate) failing: BTreeSet<&'static str>,
    /// The last request to publish.
    pub(crate) published: Option<NodePublishVolumeRequest>,
    /// The last request to grow.
    pub(crate) grown: Option<NodeExpandVolumeRequest>,
}

/// The driver, on a thread of its own.
pub(crate) struct Stand {
    state: Arc<Mutex<State>>,
    _thread: Thread,
}

impl Stand {
    /// Serves at a socket, and asks to be registered in a folder.
    pub(crate) fn start(socket: PathBuf, folder: PathBuf) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let served = Arc::new(Served(state.clone()));
        let services =
            Services::new().identity(Arc::new(Named(STAND))).controller(served.clone()).node(served);
        let offer = Offer { driver: STAND.into(), endpoint: socket.clone(), folder };
        Self { state, _thread: Thread::serve(services, socket, Some(offer)) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// How often a call was begun, or ended (`publish done`).
    pub(crate) fn count(&self, call: &str) -> usize {
        self.state().calls.iter().filter(|one| *one == call).count()
    }

    pub(crate) fn hold(&self, call: &'static str) {
        self.state().held.insert(call);
    }

    pub(crate) fn let_go(&self) {
        self.state().held.clear();
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        // The thread waits for calls.
        self.let_go();
    }
}

struct Served(Arc<Mutex<State>>);

impl Served {
    async fn call(&self, name: &'static str) -> Answer<()> {
        self.0.lock().unwrap().calls.push(name.into());
        while self.0.lock().unwrap().held.contains(name) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut state = self.0.lock().unwrap();
        if state.failing.contains(name) {
            return Err(Failure::new(Code::Internal, format!("{name} is to fail")).into());
        }
        state.calls.push(format!("{name} done"));
        Ok(())
    }
}

impl Controller for Served {
    async fn controller_get_capabilities(
        &self,
        _: ControllerGetCapabilitiesRequest,
    ) -> Answer<ControllerGetCapabilitiesResponse> {
        let capabilities = vec![ControllerServiceCapability::of(Call::PublishUnpublishVolume)];
        Ok(ControllerGetCapabilitiesResponse { capabilities })
    }

    async fn controller_publish_volume(
        &self,
        _: ControllerPublishVolumeRequest,
    ) -> Answer<ControllerPublishVolumeResponse> {
        self.call("attach").await?;
        let publish_context = BTreeMap::from([("disk".to_owned(), "7".to_owned())]);
        Ok(ControllerPublishVolumeResponse { publish_context })
    }

    async fn controller_unpublish_volume(
        &self,
        _: ControllerUnpublishVolumeRequest,
    ) -> Answer<ControllerUnpublishVolumeResponse> {
        self.call("detach").await?;
        Ok(ControllerUnpublishVolumeResponse {})
    }
}

impl Node for Served {
    async fn node_get_info(&self, _: NodeGetInfoRequest) -> Answer<NodeGetInfoResponse> {
        let accessible_topology =
            Some(Topology { segments: [("example.com/rack".into(), "r1".into())].into() });
        Ok(NodeGetInfoResponse { node_id: "stand-1".into(), max_volumes_per_node: 9, accessible_topology })
    }

    async fn node_get_capabilities(
        &self,
        _: NodeGetCapabilitiesRequest,
    ) -> Answer<NodeGetCapabilitiesResponse> {
        let all = [NodeCall::StageUnstageVolume, NodeCall::ExpandVolume, NodeCall::VolumeMountGroup];
        Ok(NodeGetCapabilitiesResponse { capabilities: all.map(NodeServiceCapability::of).to_vec() })
    }

    async fn node_stage_volume(&self, request: NodeStageVolumeRequest) -> Answer<NodeStageVolumeResponse> {
        assert_eq!(request.publish_context.get("disk").map(String::as_str), Some("7"));
        self.call("stage").await?;
        Ok(NodeStageVolumeResponse {})
    }

    async fn node_unstage_volume(&self, _: NodeUnstageVolumeRequest) -> Answer<NodeUnstageVolumeResponse> {
        self.call("unstage").await?;
        Ok(NodeUnstageVolumeResponse {})
    }

    async fn node_publish_volume(
        &self,
        request: NodePublishVolumeRequest,
    ) -> Answer<NodePublishVolumeResponse> {
        let _there = std::fs::create_dir(&request.target_path);
        self.0.lock().unwrap().published = Some(request);
        self.call("publish").await?;
        Ok(NodePublishVolumeResponse {})
    }

    async fn node_unpublish_volume(
        &self,
        request: NodeUnpublishVolumeRequest,
    ) -> Answer<NodeUnpublishVolumeResponse> {
        self.call("unpublish").await?;
        let _gone = std::fs::remove_dir_all(&request.target_path);
        Ok(NodeUnpublishVolumeResponse {})
    }

    async fn node_expand_volume(&self, request: NodeExpandVolumeRequest) -> Answer<NodeExpandVolumeResponse> {
        self.call("grow").await?;
        self.0.lock().unwrap().grown = Some(request);
        Ok(NodeExpandVolumeResponse::default())
    }
}
