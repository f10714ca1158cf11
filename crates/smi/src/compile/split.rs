//! A TrafficSplit as the routing of a port.

use std::collections::{BTreeMap, BTreeSet};

use super::finding;
use super::input::ServiceKind;
use super::report::Made;
use super::world::World;
use crate::contract::split::TrafficSplit;
use crate::contract::{Id, Kind, Name, Reason};
use crate::model::{
    Backend, Each, HttpRouting, HttpRule, Matched, Origin, Routing, Timeouts, To, Transport, Unmatched,
    Weighted,
};

/// What is said of splits whatever their apex's ports are.
pub(super) fn announce(world: &World, apex: &Name, splits: &[&TrafficSplit], made: &mut Made) {
    let Some((first, others)) = splits.split_first() else { return };
    for other in others {
        let advice = format!(
            "TrafficSplit {} has this Service for its apex, too, and is older: this one does nothing; delete one of them",
            first.meta.name
        );
        made.say(&id(other), finding(Reason::Conflicted, "spec.service", apex.name.clone(), advice));
    }
    let (reason, advice) = match world.services.get(apex).map(|service| &service.kind) {
        None => (Reason::NotFound, "there is no such Service (yet), so there is nothing to split"),
        Some(ServiceKind::ClusterIp(_)) => return,
        Some(ServiceKind::Headless) => (
            Reason::Ignored,
            "clients of a headless Service ask its pods themselves: give it a cluster address",
        ),
        Some(ServiceKind::ExternalName) => (
            Reason::Ignored,
            "clients of an ExternalName Service ask what is outside: give it a cluster address",
        ),
    };
    made.say(&id(first), finding(reason, "spec.service", apex.name.clone(), advice));
}

fn id(split: &TrafficSplit) -> Id {
    Id { kind: Kind::TrafficSplit, name: split.meta.name.clone() }
}

/// A Gateway API route has the port.
pub(super) fn yields(split: &TrafficSplit, port: u16, to: &Id, made: &mut Made) {
    let advice = format!(
        "{to} of Gateway API is for port {port} of this Service and goes before this object there; delete one of them"
    );
    let apex = split.apex.clone().unwrap_or_default();
    made.say(&id(split), finding(Reason::Conflicted, "spec.service", apex, advice));
}

/// The routing of one TCP port of the apex.
pub(super) fn routing(world: &World, split: &TrafficSplit, port: u16, made: &mut Made) -> Routing {
    let id = id(split);
    let backends = backends(world, split, port, &id, made);
    let from = Origin { object: id.clone(), rule: 0, name: None };
    if backends.iter().all(|backend| backend.weight == 0) {
        if !split.backends.is_empty() {
            let advice = format!(
                "on port {port} no backend is left with a weight above 0: the Service's own endpoints answer"
            );
            made.say(&id, finding(Reason::InvalidValue, "spec.backends", "", advice));
        }
        return Routing::Plain;
    }
    let Some(groups) = &split.matches else {
        return Routing::Weighted(Weighted { each: Each::Request, from, backends });
    };
    let (mut matches, mut seen) = (Vec::new(), BTreeSet::new());
    for (group, field) in groups.iter().filter(|(group, _)| seen.insert(group)) {
        let name = Name::new(&split.meta.name.namespace, group);
        match world.groups.get(&name) {
            None => {
                let advice = "there is no such HTTPRouteGroup (yet): no request is split by it";
                made.say(&id, finding(Reason::NotFound, format!("{field}.name"), group.clone(), advice));
            }
            Some(group) => {
                let requests = group.matches.iter().filter_map(|one| one.requests.clone());
                matches.extend(requests.map(|requests| Matched { requests, rule: 0 }));
            }
        }
    }
    if matches.is_empty() {
        return Routing::Plain;
    }
    let rule = HttpRule { from, filters: Vec::new(), backends, timeouts: Timeouts::default(), retry: None };
    Routing::Http(HttpRouting { matches, rules: vec![rule], unmatched: Unmatched::Apex })
}

fn backends(world: &World, split: &TrafficSplit, port: u16, id: &Id, made: &mut Made) -> Vec<Backend> {
    let mut backends: Vec<Backend> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for backend in &split.backends {
        let name = Name::new(&split.meta.name.namespace, &backend.service);
        made.uses.push(name.clone());
        let field = format!("{}.service", backend.field);
        let Some(service) = world.services.get(&name) else {
            let advice =
                "there is no such Service (yet): it gets nothing, and the others share what it would get";
            made.say(id, finding(Reason::NotFound, field, name.name, advice));
            continue;
        };
        if service.kind == ServiceKind::ExternalName {
            let advice = "an ExternalName Service has no endpoints: it gets nothing";
            made.say(id, finding(Reason::Ignored, field, name.name, advice));
            continue;
        }
        if !service.ports.iter().any(|at| at.port == port && at.transport == Transport::Tcp) {
            let advice = format!(
                "Service {name} has no port {port}, which {} has: it gets nothing there; give it that port (its targetPort may be any)",
                split.apex.as_deref().unwrap_or_default()
            );
            made.say(id, finding(Reason::PortMismatch, field, name.name, advice));
            continue;
        }
        let to = To::Service { service: name, port };
        // All have one namespace and one port, so that the name is all there is to tell them apart.
        let place = *places.entry(&backend.service).or_insert(backends.len());
        match backends.get_mut(place) {
            Some(before) => before.weight += backend.weight,
            None => backends.push(Backend { to, weight: backend.weight, filters: Vec::new() }),
        }
    }
    backends
}
