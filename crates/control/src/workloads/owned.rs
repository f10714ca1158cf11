//! Who an object belongs to: by its reference to a controller, or, while it has none, by its labels.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use client::cache::{Cache, Kind, Name};
use client::queue::Queue;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Error, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::csi::reach;

/// What has a selector of what is its own.
pub(super) trait Selecting: Kind {
    /// The selector; without one it selects nothing.
    fn selector(&self) -> Option<&LabelSelector>;

    /// Whether it selects what has these labels.
    fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        let says = |selector: &&LabelSelector| {
            selector.match_labels.as_ref().is_some_and(|labels| !labels.is_empty())
                || selector.match_expressions.as_ref().is_some_and(|rules| !rules.is_empty())
        };
        self.selector().filter(says).is_some_and(|selector| reach::selects(selector, labels))
    }
}

/// The controller that an object belongs to.
pub(super) fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Whether an object belongs to the one of this uid.
pub(super) fn is_of(meta: &ObjectMeta, uid: &str) -> bool {
    controller(meta).is_some_and(|owner| owner.uid == uid)
}

/// The reference to a controller.
pub(super) fn reference<K: Resource<DynamicType = ()>>(owner: &K) -> Value {
    json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()), "name": owner.name_any(), "uid": owner.uid(),
        "controller": true, "blockOwnerDeletion": true,
    })
}

/// What of the objects of a namespace is an owner's.
#[derive(Debug)]
pub(super) struct Claimed<K> {
    /// What is its own, or becomes it.
    pub(super) mine: Vec<Arc<K>>,
    /// Of these what has to be told so.
    pub(super) adopt: Vec<Arc<K>>,
    /// What was its own, and has other labels by now.
    pub(super) release: Vec<Arc<K>>,
}

/// Sorts out what is an owner's. One that is being deleted takes nothing on, and lets nothing go.
pub(super) fn claim<O: Selecting, K: Kind>(owner: &O, objects: &Cache<K>) -> Claimed<K> {
    let (uid, namespace) = (owner.uid().unwrap_or_default(), owner.namespace());
    let is_going = owner.meta().deletion_timestamp.is_some();
    let mut claimed = Claimed { mine: Vec::new(), adopt: Vec::new(), release: Vec::new() };
    let is_near = |object: &K| object.meta().namespace == namespace;
    for object in objects.find(|object| is_near(object)) {
        let selected = owner.selects(object.labels());
        match controller(object.meta()) {
            Some(held) if held.uid != uid => {}
            Some(_) if selected || is_going => claimed.mine.push(object),
            Some(_) => claimed.release.push(object),
            None if selected && !is_going && object.meta().deletion_timestamp.is_none() => {
                claimed.adopt.push(object.clone());
                claimed.mine.push(object);
            }
            None => {}
        }
    }
    claimed
}

impl<K> Claimed<K>
where
    K: Kind + Resource<Scope = NamespaceResourceScope>,
{
    /// Tells the objects whose they are. What is gone, or another by now, is left.
    pub(super) async fn tell<O: Selecting + Resource<Scope = NamespaceResourceScope>>(
        &self,
        client: &Client,
        owner: &O,
    ) -> Result<(), Error> {
        if self.adopt.is_empty() && self.release.is_empty() {
            return Ok(());
        }
        let namespace = owner.namespace().unwrap_or_default();
        let owners: Api<O> = Api::namespaced(client.clone(), &namespace);
        // Who is gone, or going, must not adopt: the cache may be behind.
        let live = owners.get_opt(&owner.name_any()).await?;
        let is_there = live.is_some_and(|live| {
            live.meta().uid == owner.meta().uid && live.meta().deletion_timestamp.is_none()
        });
        let api: Api<K> = Api::namespaced(client.clone(), &namespace);
        for object in self.adopt.iter().filter(|_| is_there) {
            adopt(&api, &**object, owner).await?;
        }
        for object in &self.release {
            patch_owner(&api, &**object, json!({"$patch": "delete", "uid": owner.uid()})).await?;
        }
        Ok(())
    }
}

/// Tells an object that it is an owner's. What is gone, or another by now, is left.
pub(super) async fn adopt<O, K>(api: &Api<K>, object: &K, owner: &O) -> Result<(), Error>
where
    O: Resource<DynamicType = ()>,
    K: Resource + Clone + Debug + DeserializeOwned,
{
    patch_owner(api, object, reference(owner)).await
}

async fn patch_owner<K>(api: &Api<K>, object: &K, owner: Value) -> Result<(), Error>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let patch = json!({"metadata": {"uid": object.meta().uid, "ownerReferences": [owner]}});
    let name = object.meta().name.clone().unwrap_or_default();
    match api.patch(&name, &PatchParams::default(), &Patch::Strategic(patch)).await {
        Err(Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => Ok(()),
        done => done.map(drop),
    }
}

/// Has an owner looked at when something of it changes, and those that would adopt what has no owner.
pub(super) fn follow<O: Selecting, K: Kind>(
    objects: &Cache<K>,
    owners: &Arc<Cache<O>>,
    queue: &Arc<Queue<Name>>,
) {
    let (owners, queue) = (Arc::downgrade(owners), queue.clone());
    objects.listen(move |change| {
        for object in change.old.iter().chain(&change.new) {
            let namespace = object.namespace().unwrap_or_default();
            match controller(object.meta()) {
                Some(owner) if owner.kind == O::kind(&()) => queue.add(Name::new(namespace, &owner.name)),
                Some(_) => {}
                None => {
                    let Some(owners) = owners.upgrade() else { return };
                    let takers = owners.find(|owner| {
                        owner.meta().namespace.as_deref() == Some(&namespace)
                            && owner.selects(object.labels())
                    });
                    queue.add_all(takers.iter().map(|owner| Name::of(&**owner)));
                }
            }
        }
    });
}

/// Has each object of a cache looked at when it changes.
pub(super) fn follow_own<O: Kind>(owners: &Cache<O>, queue: &Arc<Queue<Name>>) {
    let queue = queue.clone();
    owners.listen(move |change| queue.add(Name::of(&**change.object())));
}
