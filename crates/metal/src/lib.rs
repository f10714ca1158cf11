//! The cloud provider of machines that are in no cloud: `metal`.
//!
//! [`Metal`] is the provider, [`Config`] its file: pools of addresses for load balancers, and an inventory of machines. Without a file
//! load balancers have the addresses of nodes, and each node is taken for a machine.
//!
//! Which service has which address is told by the services' own status, and nothing else: [`Metal`] is shown all of them
//! ([`cpi::contract::Services`]), and remembers only what it has promised since they were listed. So it may be killed at any moment.
//!
//! **What it never does**: it asks no API server (who runs it shows it the services), keeps nothing on disk, gives no address to a
//! link and makes no route: `announce` answers for what it gives out, and nodes keep their routes themselves (`routes`).
//!
//! Invariants: no address is given to two services that do not share it; a service keeps the address that it has, whatever becomes
//! of the file, until it asks for another, or, when it is next looked at (it changes, or the controllers start), a node has it; no node
//! is deleted for what the inventory never knew.

mod balancer;
mod config;
mod file;
mod instances;
mod live;
mod machine;
mod routes;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use cpi::contract::{CloudProvider, Instances, LoadBalancers, Routes, Services};

pub use config::{Config, ConfigError, Instance, NodeRoutes, Pool, Range};
pub use file::File;

use balancer::Balancers;
use live::Live;
use machine::Machine;

/// What the provider is called, and the scheme of its instances' ids.
pub const NAME: &str = "metal";

/// The provider.
#[derive(Debug)]
pub struct Metal {
    live: Live,
    machine: Machine,
    balancers: Balancers,
}

impl Metal {
    /// With what a file says, which is read again where it changes.
    ///
    /// # Errors
    /// The file cannot be read, or is wrong. Later that is told, and what it said before holds on.
    pub fn open(file: Option<&Path>) -> Result<Self, ConfigError> {
        Ok(Self { live: Live::open(file)?, machine: Machine::this(), balancers: Balancers::default() })
    }

    /// What the file says now.
    fn config(&self) -> Arc<Config> {
        self.live.current(|old, new| match self.balancers.services() {
            Some(services) => balancer::fits(&services, old, new),
            None => Ok(()),
        })
    }
}

impl CloudProvider for Metal {
    fn name(&self) -> &str {
        NAME
    }

    fn see_services(&self, services: Arc<dyn Services>) {
        self.balancers.see(services);
    }

    fn trouble(&self) -> Option<String> {
        drop(self.config());
        self.live.trouble()
    }

    fn revision(&self) -> u64 {
        drop(self.config());
        self.live.revision()
    }

    fn instances(&self) -> Option<&dyn Instances> {
        Some(self)
    }

    fn load_balancers(&self) -> Option<&dyn LoadBalancers> {
        Some(self)
    }

    /// Where the file wants them, once nodes are shown: which have theirs they say themselves.
    fn routes(&self) -> Option<&dyn Routes> {
        let is_told = self.config().node_routes.are_wanted() && self.balancers.shown().is_some();
        if is_told { Some(self) } else { None }
    }
}
