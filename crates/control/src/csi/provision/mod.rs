//! The provisioner: claims get volumes, and volumes that nobody claims any more are deleted, by any driver.
//!
//! A claim is looked at by [`claim`], a volume by [`delete`]. Before a driver is asked for a volume, a finalizer on the claim says so
//! ([`names::MAKING`], with the driver's name, [`MAKER`]): a claim that is deleted meanwhile stays until the volume has got its object,
//! or is gone from the driver again.
//! The volume's name follows from the claim's uid, so that asking again finds it, whoever asks.

mod back;
mod claim;
mod classes;
mod delete;
mod owner;
pub(crate) mod request;
mod source;
mod sources;
#[cfg(test)]
mod tests;
pub(crate) mod topology;
mod volume;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use client::cache::{Change, Name};
use client::queue::{Pace, Queue};
use csi::caller::Driver;
use csi::contract::v1::controller_service_capability::rpc::Type as Call;
use csi::contract::v1::plugin_capability::service::Type as Service;
use csi::contract::v1::{CreateVolumeRequest, NodeGetInfoRequest};
use grpc::Code;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::CSINode;
use kube::ResourceExt as _;
use tokio::sync::{Notify, RwLock};
use tokio::time::Instant;

use super::{Context, finalizers, names};
use topology::Place;

/// On a claim, beside [`names::MAKING`]: the driver that may have made its volume. Its class may be another's by now.
const MAKER: &str = "control.sextant.dev/volume-made-by";

/// Why a claim has no volume yet.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// Somebody has to change something.
    Wrong(String),
    /// It may be otherwise soon.
    Later(String),
    /// Not on the selected node.
    Elsewhere(String),
    /// Another than us is to do it.
    Others(String),
    /// The driver has said that there is no volume, and is not at it.
    Refused(Code, String),
    /// The driver may be at it, or have made the volume.
    Unknown(String),
}

impl Failure {
    /// Of a call: whether it may go on in the driver is told by the code, as the sidecars have it.
    fn of(error: &grpc::Error) -> Self {
        match error.code() {
            Code::Cancelled | Code::DeadlineExceeded | Code::Unavailable | Code::Aborted => {
                Self::Unknown(error.to_string())
            }
            code => Self::Refused(code, error.to_string()),
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Wrong(text)
            | Self::Later(text)
            | Self::Elsewhere(text)
            | Self::Others(text)
            | Self::Refused(_, text)
            | Self::Unknown(text) => text,
        }
    }
}

struct Provisioner {
    context: Arc<Context>,
    claims: Arc<Queue<Name>>,
    volumes: Arc<Queue<Name>>,
    /// This process, in what it makes.
    identity: String,
    /// What drivers may be at, by the claim's uid: the same is asked for again. Of another process's only the claim tells; then the same
    /// is asked for as far as class and nodes are what they were.
    begun: Mutex<BTreeMap<String, CreateVolumeRequest>>,
    /// When this node may ask for a claim, by the claim's uid.
    turns: Mutex<BTreeMap<String, Instant>>,
    /// Told when it is to be looked whether a class may be let go.
    released: Notify,
    /// Shared while a class is held and a claim then says what is begun; whoever has had it alone knows that all have said it.
    beginning: RwLock<()>,
}

/// Provisions and deletes until it is dropped.
pub(super) async fn run(context: Arc<Context>) {
    let provisioner = Arc::new(Provisioner::new(context));
    provisioner.listen();
    let (claims, volumes) = (provisioner.claims.clone(), provisioner.volumes.clone());
    let it = &*provisioner;
    tokio::join!(
        claims
            .run_in_lanes(|name| it.lane_of_claim(name), |name| async move { it.look_at_claim(&name).await }),
        volumes.run_in_lanes(
            |name| it.lane_of_volume(name),
            |name| async move { it.look_at_volume(&name).await }
        ),
        it.follow_drivers(),
        it.sweep_snapshots(),
        it.release_classes(),
    );
}

impl Provisioner {
    fn new(context: Arc<Context>) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Self {
            claims: Queue::new(Pace::default()),
            volumes: Queue::new(Pace::default()),
            identity: format!("{started}-{}", context.setup.host),
            begun: Mutex::default(),
            turns: Mutex::default(),
            released: Notify::default(),
            beginning: RwLock::default(),
            context,
        }
    }

    fn begun(&self) -> MutexGuard<'_, BTreeMap<String, CreateVolumeRequest>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turns(&self) -> MutexGuard<'_, BTreeMap<String, Instant>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The driver that may be called for a claim.
    fn lane_of_claim(&self, name: &Name) -> String {
        let claim = self.context.claims.get(name);
        claim.map(|claim| back::maker(&claim).to_owned()).unwrap_or_default()
    }

    /// The driver that may be called for a volume.
    fn lane_of_volume(&self, name: &Name) -> String {
        let volume = self.context.volumes.get(name);
        volume.and_then(|volume| delete::driver_of(&volume).map(str::to_owned)).unwrap_or_default()
    }

    /// Has what changes looked at. What we write ourselves (finalizers, texts) changes nothing: a claim that fails would never rest.
    fn listen(self: &Arc<Self>) {
        let of = Arc::downgrade(self);
        self.context.claims.listen(move |change| {
            if let Some(it) = of.upgrade() {
                it.claim_changed(change);
            }
        });
        let volumes = self.volumes.clone();
        self.context.volumes.listen(move |change| {
            if change.old.as_deref().map(volume_says) != change.new.as_deref().map(volume_says) {
                volumes.add(Name::of(&**change.object()));
            }
        });
        let volumes = self.volumes.clone();
        self.context.attachments.listen(move |change| {
            let volume = change.object().spec.source.persistent_volume_name.as_ref();
            if let (None, Some(volume)) = (&change.new, volume) {
                volumes.add(Name::global(volume.clone()));
            }
        });
        let of = Arc::downgrade(self);
        self.context.classes.listen(move |change| {
            if let (Some(it), Some(class)) = (of.upgrade(), &change.new) {
                if class.metadata.deletion_timestamp.is_some() {
                    it.released.notify_one();
                }
                let class = class.name_any();
                it.add_waiting(|claim| names::class(claim) == class);
            }
        });
        let of = Arc::downgrade(self);
        self.context.attributes.listen(move |change| {
            if let (Some(it), Some(class)) = (of.upgrade(), &change.new) {
                let class = class.name_any();
                it.add_waiting(|claim| {
                    let named =
                        claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_ref());
                    named == Some(&class)
                });
            }
        });
        let of = Arc::downgrade(self);
        self.context.csi_nodes.listen(move |change| {
            let drivers = |node: &Arc<CSINode>| node.spec.drivers.clone();
            if let (Some(it), true) =
                (of.upgrade(), change.old.as_ref().map(drivers) != change.new.as_ref().map(drivers))
            {
                it.add_waiting(|claim| !names::provisioner(claim).is_empty());
            }
        });
    }

    /// Has claims without a volume looked at.
    fn add_waiting(&self, is: impl Fn(&PersistentVolumeClaim) -> bool) {
        let waiting = self.context.claims.find(|claim| names::volume(claim).is_none() && is(claim));
        self.claims.add_all(waiting.iter().map(|claim| Name::of(&**claim)));
    }

    fn claim_changed(&self, change: &Change<PersistentVolumeClaim>) {
        let is_made = |claim: &Option<Arc<_>>| {
            claim.as_deref().is_some_and(|claim| finalizers::has(claim, names::MAKING))
        };
        if is_made(&change.old) != is_made(&change.new) {
            self.released.notify_one();
        }
        if change.old.as_deref().map(claim_says) == change.new.as_deref().map(claim_says) {
            return;
        }
        let claim = change.object();
        let name = Name::of(&**claim);
        if change.new.is_none() {
            let uid = claim.uid().unwrap_or_default();
            self.turns().remove(&uid);
            self.begun().remove(&uid);
        }
        // Who is cloned from is told when that is over, and who clones when there is what to clone.
        if let Ok(Some(source::Source::Claim(source))) = source::of(claim) {
            self.claims.add(source);
        }
        if names::phase(claim) == "Bound" {
            let source = Ok(Some(source::Source::Claim(name.clone())));
            self.add_waiting(|other| source::of(other) == source);
        }
        self.claims.add(name);
    }

    /// Has everything looked at again that a driver has come for.
    async fn follow_drivers(&self) {
        let mut changes = self.context.drivers.changes();
        while changes.changed().await.is_ok() {
            self.claims.add_all(self.context.claims.all().iter().map(|claim| Name::of(&**claim)));
            self.volumes.add_all(self.context.volumes.all().iter().map(|volume| Name::of(&**volume)));
        }
    }

    /// The driver of this name, if it is here and makes volumes.
    fn driver(&self, name: &str) -> Option<Arc<Driver>> {
        self.context.drivers.get(name).filter(|driver| driver.controls(Call::CreateDeleteVolume))
    }

    /// The nodes as a driver sees them; on a node of our own, that one as the driver tells.
    async fn places(&self, driver: &Driver) -> Result<Vec<Place>, Failure> {
        let Some(node) = &self.context.setup.node else {
            return Ok(places(&self.context, &driver.name));
        };
        let info = driver.client.node_get_info(NodeGetInfoRequest {}).await;
        let info = info.map_err(|error| Failure::Later(error.to_string()))?;
        let labels = info.accessible_topology.unwrap_or_default().segments;
        Ok(vec![Place { node: node.clone(), keys: labels.keys().cloned().collect(), labels }])
    }
}

/// All nodes, with the labels by which a driver tells them apart.
pub(super) fn places(context: &Context, driver: &str) -> Vec<Place> {
    let all = context.nodes.all();
    all.iter()
        .map(|node| {
            let of = context.csi_nodes.get(&Name::of(&**node));
            let here = of.as_ref().and_then(|of| of.spec.drivers.iter().find(|one| one.name == driver));
            let keys = here.and_then(|here| here.topology_keys.clone()).unwrap_or_default();
            Place { node: node.name_any(), keys, labels: node.labels().clone() }
        })
        .collect()
}

/// Whether a driver says from where its volumes are reachable.
pub(super) fn has_topology(driver: &Driver) -> bool {
    driver.has(Service::VolumeAccessibilityConstraints)
}

/// What of a claim matters here.
fn claim_says(claim: &PersistentVolumeClaim) -> impl PartialEq {
    let spec = claim.spec.clone();
    let asked = names::provisioner(claim).to_owned();
    let node = names::selected_node(claim).map(str::to_owned);
    let is_going = claim.metadata.deletion_timestamp.is_some();
    (claim.uid(), spec, asked, node, is_going, names::phase(claim).to_owned())
}

/// What of a volume matters here.
fn volume_says(volume: &PersistentVolume) -> impl PartialEq {
    let phase = volume.status.as_ref().and_then(|status| status.phase.clone());
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.clone());
    let is_going = volume.metadata.deletion_timestamp.is_some();
    (volume.uid(), phase, policy, is_going, volume.annotations().get(names::PROVISIONED_BY).cloned())
}
