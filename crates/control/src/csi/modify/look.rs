//! What there is to do for one claim.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::cache::Name;
use client::queue::Next;
use csi::contract::v1::ControllerModifyVolumeRequest;
use csi::contract::v1::controller_service_capability::rpc::Type as Call;
use grpc::Code;
use k8s_openapi::api::storage::v1::VolumeAttributesClass;

use super::super::claims::{Bound, secrets};
use super::super::failure::Failure;
use super::super::here::is_here;
use super::super::volume::source;
use super::plan::{Plan, plan};
use super::{Modifier, current, wanted};

/// A volume's own secret for modification: its name and namespace.
const SECRET: [&str; 2] = [
    "volume.kubernetes.io/controller-modify-secret-name",
    "volume.kubernetes.io/controller-modify-secret-namespace",
];

impl Modifier {
    pub(super) async fn look(&self, bound: Bound) -> Next {
        if !bound.driver.controls(Call::ModifyVolume) {
            return Next::Done;
        }
        let last = self.claims.last(&bound);
        let status = bound.status().modify_volume_status;
        let status = status.as_ref().map(|status| {
            (
                status.status.as_str(),
                status.target_volume_attributes_class_name.as_deref().unwrap_or_default(),
            )
        });
        let wanted = wanted(&bound.claim);
        let is_same = status.is_some_and(|(_, target)| target == wanted);
        if let Some(rest) = last.rest().filter(|_| is_same) {
            return Next::After(rest);
        }
        let outcome = self.carry_out(&bound, plan(wanted, current(&bound.claim), status, last.is_over)).await;
        self.claims.next(&bound, outcome, "VolumeModifyFailed", is_infeasible).await
    }

    async fn carry_out(&self, bound: &Bound, plan: Plan<'_>) -> Result<(), Failure> {
        if plan == Plan::Nothing || !is_here(&self.claims.context, &bound.volume).await? {
            return Ok(());
        }
        match plan {
            Plan::Nothing => Ok(()),
            Plan::Forget => self.tell_forgotten(bound).await,
            Plan::Continue(class) => self.modify(bound, class, true).await,
            Plan::Begin(class) => self.modify(bound, class, false).await,
        }
    }

    /// Modifies a volume to a class, and writes down what comes of it.
    async fn modify(&self, bound: &Bound, class: &str, is_begun: bool) -> Result<(), Failure> {
        let found = match self.class(bound, class) {
            Ok(found) => found,
            Err(missing) if is_begun => return Err(Failure::Other(missing)),
            Err(missing) => {
                self.tell_pending(bound).await?;
                self.claims.context.events.warning(&*bound.claim, "VolumeModifyFailed", missing).await;
                // It is looked at again with the class.
                return Ok(());
            }
        };
        if !is_begun {
            self.tell_begin(bound, class).await?;
            let text = format!("modifying volume {} to class {class}", bound.volume_name());
            self.claims.context.events.normal(&*bound.claim, "VolumeModify", text).await;
        }
        match self.call(bound, &found).await {
            Ok(()) => {
                self.claims.forget(bound);
                self.tell_end(bound, class).await
            }
            Err(failure) => {
                self.claims.remember(bound, &failure, is_infeasible(&failure));
                self.tell_failure(bound, class, &failure, is_infeasible(&failure)).await?;
                Err(failure)
            }
        }
    }

    fn class(&self, bound: &Bound, class: &str) -> Result<Arc<VolumeAttributesClass>, String> {
        let Some(found) = self.claims.context.attributes.get(&Name::global(class)) else {
            return Err(format!("there is no VolumeAttributesClass {class}"));
        };
        if found.driver_name != bound.driver.name {
            let (its, ours) = (&found.driver_name, &bound.driver.name);
            return Err(format!(
                "VolumeAttributesClass {class} is of driver {its}, and volume {} of driver {ours}",
                bound.volume_name()
            ));
        }
        Ok(found)
    }

    async fn call(&self, bound: &Bound, class: &VolumeAttributesClass) -> Result<(), Failure> {
        let request = ControllerModifyVolumeRequest {
            volume_id: source(bound.spec()?)?.volume_handle.clone(),
            secrets: self.secrets(bound).await?,
            mutable_parameters: class.parameters.clone().unwrap_or_default(),
        };
        bound.driver.client.controller_modify_volume(request).await?;
        Ok(())
    }

    async fn secrets(&self, bound: &Bound) -> Result<BTreeMap<String, String>, Failure> {
        let annotations = bound.volume.metadata.annotations.as_ref();
        let [name, namespace] = SECRET
            .map(|key| annotations.and_then(|annotations| annotations.get(key)).filter(|s| !s.is_empty()));
        let secrets = match (name, namespace) {
            (Some(name), Some(namespace)) => self.claims.context.secret(namespace, name).await,
            _ => {
                secrets(&self.claims.context, source(bound.spec()?)?.controller_expand_secret_ref.as_ref())
                    .await
            }
        };
        Ok(secrets?)
    }
}

/// Whether asking for the same again would be in vain.
fn is_infeasible(failure: &Failure) -> bool {
    failure.code() == Some(Code::InvalidArgument)
}
