//! A claim that is deleted while a driver makes its volume. The driver stands in for one in a cloud: it has made the volume long
//! before it says so.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};

use csi::contract::v1::controller_service_capability::rpc::Type as Call;
use csi::contract::v1::plugin_capability::service::Type as Service;
use csi::contract::v1::*;
use csi::plugin::Services;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;
use tokio::sync::watch;

use crate::rig::Rig;

const NAME: &str = "slow.example.com";
const FINALIZER: &str = "control.sextant.dev/volume-being-made";

struct Slow {
    volumes: Mutex<BTreeSet<String>>,
    answers: watch::Sender<bool>,
}

impl Slow {
    fn volumes(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.volumes.lock().unwrap()
    }
}

impl Identity for Slow {
    async fn get_plugin_info(&self, _: GetPluginInfoRequest) -> Result<GetPluginInfoResponse, grpc::Status> {
        Ok(GetPluginInfoResponse { name: NAME.into(), vendor_version: "1".into(), ..Default::default() })
    }

    async fn get_plugin_capabilities(
        &self,
        _: GetPluginCapabilitiesRequest,
    ) -> Result<GetPluginCapabilitiesResponse, grpc::Status> {
        let capabilities = vec![PluginCapability::service(Service::ControllerService)];
        Ok(GetPluginCapabilitiesResponse { capabilities })
    }

    async fn probe(&self, _: ProbeRequest) -> Result<ProbeResponse, grpc::Status> {
        Ok(ProbeResponse::default())
    }
}

impl Controller for Slow {
    async fn controller_get_capabilities(
        &self,
        _: ControllerGetCapabilitiesRequest,
    ) -> Result<ControllerGetCapabilitiesResponse, grpc::Status> {
        let capabilities = vec![ControllerServiceCapability::of(Call::CreateDeleteVolume)];
        Ok(ControllerGetCapabilitiesResponse { capabilities })
    }

    async fn create_volume(
        &self,
        request: CreateVolumeRequest,
    ) -> Result<CreateVolumeResponse, grpc::Status> {
        self.volumes().insert(request.name.clone());
        let _ = self.answers.subscribe().wait_for(|answers| *answers).await;
        let volume = Volume { volume_id: request.name, ..Default::default() };
        Ok(CreateVolumeResponse { volume: Some(volume) })
    }

    async fn delete_volume(
        &self,
        request: DeleteVolumeRequest,
    ) -> Result<DeleteVolumeResponse, grpc::Status> {
        self.volumes().remove(&request.volume_id);
        Ok(DeleteVolumeResponse {})
    }
}

/// A claim whose volume the driver has made and does not tell of.
async fn begun() -> (Rig, Arc<Slow>) {
    let mut rig = Rig::bare().await;
    let slow = Arc::new(Slow { volumes: Mutex::default(), answers: watch::Sender::new(false) });
    let services = Services::new().identity(slow.clone()).controller(slow.clone());
    let socket = rig.socket("slow");
    tokio::spawn(async move { services.serve(&socket, std::future::pending(), || {}).await.unwrap() });
    rig.control(&["--bind"]);
    rig.class("slow", NAME, json!({})).await;
    rig.make_here::<PersistentVolumeClaim>(json!({"metadata": {"name": "data"}, "spec": {
        "storageClassName": "slow", "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Mi"}}}}))
        .await;
    rig.until("the driver is at it", async |_: &Rig| (!slow.volumes().is_empty()).then_some(())).await;
    let claim = claims(&rig).get("data").await.unwrap();
    assert!(claim.metadata.finalizers.unwrap().contains(&FINALIZER.into()));
    (rig, slow)
}

fn claims(rig: &Rig) -> Api<PersistentVolumeClaim> {
    rig.objects_of("")
}

async fn all_gone(rig: &Rig, slow: &Slow) {
    rig.until("claim, volume and what the driver has are gone", async |rig: &Rig| {
        let volumes: Api<PersistentVolume> = Api::all(rig.client.clone());
        let is_gone = claims(rig).get_opt("data").await.unwrap().is_none()
            && volumes.list(&ListParams::default()).await.unwrap().items.is_empty()
            && slow.volumes().is_empty();
        is_gone.then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_claim_deleted_while_its_volume_is_made_leaves_none() {
    let (rig, slow) = begun().await;
    claims(&rig).delete("data", &DeleteParams::default()).await.unwrap();
    slow.answers.send_replace(true);
    all_gone(&rig, &slow).await;
}

#[tokio::test]
async fn controllers_killed_while_a_volume_is_made_find_it_though_the_claim_is_deleted() {
    let (mut rig, slow) = begun().await;
    rig.kill("control");
    claims(&rig).delete("data", &DeleteParams::default()).await.unwrap();
    slow.answers.send_replace(true);
    assert_eq!(slow.volumes().len(), 1, "nobody has deleted it");
    rig.again("control");
    all_gone(&rig, &slow).await;
}
