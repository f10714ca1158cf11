//! What there is to do for one claim.

use client::quantity;
use client::queue::Next;
use csi::contract::v1::controller_service_capability::rpc::Type as Call;
use csi::contract::v1::node_service_capability::rpc::Type as NodeCall;
use csi::contract::v1::{CapacityRange, ControllerExpandVolumeRequest};
use grpc::Code;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::ListParams;

use super::super::claims::{Bound, Memory, secrets};
use super::super::failure::Failure;
use super::super::here::is_here;
use super::super::volume::{capability, source};
use super::plan::{State, size};
use super::told::has;
use super::{Resizer, asked, capacity, step, storage};

impl Resizer {
    pub(super) async fn look(&self, bound: Bound) -> Next {
        let (Some(asked), has) = (asked(&bound.claim), capacity(&bound.claim).unwrap_or_default()) else {
            return Next::Done;
        };
        let by_controller = bound.driver.controls(Call::ExpandVolume);
        if asked <= has || !(by_controller || bound.driver.serves_node(NodeCall::ExpandVolume)) {
            return Next::Done;
        }
        let last = self.claims.last(&bound);
        let Some(to) = size(state(&bound, asked, by_controller, last)) else { return Next::Done };
        let is_same = allocated(&bound) == Some(to);
        if let Some(rest) = last.rest().filter(|_| is_same) {
            return Next::After(rest);
        }
        let outcome = match is_here(&self.claims.context, &bound.volume).await {
            Ok(true) => self.expand(&bound, to, is_same, last).await,
            Ok(false) => return Next::Done,
            Err(failure) => Err(failure),
        };
        self.claims.next(&bound, outcome, "VolumeResizeFailed", is_infeasible).await
    }

    /// Expands a volume to a size, and writes down what comes of it.
    async fn expand(&self, bound: &Bound, to: i64, is_same: bool, last: Memory) -> Result<(), Failure> {
        self.tell_begin(bound, to, is_same).await?;
        if last.in_use && self.is_used(&bound.claim).await? {
            let text = format!(
                "driver {} expands no volume that is in use: it is expanded when no pod uses the claim",
                bound.driver.name
            );
            return Err(Failure::Other(text));
        }
        let text = format!("expanding volume {} to {}", bound.volume_name(), quantity::of(to).0);
        self.claims.context.events.normal(&*bound.claim, "Resizing", text).await;
        match self.call(bound, to).await {
            Ok((bytes, by_node)) => {
                self.claims.forget(bound);
                self.tell_end(bound, bytes, by_node).await
            }
            Err(failure) => {
                self.claims.remember(bound, &failure, is_infeasible(&failure));
                if failure.is_final() {
                    self.tell_failure(bound, &failure, is_infeasible(&failure)).await?;
                }
                Err(failure)
            }
        }
    }

    /// How large the volume is then, and whether the node has something left to do.
    async fn call(&self, bound: &Bound, to: i64) -> Result<(i64, bool), Failure> {
        if !bound.driver.controls(Call::ExpandVolume) {
            return Ok((to, true));
        }
        let spec = bound.spec()?;
        let source = source(spec)?;
        let request = ControllerExpandVolumeRequest {
            volume_id: source.volume_handle.clone(),
            capacity_range: Some(CapacityRange { required_bytes: to, limit_bytes: 0 }),
            secrets: secrets(&self.claims.context, source.controller_expand_secret_ref.as_ref()).await?,
            volume_capability: Some(capability(spec, &bound.driver)?),
        };
        let answer = bound.driver.client.controller_expand_volume(request).await?;
        // A driver need not know how large it is (spec, ControllerExpandVolumeResponse): as large as was asked for.
        let bytes = if answer.capacity_bytes > 0 { answer.capacity_bytes } else { to };
        Ok((bytes, answer.node_expansion_required))
    }

    /// Whether a pod uses a claim.
    async fn is_used(&self, claim: &PersistentVolumeClaim) -> Result<bool, Failure> {
        let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.claims.context.client.clone(), namespace);
        let pods = api.list(&ListParams::default()).await;
        let pods = pods.map_err(|error| Failure::of(format_args!("list pods of {namespace}"), &error))?;
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        Ok(pods.iter().any(|pod| uses(pod, name)))
    }
}

fn allocated(bound: &Bound) -> Option<i64> {
    storage(bound.status().allocated_resources.as_ref())
}

fn state(bound: &Bound, asked: i64, by_controller: bool, last: Memory) -> State<'_> {
    let capacity = bound.volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref());
    State {
        asked,
        volume: storage(capacity).unwrap_or_default(),
        allocated: allocated(bound),
        step: step(&bound.claim),
        is_over: last.is_over,
        by_controller,
        is_pending: has(&bound.claim, "FileSystemResizePending"),
    }
}

/// Whether asking for the same again would be in vain.
fn is_infeasible(failure: &Failure) -> bool {
    matches!(failure.code(), Some(Code::InvalidArgument | Code::OutOfRange | Code::NotFound))
}

fn uses(pod: &Pod, claim: &str) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    !matches!(phase, Some("Succeeded" | "Failed"))
        && volumes
            .filter_map(|volume| volume.persistent_volume_claim.as_ref())
            .any(|source| source.claim_name == claim)
}
