//! Which volumes are this process's, where there is one on each node.

use k8s_openapi::api::core::v1::{Node, PersistentVolume};
use kube::Api;

use super::Context;
use super::failure::Failure;
use super::reach::reaches;

/// Whether this process looks after a volume: it looks after all, or the volume is reachable from its node.
pub(super) async fn is_here(context: &Context, volume: &PersistentVolume) -> Result<bool, Failure> {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let (Some(name), Some(_)) = (&context.setup.node, affinity) else { return Ok(true) };
    let api: Api<Node> = Api::all(context.client.clone());
    let node = api
        .get(name)
        .await
        .map_err(|error| Failure::Other(format!("cannot read node {name}: {}", client::causes(&error))))?;
    Ok(reaches(affinity, name, &node.metadata.labels.unwrap_or_default()))
}
