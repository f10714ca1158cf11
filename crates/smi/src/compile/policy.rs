//! A TrafficTarget as a policy. What cannot be found allows nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::report::Made;
use super::workload::{account, has_labels};
use super::world::{World, within};
use super::{Settings, finding};
use crate::contract::access::{Rule, Subject, TrafficTarget};
use crate::contract::http;
use crate::contract::specs::{Ports, Transport};
use crate::contract::{Id, Kind, Name, Reason};
use crate::model::{Entry, HttpMatch, Key, Policy, Principal, TcpAllow};

/// So many bytes all patterns of one policy may take when they are compiled. Each node that has a pod which it guards compiles them.
const PATTERNS: usize = 16 << 20;

pub(super) fn compile(world: &World, settings: &Settings, name: &Name) -> Made {
    let mut made = Made::default();
    let Some(target) = world.targets.get(name) else { return made };
    let id = Id { kind: Kind::TrafficTarget, name: name.clone() };
    let Some(destination) = &target.destination else { return made };
    if let Subject::IdentityBinding(binding) = destination
        && !world.bindings.contains_key(binding)
    {
        let advice = "there is no such IdentityBinding (yet): nobody is closed by this object";
        made.say(&id, finding(Reason::NotFound, "spec.destination.name", binding.name.clone(), advice));
    }
    let sources = sources(world, settings, target, &id, &mut made);
    let (tcp, udp) = allowed(world, target, &id, &mut made);
    let policy = Policy { sources, tcp, udp };
    made.entries.push((Key::Policy(name.clone()), Entry::Policy(policy)));
    made
}

/// What there is to say of an IdentityBinding that only who knows the trust domain can.
pub(super) fn binding(world: &World, settings: &Settings, name: &Name) -> Made {
    let mut made = Made::default();
    let Some(binding) = world.bindings.get(name) else { return made };
    let id = Id { kind: Kind::IdentityBinding, name: name.clone() };
    for identity in binding.spiffe.iter().filter(|identity| !settings.may_bind(&name.namespace, identity)) {
        let advice = format!(
            "was left out: in trust domain {} this object speaks for its own namespace, {}, alone; bind it there",
            settings.trust_domain, name.namespace
        );
        let field = "spec.schemes.spiffeIdentities";
        made.say(&id, finding(Reason::InvalidValue, field, identity, advice));
    }
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
    // Each once: a binding looks at all pods of its namespace.
    for source in target.sources.iter().collect::<BTreeSet<_>>() {
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
        let meant = bound.spiffe.iter().filter(|identity| settings.may_bind(&binding.namespace, identity));
        meant.cloned().for_each(&mut whoever);
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

/// TCPRoutes and HTTPRouteGroups together mean these requests on these ports; several of one kind mean any of them. Each group and
/// route is looked at once, however many rules name it.
fn allowed(world: &World, target: &TrafficTarget, id: &Id, made: &mut Made) -> (TcpAllow, Ports) {
    let namespace = &target.meta.name.namespace;
    let (mut tcp, mut udp): (Option<Union>, Union) = (None, Union::default());
    // Of each group the names that are meant; `None` is all. Where there is no rule of the kind there is no word about requests.
    let mut groups: Option<BTreeMap<&str, Option<BTreeSet<&str>>>> = None;
    let mut seen = BTreeSet::new();
    for rule in &target.rules {
        match rule {
            Rule::Http { group, matches, field } => {
                let meant =
                    groups.get_or_insert_default().entry(group).or_insert_with(|| Some(BTreeSet::new()));
                match (matches, &mut *meant) {
                    (None, _) => *meant = None,
                    (Some(names), Some(meant)) => meant.extend(names.iter().map(String::as_str)),
                    (Some(_), None) => {}
                }
                if !world.groups.contains_key(&Name::new(namespace, group)) {
                    let advice = "there is no such HTTPRouteGroup (yet): nothing is allowed by it";
                    made.say(id, finding(Reason::NotFound, field, group, advice));
                }
            }
            Rule::Ports { transport, route, field } => {
                let key = (*transport, Name::new(namespace, route));
                let ports = world.ports.get(&key).map(|route| &route.ports);
                if ports.is_none() {
                    let advice =
                        "there is no such route of specs.smi-spec.io (yet): nothing is allowed by it";
                    made.say(id, finding(Reason::NotFound, field, route, advice));
                }
                // Where it is missing there must be no port, and not no word about ports.
                let ports = ports.filter(|_| seen.insert(key));
                match transport {
                    Transport::Tcp => tcp.get_or_insert_default().add(ports),
                    Transport::Udp => udp.add(ports),
                }
            }
            Rule::Nothing { transport: None } => {
                groups.get_or_insert_default();
            }
            Rule::Nothing { transport: Some(Transport::Tcp) } => {
                tcp.get_or_insert_default();
            }
            Rule::Nothing { transport: Some(Transport::Udp) } => {}
        }
    }
    missing_matches(world, target, id, made);
    let http = groups.map(|groups| {
        let (meant, left_out) = requests(world, namespace, &groups);
        if left_out > 0 {
            let advice = format!(
                "patterns of these HTTPRouteGroups take more than {} MiB together, so {left_out} of their matches allow nothing: write fewer, or simpler ones",
                PATTERNS >> 20
            );
            made.say(id, finding(Reason::InvalidValue, "spec.rules", format!("{} matches", meant.len() + left_out), advice));
        }
        meant
    });
    let ports = match (tcp, &http) {
        (Some(ports), _) => ports.done(),
        (None, Some(_)) => Ports::All,
        (None, None) => Ports::none(),
    };
    (TcpAllow { ports: ports.and(&target.ports), http }, udp.done().and(&target.ports))
}

/// Requests of groups, in order, each once, and how many more there are than may be.
fn requests(
    world: &World,
    namespace: &str,
    groups: &BTreeMap<&str, Option<BTreeSet<&str>>>,
) -> (Vec<HttpMatch>, usize) {
    let mut found: BTreeSet<&HttpMatch> = BTreeSet::new();
    for (group, meant) in groups {
        let Some(group) = world.groups.get(&Name::new(namespace, *group)) else { continue };
        let is_meant = |name: &str| meant.as_ref().is_none_or(|names| names.contains(name));
        let meant = group.matches.iter().filter(|one| is_meant(&one.name));
        found.extend(meant.filter_map(|one| one.requests.as_ref()));
    }
    // One that is all requests stands for the rest; it still takes HTTP.
    if found.iter().any(|one| one.is_any()) {
        return (vec![HttpMatch::default()], 0);
    }
    let all = found.len();
    let kept = bounded(found);
    let left_out = all - kept.len();
    (kept, left_out)
}

/// Those whose patterns take no more than [`PATTERNS`] together, from the first one on. What is left out allows nothing.
fn bounded(found: BTreeSet<&HttpMatch>) -> Vec<HttpMatch> {
    let count: usize = found.iter().map(|one| one.patterns().count()).sum();
    // Of so few each may be as large as any.
    if count <= PATTERNS / http::LARGEST_PATTERN {
        return found.into_iter().cloned().collect();
    }
    let mut left = PATTERNS;
    let fits = |one: &&HttpMatch| {
        // What cannot fit is not compiled to know how large it is.
        if left < http::SMALLEST_PATTERN && one.patterns().next().is_some() {
            return false;
        }
        let size: usize = one.patterns().map(http::size).sum();
        let rest = left.checked_sub(size);
        left = rest.unwrap_or(left);
        rest.is_some()
    };
    found.into_iter().filter(fits).cloned().collect()
}

/// Says which names of matches are none of their group's.
fn missing_matches(world: &World, target: &TrafficTarget, id: &Id, made: &mut Made) {
    let mut known: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for rule in &target.rules {
        let Rule::Http { group, matches: Some(matches), field } = rule else { continue };
        let name = Name::new(&target.meta.name.namespace, group);
        let Some(found) = world.groups.get(&name) else { continue };
        let known =
            known.entry(group).or_insert_with(|| found.matches.iter().map(|one| one.name.as_str()).collect());
        for missing in matches.iter().filter(|one| !known.contains(one.as_str())) {
            let advice = format!("HTTPRouteGroup {name} has no such match: nothing is allowed by it");
            made.say(id, finding(Reason::NotFound, format!("{field}.matches"), missing, advice));
        }
    }
}

/// Ports of several routes.
#[derive(Default)]
struct Union {
    all: bool,
    ports: BTreeSet<u16>,
}

impl Union {
    fn add(&mut self, ports: Option<&Ports>) {
        match ports {
            None => {}
            Some(Ports::All) => self.all = true,
            Some(Ports::Listed(ports)) => self.ports.extend(ports),
        }
    }

    fn done(self) -> Ports {
        if self.all { Ports::All } else { Ports::Listed(self.ports.into_iter().collect()) }
    }
}
