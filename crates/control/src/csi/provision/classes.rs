//! Storage classes are held while volumes of them are being made: what a driver was asked for is known from its class alone, where who has
//! asked is gone before the answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Once};
use std::time::Duration;

use client::cache::Name;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::ListParams;
use kube::{Api, Error, Resource as _, ResourceExt as _};
use tokio::time::Instant;

use super::{Failure, Provisioner, topology};
use crate::csi::{finalizers, names};

/// How long a class stays held that nothing is made of, and up to twice as long: claims come together, and each would have it written
/// twice. Controllers on each node do not all let it go at the same moment.
const REST: Duration = Duration::from_secs(60);
/// How often it is looked whether a class can be let go, if nothing says so.
const LOOK: Duration = Duration::from_secs(10);
/// How often a class is tried to be held that others change at the same time.
const TRIES: usize = 8;

/// Claims whose volumes are being made, by their classes.
type Made = BTreeMap<String, Vec<Arc<PersistentVolumeClaim>>>;

impl Provisioner {
    fn classes(&self) -> Api<StorageClass> {
        Api::all(self.context.client.clone())
    }

    /// Holds a class, before a claim of it says that its driver may be making the volume.
    pub(super) async fn hold_class(
        &self,
        claim: &PersistentVolumeClaim,
        class: &StorageClass,
    ) -> Result<(), Failure> {
        // It may have been read long ago.
        let now = self.context.classes.get(&Name::of(class)).filter(|now| now.uid() == class.uid());
        let mut class = (*now.ok_or_else(|| gone(class))?).clone();
        for left in (0..TRIES).rev() {
            is_offered(&class, claim)?;
            // One that is going can be held no more; whoever began before it went holds it.
            if finalizers::has(&class, names::USED) || is_going(&class) {
                return Ok(());
            }
            let failed = |error: Error| {
                Failure::Later(format!("cannot hold storage class {:?}: {error}", class.name_any()))
            };
            match finalizers::add(&self.classes(), &class, names::USED).await {
                Ok(_) => return Ok(()),
                // Who may make volumes may not hold classes: then nobody is to delete one meanwhile.
                Err(Error::Api(status)) if matches!(status.code, 400 | 403 | 422) => {
                    tell_unheld(&class, &status.message);
                    return Ok(());
                }
                Err(Error::Api(status)) if status.code == 409 && left > 0 => {}
                Err(error) => return Err(failed(error)),
            }
            let fresh = finalizers::again(&self.classes(), &class).await.map_err(failed)?;
            class = fresh.ok_or_else(|| gone(&class))?;
        }
        Ok(())
    }

    /// Lets classes go that nothing is made of any more: at once where they are being deleted.
    pub(super) async fn release_classes(&self) {
        let rest = REST + REST * (topology::fnv(self.identity.as_bytes()) % 1000) / 1000;
        let (mut idle, mut told) = (Idle::default(), BTreeSet::new());
        loop {
            // It is looked either way.
            let _ = tokio::time::timeout(LOOK, self.released.notified()).await;
            let held = self.context.classes.find(|class| finalizers::has(class, names::USED));
            told.retain(|uid| held.iter().any(|class| class.uid().as_ref() == Some(uid)));
            if held.is_empty() {
                continue;
            }
            let made = self.made();
            for class in held.iter().filter(|class| is_going(class)) {
                if let Some(claims) = made.get(&class.name_any())
                    && told.insert(class.uid().unwrap_or_default())
                {
                    self.tell_what_holds(class, claims).await;
                }
            }
            for class in idle.over(&held, &made, rest, Instant::now()) {
                // What is not done now is done next time.
                let _ = self.release_class(class).await;
            }
        }
    }

    fn made(&self) -> Made {
        let mut made = Made::new();
        for claim in self.context.claims.find(|claim| finalizers::has(claim, names::MAKING)) {
            made.entry(names::class(&claim).to_owned()).or_default().push(claim);
        }
        made
    }

    async fn release_class(&self, class: &StorageClass) -> Result<(), Error> {
        // Who saw the class before it was deleted has said so in a claim by then, and what the claims say, the cache may not know yet.
        drop(self.beginning.write().await);
        let claims: Api<PersistentVolumeClaim> = Api::all(self.context.client.clone());
        let name = class.name_any();
        let is_made = |claim: PersistentVolumeClaim| {
            finalizers::has(&claim, names::MAKING) && names::class(&claim) == name
        };
        if claims.list(&ListParams::default()).await?.into_iter().any(is_made) {
            return Ok(());
        }
        finalizers::remove(&self.classes(), class, names::USED, &[]).await
    }

    /// Tells who deletes a class what it waits for; of controllers on each node, those that are at it do.
    async fn tell_what_holds(&self, class: &StorageClass, claims: &[Arc<PersistentVolumeClaim>]) {
        let node = self.context.setup.node.as_deref();
        let is_ours = |claim: &&Arc<_>| node.is_none() || names::selected_node(claim) == node;
        let claims: Vec<_> =
            claims.iter().filter(is_ours).map(|claim| Name::of(&**claim).to_string()).collect();
        if !claims.is_empty() {
            let text = format!(
                "the class goes when these claims' volumes are made, or taken back: {}",
                claims.join(", ")
            );
            self.context.events.normal(class, "VolumesBeingMade", text).await;
        }
    }
}

/// Whether new volumes may be made of a class, or what was begun for the claim gone on with.
pub(super) fn is_offered(class: &StorageClass, claim: &PersistentVolumeClaim) -> Result<(), Failure> {
    match is_going(class) && !finalizers::has(claim, names::MAKING) {
        true => Err(Failure::Later(format!("storage class {:?} is being deleted", class.name_any()))),
        false => Ok(()),
    }
}

fn is_going(class: &StorageClass) -> bool {
    class.meta().deletion_timestamp.is_some()
}

fn gone(class: &StorageClass) -> Failure {
    Failure::Later(format!("storage class {:?} is not there any more", class.name_any()))
}

/// Tells once what else somebody would find out too late.
fn tell_unheld(class: &StorageClass, why: &str) {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        let name = class.name_any();
        eprintln!(
            "sextant control: warning: cannot hold storage class {name:?} (and others) while volumes are made of it: {why}; delete none meanwhile"
        );
    });
}

/// Classes that are held and that nothing is made of, and since when.
#[derive(Default)]
struct Idle(BTreeMap<String, Instant>);

impl Idle {
    /// Those of the held classes that are to be let go.
    fn over<'a>(
        &mut self,
        held: &'a [Arc<StorageClass>],
        made: &Made,
        rest: Duration,
        now: Instant,
    ) -> Vec<&'a StorageClass> {
        let mut known = std::mem::take(&mut self.0);
        let mut over = Vec::new();
        for class in held {
            let name = class.name_any();
            if made.contains_key(&name) {
                continue;
            }
            let since = known.remove(&name).unwrap_or(now);
            self.0.insert(name, since);
            if is_going(class) || now - since >= rest {
                over.push(&**class);
            }
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn class(name: &str, is_going: bool) -> Arc<StorageClass> {
        let at = is_going.then_some("2026-01-01T00:00:00Z");
        let class = json!({"metadata": {"name": name, "deletionTimestamp": at}, "provisioner": "x"});
        Arc::new(serde_json::from_value(class).unwrap())
    }

    #[test]
    fn a_class_rests_before_it_is_let_go_however_often_it_is_looked_and_goes_at_once_when_it_is_deleted() {
        let (mut idle, start) = (Idle::default(), Instant::now());
        let held = [class("busy", false), class("quiet", false)];
        let busy = Made::from([("busy".to_owned(), vec![])]);
        let mut over = |held: &[Arc<StorageClass>], made: &Made, after: u64| {
            let now = start + Duration::from_secs(after);
            let over = idle.over(held, made, REST, now).into_iter();
            over.map(|class| class.name_any()).collect::<Vec<_>>()
        };
        for after in 0..60 {
            assert!(over(&held, &busy, after).is_empty(), "{after}");
        }
        assert_eq!(over(&held, &busy, 60), ["quiet"]);
        // It has been used since: it rests anew.
        let both = Made::from(["busy", "quiet"].map(|name| (name.to_owned(), vec![])));
        assert!(over(&held, &both, 61).is_empty());
        assert!(over(&held, &Made::new(), 62).is_empty());
        assert!(over(&held, &Made::new(), 121).is_empty());
        assert_eq!(over(&held, &Made::new(), 122), ["busy", "quiet"]);
        let going = [class("going", true)];
        assert!(over(&going, &Made::from([("going".to_owned(), vec![])]), 123).is_empty());
        assert_eq!(over(&going, &Made::new(), 124), ["going"]);
    }
}
