//! The frontends of a Service: who has which of its ports, and what the others are told.

use std::collections::{BTreeMap, BTreeSet};

use super::input::{Service, ServiceKind, ServicePort};
use super::report::{Condition, Made, ParentStatus};
use super::routes::{self, Resolved};
use super::split;
use super::world::World;
use crate::contract::gateway::{Parent, Problem, Route, RouteKind, Rule};
use crate::contract::split::TrafficSplit;
use crate::contract::{Id, Name};
use crate::model::{Entry, Frontend, Key, Routing, Transport};

/// A reason and a message.
type Refusal = (&'static str, String);

/// A route that has the Service for a parent.
struct Claim<'w> {
    resolved: &'w Resolved<'w>,
    /// The parent's place among the route's.
    place: usize,
    parent: &'w Parent,
    /// Why it cannot be had at all.
    refused: Option<Refusal>,
    /// Why all of its rules, though it has the Service, are answered with an error.
    unusable: Option<Refusal>,
    /// Ports that it has.
    has: BTreeSet<u16>,
    /// Ports that another has in its place.
    lost: BTreeMap<u16, Id>,
}

pub(super) fn compile(world: &World, name: &Name) -> Made {
    let mut made = Made::default();
    let service = world.services.get(name);
    let resolved: Vec<Resolved<'_>> = world
        .routes_to(name)
        .into_iter()
        .map(|(id, route)| routes::resolve(world, id, route, &mut made))
        .collect();
    let mut claims = Vec::new();
    for one in &resolved {
        let parents = one.route.parents.iter().enumerate().filter(|(_, parent)| parent.service == *name);
        claims.extend(parents.map(|(place, parent)| Claim {
            resolved: one,
            place,
            parent,
            refused: refusal(one, parent, service),
            unusable: unusable(one.route),
            has: BTreeSet::new(),
            lost: BTreeMap::new(),
        }));
    }
    let splits = world.splits_of(name);
    split::announce(world, name, &splits, &mut made);
    if let Some(Service { kind: ServiceKind::ClusterIp(addresses), ports }) = service {
        let consumers: BTreeSet<Option<&str>> =
            std::iter::once(None).chain(claims.iter().map(|claim| consumer(claim, name))).collect();
        for port in ports {
            for group in &consumers {
                let routing =
                    of_port(world, port, (*group, name), &mut claims, splits.first().copied(), &mut made);
                let Some(routing) = routing else { continue };
                let key = Key::Frontend {
                    service: name.clone(),
                    port: port.port,
                    transport: port.transport,
                    consumer: group.map(str::to_owned),
                };
                let (addresses, app_protocol) = (addresses.clone(), port.app_protocol.clone());
                made.entries.push((key, Entry::Frontend(Frontend { addresses, app_protocol, routing })));
            }
        }
    }
    for claim in &claims {
        let key = (claim.resolved.id.clone(), claim.place);
        made.parents.insert(key, status(claim));
    }
    made
}

/// The namespace whose clients a route is for alone; none where it is the Service's own.
fn consumer<'w>(claim: &Claim<'w>, service: &Name) -> Option<&'w str> {
    let namespace = claim.resolved.route.meta.name.namespace.as_str();
    (namespace != service.namespace).then_some(namespace)
}

fn transport(kind: RouteKind) -> Transport {
    if kind == RouteKind::Udp { Transport::Udp } else { Transport::Tcp }
}

/// Where traffic for a port goes; for one namespace's clients nothing unless it has routes of its own.
fn of_port(
    world: &World,
    port: &ServicePort,
    (group, service): (Option<&str>, &Name),
    claims: &mut [Claim<'_>],
    split: Option<&TrafficSplit>,
    made: &mut Made,
) -> Option<Routing> {
    let is_for = |claim: &Claim<'_>| {
        claim.refused.is_none()
            && consumer(claim, service) == group
            && transport(claim.resolved.route.kind) == port.transport
            && is_named(claim.parent, port)
    };
    let mut contenders: Vec<&mut Claim<'_>> = claims.iter_mut().filter(|claim| is_for(claim)).collect();
    let Some(kind) = contenders.iter().map(|claim| claim.resolved.route.kind).min() else {
        let own = group.is_none().then_some(Routing::Plain)?;
        let Some(split) = split.filter(|_| port.transport == Transport::Tcp) else { return Some(own) };
        return Some(split::routing(world, split, port.port, made));
    };
    // Of those that cannot be merged, the oldest has it. A route that names the Service twice stands here twice.
    let is_single = matches!(kind, RouteKind::Tcp | RouteKind::Udp);
    let first = contenders.iter().find(|claim| claim.resolved.route.kind == kind)?.resolved;
    let (first_id, mut winners): (Id, Vec<&Resolved<'_>>) = (first.id.clone(), Vec::new());
    for claim in &mut contenders {
        let wins = claim.resolved.route.kind == kind && (!is_single || claim.resolved.id == first.id);
        if !wins {
            claim.lost.insert(port.port, first_id.clone());
            continue;
        }
        claim.has.insert(port.port);
        if winners.iter().all(|before| before.id != claim.resolved.id) {
            winners.push(claim.resolved);
        }
    }
    if let Some(split) = split.filter(|_| group.is_none() && port.transport == Transport::Tcp) {
        split::yields(split, port.port, &first_id, made);
    }
    Some(match kind {
        RouteKind::Grpc | RouteKind::Http => Routing::Http(routes::http(&winners)),
        RouteKind::Tls => Routing::Tls(routes::tls(&winners)),
        RouteKind::Tcp | RouteKind::Udp => Routing::Weighted(routes::weighted(first)),
    })
}

/// Whether a port is one of those that a route names, by number or name.
fn is_named(parent: &Parent, port: &ServicePort) -> bool {
    parent.port.is_none_or(|number| number == port.port)
        && parent.section.as_ref().is_none_or(|name| *name == port.name)
}

/// Why a route cannot have this parent.
fn refusal(resolved: &Resolved<'_>, parent: &Parent, service: Option<&Service>) -> Option<Refusal> {
    const NO_PARENT: &str = "NoMatchingParent";
    let name = &parent.service;
    let ports = match service {
        None => return Some((NO_PARENT, format!("there is no Service {name} (yet)"))),
        Some(Service { kind: ServiceKind::Headless, .. }) => {
            let message = format!(
                "Service {name} is headless, so that clients ask its pods themselves; give it a cluster address"
            );
            return Some((NO_PARENT, message));
        }
        Some(Service { kind: ServiceKind::ExternalName, .. }) => {
            let message = format!("Service {name} is an ExternalName, which no route can have for a parent");
            return Some((NO_PARENT, message));
        }
        Some(service) => &service.ports,
    };
    let wanted = transport(resolved.route.kind);
    if !ports.iter().any(|port| port.transport == wanted && is_named(parent, port)) {
        let which = match (parent.port, &parent.section) {
            (None, None) => "parentRef: any".to_owned(),
            (Some(port), None) => format!("parentRef.port: {port}"),
            (None, Some(name)) => format!("parentRef.sectionName: {name:?}"),
            (Some(port), Some(name)) => format!("parentRef.port: {port} with sectionName {name:?}"),
        };
        let protocol = if wanted == Transport::Udp { "UDP" } else { "TCP" };
        let message =
            format!("{which}: Service {name} has no such {protocol} port; name one by its number or name");
        return Some((NO_PARENT, message));
    }
    let rules = &resolved.route.rules;
    let dropped = |rule: &Rule| matches!(rule.problem, Some(Problem::Dropped(_)));
    unusable(resolved.route).filter(|_| rules.iter().all(dropped))
}

/// What is wrong with the first rule where something is with each.
fn unusable(route: &Route) -> Option<Refusal> {
    let first = route.rules.first()?.problem.as_ref()?.fault();
    route.rules.iter().all(|rule| rule.problem.is_some()).then(|| (first.reason, first.message.clone()))
}

fn status(claim: &Claim<'_>) -> ParentStatus {
    let accepted = if let Some(refusal) = &claim.refused {
        condition("Accepted", Err(refusal.clone()))
    } else if claim.has.is_empty() && !claim.lost.is_empty() {
        condition("Accepted", Err(("Conflicted", lost(claim))))
    } else if let Some(refusal) = &claim.unusable {
        condition("Accepted", Err(refusal.clone()))
    } else {
        let message = if claim.lost.is_empty() { "the route is in use".into() } else { lost(claim) };
        condition("Accepted", Ok(("Accepted", message)))
    };
    let (is_accepted, mut conditions) = (accepted.status, vec![accepted]);
    let problems: Vec<_> =
        claim.resolved.route.rules.iter().filter_map(|rule| rule.problem.as_ref()).collect();
    if let Some(first) = problems.first().filter(|_| is_accepted) {
        // The words at the beginning are Gateway API's.
        let what = if matches!(first, Problem::Dropped(_)) { "" } else { "its requests are answered 500: " };
        let message = format!("Dropped Rule: {what}{}", first.fault().message);
        conditions.push(condition("PartiallyInvalid", Ok((first.fault().reason, message))));
    }
    conditions.push(match &claim.resolved.refs {
        None => condition("ResolvedRefs", Ok(("ResolvedRefs", "all backends are there".into()))),
        Some(fault) => condition("ResolvedRefs", Err((fault.reason, fault.message.clone()))),
    });
    ParentStatus { reference: claim.parent.reference.clone(), conditions }
}

fn lost(claim: &Claim<'_>) -> String {
    let ports: Vec<String> = claim.lost.iter().map(|(port, to)| format!("port {port} to {to}")).collect();
    format!(
        "of Service {} it loses {}, which goes before it; delete one of them, or give them ports of their own",
        claim.parent.service,
        ports.join(", ")
    )
}

fn condition(kind: &'static str, is: Result<Refusal, Refusal>) -> Condition {
    let status = is.is_ok();
    let (reason, message) = is.unwrap_or_else(|refusal| refusal);
    Condition { kind, status, reason, message }
}
