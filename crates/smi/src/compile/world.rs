//! All that is known, and what is to be looked at again when some of it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::input::{Change, Pod, Service, Slice};
use super::workload::account;
use crate::contract::access::{IdentityBinding, Rule, Subject, TrafficTarget};
use crate::contract::gateway::Route;
use crate::contract::specs::{HttpRouteGroup, PortRoute, Transport};
use crate::contract::split::TrafficSplit;
use crate::contract::{Finding, Id, Kind, Meta, Name, Object, Read};

/// What is compiled at a time: all that stands in the model under the names of one thing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unit {
    /// The frontends of a Service, with what is said of routes and splits to them.
    Service(Name),
    /// The endpoints of a Service.
    Endpoints(Name),
    /// A TrafficTarget.
    Policy(Name),
    /// What there is to say of an IdentityBinding.
    Binding(Name),
    /// A pod.
    Workload(Name),
}

/// What an object says of itself.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) meta: Meta,
    pub(super) findings: Vec<Finding>,
}

#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) services: BTreeMap<Name, Service>,
    /// By Service, then by the slice's name.
    pub(super) slices: BTreeMap<Name, BTreeMap<String, Slice>>,
    owners: BTreeMap<Name, Name>,
    pub(super) pods: BTreeMap<Name, Pod>,
    pub(super) namespaces: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) targets: BTreeMap<Name, TrafficTarget>,
    pub(super) bindings: BTreeMap<Name, IdentityBinding>,
    pub(super) groups: BTreeMap<Name, HttpRouteGroup>,
    pub(super) ports: BTreeMap<(Transport, Name), PortRoute>,
    pub(super) splits: BTreeMap<Name, TrafficSplit>,
    pub(super) routes: BTreeMap<Id, Route>,
    /// By Service: the routes and splits that have it for parent or apex.
    attached: BTreeMap<Name, BTreeSet<Id>>,
    /// By Service: those whose frontends lead to it.
    pub(super) used_by: BTreeMap<Name, BTreeSet<Name>>,
    /// By service account: the pods that have it.
    by_account: BTreeMap<Name, BTreeSet<Name>>,
    /// By service account: the policies that guard it.
    guards: BTreeMap<Name, BTreeSet<Name>>,
    /// Policies that guard whom an IdentityBinding binds.
    guards_bound: BTreeSet<Name>,
    /// Policies that name an IdentityBinding.
    bound: BTreeSet<Name>,
    pub(super) said: BTreeMap<Id, Said>,
    pub(super) dirty: BTreeSet<Unit>,
    /// Objects of which there may be something else to say.
    pub(super) touched: BTreeSet<Id>,
}

/// What of a map is in a namespace.
pub(super) fn within<'m, V>(
    map: &'m BTreeMap<Name, V>,
    namespace: &'m str,
) -> impl Iterator<Item = (&'m Name, &'m V)> {
    let first = Bound::Included(Name::new(namespace, ""));
    map.range((first, Bound::Unbounded)).take_while(move |(name, _)| name.namespace == namespace)
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> Option<V> {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    }
}

/// What stood under a key stands there no longer; a key with nothing goes, too.
fn unlink<V: Ord>(map: &mut BTreeMap<Name, BTreeSet<V>>, key: &Name, value: &V) {
    if let Some(values) = map.get_mut(key) {
        values.remove(value);
        if values.is_empty() {
            map.remove(key);
        }
    }
}

/// What stood under one key stands under another.
fn relate(map: &mut BTreeMap<Name, BTreeSet<Name>>, old: Option<&Name>, new: Option<&Name>, name: &Name) {
    if let Some(old) = old {
        unlink(map, old, name);
    }
    if let Some(new) = new {
        map.entry(new.clone()).or_default().insert(name.clone());
    }
}

impl World {
    pub(super) fn enter(&mut self, change: Change) {
        match change {
            Change::Service(name, service) => {
                if self.services.get(&name) == service.as_ref() {
                    return;
                }
                put(&mut self.services, name.clone(), service);
                self.dirty.extend(self.used_by.get(&name).into_iter().flatten().cloned().map(Unit::Service));
                self.dirty.insert(Unit::Service(name.clone()));
                self.dirty.insert(Unit::Endpoints(name));
            }
            Change::Slice(name, slice) => self.enter_slice(name, slice),
            Change::Pod(name, pod) => self.enter_pod(name, pod),
            Change::Namespace(name, labels) => {
                self.dirty.extend(within(&self.pods, &name).map(|(pod, _)| Unit::Workload(pod.clone())));
                put(&mut self.namespaces, name, labels);
            }
            Change::Object(id, read) => {
                self.touched.insert(id.clone());
                let (object, findings) =
                    read.map_or((None, Vec::new()), |Read { object, findings }| (Some(object), findings));
                let said = object.as_ref().map(|object| Said { meta: object.meta().clone(), findings });
                put(&mut self.said, id.clone(), said);
                self.enter_object(id, object);
            }
        }
    }

    fn enter_slice(&mut self, name: Name, slice: Option<Slice>) {
        if let Some(owner) = self.owners.remove(&name) {
            if let Some(slices) = self.slices.get_mut(&owner) {
                slices.remove(&name.name);
                if slices.is_empty() {
                    self.slices.remove(&owner);
                }
            }
            self.dirty.insert(Unit::Endpoints(owner));
        }
        if let Some(slice) = slice {
            let owner = Name::new(&name.namespace, &slice.service);
            self.slices.entry(owner.clone()).or_default().insert(name.name.clone(), slice);
            self.owners.insert(name, owner.clone());
            self.dirty.insert(Unit::Endpoints(owner));
        }
    }

    fn enter_pod(&mut self, name: Name, pod: Option<Pod>) {
        if self.pods.get(&name) == pod.as_ref() {
            return;
        }
        // Its labels may make it somebody whom a policy means.
        for target in &self.bound {
            let means = |subject: &Subject| matches!(subject, Subject::IdentityBinding(binding) if binding.namespace == name.namespace);
            if self.targets.get(target).is_some_and(|target| target.sources.iter().any(means)) {
                self.dirty.insert(Unit::Policy(target.clone()));
            }
        }
        self.dirty.insert(Unit::Workload(name.clone()));
        let new = pod.as_ref().map(|pod| account(&name, pod));
        let old = put(&mut self.pods, name.clone(), pod).map(|pod| account(&name, &pod));
        relate(&mut self.by_account, old.as_ref(), new.as_ref(), &name);
    }

    fn enter_object(&mut self, id: Id, object: Option<Object>) {
        let name = id.name.clone();
        match (id.kind, object) {
            (Kind::TrafficTarget, object) => {
                let target = object.and_then(|object| match object {
                    Object::TrafficTarget(target) => Some(target),
                    _ => None,
                });
                let is_bound = |subject: &Subject| matches!(subject, Subject::IdentityBinding(_));
                let subjects =
                    target.iter().flat_map(|target| target.sources.iter().chain(&target.destination));
                if subjects.into_iter().any(is_bound) {
                    self.bound.insert(name.clone());
                } else {
                    self.bound.remove(&name);
                }
                let new = target.as_ref().and_then(|target| target.destination.clone());
                let old = put(&mut self.targets, name.clone(), target).and_then(|old| old.destination);
                for destination in [&old, &new].into_iter().flatten() {
                    self.workloads_of(destination);
                }
                let account = |subject: Option<Subject>| match subject {
                    Some(Subject::ServiceAccount(account)) => Some(account),
                    _ => None,
                };
                if matches!(new, Some(Subject::IdentityBinding(_))) {
                    self.guards_bound.insert(name.clone());
                } else {
                    self.guards_bound.remove(&name);
                }
                relate(&mut self.guards, account(old).as_ref(), account(new).as_ref(), &name);
                self.dirty.insert(Unit::Policy(name));
            }
            (Kind::IdentityBinding, object) => {
                let binding = object.and_then(|object| match object {
                    Object::IdentityBinding(binding) => Some(binding),
                    _ => None,
                });
                self.dirty
                    .extend(within(&self.pods, &name.namespace).map(|(pod, _)| Unit::Workload(pod.clone())));
                self.dirty.extend(self.bound.iter().cloned().map(Unit::Policy));
                self.dirty.insert(Unit::Binding(name.clone()));
                put(&mut self.bindings, name, binding);
            }
            (Kind::HttpRouteGroup, object) => {
                let group = object.and_then(|object| match object {
                    Object::HttpRouteGroup(group) => Some(group),
                    _ => None,
                });
                self.users_of_group(&name);
                put(&mut self.groups, name, group);
            }
            (Kind::TcpPorts | Kind::UdpPorts, object) => {
                let route = object.and_then(|object| match object {
                    Object::Ports(route) => Some(route),
                    _ => None,
                });
                let wanted = if id.kind == Kind::TcpPorts { Transport::Tcp } else { Transport::Udp };
                let is = |rule: &Rule| matches!(rule, Rule::Ports { transport, route, .. } if *transport == wanted && *route == name.name);
                self.policies_with(&name.namespace, is);
                put(&mut self.ports, (wanted, name), route);
            }
            (Kind::TrafficSplit, object) => {
                let split = object.and_then(|object| match object {
                    Object::TrafficSplit(split) => Some(split),
                    _ => None,
                });
                let new: Vec<Name> = split.iter().filter_map(TrafficSplit::service).collect();
                let old = put(&mut self.splits, name, split);
                let old: Vec<Name> = old.iter().filter_map(TrafficSplit::service).collect();
                self.attach(&id, &old, &new);
            }
            (_, object) => {
                let route = object.and_then(|object| match object {
                    Object::Route(route) => Some(route),
                    _ => None,
                });
                let parents = |route: &Option<Route>| {
                    let parents = route.iter().flat_map(|route| &route.parents);
                    parents.map(|parent| parent.service.clone()).collect::<Vec<_>>()
                };
                let new = parents(&route);
                let old = parents(&put(&mut self.routes, id.clone(), route));
                self.attach(&id, &old, &new);
            }
        }
    }

    fn attach(&mut self, id: &Id, old: &[Name], new: &[Name]) {
        for service in old {
            unlink(&mut self.attached, service, id);
        }
        for service in new {
            self.attached.entry(service.clone()).or_default().insert(id.clone());
        }
        self.dirty.extend(old.iter().chain(new).cloned().map(Unit::Service));
    }

    fn workloads_of(&mut self, destination: &Subject) {
        match destination {
            Subject::ServiceAccount(account) => {
                let pods = self.by_account.get(account).into_iter().flatten();
                self.dirty.extend(pods.cloned().map(Unit::Workload));
            }
            // By labels it may be any.
            Subject::IdentityBinding(binding) => {
                let pods = within(&self.pods, &binding.namespace);
                self.dirty.extend(pods.map(|(pod, _)| Unit::Workload(pod.clone())));
            }
        }
    }

    /// The policies of a namespace that may guard a pod with this service account: those that name it, and those whose destination
    /// is an IdentityBinding.
    pub(super) fn guards_of(&self, account: &Name) -> impl Iterator<Item = (&Name, &TrafficTarget)> {
        let first = Bound::Included(Name::new(&account.namespace, ""));
        let bound = self.guards_bound.range((first, Bound::Unbounded));
        let namespace = account.namespace.clone();
        let bound = bound.take_while(move |name| name.namespace == namespace);
        let named = self.guards.get(account).into_iter().flatten();
        named.chain(bound).filter_map(|name| Some((name, self.targets.get(name)?)))
    }

    fn users_of_group(&mut self, group: &Name) {
        let uses = |split: &TrafficSplit| split.matches.iter().flatten().any(|(name, _)| *name == group.name);
        let splits = within(&self.splits, &group.namespace).filter(|(_, split)| uses(split));
        let units: Vec<Unit> = splits.filter_map(|(_, split)| split.service().map(Unit::Service)).collect();
        self.dirty.extend(units);
        self.policies_with(
            &group.namespace,
            |rule| matches!(rule, Rule::Http { group: name, .. } if *name == group.name),
        );
    }

    fn policies_with(&mut self, namespace: &str, is: impl Fn(&Rule) -> bool) {
        let targets = within(&self.targets, namespace).filter(|(_, target)| target.rules.iter().any(&is));
        self.dirty.extend(targets.map(|(name, _)| Unit::Policy(name.clone())));
    }

    /// The routes that have a Service for a parent, the oldest first.
    pub(super) fn routes_to(&self, service: &Name) -> Vec<(&Id, &Route)> {
        let attached = self.attached.get(service).into_iter().flatten();
        let mut routes: Vec<_> = attached.filter_map(|id| Some((id, self.routes.get(id)?))).collect();
        routes.sort_by(|(_, a), (_, b)| a.meta.seniority().cmp(&b.meta.seniority()));
        routes
    }

    /// The splits that have a Service for their apex, the oldest first.
    pub(super) fn splits_of(&self, service: &Name) -> Vec<&TrafficSplit> {
        let attached = self.attached.get(service).into_iter().flatten();
        let ids = attached.filter(|id| id.kind == Kind::TrafficSplit);
        let mut splits: Vec<_> = ids.filter_map(|id| self.splits.get(&id.name)).collect();
        splits.sort_by(|a, b| a.meta.seniority().cmp(&b.meta.seniority()));
        splits
    }
}

impl World {
    /// The frontends of `user` led to `before`, and lead to `now`.
    pub(super) fn uses(&mut self, user: &Name, before: &[Name], now: &[Name]) {
        for service in before {
            unlink(&mut self.used_by, service, user);
        }
        for service in now {
            self.used_by.entry(service.clone()).or_default().insert(user.clone());
        }
    }
}
