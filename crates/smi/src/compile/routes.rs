//! Gateway API's routes as routing.

use std::cmp::Reverse;

use super::input::ServiceKind;
use super::report::Made;
use super::world::World;
use crate::contract::gateway::{self, Fault, Problem, Route, RouteKind, Rule};
use crate::contract::{Id, Name};
use crate::model::{
    Backend, Each, Filter, HttpRouting, HttpRule, Matched, Origin, TlsRule, To, Transport, Unmatched,
    Weighted,
};

/// A route whose backends were looked for.
pub(super) struct Resolved<'w> {
    pub(super) id: &'w Id,
    pub(super) route: &'w Route,
    /// For each rule of the route.
    rules: Vec<Answers>,
    /// The first thing that is wrong with its references.
    pub(super) refs: Option<Fault>,
}

struct Answers {
    filters: Vec<Filter>,
    backends: Vec<Backend>,
}

pub(super) fn resolve<'w>(world: &World, id: &'w Id, route: &'w Route, made: &mut Made) -> Resolved<'w> {
    let mut refs = None;
    let transport = if route.kind == RouteKind::Udp { Transport::Udp } else { Transport::Tcp };
    let mut look = |to: &Result<(Name, u16), Fault>, field: &str| {
        let found = to.clone().and_then(|(name, port)| {
            made.uses.push(name.clone());
            find(world, &name, port, transport, field)?;
            Ok(To::Service { service: name, port })
        });
        found.unwrap_or_else(|fault| {
            refs.get_or_insert(fault);
            To::Fail(500)
        })
    };
    let mut rules = Vec::new();
    for (n, rule) in route.rules.iter().enumerate() {
        let mut backends: Vec<Backend> = Vec::new();
        for backend in &rule.backends {
            let to = look(&backend.to, &backend.field);
            let filters = mirrors(&backend.filters, &backend.field, &mut look);
            backends.push(Backend { to, weight: backend.weight.into(), filters });
        }
        let mut filters = mirrors(&rule.filters, &format!("spec.rules[{n}]"), &mut look);
        if let Some(fault) = &rule.mirrors {
            // It is told of, and nobody is sent there.
            let _nobody = look(&Err(fault.clone()), "");
        }
        if rule.problem.is_some() {
            filters.clear();
            backends = vec![Backend { to: To::Fail(500), weight: 1, filters: Vec::new() }];
        }
        rules.push(Answers { filters, backends });
    }
    Resolved { id, route, rules, refs }
}

/// Filters, without mirrors to who is not there.
fn mirrors(
    filters: &[Filter],
    field: &str,
    look: &mut impl FnMut(&Result<(Name, u16), Fault>, &str) -> To,
) -> Vec<Filter> {
    let keep = |filter: &&Filter| match filter {
        Filter::Mirror(mirror) => {
            let to = Ok((mirror.service.clone(), mirror.port));
            look(&to, &format!("{field}.filters")) != To::Fail(500)
        }
        _ => true,
    };
    filters.iter().filter(keep).cloned().collect()
}

fn find(world: &World, name: &Name, port: u16, transport: Transport, field: &str) -> Result<(), Fault> {
    let fault = |reason, message: String| Err(Fault { reason, message: format!("{field}: {message}") });
    let Some(service) = world.services.get(name) else {
        return fault("BackendNotFound", format!("there is no Service {name} (yet)"));
    };
    if service.kind == ServiceKind::ExternalName {
        return fault("InvalidKind", format!("Service {name} is an ExternalName, which has no endpoints"));
    }
    if !service.ports.iter().any(|at| at.port == port && at.transport == transport) {
        return fault("BackendNotFound", format!("Service {name} has no port {port}"));
    }
    Ok(())
}

impl Resolved<'_> {
    fn origin(&self, rule: usize) -> Origin {
        let name = self.route.rules.get(rule).and_then(|rule| rule.name.clone());
        Origin { object: self.id.clone(), rule, name }
    }

    fn rules(&self) -> impl Iterator<Item = (usize, &Rule, &Answers)> {
        let both = self.route.rules.iter().zip(&self.rules).enumerate();
        both.map(|(n, (rule, answers))| (n, rule, answers))
    }
}

/// Requests by the rules of routes, the oldest first, which is the order that is left where matches say as much.
pub(super) fn http(routes: &[&Resolved<'_>]) -> HttpRouting {
    let (mut rules, mut matches) = (Vec::new(), Vec::new());
    for route in routes {
        for (n, rule, answers) in route.rules() {
            if matches!(rule.problem, Some(Problem::Dropped(_))) {
                continue;
            }
            let place = rules.len();
            matches.extend(rule.matches.iter().map(|one| (one, place)));
            rules.push(HttpRule {
                from: route.origin(n),
                filters: answers.filters.clone(),
                backends: answers.backends.clone(),
                timeouts: rule.timeouts,
                retry: rule.retry.clone(),
            });
        }
    }
    matches.sort_by_key(|(one, _): &(&gateway::RouteMatch, usize)| Reverse(one.rank));
    let matched =
        |(one, rule): (&gateway::RouteMatch, usize)| Matched { requests: one.requests.clone(), rule };
    let matches = matches.into_iter().map(matched).collect();
    HttpRouting { matches, rules, unmatched: Unmatched::NotFound }
}

/// Connections by name: whole names before those with a `*`, the longer of these before the shorter, any name at last.
pub(super) fn tls(routes: &[&Resolved<'_>]) -> Vec<TlsRule> {
    let mut rules = Vec::new();
    for route in routes {
        for (n, of, answers) in route.rules() {
            if matches!(of.problem, Some(Problem::Dropped(_))) {
                continue;
            }
            let rule = |hostnames: Vec<String>| TlsRule {
                hostnames,
                from: route.origin(n),
                backends: answers.backends.clone(),
            };
            let names = &route.route.hostnames;
            rules.extend(names.iter().map(|name| rule(vec![name.clone()])));
            if names.is_empty() {
                rules.push(rule(Vec::new()));
            }
        }
    }
    rules.sort_by_key(|rule| {
        let name = rule.hostnames.first();
        Reverse(name.map(|name| (!name.starts_with('*'), name.len())))
    });
    rules
}

/// All of a port by the first rule of a route; the others are dropped when it is read.
pub(super) fn weighted(route: &Resolved<'_>) -> Weighted {
    let backends = route.rules.first().map(|answers| answers.backends.clone()).unwrap_or_default();
    Weighted { each: Each::Connection, from: route.origin(0), backends }
}
