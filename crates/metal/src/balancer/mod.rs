//! Load balancers that are addresses: services get them here, nodes answer for them, and each node's own table leads on.

mod allocate;
mod held;
mod service;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cpi::contract::{
    Answer, Error, LoadBalancerIngress, LoadBalancerStatus, LoadBalancers, Node, Service, Services,
};

use crate::Metal;
use crate::config::Config;
use crate::file::SETTLED;
use allocate::Given;
use held::{Held, Promised};

/// What waits for an address asks again after this long.
const PAUSE: Duration = Duration::from_secs(30);
/// For each service that waits this much more: together they ask ten times a second at most.
const MORE: Duration = Duration::from_millis(100);
/// The longest of these waits.
const LONGEST: Duration = Duration::from_secs(300);
/// A service whose addresses would be taken away by a file that may be half written asks again after this long.
const WRITTEN: Duration = Duration::from_secs(2);
/// So many services are named in a warning.
const NAMED: usize = 3;

/// Why a service gets no address.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    /// Somebody has to change something.
    Failed(String),
    /// Others have what it wants, and may give it back.
    Waits(String),
}

/// What is known of services beside what they say themselves.
#[derive(Default)]
pub(crate) struct State {
    services: Option<Arc<dyn Services>>,
    promised: Promised,
    /// Services that wait for addresses, by their uids.
    waiting: BTreeSet<String>,
    /// Services that were given the nodes' addresses though there are pools: none is for them.
    with_nodes: BTreeSet<String>,
}

/// The state that all calls share. One address is given out at a time.
#[derive(Default)]
pub(crate) struct Balancers(Mutex<State>);

impl std::fmt::Debug for Balancers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Balancers").finish_non_exhaustive()
    }
}

impl Balancers {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn see(&self, services: Arc<dyn Services>) {
        self.with(|state| state.services = Some(services));
    }

    /// What of the cluster is shown, if it is.
    pub(crate) fn shown(&self) -> Option<Arc<dyn Services>> {
        self.with(|state| state.services.clone())
    }

    /// All services, if they are shown.
    pub(crate) fn services(&self) -> Option<Vec<Arc<Service>>> {
        self.shown().map(|services| services.all())
    }
}

/// Whether services can have what a new file says: none loses an address that it has by the old one.
pub(crate) fn fits(services: &[Arc<Service>], old: &Config, new: &Config) -> Result<(), String> {
    let loses = |address: &IpAddr| old.pool_of(*address).is_some() && new.pool_of(*address).is_none();
    let lost: Vec<String> = services
        .iter()
        .filter_map(|one| {
            let address = service::told(one).into_iter().find(loses)?;
            Some(format!("{} has {address}", service::named(one)))
        })
        .collect();
    if lost.is_empty() {
        return Ok(());
    }
    let more = if lost.len() > NAMED { format!(" and {} more", lost.len() - NAMED) } else { String::new() };
    Err(format!(
        "addresses that services have are of no pool there ({}{more}); leave them in a pool, or delete the services",
        lost[..lost.len().min(NAMED)].join(", ")
    ))
}

fn status(addresses: &[IpAddr]) -> LoadBalancerStatus {
    let ingress = |address: &IpAddr| LoadBalancerIngress {
        ip: Some(address.to_string()),
        ip_mode: Some("VIP".into()),
        ..Default::default()
    };
    LoadBalancerStatus { ingress: Some(addresses.iter().map(ingress).collect()) }
}

/// What an address is given by.
struct By<'a> {
    config: &'a Config,
    /// The file, where pools may still be written into it that it does not have yet.
    unsettled: Option<&'a str>,
}

impl State {
    fn ensure(&mut self, by: &By<'_>, service: &Service, nodes: &[Node]) -> Result<Vec<IpAddr>, Error> {
        let uid = service::uid(service).to_owned();
        if uid.is_empty() {
            return Err(Error::Failed("cannot give a service without a uid an address".into()));
        }
        // Asked for in here: what others were given before this is in the list, or promised.
        let Some(shown) = self.services.clone() else {
            return Err(Error::Failed(
                "cannot give the service an address: the provider is not shown which ones services have; run it within \
                 the controllers (--cloud-provider metal), not behind a socket"
                    .into(),
            ));
        };
        let services = shown.all();
        held::forget_kept(&mut self.promised, &services, &uid);
        self.waiting.retain(|waiting| services.iter().any(|one| service::uid(one) == waiting));
        // All of them may be, and who goes is taken out: this is for those that went unseen.
        if self.with_nodes.len() > services.len() {
            self.with_nodes.retain(|known| services.iter().any(|one| service::uid(one) == known));
        }
        let told = services.iter().find(|one| service::uid(one) == uid).map(|one| service::told(one));
        let own = self.promised.get(&uid).cloned().unwrap_or_else(|| told.unwrap_or_default());
        let held = Held::of(&services, &self.promised, service);
        // Also of those that load balancers are not led to: two hosts would have the address.
        let mut of_nodes = service::all_of_nodes(nodes.iter());
        of_nodes.extend(service::all_of_nodes(shown.nodes().iter().map(|node| &**node)));
        // Clients may know it, and by the half of a file it would be lost.
        if let Some(path) = by.unsettled
            && let Some(address) = own.iter().find(|address| !of_nodes.contains(address))
        {
            let seconds = SETTLED.as_secs();
            return Err(Error::RetryAfter {
                message: format!(
                    "cannot take {address} away from the service: {path} names no pools, and may still be being written; it is taken \
                     as it is once it was left unchanged for {seconds} s"
                ),
                after: WRITTEN,
            });
        }
        let follows_nodes = self.with_nodes.contains(&uid);
        let given =
            Given { config: by.config, held: &held, own: &own, nodes, of_nodes: &of_nodes, follows_nodes };
        match allocate::allocate(&given, service) {
            Ok(addresses) => {
                self.waiting.remove(&uid);
                if !by.config.pools.is_empty() && allocate::stays_with_nodes(&given, service) {
                    self.with_nodes.insert(uid.clone());
                } else {
                    self.with_nodes.remove(&uid);
                }
                self.promised.insert(uid, addresses.clone());
                Ok(addresses)
            }
            Err(Refused::Failed(message)) => {
                self.waiting.remove(&uid);
                Err(Error::Failed(message))
            }
            Err(Refused::Waits(message)) => {
                self.waiting.insert(uid);
                let others = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
                Err(Error::RetryAfter { message, after: (PAUSE + MORE.saturating_mul(others)).min(LONGEST) })
            }
        }
    }
}

impl LoadBalancers for Metal {
    fn is_of_nodes(&self) -> bool {
        self.config().pools.is_empty()
    }

    fn follows_nodes(&self, service: &Service) -> bool {
        let config = self.config();
        let is_with_nodes = || self.balancers.with(|state| state.with_nodes.contains(service::uid(service)));
        config.pools.is_empty() || is_with_nodes() && allocate::has_no_pool(&config, service)
    }

    fn get_load_balancer<'a>(
        &'a self,
        _: &'a str,
        service: &'a Service,
    ) -> Answer<'a, Option<LoadBalancerStatus>> {
        Box::pin(async move {
            let promised = self.balancers.with(|state| state.promised.get(service::uid(service)).cloned());
            let addresses = promised.unwrap_or_else(|| service::told(service));
            Ok((!addresses.is_empty()).then(|| status(&addresses)))
        })
    }

    fn ensure_load_balancer<'a>(
        &'a self,
        _: &'a str,
        service: &'a Service,
        nodes: &'a [Node],
    ) -> Answer<'a, LoadBalancerStatus> {
        Box::pin(async move {
            let config = self.config();
            // Asked for before the turn: who takes both takes the file's first.
            let path = (config.pools.is_empty() && !self.live.is_settled()).then(|| self.live.path());
            let by = By { config: &config, unsettled: path.as_deref() };
            let addresses = self.balancers.with(|state| state.ensure(&by, service, nodes))?;
            Ok(status(&addresses))
        })
    }

    /// Nothing: addresses of pools lead to all nodes, and those of nodes are given anew ([`LoadBalancers::follows_nodes`]).
    fn update_load_balancer<'a>(&'a self, _: &'a str, _: &'a Service, _: &'a [Node]) -> Answer<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// What its status has is free once the service is gone, or its status empty.
    fn ensure_load_balancer_deleted<'a>(&'a self, _: &'a str, service: &'a Service) -> Answer<'a, ()> {
        Box::pin(async move {
            self.balancers.with(|state| {
                state.promised.remove(service::uid(service));
                state.waiting.remove(service::uid(service));
                state.with_nodes.remove(service::uid(service));
            });
            Ok(())
        })
    }
}
