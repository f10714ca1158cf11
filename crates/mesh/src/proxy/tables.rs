//! The model as the data path asks it.
//!
//! [`Builder`] takes deltas on whatever thread they come to, and compiles what changed of them: patterns, headers, weights. What it gives out,
//! [`Tables`], never changes; the loop takes a new one between two of its turns.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use smi::contract::Name;
use smi::model::{Delta, Endpoint, Entry, Kept, Key, Transport};

use super::members::{Member, Members, Workloads};
use super::rules::{Frontend, Service};

/// What the loop goes by.
#[derive(Debug, Default)]
pub struct Tables {
    /// Of each address those for the clients of one namespace, and last the one for all.
    frontends: HashMap<SocketAddr, Vec<Served>>,
    /// Endpoints by the number of their Service's port.
    pub(super) endpoints: Vec<Option<Kept>>,
    /// The same for as long as no pod and no policy changes.
    pub(super) members: Arc<Members>,
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
}

/// Numbers for Services' ports, the same for as long as there is a builder.
#[derive(Debug, Default)]
pub(super) struct Numbers(HashMap<(Name, u16), usize>);

impl Numbers {
    pub(super) fn of(&mut self, service: &Name, port: u16) -> Service {
        let next = self.0.len();
        Service(*self.0.entry((service.clone(), port)).or_insert(next))
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
        Arc::new(Tables { frontends, endpoints: self.endpoints.clone(), members })
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
