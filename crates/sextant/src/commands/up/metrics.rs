//! What traffic there was, which an API server is told to ask a mesh for.

use client::aggregation::NAMESPACE;
use control::mesh::METRICS_SERVICE;
use serde_json::{Value, json};
use smi::contract::metrics::API_VERSION;

use super::programs::Places;
use super::supervisor::say;
use crate::objects::{Call, Refused, Server, text};

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
    // What requests are handed on by, and where to: as `sextant control --mesh-metrics` has them.
    let (group, version) = API_VERSION.split_once('/').unwrap_or(("", API_VERSION));
    let offer = format!("/apis/apiregistration.k8s.io/v1/apiservices/{version}.{group}");
    let place = format!("/api/v1/namespaces/{NAMESPACE}/services/{METRICS_SERVICE}");
    let (offered, placed) = (server.find_at(&offer)?, server.find_at(&place)?);
    if is_anothers(offered.as_ref(), placed.as_ref()) {
        return Ok(());
    }
    // The offer first: without it the other keeps nothing from going. Whoever is killed between them finds the other alone the next time.
    for path in [offered.map(|_| offer), placed.map(|_| place)].into_iter().flatten() {
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        match server.ask(Call::delete(&path, options)) {
            Err(refused) if !refused.is_missing() => return Err(refused),
            _ => {}
        }
    }
    Ok(())
}

/// Whether one of them, if it is there, is not of a mesh of `sextant up`.
fn is_anothers(offered: Option<&Value>, placed: Option<&Value>) -> bool {
    offered.is_some_and(|offer| text(offer, "/spec/service/name") != METRICS_SERVICE)
        || placed.is_some_and(|place| text(place, "/spec/externalName") != "127.0.0.1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_that_was_killed_has_left_is_known_again() {
        let offer = |service: &str| json!({"spec": {"service": {"name": service}}});
        let place = |address: &str| json!({"spec": {"externalName": address}});
        let (own, other) = (offer(METRICS_SERVICE), offer("other"));
        let (here, there) = (place("127.0.0.1"), place("10.0.0.1"));
        for (offered, placed, wanted) in [
            (Some(&own), Some(&here), false),
            (Some(&own), None, false),
            (None, Some(&here), false),
            (None, Some(&there), true),
            (Some(&own), Some(&there), true),
            (Some(&other), Some(&here), true),
            (Some(&other), None, true),
        ] {
            assert_eq!(is_anothers(offered, placed), wanted, "{offered:?} {placed:?}");
        }
    }
}
