//! Claims with their volumes, as what expands and modifies volumes looks at them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::cache::Name;
use client::queue::{Next, Pace, Queue};
use csi::caller::Driver;
use grpc::Code;
use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus, PersistentVolumeSpec,
    SecretReference,
};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Context;
use super::failure::Failure;

/// How long it is until what the driver cannot do is asked for again.
const SLOW: Duration = Duration::from_secs(300);

/// A claim that has a volume of a driver that is there.
pub(super) struct Bound {
    pub(super) claim: Arc<PersistentVolumeClaim>,
    pub(super) volume: Arc<PersistentVolume>,
    pub(super) driver: Arc<Driver>,
}

impl Bound {
    /// The claim of this name with its volume, if both are bound to each other and the driver is there. What is missing comes with a
    /// change that has the claim looked at again ([`Claims`]).
    pub(super) fn find(context: &Context, name: &Name) -> Option<Self> {
        let claim = context.claims.get(name)?;
        let volume = claim.spec.as_ref()?.volume_name.as_ref()?;
        let volume = context.volumes.get(&Name::global(volume))?;
        let owner = volume.spec.as_ref()?.claim_ref.as_ref()?;
        if claim.status.as_ref()?.phase.as_deref() != Some("Bound") || owner.uid != claim.metadata.uid {
            return None;
        }
        let driver = context.drivers.get(driver(&volume)?)?;
        Some(Self { claim, volume, driver })
    }

    /// The volume's spec.
    pub(super) fn spec(&self) -> Result<&PersistentVolumeSpec, Failure> {
        self.volume.spec.as_ref().ok_or_else(|| Failure::Other("the volume has no spec".into()))
    }

    pub(super) fn status(&self) -> PersistentVolumeClaimStatus {
        self.claim.status.clone().unwrap_or_default()
    }

    pub(super) fn uid(&self) -> &str {
        self.claim.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(super) fn volume_name(&self) -> &str {
        self.volume.metadata.name.as_deref().unwrap_or_default()
    }

    /// Changes the claim's status by a strategic patch, in which conditions are merged by their type. Annotations go the same way.
    /// With `unchanged` only if the claim is still what was read.
    pub(super) async fn patch_claim(
        &self,
        context: &Context,
        unchanged: bool,
        annotations: Value,
        status: Value,
    ) -> Result<(), Failure> {
        let metadata = &self.claim.metadata;
        let mut patch =
            json!({ "metadata": { "uid": metadata.uid, "annotations": annotations }, "status": status });
        if unchanged {
            patch["metadata"]["resourceVersion"] = json!(metadata.resource_version);
        }
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let name = metadata.name.as_deref().unwrap_or_default();
        let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), namespace);
        let answer = api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await;
        answer.map(drop).map_err(|error| Failure::of(format_args!("change claim {namespace}/{name}"), &error))
    }

    /// Changes the volume's object by a merge patch.
    pub(super) async fn patch_volume(&self, context: &Context, spec: Value) -> Result<(), Failure> {
        let patch = json!({ "metadata": { "uid": self.volume.metadata.uid }, "spec": spec });
        let name = self.volume_name();
        let api: Api<PersistentVolume> = Api::all(context.client.clone());
        let answer = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        answer.map(drop).map_err(|error| Failure::of(format_args!("change volume {name}"), &error))
    }
}

/// What is known of the last call for a claim. It spares calls, and is found out again by one where it is lost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memory {
    /// The driver has said no, and is not at it any more.
    pub(super) is_over: bool,
    /// It said that it cannot while the volume is in use.
    pub(super) in_use: bool,
    /// It said that it never can: not before this.
    slow_until: Option<Instant>,
}

impl Memory {
    /// How long it is until what the driver cannot do is asked for again.
    pub(super) fn rest(&self) -> Option<Duration> {
        self.slow_until?.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero())
    }
}

/// All claims, as one controller looks at those that are bound.
pub(super) struct Claims {
    pub(super) context: Arc<Context>,
    pub(super) queue: Arc<Queue<Name>>,
    /// By the claim's name, with its uid.
    memory: Mutex<BTreeMap<Name, (String, Memory)>>,
}

impl Claims {
    /// From now on claims are looked at of which others say something new. What the controller writes itself must be none (`is_news`):
    /// that would be no waiting after failures.
    pub(super) fn new(
        context: Arc<Context>,
        is_news: fn(&PersistentVolumeClaim, &PersistentVolumeClaim) -> bool,
    ) -> Self {
        let queue = Queue::new(Pace::default());
        let changed = queue.clone();
        context.claims.listen(move |change| match (&change.old, &change.new) {
            (Some(old), Some(new)) if !is_news(old, new) => {}
            _ => changed.add(Name::of(&**change.object())),
        });
        let owners = queue.clone();
        context.volumes.listen(move |change| {
            let (old, new) = (change.old.as_deref().and_then(owner), change.new.as_deref().and_then(owner));
            if old != new {
                owners.add_all(new.map(|(name, _)| name));
            }
        });
        Self { context, queue, memory: Mutex::default() }
    }

    /// Looks at claims with `look` until it is dropped: at those that were told of, and at all of a driver when it has come.
    pub(super) async fn run<F: Future<Output = Next>>(&self, look: impl Fn(Bound) -> F) {
        let volume_of = |claim: &Name| {
            let claim = self.context.claims.get(claim)?;
            self.context.volumes.get(&Name::global(claim.spec.as_ref()?.volume_name.as_ref()?))
        };
        let looking = self.queue.clone().run_in_lanes(
            |name| volume_of(name).as_deref().and_then(driver).map(str::to_owned),
            |name| {
                let bound = Bound::find(&self.context, &name);
                if bound.is_none() {
                    self.memory().remove(&name);
                }
                let look = bound.map(&look);
                async move {
                    match look {
                        Some(look) => look.await,
                        None => Next::Done,
                    }
                }
            },
        );
        let following = self.context.drivers.each(|come| {
            let its = self.context.volumes.find(|volume| driver(volume) == Some(&come.name));
            self.queue.add_all(its.iter().filter_map(|volume| owner(volume)).map(|(name, _)| name));
            std::future::ready(())
        });
        tokio::join!(looking, following);
    }

    fn memory(&self) -> MutexGuard<'_, BTreeMap<Name, (String, Memory)>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the last call for a claim.
    pub(super) fn last(&self, bound: &Bound) -> Memory {
        let memory = self.memory();
        let last = memory.get(&Name::of(&*bound.claim)).filter(|(uid, _)| uid == bound.uid());
        last.map(|(_, last)| *last).unwrap_or_default()
    }

    /// The last call failed. `is_infeasible`: asking for the same again would be in vain.
    pub(super) fn remember(&self, bound: &Bound, failure: &Failure, is_infeasible: bool) {
        let last = Memory {
            is_over: failure.is_final(),
            in_use: failure.code() == Some(Code::FailedPrecondition),
            slow_until: is_infeasible.then(|| Instant::now() + SLOW),
        };
        self.memory().insert(Name::of(&*bound.claim), (bound.uid().to_owned(), last));
    }

    /// The last call succeeded.
    pub(super) fn forget(&self, bound: &Bound) {
        self.memory().remove(&Name::of(&*bound.claim));
    }

    /// When a claim is looked at again. A failure is told to people, with this reason.
    pub(super) async fn next(
        &self,
        bound: &Bound,
        outcome: Result<(), Failure>,
        reason: &str,
        is_infeasible: fn(&Failure) -> bool,
    ) -> Next {
        match outcome {
            Ok(()) => Next::Done,
            Err(Failure::Stale) => Next::Again,
            Err(failure) => {
                self.context.events.warning(&*bound.claim, reason, failure.to_string()).await;
                if is_infeasible(&failure) { Next::After(SLOW) } else { Next::Again }
            }
        }
    }
}

/// The claim that a volume is bound to, and its uid.
pub(super) fn owner(volume: &PersistentVolume) -> Option<(Name, Option<String>)> {
    let owner = volume.spec.as_ref()?.claim_ref.as_ref()?;
    Some((Name::new(owner.namespace.clone()?, owner.name.clone()?), owner.uid.clone()))
}

/// The driver that a volume is of.
pub(super) fn driver(volume: &PersistentVolume) -> Option<&str> {
    Some(&volume.spec.as_ref()?.csi.as_ref()?.driver)
}

/// What a secret holds that a volume's object names, or nothing.
pub(super) async fn secrets(
    context: &Context,
    reference: Option<&SecretReference>,
) -> Result<BTreeMap<String, String>, String> {
    let Some(secret) = reference else { return Ok(BTreeMap::new()) };
    let (namespace, name) = (secret.namespace.as_deref(), secret.name.as_deref());
    context.secret(namespace.unwrap_or_default(), name.unwrap_or_default()).await
}
