//! A claim that is deleted while a driver makes its volume. The driver stands in for one in a cloud: it has made the volume long
//! before it says so.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};

use csi::contract::v1::controller_service_capability::rpc::Type as Call;
use csi::contract::v1::plugin_capability::service::Type as Service;
use csi::contract::v1::*;
use csi::plugin::Services;
use grpc::{Code, Status};
use k8s_openapi::api::core::v1::{Event, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;
use tokio::sync::watch;

use crate::rig::Rig;

const NAME: &str = "slow.example.com";
const FINALIZER: &str = "control.sextant.dev/volume-being-made";

struct Slow {
    volumes: Mutex<BTreeSet<String>>,
    answers: watch::Sender<bool>,
    /// How a volume is refused before it is made, and after.
    refuses: Mutex<[Option<Code>; 2]>,
}

impl Slow {
    fn volumes(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.volumes.lock().unwrap()
    }

    fn refuse(&self, before: Option<Code>, after: Option<Code>) {
        *self.refuses.lock().unwrap() = [before, after];
    }

    fn refused(&self, when: usize) -> Result<(), Status> {
        let code = self.refuses.lock().unwrap()[when];
        code.map_or(Ok(()), |code| Err(Status::new(code, "it is to be so")))
    }
}

impl Identity for Slow {
    async fn get_plugin_info(&self, _: GetPluginInfoRequest) -> Result<GetPluginInfoResponse, Status> {
        Ok(GetPluginInfoResponse { name: NAME.into(), vendor_version: "1".into(), ..Default::default() })
    }

    async fn get_plugin_capabilities(
        &self,
        _: GetPluginCapabilitiesRequest,
    ) -> Result<GetPluginCapabilitiesResponse, Status> {
        let capabilities = vec![PluginCapability::service(Service::ControllerService)];
        Ok(GetPluginCapabilitiesResponse { capabilities })
    }

    async fn probe(&self, _: ProbeRequest) -> Result<ProbeResponse, Status> {
        Ok(ProbeResponse::default())
    }
}

impl Controller for Slow {
    async fn controller_get_capabilities(
        &self,
        _: ControllerGetCapabilitiesRequest,
    ) -> Result<ControllerGetCapabilitiesResponse, Status> {
        let capabilities = vec![ControllerServiceCapability::of(Call::CreateDeleteVolume)];
        Ok(ControllerGetCapabilitiesResponse { capabilities })
    }

    async fn create_volume(&self, request: CreateVolumeRequest) -> Result<CreateVolumeResponse, Status> {
        self.refused(0)?;
        self.volumes().insert(request.name.clone());
        let _ = self.answers.subscribe().wait_for(|answers| *answers).await;
        self.refused(1)?;
        let volume = Volume { volume_id: request.name, ..Default::default() };
        Ok(CreateVolumeResponse { volume: Some(volume) })
    }

    async fn delete_volume(&self, request: DeleteVolumeRequest) -> Result<DeleteVolumeResponse, Status> {
        self.volumes().remove(&request.volume_id);
        Ok(DeleteVolumeResponse {})
    }
}

/// A claim, and the driver, which answers if it `answers`, and refuses what it is to refuse.
async fn asked(answers: bool, before: Option<Code>, after: Option<Code>) -> (Rig, Arc<Slow>) {
    let mut rig = Rig::bare().await;
    let refuses = Mutex::new([before, after]);
    let slow = Arc::new(Slow { volumes: Mutex::default(), answers: watch::Sender::new(answers), refuses });
    let services = Services::new().identity(slow.clone()).controller(slow.clone());
    let socket = rig.socket("slow");
    tokio::spawn(async move { services.serve(&socket, std::future::pending(), || {}).await.unwrap() });
    rig.control(&["--bind"]);
    rig.class("slow", NAME, json!({})).await;
    rig.make_here::<PersistentVolumeClaim>(json!({"metadata": {"name": "data"}, "spec": {
        "storageClassName": "slow", "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Mi"}}}}))
        .await;
    (rig, slow)
}

/// A claim whose volume the driver has made and does not tell of.
async fn begun() -> (Rig, Arc<Slow>) {
    let (rig, slow) = asked(false, None, None).await;
    rig.until("the driver is at it", async |_: &Rig| (!slow.volumes().is_empty()).then_some(())).await;
    assert!(is_held(&rig).await);
    (rig, slow)
}

/// Whether the claim says that its volume may be being made.
async fn is_held(rig: &Rig) -> bool {
    let claim = claims(rig).get("data").await.unwrap();
    claim.metadata.finalizers.unwrap_or_default().contains(&FINALIZER.into())
}

/// Waits for an event of the claim, with these words.
async fn event(rig: &Rig, reason: &str, words: &str) {
    rig.until(&format!("event {reason}: {words}"), async |rig: &Rig| {
        let events = rig.objects_of::<Event>("").list(&ListParams::default()).await.unwrap();
        let mut of = events.iter();
        of.find(|event| {
            event.reason.as_deref() == Some(reason)
                && event.message.as_ref().is_some_and(|message| message.contains(words))
        })
        .map(|_| ())
    })
    .await;
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

#[tokio::test]
async fn what_is_no_proof_that_there_is_no_volume_is_not_taken_for_one() {
    let (mut rig, slow) = begun().await;
    rig.kill("control");
    claims(&rig).delete("data", &DeleteParams::default()).await.unwrap();
    slow.answers.send_replace(true);
    for code in [Code::AlreadyExists, Code::ResourceExhausted, Code::Unauthenticated] {
        slow.refuse(Some(code), None);
        rig.again("control");
        event(&rig, "ProvisioningCleanupFailed", &format!("({code})")).await;
        assert!(is_held(&rig).await, "{code}");
        rig.kill("control");
    }
    rig.again("control");
    slow.refuse(None, None);
    all_gone(&rig, &slow).await;
}

#[tokio::test]
async fn a_refusal_of_the_first_call_leaves_nothing_to_wait_for() {
    let (rig, slow) = asked(true, Some(Code::InvalidArgument), None).await;
    event(&rig, "ProvisioningFailed", "it is to be so").await;
    rig.until("the claim is free", async |rig: &Rig| (!is_held(rig).await).then_some(())).await;
    let classes: Api<StorageClass> = Api::all(rig.client.clone());
    classes.delete("slow", &DeleteParams::default()).await.unwrap();
    claims(&rig).delete("data", &DeleteParams::default()).await.unwrap();
    all_gone(&rig, &slow).await;
}

#[tokio::test]
async fn what_was_begun_is_taken_back_when_the_class_is_another_drivers_by_then() {
    let (rig, slow) = asked(true, None, Some(Code::Aborted)).await;
    event(&rig, "ProvisioningFailed", "(Aborted)").await;
    assert_eq!(slow.volumes().len(), 1);
    let classes: Api<StorageClass> = Api::all(rig.client.clone());
    classes.delete("slow", &DeleteParams::default()).await.unwrap();
    // Somebody does not wait for what is being made of it.
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    classes.patch("slow", &PatchParams::default(), &free).await.unwrap();
    rig.class("slow", "other.example.com", json!({})).await;
    rig.until("the other driver is asked", async |rig: &Rig| {
        let claim = claims(rig).get("data").await.unwrap();
        let asked = claim.metadata.annotations?.get("volume.kubernetes.io/storage-provisioner").cloned();
        (asked? == "other.example.com").then_some(())
    })
    .await;
    slow.refuse(None, None);
    rig.until("the volume is gone", async |rig: &Rig| {
        (slow.volumes().is_empty() && !is_held(rig).await).then_some(())
    })
    .await;
    claims(&rig).delete("data", &DeleteParams::default()).await.unwrap();
    all_gone(&rig, &slow).await;
}

/// Waits until the class is gone.
async fn class_gone(rig: &Rig) {
    let classes: Api<StorageClass> = Api::all(rig.client.clone());
    let gone = async |_: &Rig| classes.get_opt("slow").await.unwrap().is_none().then_some(());
    rig.until("the class is gone", gone).await;
}

#[tokio::test]
async fn a_class_that_is_deleted_stays_until_what_was_begun_of_it_is_over() {
    let (mut rig, slow) = begun().await;
    let classes: Api<StorageClass> = Api::all(rig.client.clone());
    classes.delete("slow", &DeleteParams::default()).await.unwrap();
    event(&rig, "VolumesBeingMade", "default/data").await;
    // Nobody who knew the request is there any more.
    rig.kill("control");
    rig.make_here::<PersistentVolumeClaim>(json!({"metadata": {"name": "late"}, "spec": {
        "storageClassName": "slow", "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Mi"}}}}))
        .await;
    rig.again("control");
    event(&rig, "ProvisioningFailed", "storage class \"slow\" is being deleted").await;
    assert!(classes.get_opt("slow").await.unwrap().is_some());
    slow.answers.send_replace(true);
    rig.until("the claim is bound", async |rig: &Rig| {
        (claims(rig).get("data").await.unwrap().status?.phase? == "Bound").then_some(())
    })
    .await;
    class_gone(&rig).await;
    for name in ["data", "late"] {
        claims(&rig).delete(name, &DeleteParams::default()).await.unwrap();
    }
    all_gone(&rig, &slow).await;
}

#[tokio::test]
async fn a_claim_is_taken_back_though_its_class_was_deleted_and_nobody_remembers_the_request() {
    let (mut rig, slow) = begun().await;
    let classes: Api<StorageClass> = Api::all(rig.client.clone());
    classes.delete("slow", &DeleteParams::default()).await.unwrap();
    claims(&rig).delete("data", &DeleteParams::default()).await.unwrap();
    rig.kill("control");
    slow.answers.send_replace(true);
    rig.again("control");
    all_gone(&rig, &slow).await;
    class_gone(&rig).await;
}
