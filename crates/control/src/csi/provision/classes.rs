//! Storage classes are held while volumes of them are being made: what a driver was asked for is known from its class alone, where who has
//! asked is gone before the answer.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Api, Error, ResourceExt as _};

use super::{Failure, Provisioner};
use crate::cache::Name;
use crate::csi::{finalizers, names};

/// How long a class stays held that nothing is made of: claims come together, and each would have it written twice.
const REST: Duration = Duration::from_secs(60);
/// How often a class is tried to be held that others change at the same time.
const TRIES: usize = 8;

impl Provisioner {
    fn classes(&self) -> Api<StorageClass> {
        Api::all(self.context.client.clone())
    }

    /// Holds a class, before a claim says that its driver may be making the volume.
    pub(super) async fn hold_class(&self, class: &StorageClass) -> Result<(), Failure> {
        let mut class = class.clone();
        for left in (0..TRIES).rev() {
            // One that is going can be held no more; whoever began before it went holds it.
            if finalizers::has(&class, names::USED) || class.metadata.deletion_timestamp.is_some() {
                return Ok(());
            }
            let failed = |error: Error| {
                Failure::Later(format!("cannot hold storage class {:?}: {error}", class.name_any()))
            };
            match finalizers::add(&self.classes(), &class, names::USED).await {
                Ok(_) => return Ok(()),
                // Who may make volumes may not hold classes: then nobody is to delete one meanwhile.
                Err(Error::Api(status)) if status.code == 403 => return Ok(()),
                Err(Error::Api(status)) if status.code == 409 && left > 0 => {}
                Err(error) => return Err(failed(error)),
            }
            let fresh = finalizers::again(&self.classes(), &class).await.map_err(failed)?;
            class = fresh.ok_or_else(|| failed_gone(&class))?;
        }
        Ok(())
    }

    /// Lets classes go that nothing is made of any more: at once where they are being deleted.
    pub(super) async fn release_classes(&self) {
        let mut idle = BTreeSet::new();
        loop {
            let is_time = tokio::time::timeout(REST, self.released.notified()).await.is_err();
            let held = self.context.classes.find(|class| finalizers::has(class, names::USED));
            let mut still = BTreeSet::new();
            for class in held {
                let name = Name::of(&*class);
                let is_made =
                    |claim: &_| finalizers::has(claim, names::MAKING) && names::class(claim) == name.name;
                if !self.context.claims.find(is_made).is_empty() {
                    continue;
                }
                if class.metadata.deletion_timestamp.is_some() || is_time && idle.contains(&name) {
                    // What is not done now is done next time.
                    let _ = finalizers::remove(&self.classes(), &*class, names::USED, &[]).await;
                } else {
                    still.insert(name);
                }
            }
            // Those that were in use since are not idle.
            idle = if is_time { still } else { idle.intersection(&still).cloned().collect() };
        }
    }
}

fn failed_gone(class: &StorageClass) -> Failure {
    Failure::Later(format!("storage class {:?} is not there any more", class.name_any()))
}
