//! A TrafficTarget as a policy. What cannot be found allows nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::report::Made;
use super::workload::{account, has_labels};
use super::world::{World, within};
use super::{Settings, finding};
use crate::contract::access::{Rule, Subject, TrafficTarget};
use crate::contract::specs::{Ports, Transport};
use crate::contract::{Id, Kind, Name, Reason};
use crate::model::{Entry, HttpMatch, Key, Policy, Principal, TcpAllow};

pub(super) fn compile(world: &World, settings: &Settings, name: &Name) -> Made {
    let mut made = Made::default();
    let Some(target) = world.targets.get(name) else { return made };
    let id = Id { kind: Kind::TrafficTarget, name: name.clone() };
    let Some(destination) = &target.destination else { return made };
    if let Subject::IdentityBinding(binding) = destination
        && !world.bindings.contains_key(binding)
    {
        let advice = "there is no such IdentityBinding (yet): nobody is guarded by this object";
        made.say(&id, finding(Reason::NotFound, "spec.destination.name", binding.name.clone(), advice));
    }
    let sources = sources(world, settings, target, &id, &mut made);
    let (tcp, udp) = allowed(world, target, &id, &mut made);
    let policy = Policy { sources, tcp, udp };
    made.entries.push((Key::Policy(name.clone()), Entry::Policy(policy)));
    made
}

fn sources(
    world: &World,
    settings: &Settings,
    target: &TrafficTarget,
    id: &Id,
    made: &mut Made,
) -> Vec<Principal> {
    let mut principals = BTreeSet::new();
    let mut whoever = |identity: String| {
        principals.insert(Principal { identity, addresses: None });
    };
    let mut chosen: BTreeMap<String, BTreeSet<_>> = BTreeMap::new();
    for source in &target.sources {
        let binding = match source {
            Subject::ServiceAccount(account) => {
                whoever(settings.identity(account));
                continue;
            }
            Subject::IdentityBinding(name) => name,
        };
        let Some(bound) = world.bindings.get(binding) else {
            let advice = "there is no such IdentityBinding (yet): nobody is let in by it";
            made.say(id, finding(Reason::NotFound, "spec.sources", binding.to_string(), advice));
            continue;
        };
        if let Some(name) = &bound.service_account {
            whoever(settings.identity(&Name::new(&binding.namespace, name)));
        }
        bound.spiffe.iter().cloned().for_each(&mut whoever);
        // A label is nothing that could be proved, so it takes the identity and the address of a pod that has it.
        for (name, pod) in within(&world.pods, &binding.namespace) {
            if has_labels(bound, pod) && !pod.host_network {
                let identity = settings.identity(&account(name, pod));
                chosen.entry(identity).or_default().extend(pod.addresses.iter().copied());
            }
        }
    }
    for (identity, addresses) in chosen {
        let addresses = Some(addresses.into_iter().collect());
        principals.insert(Principal { identity, addresses });
    }
    principals.into_iter().collect()
}

/// TCPRoutes and HTTPRouteGroups together mean these requests on these ports; several of one kind mean any of them.
fn allowed(world: &World, target: &TrafficTarget, id: &Id, made: &mut Made) -> (TcpAllow, Ports) {
    let namespace = &target.meta.name.namespace;
    let (mut tcp, mut udp, mut http): (Option<Ports>, Ports, Option<Vec<HttpMatch>>) =
        (None, Ports::none(), None);
    for rule in &target.rules {
        match rule {
            Rule::Http { group, matches, field } => {
                let found = http.get_or_insert_default();
                let name = Name::new(namespace, group);
                let Some(group) = world.groups.get(&name) else {
                    let advice = "there is no such HTTPRouteGroup (yet): nothing is allowed by it";
                    made.say(id, finding(Reason::NotFound, field, name.name, advice));
                    continue;
                };
                let is_meant =
                    |name: &str| matches.as_ref().is_none_or(|names| names.iter().any(|one| one == name));
                let meant = group.matches.iter().filter(|one| is_meant(&one.name));
                found.extend(meant.filter_map(|one| one.requests.clone()));
                for missing in matches.iter().flatten() {
                    if group.matches.iter().all(|one| one.name != *missing) {
                        let advice =
                            format!("HTTPRouteGroup {name} has no such match: nothing is allowed by it");
                        made.say(
                            id,
                            finding(Reason::NotFound, format!("{field}.matches"), missing.clone(), advice),
                        );
                    }
                }
            }
            Rule::Ports { transport, route, field } => {
                let key = (*transport, Name::new(namespace, route));
                let ports = world.ports.get(&key).map(|route| &route.ports);
                if ports.is_none() {
                    let advice =
                        "there is no such route of specs.smi-spec.io (yet): nothing is allowed by it";
                    made.say(id, finding(Reason::NotFound, field, route.clone(), advice));
                }
                // Where it is missing there must be no port, and not no word about ports.
                let none = Ports::none();
                let ports = ports.unwrap_or(&none);
                match transport {
                    Transport::Tcp => tcp = Some(tcp.unwrap_or_else(Ports::none).or(ports)),
                    Transport::Udp => udp = udp.or(ports),
                }
            }
        }
    }
    let ports = match (tcp, &http) {
        (Some(ports), _) => ports,
        (None, Some(_)) => Ports::All,
        (None, None) => Ports::none(),
    };
    if let Some(matches) = &mut http {
        matches.sort();
        matches.dedup();
        // One that is all requests stands for the rest; it still takes HTTP.
        if matches.iter().any(HttpMatch::is_any) {
            *matches = vec![HttpMatch::default()];
        }
    }
    (TcpAllow { ports: ports.and(&target.ports), http }, udp.and(&target.ports))
}
