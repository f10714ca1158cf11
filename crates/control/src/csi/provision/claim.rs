//! One claim: its volume is asked for and told of, or taken back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::cache::Name;
use client::queue::Next;
use csi::caller::Driver;
use csi::contract::v1::controller_service_capability::rpc::Type as Call;
use csi::contract::v1::{CreateVolumeRequest, DeleteVolumeRequest, TopologyRequirement, Volume};
use grpc::Code;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Api, PostParams};
use kube::{Error, ResourceExt as _};
use serde_json::json;

use super::back::{is_none, maker, may_move};
use super::topology::{self, Trouble};
use super::volume::{self, Making};
use super::{Failure, MAKER, Provisioner, classes, has_topology, request, source};
use crate::csi::secrets::{Reference, Use, of_claim};
use crate::csi::{finalizers, names};

/// When a driver is asked again for what it has called invalid.
const SELDOM: Duration = Duration::from_secs(300);

/// What there is to do for a claim.
enum Due {
    Nothing,
    /// The finalizer can go: the volume has its object.
    Told,
    /// A volume.
    Volume(Arc<Driver>),
    /// To take back what may be there.
    TakeBack(Arc<Driver>),
    /// To make this node the claim's.
    Own(Arc<Driver>),
}

impl Provisioner {
    /// Does the next thing for a claim.
    pub(super) async fn look_at_claim(&self, name: &Name) -> Next {
        let Some(claim) = self.context.claims.get(name) else { return Next::Done };
        if let Some(next) = self.release_cloned(&claim).await {
            return next;
        }
        match self.due(&claim) {
            Due::Nothing => Next::Done,
            Due::Told => self.told(&claim).await,
            Due::Own(driver) => self.own(&claim, &driver).await,
            Due::Volume(_) | Due::TakeBack(_) => self.go_on(&claim).await,
        }
    }

    fn due(&self, claim: &PersistentVolumeClaim) -> Due {
        let has_begun = finalizers::has(claim, names::MAKING);
        let volume = names::volume(claim);
        if volume.is_some_and(|volume| !has_begun || volume == request::volume_name(claim)) {
            return if has_begun { Due::Told } else { Due::Nothing };
        }
        let maker = maker(claim);
        // It is going, has got another volume, or another driver is to make it: what may have been made is nobody's.
        let is_unwanted = claim.metadata.deletion_timestamp.is_some()
            || volume.is_some()
            || maker != names::provisioner(claim);
        let Some(driver) = self.driver(maker).filter(|_| has_begun || !is_unwanted) else {
            return Due::Nothing;
        };
        match (&self.context.setup.node, names::selected_node(claim)) {
            (Some(node), Some(selected)) if node != selected => Due::Nothing,
            _ if is_unwanted => Due::TakeBack(driver),
            (Some(_), None) => Due::Own(driver),
            _ => Due::Volume(driver),
        }
    }

    pub(super) fn api(&self, claim: &PersistentVolumeClaim) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.context.client.clone(), &claim.namespace().unwrap_or_default())
    }

    /// Goes on with a claim as it is now: what the cache says may be over already.
    async fn go_on(&self, claim: &PersistentVolumeClaim) -> Next {
        let mut claim = match finalizers::again(&self.api(claim), claim).await {
            Ok(Some(claim)) => claim,
            Ok(None) => return Next::Done,
            Err(_) => return Next::Again,
        };
        let is_first = !finalizers::has(&claim, names::MAKING);
        match self.due(&claim) {
            Due::Nothing | Due::Own(_) => Next::Done,
            Due::Told => self.told(&claim).await,
            Due::Volume(driver) => match self.provision(&mut claim, &driver).await {
                Ok(next) => next,
                Err(failure) => self.failed(&claim, &driver, failure, is_first).await,
            },
            Due::TakeBack(driver) => match self.take_back(&claim, &driver).await {
                Ok(()) => {
                    let next = self.told(&claim).await;
                    if next == Next::Done {
                        // There may be another driver that is to make it.
                        self.claims.add(Name::of(&claim));
                    }
                    next
                }
                Err(failure) => {
                    let text = format!(
                        "the volume {} that driver {} may have made cannot be taken back: {}",
                        request::volume_name(&claim),
                        driver.name,
                        failure.text()
                    );
                    self.context.events.warning(&claim, "ProvisioningCleanupFailed", text).await;
                    Next::Again
                }
            },
        }
    }

    /// Before a driver is asked: the claim, which is changed by it, says which one may have made its volume.
    async fn begin(&self, claim: &mut PersistentVolumeClaim, driver: &Driver) -> Result<(), Failure> {
        if finalizers::has(claim, names::MAKING) {
            return Ok(());
        }
        let mut held = claim.metadata.finalizers.clone().unwrap_or_default();
        held.push(names::MAKING.to_owned());
        let metadata = json!({"finalizers": held, "annotations": {MAKER: driver.name}});
        let begun = finalizers::patch(&self.api(claim), claim, metadata).await;
        *claim = begun.map_err(|error| Failure::Later(format!("cannot change the claim: {error}")))?;
        Ok(())
    }

    /// The finalizer goes: an object tells of the volume, or there is none.
    async fn told(&self, claim: &PersistentVolumeClaim) -> Next {
        match finalizers::remove(&self.api(claim), claim, names::MAKING, &[MAKER]).await {
            Ok(()) => {
                self.begun().remove(&claim.uid().unwrap_or_default());
                self.release_snapshot(claim).await;
                Next::Done
            }
            Err(_) => Next::Again,
        }
    }

    async fn provision(&self, claim: &mut PersistentVolumeClaim, driver: &Driver) -> Result<Next, Failure> {
        let volumes: Api<PersistentVolume> = Api::all(self.context.client.clone());
        let name = request::volume_name(claim);
        let there = volumes.get_opt(&name).await.map_err(|error| Failure::Later(error.to_string()))?;
        if there.is_some() {
            return Ok(self.told(claim).await);
        }
        let class = self.class(claim, driver)?;
        let waits = class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer");
        if waits && names::selected_node(claim).is_none() {
            return Ok(Next::Done);
        }
        let (request, secret) = self.prepare(claim, &class, driver, true).await?;
        // What the class says wrong of the object is told before there is a volume that no object can tell of.
        let making = self.making(claim, &class, driver, &request, secret.as_ref());
        volume::object(&making, &Volume::default()).map_err(Failure::Wrong)?;
        let beginning = self.beginning.read().await;
        self.hold_class(claim, &class).await?;
        self.begin(claim, driver).await?;
        drop(beginning);
        self.begun().insert(claim.uid().unwrap_or_default(), request.clone());
        let text = format!("driver {} makes volume {name}", driver.name);
        self.context.events.normal(claim, "Provisioning", text).await;
        let volume = self.create(driver, &request).await?;
        let making = self.making(claim, &class, driver, &request, secret.as_ref());
        self.tell(&volumes, &making, &volume).await?;
        let next = self.told(claim).await;
        let text = format!("volume {name} is there");
        self.context.events.normal(claim, "ProvisioningSucceeded", text).await;
        Ok(next)
    }

    fn making<'a>(
        &self,
        claim: &'a PersistentVolumeClaim,
        class: &'a StorageClass,
        driver: &Driver,
        request: &'a CreateVolumeRequest,
        secret: Option<&'a Reference>,
    ) -> Making<'a> {
        let identity = format!("{}-{}", self.identity, driver.name);
        Making { claim, class, request, secret, identity, has_topology: has_topology(driver) }
    }

    pub(super) fn class(
        &self,
        claim: &PersistentVolumeClaim,
        driver: &Driver,
    ) -> Result<Arc<StorageClass>, Failure> {
        let name = names::class(claim);
        let class = self.context.classes.get(&Name::global(name));
        let class = class.ok_or_else(|| Failure::Wrong(format!("storage class {name:?} is not there")))?;
        classes::is_offered(&class, claim)?;
        if class.provisioner != driver.name {
            return Err(Failure::Others(format!(
                "storage class {name:?} is provisioner {}'s by now",
                class.provisioner
            )));
        }
        Ok(class)
    }

    /// A whole request, and the secret in it. `keep`: not only to be taken back.
    pub(super) async fn prepare(
        &self,
        claim: &PersistentVolumeClaim,
        class: &StorageClass,
        driver: &Driver,
        keep: bool,
    ) -> Result<(CreateVolumeRequest, Option<Reference>), Failure> {
        // What the driver may be at is what it is asked for again, though classes and nodes have come and gone.
        let known = self.begun().get(&claim.uid().unwrap_or_default()).cloned();
        let mut request = match known {
            Some(known) => known,
            None => self.request(claim, class, driver, keep).await?,
        };
        let secret = of_claim(Use::Provision, class, &request.name, claim).map_err(Failure::Wrong)?;
        request.secrets = match &secret {
            Some(secret) => {
                let values = self.context.secret(&secret.namespace, &secret.name).await;
                values.map_err(Failure::Later)?
            }
            None => Default::default(),
        };
        Ok((request, secret))
    }

    /// A request as class and nodes are today, without secrets.
    async fn request(
        &self,
        claim: &PersistentVolumeClaim,
        class: &StorageClass,
        driver: &Driver,
        keep: bool,
    ) -> Result<CreateVolumeRequest, Failure> {
        let multi_writer = driver.controls(Call::SingleNodeMultiWriter);
        let mut request = request::create(claim, class, multi_writer).map_err(Failure::Wrong)?;
        let has_begun = finalizers::has(claim, names::MAKING);
        request.mutable_parameters = self.mutable(claim, driver)?;
        if let Some(source) = source::of(claim)? {
            let content = source::ready(&self.context, driver, claim, &source, has_begun).await?;
            request.volume_content_source = Some(content);
        }
        if has_topology(driver) {
            request.accessibility_requirements = self.requirement(claim, class, driver, keep).await?;
        }
        Ok(request)
    }

    async fn requirement(
        &self,
        claim: &PersistentVolumeClaim,
        class: &StorageClass,
        driver: &Driver,
        keep: bool,
    ) -> Result<Option<TopologyRequirement>, Failure> {
        let places = self.places(driver).await?;
        let allowed = class.allowed_topologies.clone().unwrap_or_default();
        let selected = names::selected_node(claim);
        match topology::requirement(&claim.name_any(), &allowed, selected, &places) {
            Ok(requirement) => Ok(requirement),
            // The volume's name says which it is.
            Err(_) if !keep => Ok(None),
            Err(Trouble::Elsewhere(text)) => Err(Failure::Elsewhere(text)),
            Err(Trouble::Later(text)) => Err(Failure::Later(text)),
        }
    }

    /// What a class of attributes says.
    fn mutable(
        &self,
        claim: &PersistentVolumeClaim,
        driver: &Driver,
    ) -> Result<BTreeMap<String, String>, Failure> {
        let name = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
        let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(Default::default()) };
        if !driver.controls(Call::ModifyVolume) {
            let text =
                format!("spec.volumeAttributesClassName: driver {} does not know such classes", driver.name);
            return Err(Failure::Wrong(text));
        }
        let class = self.context.attributes.get(&Name::global(name));
        let class =
            class.ok_or_else(|| Failure::Later(format!("volume attributes class {name:?} is not there")))?;
        if class.driver_name != driver.name {
            let text = format!(
                "volume attributes class {name:?} is driver {}'s, not {}'s",
                class.driver_name, driver.name
            );
            return Err(Failure::Wrong(text));
        }
        Ok(class.parameters.clone().unwrap_or_default())
    }

    /// Has the driver make a volume. One that is not as it should be goes again.
    async fn create(&self, driver: &Driver, request: &CreateVolumeRequest) -> Result<Volume, Failure> {
        let made = driver.client.create_volume(request.clone()).await;
        let volume = made.map_err(|error| Failure::of(&error))?.volume.unwrap_or_default();
        let Err(why) = volume::check(request, &volume) else { return Ok(volume) };
        if volume.volume_id.is_empty() {
            return Err(Failure::Unknown(why));
        }
        let delete = DeleteVolumeRequest { volume_id: volume.volume_id, secrets: request.secrets.clone() };
        match driver.client.delete_volume(delete).await {
            Ok(_) => Err(Failure::Unknown(format!("{why}; that is deleted again"))),
            Err(error) => Err(Failure::Unknown(format!("{why}; it is still there: {error}"))),
        }
    }

    /// Makes the object of a volume.
    async fn tell(
        &self,
        volumes: &Api<PersistentVolume>,
        making: &Making<'_>,
        made: &Volume,
    ) -> Result<(), Failure> {
        let object = volume::object(making, made).map_err(Failure::Unknown)?;
        let failed = |error: &dyn std::fmt::Display| {
            Failure::Unknown(format!("cannot make the object of volume {}: {error}", making.request.name))
        };
        let object = serde_json::from_value(object).map_err(|error| failed(&error))?;
        match volumes.create(&PostParams::default(), &object).await {
            Ok(_) => Ok(()),
            // By us, a moment ago: nobody else knows the claim's uid.
            Err(Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Tells why there is no volume, and when that is to be tried again. `is_first`: nothing had been asked for before.
    async fn failed(
        &self,
        claim: &PersistentVolumeClaim,
        driver: &Driver,
        failure: Failure,
        is_first: bool,
    ) -> Next {
        if let Failure::Others(text) = &failure {
            self.context.events.normal(claim, "Provisioning", text.clone()).await;
            return Next::Done;
        }
        self.context.events.warning(claim, "ProvisioningFailed", failure.text()).await;
        let may_move = may_move(claim, driver);
        match failure {
            Failure::Refused(Code::ResourceExhausted, _) if may_move => self.move_on(claim).await,
            Failure::Elsewhere(_) => {
                // Nothing must be left where the volume was begun.
                let has_begun = finalizers::has(claim, names::MAKING);
                match has_begun && self.take_back(claim, driver).await.is_err() {
                    true => Next::Again,
                    false => self.move_on(claim).await,
                }
            }
            Failure::Refused(code, _)
                if is_first && code != Code::AlreadyExists || is_none(code, may_move) =>
            {
                match self.told(claim).await {
                    Next::Done if code == Code::InvalidArgument => Next::After(SELDOM),
                    _ => Next::Again,
                }
            }
            _ => Next::Again,
        }
    }

    /// Leaves the selected node: the scheduler selects again.
    async fn move_on(&self, claim: &PersistentVolumeClaim) -> Next {
        let uid = claim.uid().unwrap_or_default();
        match finalizers::remove(&self.api(claim), claim, names::MAKING, &[names::SELECTED_NODE, MAKER]).await
        {
            Ok(()) => {
                self.begun().remove(&uid);
                self.turns().insert(uid, tokio::time::Instant::now() + super::owner::PAUSE);
                Next::Done
            }
            Err(_) => Next::Again,
        }
    }
}
