//! Services and their endpoints as the API server last told, ordered as this crate asks for them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use client::cache::{Cache, Change, Name};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt as _;

use crate::plan::{Node, Plan, cluster_ips, plan};

/// The label by which a slice names its Service.
const OF_SERVICE: &str = "kubernetes.io/service-name";

/// All that is known.
#[derive(Default)]
pub struct World {
    known: RwLock<Known>,
    listeners: RwLock<Vec<Listener>>,
}

type Listener = Box<dyn Fn(&Name) + Send + Sync>;

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("known", &self.known).finish_non_exhaustive()
    }
}

/// What is known at one moment.
#[derive(Debug, Default)]
pub struct Known {
    services: BTreeMap<Name, Arc<Service>>,
    slices: BTreeMap<Name, BTreeMap<String, Arc<EndpointSlice>>>,
    namespaces: BTreeSet<String>,
    /// Which Services have an address, as theirs or behind them.
    by_address: BTreeMap<IpAddr, BTreeSet<Name>>,
    complete: bool,
}

impl World {
    /// What is known now. Changes wait until it is dropped.
    pub fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For changes.
    pub fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `listener` told which Service has changed, or its slices, from now on: of those that are there when caches are followed, too. It
    /// must not wait.
    pub fn listen(&self, listener: impl Fn(&Name) + Send + Sync + 'static) {
        self.listeners.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(listener));
    }

    fn tell(&self, name: &Name) {
        let listeners = self.listeners.read().unwrap_or_else(PoisonError::into_inner);
        listeners.iter().for_each(|listener| listener(name));
    }

    /// Follows these caches from now on.
    pub fn follow(self: &Arc<Self>, services: &Cache<Service>, slices: &Cache<EndpointSlice>) {
        let world = self.clone();
        services.listen(move |change| {
            let name = world.write().enter_service(change);
            world.tell(&name);
        });
        let world = self.clone();
        slices.listen(move |change| {
            let names = world.write().enter_slice(change);
            names.iter().for_each(|name| world.tell(name));
        });
    }

    /// Follows this cache from now on.
    pub fn follow_namespaces(self: &Arc<Self>, namespaces: &Cache<Namespace>) {
        let world = self.clone();
        namespaces.listen(move |change| world.write().enter_namespace(change));
    }
}

impl Known {
    /// Takes a Service as it is now; its name.
    pub fn enter_service(&mut self, change: &Change<Service>) -> Name {
        let name = Name::of(&**change.object());
        if let Some(old) = self.services.remove(&name) {
            let addresses = addresses(&old);
            addresses.iter().for_each(|address| self.release(*address, &name));
        }
        if let Some(new) = &change.new {
            for address in addresses(new) {
                self.by_address.entry(address).or_default().insert(name.clone());
            }
            self.services.insert(name.clone(), new.clone());
        }
        name
    }

    /// Takes a slice as it is now; the Services that it was of, and is of.
    pub fn enter_slice(&mut self, change: &Change<EndpointSlice>) -> BTreeSet<Name> {
        let mut names = BTreeSet::new();
        let slice = change.object();
        for old in change.old.iter() {
            names.extend(owner(old));
        }
        for name in &names {
            let Some(slices) = self.slices.get_mut(name) else { continue };
            let old = slices.remove(&slice.name_any());
            if slices.is_empty() {
                self.slices.remove(name);
            }
            for address in old.iter().flat_map(|old| behind(old)) {
                let still = self.slices_of(name).any(|other| behind(other).any(|a| a == address))
                    || self.services.get(name).is_some_and(|s| addresses(s).contains(&address));
                if !still {
                    self.release(address, name);
                }
            }
        }
        if let Some((new, name)) = change.new.as_ref().and_then(|new| Some((new, owner(new)?))) {
            for address in behind(new) {
                self.by_address.entry(address).or_default().insert(name.clone());
            }
            self.slices.entry(name.clone()).or_default().insert(new.name_any(), new.clone());
            names.insert(name);
        }
        names
    }

    fn release(&mut self, address: IpAddr, name: &Name) {
        if let Some(names) = self.by_address.get_mut(&address) {
            names.remove(name);
            if names.is_empty() {
                self.by_address.remove(&address);
            }
        }
    }

    /// Takes a namespace as it is now.
    pub fn enter_namespace(&mut self, change: &Change<Namespace>) {
        let name = change.object().name_any();
        match change.new {
            Some(_) => self.namespaces.insert(name),
            None => self.namespaces.remove(&name),
        };
    }

    /// All that there was at the start has been taken.
    pub fn completed(&mut self) {
        self.complete = true;
    }

    /// What is not known is not there.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// There is such a namespace.
    pub fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.contains(name)
    }

    /// The Service of this name.
    pub fn service(&self, name: &Name) -> Option<&Arc<Service>> {
        self.services.get(name)
    }

    /// The slices of a Service.
    pub fn slices_of(&self, name: &Name) -> impl Iterator<Item = &EndpointSlice> {
        self.slices.get(name).into_iter().flatten().map(|(_, slice)| &**slice)
    }

    /// The Services that have an address, as theirs or behind them.
    pub fn at(&self, address: IpAddr) -> impl Iterator<Item = (&Name, &Arc<Service>)> {
        let names = self.by_address.get(&address).into_iter().flatten();
        names.filter_map(|name| Some((name, self.services.get(name)?)))
    }

    /// The names of all Services.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.services.keys()
    }

    /// What is to be in the kernel for a Service; nothing for one that is not there.
    pub fn plan(&self, name: &Name, node: &Node) -> Option<Plan> {
        let service = self.services.get(name)?;
        Some(plan(service, self.slices_of(name), node))
    }
}

fn addresses(service: &Service) -> Vec<IpAddr> {
    service.spec.as_ref().map(cluster_ips).unwrap_or_default()
}

fn behind(slice: &EndpointSlice) -> impl Iterator<Item = IpAddr> {
    slice
        .endpoints
        .iter()
        .flatten()
        .flat_map(|endpoint| &endpoint.addresses)
        .filter_map(|text| text.parse().ok())
}

fn owner(slice: &EndpointSlice) -> Option<Name> {
    let service = slice.labels().get(OF_SERVICE)?;
    Some(Name::new(slice.namespace().unwrap_or_default(), service.clone()))
}
