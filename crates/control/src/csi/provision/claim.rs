//! One claim: its volume is asked for and told of, or taken back.

use std::sync::Arc;
use std::time::Duration;

use csi::caller::Driver;
use csi::contract::v1::controller_service_capability::rpc::Type as Call;
use csi::contract::v1::{CreateVolumeRequest, DeleteVolumeRequest, Volume};
use grpc::Code;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Api, PostParams};
use kube::{Error, ResourceExt as _};

use super::topology::{self, Trouble};
use super::volume::{self, Making};
use super::{Failure, Provisioner, has_topology, request, source};
use crate::cache::Name;
use crate::csi::secrets::{Reference, Use, of_claim};
use crate::csi::{finalizers, names};
use crate::queue::Next;

/// When that is looked at again which only has to wait.
const SOON: Duration = Duration::from_secs(3);
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
            Due::Volume(driver) | Due::TakeBack(driver) => self.go_on(&claim, &driver).await,
        }
    }

    fn due(&self, claim: &PersistentVolumeClaim) -> Due {
        let has_begun = finalizers::has(claim, names::MAKING);
        if names::volume(claim).is_some() {
            return if has_begun { Due::Told } else { Due::Nothing };
        }
        let is_going = claim.metadata.deletion_timestamp.is_some();
        let Some(driver) = self.driver(names::provisioner(claim)).filter(|_| has_begun || !is_going) else {
            return Due::Nothing;
        };
        match (&self.context.setup.node, names::selected_node(claim)) {
            (Some(node), Some(selected)) if node != selected => Due::Nothing,
            (Some(_), None) if !is_going => Due::Own(driver),
            _ if is_going => Due::TakeBack(driver),
            _ => Due::Volume(driver),
        }
    }

    pub(super) fn api(&self, claim: &PersistentVolumeClaim) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.context.client.clone(), &claim.namespace().unwrap_or_default())
    }

    /// Goes on with a claim as it is now: what the cache says may be over already.
    async fn go_on(&self, claim: &PersistentVolumeClaim, driver: &Driver) -> Next {
        let claim = match finalizers::again(&self.api(claim), claim).await {
            Ok(Some(claim)) => claim,
            Ok(None) => return Next::Done,
            Err(_) => return Next::Again,
        };
        match self.due(&claim) {
            Due::Nothing | Due::Own(_) => Next::Done,
            Due::Told => self.told(&claim).await,
            Due::Volume(_) => match self.provision(&claim, driver).await {
                Ok(()) => Next::Done,
                Err(failure) => self.failed(&claim, driver, failure).await,
            },
            Due::TakeBack(_) => match self.take_back(&claim, driver).await {
                Ok(()) => self.told(&claim).await,
                Err(failure) => {
                    let text = format!(
                        "the volume that driver {} may have made for the deleted claim cannot be taken back: {}",
                        driver.name,
                        failure.text()
                    );
                    self.context.events.warning(&claim, "ProvisioningCleanupFailed", text).await;
                    Next::Again
                }
            },
        }
    }

    /// The finalizer goes: an object tells of the volume, or there is none.
    async fn told(&self, claim: &PersistentVolumeClaim) -> Next {
        match finalizers::remove(&self.api(claim), claim, names::MAKING, &[]).await {
            Ok(()) => {
                self.begun().remove(&claim.uid().unwrap_or_default());
                self.release_snapshot(claim).await;
                Next::Done
            }
            Err(_) => Next::Again,
        }
    }

    async fn provision(&self, claim: &PersistentVolumeClaim, driver: &Driver) -> Result<(), Failure> {
        let volumes: Api<PersistentVolume> = Api::all(self.context.client.clone());
        let name = request::volume_name(claim);
        let there = volumes.get_opt(&name).await.map_err(|error| Failure::Later(error.to_string()))?;
        if there.is_some() {
            self.told(claim).await;
            return Ok(());
        }
        let class = self.class(claim, driver)?;
        let waits = class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer");
        if waits && names::selected_node(claim).is_none() {
            return Ok(());
        }
        let text = format!("driver {} makes volume {name}", driver.name);
        self.context.events.normal(claim, "Provisioning", text).await;
        let (request, secret) = self.prepare(claim, &class, driver).await?;
        if !finalizers::has(claim, names::MAKING) {
            let added = finalizers::add(&self.api(claim), claim, names::MAKING).await;
            added.map_err(|error| Failure::Later(format!("cannot change the claim: {error}")))?;
        }
        let uid = claim.uid().unwrap_or_default();
        self.begun().insert(uid, request.clone());
        let volume = self.create(driver, &request).await?;
        let making = Making {
            claim,
            class: &class,
            request: &request,
            secret: secret.as_ref(),
            identity: &format!("{}-{}", self.identity, driver.name),
            has_topology: has_topology(driver),
        };
        self.tell(&volumes, &making, &volume).await?;
        self.told(claim).await;
        let text = format!("volume {name} is there");
        self.context.events.normal(claim, "ProvisioningSucceeded", text).await;
        Ok(())
    }

    fn class(&self, claim: &PersistentVolumeClaim, driver: &Driver) -> Result<Arc<StorageClass>, Failure> {
        let name = names::class(claim);
        let class = self.context.classes.get(&Name::global(name));
        let class = class.ok_or_else(|| Failure::Wrong(format!("storage class {name:?} is not there")))?;
        if class.provisioner != driver.name {
            return Err(Failure::Others(format!(
                "storage class {name:?} is provisioner {}'s by now",
                class.provisioner
            )));
        }
        Ok(class)
    }

    /// A whole request, and the secret in it.
    async fn prepare(
        &self,
        claim: &PersistentVolumeClaim,
        class: &StorageClass,
        driver: &Driver,
    ) -> Result<(CreateVolumeRequest, Option<Reference>), Failure> {
        let multi_writer = driver.controls(Call::SingleNodeMultiWriter);
        let mut request = request::create(claim, class, multi_writer).map_err(Failure::Wrong)?;
        let has_begun = finalizers::has(claim, names::MAKING);
        request.mutable_parameters = self.mutable(claim, driver)?;
        if let Some(source) = source::of(claim)? {
            let content = source::ready(&self.context, driver, claim, &source, has_begun).await?;
            request.volume_content_source = Some(content);
        }
        if has_topology(driver) {
            let known = self.begun().get(&claim.uid().unwrap_or_default()).cloned();
            // What the driver may be at is what it is asked for again, though nodes have come and gone.
            request.accessibility_requirements = match known {
                Some(known) => known.accessibility_requirements,
                None => self.requirement(claim, class, driver, has_begun).await?,
            };
        }
        let secret = of_claim(Use::Provision, class, &request.name, claim).map_err(Failure::Wrong)?;
        if let Some(secret) = &secret {
            let values = self.context.secret(&secret.namespace, &secret.name).await;
            request.secrets = values.map_err(Failure::Later)?;
        }
        Ok((request, secret))
    }

    async fn requirement(
        &self,
        claim: &PersistentVolumeClaim,
        class: &StorageClass,
        driver: &Driver,
        has_begun: bool,
    ) -> Result<Option<csi::contract::v1::TopologyRequirement>, Failure> {
        let places = self.places(driver).await?;
        let allowed = class.allowed_topologies.clone().unwrap_or_default();
        let selected = names::selected_node(claim);
        match topology::requirement(&claim.name_any(), &allowed, selected, &places) {
            Ok(requirement) => Ok(requirement),
            // Only to be taken back: the volume's name says which it is.
            Err(_) if has_begun && claim.metadata.deletion_timestamp.is_some() => Ok(None),
            Err(Trouble::Elsewhere(text)) => Err(Failure::Elsewhere(text)),
            Err(Trouble::Later(text)) => Err(Failure::Later(text)),
        }
    }

    /// What a class of attributes says.
    fn mutable(
        &self,
        claim: &PersistentVolumeClaim,
        driver: &Driver,
    ) -> Result<std::collections::BTreeMap<String, String>, Failure> {
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

    /// Sees to it that the driver has no volume for a claim. Asking for it again tells its id, or that there is none.
    async fn take_back(&self, claim: &PersistentVolumeClaim, driver: &Driver) -> Result<(), Failure> {
        let volumes: Api<PersistentVolume> = Api::all(self.context.client.clone());
        let there = volumes.get_opt(&request::volume_name(claim)).await;
        if there.map_err(|error| Failure::Later(error.to_string()))?.is_some() {
            return Ok(());
        }
        let known = self.begun().get(&claim.uid().unwrap_or_default()).cloned();
        let request = match known {
            Some(request) => request,
            None => {
                let class = self.class(claim, driver).map_err(|failure| {
                    Failure::Wrong(format!(
                        "{}; make that class again, or, if the driver has no volume {}, take the finalizer {} from the claim",
                        failure.text(),
                        request::volume_name(claim),
                        names::MAKING
                    ))
                })?;
                self.prepare(claim, &class, driver).await?.0
            }
        };
        match driver.client.create_volume(request.clone()).await {
            Ok(made) => {
                let volume_id = made.volume.unwrap_or_default().volume_id;
                let delete = DeleteVolumeRequest { volume_id, secrets: request.secrets };
                let deleted = driver.client.delete_volume(delete).await;
                deleted.map(drop).map_err(|error| Failure::Unknown(error.to_string()))
            }
            Err(error) => match Failure::of(&error) {
                // There is one, and it is not what would be made today.
                Failure::Refused(Code::AlreadyExists, text) => Err(Failure::Unknown(text)),
                Failure::Refused(..) => Ok(()),
                failure => Err(failure),
            },
        }
    }

    /// Tells why there is no volume, and when that is to be tried again.
    async fn failed(&self, claim: &PersistentVolumeClaim, driver: &Driver, failure: Failure) -> Next {
        if let Failure::Others(text) = &failure {
            self.context.events.normal(claim, "Provisioning", text.clone()).await;
            return Next::Done;
        }
        self.context.events.warning(claim, "ProvisioningFailed", failure.text()).await;
        let may_move = has_topology(driver) && names::selected_node(claim).is_some();
        match failure {
            Failure::Refused(Code::ResourceExhausted, _) if may_move => self.move_on(claim).await,
            Failure::Elsewhere(_) => {
                // Nothing must be left where the volume was begun.
                let mut going = claim.clone();
                going.metadata.deletion_timestamp = claim.metadata.creation_timestamp.clone();
                let has_begun = finalizers::has(claim, names::MAKING);
                match has_begun && self.take_back(&going, driver).await.is_err() {
                    true => Next::Again,
                    false => self.move_on(claim).await,
                }
            }
            Failure::Refused(code, _) => match self.told(claim).await {
                Next::Done if code == Code::InvalidArgument => Next::After(SELDOM),
                _ => Next::Again,
            },
            Failure::Later(_) => Next::After(SOON),
            Failure::Wrong(_) | Failure::Unknown(_) | Failure::Others(_) => Next::Again,
        }
    }

    /// Leaves the selected node: the scheduler selects again.
    async fn move_on(&self, claim: &PersistentVolumeClaim) -> Next {
        let uid = claim.uid().unwrap_or_default();
        match finalizers::remove(&self.api(claim), claim, names::MAKING, &[names::SELECTED_NODE]).await {
            Ok(()) => {
                self.begun().remove(&uid);
                self.turns().insert(uid, tokio::time::Instant::now() + super::owner::PAUSE);
                Next::Done
            }
            Err(_) => Next::Again,
        }
    }
}
