//! What all calls work on.

use std::sync::Arc;

use grpc::Failure;

use super::backend::{self, Backend};
use super::node::Uses;
use super::pool::record::{Group, Snapshot, Volume};
use super::pool::{Kept, Pool};
use super::turns::{Turn, Turns};
use super::{PoolConfig, Setup, text};

/// Where a volume of this driver can be reached from: the node that has it.
pub(super) const TOPOLOGY: &str = "topology.csi.sextant.dev/node";

/// The driver on this machine.
pub(crate) struct Driver {
    pub(super) node: String,
    pub(super) pools: Vec<Pool>,
    pub(super) turns: Turns,
    pub(super) uses: Uses,
}

impl Driver {
    /// Opens the pools, and mends what a killed driver left.
    pub(super) fn open(setup: &Setup) -> Result<Driver, Failure> {
        setup.config.validate()?;
        let pools = setup.config.pools.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let driver = Driver {
            node: setup.node.clone(),
            pools,
            turns: Turns::default(),
            uses: Uses::load(&setup.run)?,
        };
        driver.recover();
        Ok(driver)
    }

    /// What cannot be mended is told: it keeps nobody from the other volumes.
    fn recover(&self) {
        for pool in &self.pools {
            for kept in pool.volumes() {
                if let Err(error) = self.recover_volume(pool, &kept) {
                    eprintln!("sextant csi: cannot recover volume {}: {error}", kept.record.id);
                }
            }
        }
    }

    fn recover_volume(&self, pool: &Pool, kept: &Kept<Volume>) -> Result<(), Failure> {
        let volume = &kept.record;
        let used = self.uses.of(&volume.id);
        // Its pod is gone, or never got it.
        if volume.ephemeral && used.is_none() {
            return pool.remove_volume(&volume.id);
        }
        let backend = pool.backend_of(volume)?;
        backend.recover(&kept.place, volume, used.as_ref().and_then(|used| used.root()))?;
        if volume.block && used.is_none() { backend.release(&kept.place, volume) } else { Ok(()) }
    }

    /// The pool of a name; the first without.
    pub(super) fn pool(&self, name: &str) -> Result<&Pool, Failure> {
        let found = if name.is_empty() {
            self.pools.first()
        } else {
            self.pools.iter().find(|pool| pool.name == name)
        };
        found.ok_or_else(|| {
            let has: Vec<&str> = self.pools.iter().map(|pool| pool.name.as_str()).collect();
            let message =
                format!("{} is no pool of this driver: it has {}", text::shown(name), has.join(", "));
            Failure::invalid("parameters[pool]", message)
        })
    }

    /// A volume and its pool.
    pub(super) fn volume(&self, id: &str) -> Result<(&Pool, Arc<Kept<Volume>>), Failure> {
        self.find(|pool| pool.volume(id)).ok_or_else(|| Failure::not_found("volume", id))
    }

    pub(super) fn snapshot(&self, id: &str) -> Result<(&Pool, Arc<Kept<Snapshot>>), Failure> {
        self.find(|pool| pool.snapshot(id)).ok_or_else(|| Failure::not_found("snapshot", id))
    }

    pub(super) fn group(&self, id: &str) -> Result<(&Pool, Arc<Kept<Group>>), Failure> {
        self.find(|pool| pool.group(id)).ok_or_else(|| Failure::not_found("group snapshot", id))
    }

    /// What one of the pools has.
    pub(super) fn find<T>(&self, in_pool: impl Fn(&Pool) -> Option<T>) -> Option<(&Pool, T)> {
        self.pools.iter().find_map(|pool| in_pool(pool).map(|found| (pool, found)))
    }

    /// A volume's turn, for who changes it.
    pub(super) fn turn(&self, volume: &str) -> Result<Turn, Failure> {
        self.turns.alone(volume)
    }
}

/// Backends by the names that classes know them by, the best first.
fn open(config: &PoolConfig) -> Result<Pool, Failure> {
    let mut backends: Vec<Box<dyn Backend>> = Vec::new();
    let wanted: Vec<&str> = if config.backends.is_empty() {
        backend::ALL.to_vec()
    } else {
        config.backends.iter().map(String::as_str).collect()
    };
    std::fs::create_dir_all(&config.path).map_err(|e| {
        Failure::internal(format!("cannot make the pool {:?} at {}: {e}", config.name, config.path.display()))
    })?;
    for name in wanted {
        match backend::open(name, &config.path) {
            Ok(backend) => backends.push(backend),
            // Of all, those are meant that can be had.
            Err(_) if config.backends.is_empty() => {}
            Err(error) => return Err(error.within("pool.backends")),
        }
    }
    Pool::open(&config.name, &config.path, backends, config.overcommit)
}
