//! The binder: claims and volumes find each other, and are held while they are used.
//!
//! In a cluster kube-controller-manager does this (its controllers of volumes and of their protection); [`Setup::bind`] has it
//! done here, for an API server without one. The volumes themselves are made and deleted by the provisioner, which this only asks.
//!
//! [`Setup::bind`]: super::Setup::bind

mod claim;
pub(crate) mod fit;
mod volume;

use std::sync::Arc;

use client::cache::{Cache, Name};
use client::queue::{Next, Pace, Queue};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::{Error, ResourceExt as _};

use super::{Context, names};

/// On claims and volumes: we chose the other one, not a person.
const BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a claim: it has had its volume.
const COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Holds a claim while pods use it.
const CLAIM: &str = "kubernetes.io/pvc-protection";
/// Holds a volume while a claim has it.
const VOLUME: &str = "kubernetes.io/pv-protection";

struct Binder {
    context: Arc<Context>,
    claims: Arc<Queue<Name>>,
    volumes: Arc<Queue<Name>>,
    pods: Arc<Cache<Pod>>,
}

/// Binds until it is dropped.
pub(super) async fn run(context: Arc<Context>) {
    let binder = Binder {
        claims: Queue::new(Pace::default()),
        volumes: Queue::new(Pace::default()),
        pods: Cache::start(&context.client),
        context,
    };
    binder.pods.filled().await;
    binder.listen();
    let it = &binder;
    tokio::join!(
        binder.claims.clone().run(|name| async move { it.look_at_claim(&name).await }),
        binder.volumes.clone().run(|name| async move { it.look_at_volume(&name).await }),
    );
}

impl Binder {
    fn listen(&self) {
        let (claims, volumes) = (self.claims.clone(), self.volumes.clone());
        let weak = Arc::downgrade(&self.context);
        self.context.claims.listen(move |change| {
            let name = Name::of(&**change.object());
            if let (None, Some(context)) = (&change.new, weak.upgrade()) {
                let its = context.volumes.find(|volume| claim_of(volume).as_ref() == Some(&name));
                its.iter().for_each(|volume| volumes.add(Name::of(&**volume)));
            } else if let Some(volume) = names::volume(change.object()) {
                volumes.add(Name::global(volume));
            }
            claims.add(name);
        });
        let (claims, volumes) = (self.claims.clone(), self.volumes.clone());
        let weak = Arc::downgrade(&self.context);
        self.context.volumes.listen(move |change| {
            let volume = change.object();
            volumes.add(Name::of(&**volume));
            match claim_of(volume) {
                Some(claim) => claims.add(claim),
                None => {
                    if let Some(context) = weak.upgrade() {
                        let its = volume.name_any();
                        let waits = |claim: &PersistentVolumeClaim| {
                            names::volume(claim).is_none_or(|named| named == its)
                        };
                        context.claims.find(waits).iter().for_each(|claim| claims.add(Name::of(&**claim)));
                    }
                }
            }
        });
        let claims = self.claims.clone();
        let weak = Arc::downgrade(&self.context);
        self.context.classes.listen(move |change| {
            let (Some(context), Some(class)) = (weak.upgrade(), &change.new) else { return };
            let class = class.name_any();
            let waits = |claim: &PersistentVolumeClaim| {
                names::volume(claim).is_none() && names::class(claim) == class
            };
            context.claims.find(waits).iter().for_each(|claim| claims.add(Name::of(&**claim)));
        });
        let claims = self.claims.clone();
        self.pods.listen(move |change| {
            if change.new.as_deref().is_none_or(|pod| !is_user(pod)) {
                used(change.object()).for_each(|claim| claims.add(claim));
            }
        });
    }
}

/// The claim that a volume is, or is to be, bound to.
pub(crate) fn claim_of(volume: &PersistentVolume) -> Option<Name> {
    let claim = volume.spec.as_ref()?.claim_ref.as_ref()?;
    Some(Name::new(claim.namespace.clone()?, claim.name.clone()?))
}

/// Whether a pod uses its claims: it is on a node, and not over. One that comes to a node later is not started with a claim that is
/// being deleted.
fn is_user(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
    !node.is_empty() && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// The claims that a pod uses, those that were made for it included.
pub(crate) fn used(pod: &Pod) -> impl Iterator<Item = Name> + '_ {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| {
        let claim = match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(claim), _) => claim.claim_name.clone(),
            (None, Some(_)) => format!("{}-{}", pod.name_any(), volume.name),
            (None, None) => return None,
        };
        Some(Name::new(pod.namespace().unwrap_or_default(), claim))
    })
}

/// What comes of a look. Conflicts are of the day: what has changed comes, and is looked at.
fn told(kind: &str, name: &Name, done: Result<(), Error>) -> Next {
    match done {
        Ok(()) => return Next::Done,
        Err(Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Err(error) => {
            eprintln!("sextant control: warning: cannot bind {kind} {name}: {}", client::causes(&error))
        }
    }
    Next::Again
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(node: Option<&str>, phase: &str) -> Pod {
        let spec: Value = json!({"nodeName": node, "containers": [], "volumes": [
            {"name": "a", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "b", "ephemeral": {}},
            {"name": "c", "emptyDir": {}},
        ]});
        let metadata = json!({"name": "web", "namespace": "shop"});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": {"phase": phase}}))
            .unwrap()
    }

    #[test]
    fn pods_on_nodes_use_claims_until_they_are_over() {
        assert!(is_user(&pod(Some("n1"), "Running")) && is_user(&pod(Some("n1"), "Pending")));
        assert!(!is_user(&pod(None, "Pending")), "no node will start it with a claim that is going");
        assert!(!is_user(&pod(Some("n1"), "Succeeded")) && !is_user(&pod(Some("n1"), "Failed")));
        let names = [Name::new("shop", "data"), Name::new("shop", "web-b")];
        assert_eq!(used(&pod(None, "Pending")).collect::<Vec<_>>(), names);
    }
}
