//! Snapshots: what VolumeSnapshots and VolumeGroupSnapshots ask for is cut by drivers, and what there is of it is written down.
//!
//! As with the Go snapshotter there are two parts. The common one ([`volume_snapshot`], [`group`]) makes a content for each snapshot that a
//! user asks for, binds both, and says how far it has come; a cluster has one, whatever its drivers. The other ([`content`],
//! [`group_content`]) asks a driver for what contents say. They speak to each other through objects alone, so that either may be
//! another program.

mod calls;
mod content;
mod contents;
mod group;
mod group_content;
mod member;
mod names;
mod nodes;
mod removal;
mod source;
mod types;
mod volume_snapshot;
mod write;

use std::sync::Arc;
use std::time::Duration;

use client::cache::{Cache, Kind, Name};
use client::queue::{Next, Pace, Queue};
use csi::caller::Driver;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{Api, Resource};

use super::Context;
use source::Holding;
use types::{
    Reference, VolumeGroupSnapshot, VolumeGroupSnapshotClass, VolumeGroupSnapshotContent, VolumeSnapshot,
    VolumeSnapshotClass, VolumeSnapshotContent,
};
use write::Trouble;

/// How soon an object is looked at again that has changed under one's hands.
const SOON: Duration = Duration::from_millis(100);

/// The controllers of snapshots.
struct Snapshots {
    context: Arc<Context>,
    snapshots: Kept<VolumeSnapshot>,
    contents: Kept<VolumeSnapshotContent>,
    groups: Kept<VolumeGroupSnapshot>,
    group_contents: Kept<VolumeGroupSnapshotContent>,
    classes: Arc<Cache<VolumeSnapshotClass>>,
    group_classes: Arc<Cache<VolumeGroupSnapshotClass>>,
    /// Claims, of which those that are held are looked at.
    claims: Arc<Queue<Name>>,
    /// Claims that are being held or released.
    holding: Holding,
}

/// A kind's objects, and which of them have to be looked at.
struct Kept<K> {
    cache: Arc<Cache<K>>,
    queue: Arc<Queue<Name>>,
}

impl<K: Kind> Kept<K> {
    fn start(context: &Context) -> Self {
        Self { cache: Cache::start(&context.client), queue: Queue::new(Pace::default()) }
    }

    /// Has those looked at of which `is` holds.
    fn add(&self, is: impl Fn(&K) -> bool) {
        for object in self.cache.find(is) {
            self.queue.add(Name::of(&*object));
        }
    }
}

/// Runs the controllers until it is dropped. Kinds that the server does not have are waited for.
pub(super) async fn run(context: &Arc<Context>) {
    let snapshots = Arc::new(Snapshots {
        snapshots: Kept::start(context),
        contents: Kept::start(context),
        groups: Kept::start(context),
        group_contents: Kept::start(context),
        classes: Cache::start(&context.client),
        group_classes: Cache::start(&context.client),
        claims: Queue::new(Pace::default()),
        holding: Holding::default(),
        context: context.clone(),
    });
    tokio::join!(snapshots.single(), snapshots.grouped(), snapshots.follow_drivers());
}

impl Snapshots {
    /// Snapshots of one volume.
    async fn single(self: &Arc<Self>) {
        self.snapshots.cache.filled().await;
        self.contents.cache.filled().await;
        self.classes.filled().await;
        self.listen_to_contents();
        if self.context.setup.snapshot_controller {
            self.listen_to_snapshots();
        }
        tokio::join!(
            self.snapshots.queue.clone().run(|name| async move {
                let Some(snapshot) = self.snapshots.cache.get(&name) else { return Next::Done };
                self.outcome(&*snapshot, self.look_at_snapshot(&snapshot).await, &self.snapshots.queue)
            }),
            self.contents.queue.clone().run_in_lanes(
                |name| self.contents.cache.get(name).map(|content| content.spec.driver.clone()),
                |name| async move {
                    let Some(content) = self.contents.cache.get(&name) else { return Next::Done };
                    self.outcome(&*content, self.look_at_content(&content).await, &self.contents.queue)
                },
            ),
            self.claims.clone().run(|name| async move {
                let Some(claim) = self.context.claims.get(&name) else { return Next::Done };
                self.outcome(&*claim, self.look_at_claim(&claim).await, &self.claims)
            }),
        );
    }

    /// Snapshots of groups of volumes.
    async fn grouped(self: &Arc<Self>) {
        self.groups.cache.filled().await;
        self.group_contents.cache.filled().await;
        self.group_classes.filled().await;
        self.snapshots.cache.filled().await;
        self.contents.cache.filled().await;
        self.listen_to_group_contents();
        if self.context.setup.snapshot_controller {
            self.listen_to_groups();
        }
        tokio::join!(
            self.groups.queue.clone().run(|name| async move {
                let Some(group) = self.groups.cache.get(&name) else { return Next::Done };
                self.outcome(&*group, self.look_at_group(&group).await, &self.groups.queue)
            }),
            self.group_contents.queue.clone().run_in_lanes(
                |name| self.group_contents.cache.get(name).map(|content| content.spec.driver.clone()),
                |name| async move {
                    let Some(content) = self.group_contents.cache.get(&name) else { return Next::Done };
                    let result = self.look_at_group_content(&content).await;
                    self.outcome(&*content, result, &self.group_contents.queue)
                },
            ),
        );
    }

    /// Looks at a driver's contents when it comes, and not at those of others: what they failed at has its time.
    async fn follow_drivers(&self) {
        let look = async |driver: Arc<Driver>| {
            self.contents.add(|content| content.spec.driver == driver.name);
            self.group_contents.add(|content| content.spec.driver == driver.name);
        };
        self.context.drivers.each(look).await;
    }

    /// What comes of an object that was looked at.
    fn outcome<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        result: Result<Next, Trouble>,
        queue: &Queue<Name>,
    ) -> Next {
        match result {
            Ok(next) => next,
            Err(Trouble::Changed) => Next::After(SOON),
            Err(Trouble::Failed(error)) => {
                let name = Name::of(object);
                if queue.failures(&name) == 0 {
                    eprintln!("sextant control: warning: {} {name}: {error}", K::kind(&()));
                }
                Next::Again
            }
        }
    }

    fn listen_to_contents(self: &Arc<Self>) {
        let queue = self.contents.queue.clone();
        let snapshots = self.snapshots.queue.clone();
        let is_common = self.context.setup.snapshot_controller;
        self.contents.cache.listen(move |change| {
            let content = change.object();
            // What is said here of a call must not call again: else no failure would ever be waited for.
            if change.old.as_deref().map(content::matter) != change.new.as_deref().map(content::matter) {
                queue.add(Name::of(&**content));
            }
            if is_common {
                snapshots.add(of(&content.spec.volume_snapshot_ref));
            }
        });
        let weak = Arc::downgrade(self);
        self.classes.listen(move |change| {
            let (Some(all), name) = (weak.upgrade(), write::name(&**change.object())) else { return };
            all.contents.add(|content| content.spec.volume_snapshot_class_name.as_deref() == Some(name));
        });
    }

    /// Everything that makes a VolumeSnapshot worth another look.
    fn listen_to_snapshots(self: &Arc<Self>) {
        let (queue, claims) = (self.snapshots.queue.clone(), self.claims.clone());
        self.snapshots.cache.listen(move |change| {
            let snapshot = change.object();
            let says = volume_snapshot::matter;
            if change.old.as_deref().map(says) == change.new.as_deref().map(says) {
                return;
            }
            queue.add(Name::of(&**snapshot));
            // A claim is held for all its snapshots: the last one to go, or to be ready, releases it.
            if let Some(claim) = &snapshot.spec.source.persistent_volume_claim_name {
                claims.add(Name::new(write::namespace(&**snapshot), claim));
            }
        });
        let weak = Arc::downgrade(self);
        self.context.claims.listen(move |change| {
            let (Some(all), claim) = (weak.upgrade(), change.object()) else { return };
            all.claims.add(Name::of(&**claim));
            let (namespace, name) = (write::namespace(&**claim), write::name(&**claim));
            let restored = restored_from(claim);
            all.snapshots.add(|snapshot| {
                let is_source = snapshot.spec.source.persistent_volume_claim_name.as_deref() == Some(name)
                    && !is_ready(snapshot);
                let is_restored = write::is_deleted(snapshot) && restored == Some(write::name(snapshot));
                write::namespace(snapshot) == namespace && (is_source || is_restored)
            });
            all.groups.add(|group| {
                // It may select the claim.
                let waits = group::bound(group).is_none() && group.spec.source.selector.is_some();
                write::namespace(group) == namespace
                    && (waits || restored.is_some() && write::is_deleted(group))
            });
        });
        let weak = Arc::downgrade(self);
        self.classes.listen(move |_| {
            let Some(all) = weak.upgrade() else { return };
            all.snapshots.add(|snapshot| bound(snapshot).is_none());
        });
    }

    fn listen_to_group_contents(self: &Arc<Self>) {
        let queue = self.group_contents.queue.clone();
        let weak = Arc::downgrade(self);
        let is_common = self.context.setup.snapshot_controller;
        self.group_contents.cache.listen(move |change| {
            let content = change.object();
            let says = contents::matter::<VolumeGroupSnapshotContent>;
            if change.old.as_deref().map(says) != change.new.as_deref().map(says) {
                queue.add(Name::of(&**content));
            }
            if let (true, Some(all)) = (is_common, weak.upgrade()) {
                all.groups.queue.add(of(&content.spec.volume_group_snapshot_ref));
            }
        });
        let weak = Arc::downgrade(self);
        self.group_classes.listen(move |change| {
            let (Some(all), name) = (weak.upgrade(), write::name(&**change.object())) else { return };
            all.group_contents
                .add(|content| content.spec.volume_group_snapshot_class_name.as_deref() == Some(name));
        });
    }

    fn listen_to_groups(self: &Arc<Self>) {
        let queue = self.groups.queue.clone();
        let weak = Arc::downgrade(self);
        self.groups.cache.listen(move |change| {
            let group = change.object();
            if change.old.as_deref().map(group::matter) != change.new.as_deref().map(group::matter) {
                queue.add(Name::of(&**group));
            }
            let (Some(all), None) = (weak.upgrade(), &change.new) else { return };
            // Its members may go now.
            all.snapshots.add(|snapshot| member::is_of(snapshot, group));
        });
        let weak = Arc::downgrade(self);
        self.group_classes.listen(move |_| {
            let Some(all) = weak.upgrade() else { return };
            all.groups.add(|group| group::bound(group).is_none());
        });
    }

    /// All VolumeSnapshots of an object's namespace.
    fn snapshots_beside<K: Resource>(&self, object: &K) -> Api<VolumeSnapshot> {
        Api::namespaced(self.context.client.clone(), write::namespace(object))
    }

    fn contents_api(&self) -> Api<VolumeSnapshotContent> {
        Api::all(self.context.client.clone())
    }

    fn group_contents_api(&self) -> Api<VolumeGroupSnapshotContent> {
        Api::all(self.context.client.clone())
    }

    fn groups_beside<K: Resource>(&self, object: &K) -> Api<VolumeGroupSnapshot> {
        Api::namespaced(self.context.client.clone(), write::namespace(object))
    }

    /// A content as it is now, where the cache does not have it: it may be too new for that.
    async fn find_content(&self, name: &str) -> Result<Option<Arc<VolumeSnapshotContent>>, Trouble> {
        match self.contents.cache.get(&Name::global(name)) {
            Some(content) => Ok(Some(content)),
            None => Ok(self.contents_api().get_opt(name).await?.map(Arc::new)),
        }
    }
}

/// What a reference names.
fn of(reference: &Reference) -> Name {
    Name::new(&reference.namespace, &reference.name)
}

/// Whether a reference names this object, and no other of its name.
fn points_at<K: Resource>(reference: &Reference, object: &K) -> bool {
    reference.uid == write::uid(object) && is_for(reference, object)
}

/// Whether a reference has an object's name.
fn is_for<K: Resource>(reference: &Reference, object: &K) -> bool {
    of(reference) == Name::of(object)
}

/// The content that a VolumeSnapshot is bound to.
fn bound(snapshot: &VolumeSnapshot) -> Option<&str> {
    snapshot.status.as_ref()?.bound_volume_snapshot_content_name.as_deref()
}

/// Whether volumes can be made of a VolumeSnapshot.
fn is_ready(snapshot: &VolumeSnapshot) -> bool {
    snapshot.status.as_ref().is_some_and(|status| status.ready_to_use == Some(true))
}

/// The VolumeSnapshot that a claim's volume is being made of.
fn restored_from(claim: &PersistentVolumeClaim) -> Option<&str> {
    let spec = claim.spec.as_ref()?;
    let source = spec.data_source.as_ref().map(|source| (&source.api_group, &source.kind, &source.name));
    let reference = spec.data_source_ref.as_ref().filter(|source| source.namespace.is_none());
    let reference = reference.map(|source| (&source.api_group, &source.kind, &source.name));
    let (group, kind, name) = source.or(reference)?;
    let is_snapshot = group.as_deref() == Some("snapshot.storage.k8s.io") && kind == "VolumeSnapshot";
    is_snapshot.then_some(name.as_str())
}

#[cfg(test)]
mod tests;
