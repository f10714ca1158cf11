//! What traffic there was, which an API server is told to ask a mesh for.

use serde_json::json;

use super::programs::Places;
use super::supervisor::say;
use crate::objects::{Call, Refused, Server, text};

/// What requests are handed on by, and where to: as `sextant control --mesh-metrics` has them.
const OFFER: &str = "/apis/apiregistration.k8s.io/v1/apiservices/v1alpha1.metrics.smi-spec.io";
const PLACE: &str = "/api/v1/namespaces/kube-system/services/sextant-mesh-metrics";

/// Has this instance's server ask no mesh that is gone: what nobody answers keeps namespaces from going. One that answers at another address than the mesh
/// of `sextant up` did is somebody else's, and left.
pub(super) fn unregister(places: &Places) {
    let Some(server) = Server::own(&places.data) else { return };
    if let Err(refused) = try_unregister(&server) {
        say(&format!(
            "warning: cannot have the API server ask for no traffic of a mesh that is gone: {refused}"
        ));
    }
}

fn try_unregister(server: &Server) -> Result<(), Refused> {
    let Some(offer) = server.find_at(OFFER)? else { return Ok(()) };
    if text(&offer, "/spec/service/name") != "sextant-mesh-metrics" {
        return Ok(());
    }
    let Some(place) = server.find_at(PLACE)? else { return Ok(()) };
    if text(&place, "/spec/externalName") != "127.0.0.1" {
        return Ok(());
    }
    // The offer first: without it the other keeps nothing from going.
    for path in [OFFER, PLACE] {
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        match server.ask(Call::delete(path, options)) {
            Err(refused) if !refused.is_missing() => return Err(refused),
            _ => {}
        }
    }
    Ok(())
}
