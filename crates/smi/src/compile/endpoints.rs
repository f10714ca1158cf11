//! Endpoints of a Service, by its ports.

use super::input::ServiceKind;
use super::report::Made;
use super::world::World;
use crate::contract::Name;
use crate::model::{Endpoint, Entry, Key};

pub(super) fn compile(world: &World, name: &Name) -> Made {
    let mut made = Made::default();
    let Some(service) = world.services.get(name).filter(|service| service.kind != ServiceKind::ExternalName)
    else {
        return made;
    };
    for port in &service.ports {
        let mut endpoints = Vec::new();
        for slice in world.slices.get(name).into_iter().flatten().map(|(_, slice)| slice) {
            let found = slice.ports.iter().find(|at| at.name == port.name && at.transport == port.transport);
            let Some(at) = found else { continue };
            endpoints.extend(slice.endpoints.iter().map(|endpoint| Endpoint {
                address: endpoint.address,
                port: at.port,
                pod: endpoint.pod.as_ref().map(|pod| Name::new(&name.namespace, pod)),
                node: endpoint.node.clone(),
                zone: endpoint.zone.clone(),
                ready: endpoint.ready,
                serving: endpoint.serving,
            }));
        }
        // An endpoint may be in two slices for a moment; if one says that it is ready, it is.
        endpoints.sort_by(|a, b| {
            (a.address, a.port, b.ready, b.serving).cmp(&(b.address, b.port, a.ready, a.serving))
        });
        endpoints.dedup_by_key(|endpoint| (endpoint.address, endpoint.port));
        let key = Key::Endpoints { service: name.clone(), port: port.port, transport: port.transport };
        made.entries.push((key, Entry::Endpoints(endpoints)));
    }
    made
}
