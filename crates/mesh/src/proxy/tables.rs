//! The model as the data path asks it.
//!
//! [`Builder`] takes deltas on whatever thread they come to, and compiles what changed of them: patterns, headers, weights. What it gives out,
//! [`Tables`], never changes; the loop takes a new one between two of its turns.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use smi::contract::Name;
use smi::model::{self, Delta, Endpoint, Entry, Kept, Key, Transport};

use super::members::{Member, Members, Workloads};
use super::rules::{Frontend, RuleId, Service};

/// What the loop goes by.
#[derive(Debug, Default)]
pub struct Tables {
    /// Of each address those for the clients of one namespace, and last the one for all.
    frontends: HashMap<SocketAddr, Vec<Served>>,
    /// Endpoints by the number of their Service's port.
    pub(super) endpoints: Vec<Option<Kept>>,
    /// The same for as long as no pod and no policy changes.
    pub(super) members: Arc<Members>,
    /// What has which number.
    names: Names,
}

/// The namespace of the clients that it is for, if it is not for all, and what happens to them.
type Served = (Option<String>, Arc<Frontend>);

impl Tables {
    /// What happens to a connection to this address, of a client in this namespace.
    #[must_use]
    pub fn frontend(&self, to: SocketAddr, namespace: Option<&str>) -> Option<&Arc<Frontend>> {
        let found = self.frontends.get(&to)?;
        let mut theirs =
            found.iter().filter(|(consumer, _)| consumer.is_none() || consumer.as_deref() == namespace);
        theirs.next().map(|(_, frontend)| frontend)
    }

    /// A pod by its name.
    #[must_use]
    pub fn member(&self, name: &Name) -> Option<&Arc<Member>> {
        self.members.by_name(name)
    }

    /// The pod that has an address.
    #[must_use]
    pub fn member_at(&self, address: IpAddr) -> Option<&Arc<Member>> {
        self.members.by_address(address)
    }

    /// The endpoints of a Service's port.
    #[must_use]
    pub fn endpoints(&self, service: Service) -> &[Endpoint] {
        match self.endpoints.get(service.0).and_then(Option::as_deref) {
            Some(Entry::Endpoints(endpoints)) => endpoints,
            _ => &[],
        }
    }

    /// Which port of which Service it is. Later tables of the same builder know it, too.
    #[must_use]
    pub fn service(&self, service: Service) -> Option<&(Name, u16)> {
        self.names.services.get(service.0)
    }

    /// Where a rule comes from. Later tables of the same builder know it, too.
    #[must_use]
    pub fn rule(&self, rule: RuleId) -> Option<&model::Origin> {
        self.names.rules.get(usize::try_from(rule.0).ok()?)
    }

    /// The pod at an address among the endpoints of a Service's port.
    #[must_use]
    pub fn pod(&self, service: Service, address: SocketAddr) -> Option<&Name> {
        let is = |endpoint: &&Endpoint| endpoint.address == address.ip() && endpoint.port == address.port();
        self.endpoints(service).iter().find(is)?.pod.as_ref()
    }
}

/// Services' ports and rules by their numbers.
#[derive(Debug, Clone, Default)]
struct Names {
    services: Arc<Vec<(Name, u16)>>,
    rules: Arc<Vec<model::Origin>>,
}

/// Numbers for Services' ports and for rules, the same for as long as there is a builder.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    services: HashMap<(Name, u16), usize>,
    rules: HashMap<model::Origin, u32>,
    names: Names,
}

impl Numbers {
    pub(super) fn of(&mut self, service: &Name, port: u16) -> Service {
        let key = (service.clone(), port);
        if let Some(known) = self.services.get(&key) {
            return Service(*known);
        }
        let next = self.names.services.len();
        Arc::make_mut(&mut self.names.services).push(key.clone());
        self.services.insert(key, next);
        Service(next)
    }

    pub(super) fn rule(&mut self, from: &model::Origin) -> RuleId {
        if let Some(known) = self.rules.get(from) {
            return RuleId(*known);
        }
        let next = u32::try_from(self.names.rules.len()).unwrap_or(u32::MAX);
        Arc::make_mut(&mut self.names.rules).push(from.clone());
        self.rules.insert(from.clone(), next);
        RuleId(next)
    }
}

/// Makes tables of a model that changes.
#[derive(Debug, Default)]
pub struct Builder {
    numbers: Numbers,
    compiled: HashMap<Key, (Vec<IpAddr>, Arc<Frontend>)>,
    endpoints: Vec<Option<Kept>>,
    workloads: Workloads,
}

impl Builder {
    /// Takes a change and gives what holds from now on. UDP is left to who carries it.
    pub fn apply(&mut self, delta: Delta) -> Arc<Tables> {
        for key in delta.removed {
            self.compiled.remove(&key);
            self.workloads.remove(&key);
            if let Key::Endpoints { service, port, transport: Transport::Tcp } = key {
                self.put(&service, port, None);
            }
        }
        for shared in delta.set {
            match (&shared.key, &*shared.entry) {
                (
                    Key::Frontend { service, port, transport: Transport::Tcp, .. },
                    Entry::Frontend(frontend),
                ) => {
                    let compiled = Frontend::compile(service, *port, frontend, &mut self.numbers);
                    let kept = (frontend.addresses.clone(), Arc::new(compiled));
                    self.compiled.insert(shared.key.clone(), kept);
                }
                (Key::Endpoints { service, port, transport: Transport::Tcp }, Entry::Endpoints(_)) => {
                    self.put(service, *port, Some(shared.entry.clone()));
                }
                (Key::Workload(name), Entry::Workload(_)) => {
                    self.workloads.put(name, shared.entry.clone());
                }
                (Key::Policy(name), Entry::Policy(_)) => {
                    self.workloads.put_policy(name, shared.entry.clone());
                }
                _ => {}
            }
        }
        let mut frontends: HashMap<_, Vec<_>> = HashMap::with_capacity(self.compiled.len());
        for (key, (addresses, frontend)) in &self.compiled {
            let Key::Frontend { port, consumer, .. } = key else { continue };
            for address in addresses {
                let found = frontends.entry(SocketAddr::new(*address, *port)).or_default();
                let place = if consumer.is_some() { 0 } else { found.len() };
                found.insert(place, (consumer.clone(), frontend.clone()));
            }
        }
        let members = self.workloads.members();
        let names = self.numbers.names.clone();
        Arc::new(Tables { frontends, endpoints: self.endpoints.clone(), members, names })
    }

    fn put(&mut self, service: &Name, port: u16, entry: Option<Kept>) {
        let Service(number) = self.numbers.of(service, port);
        if self.endpoints.len() <= number {
            self.endpoints.resize(number + 1, None);
        }
        if let Some(place) = self.endpoints.get_mut(number) {
            *place = entry;
        }
    }
}
